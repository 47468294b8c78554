//! How likely a served language model holds each reference: what the server says of every token of a prompt.

use std::sync::Arc;

use serde_json::{Value, json};
use slipway_contract::{EvalConfig, Failure, FailureReason};
use slipway_model::chat::{ChatError, ChatTemplate, Message, mask_conversation};

use super::Endpoint;
use super::language::{COMPLETIONS, Served, together};
use crate::data::{Example, Rejected};
use crate::evaluate::Progress;
use crate::evaluate::examples::Examples;
use crate::evaluate::likelihood::{Likelihood, added_bytes, limit};
use crate::evaluate::local::unusable;
use crate::host::Host;
use crate::train::{Piece, Shown, chat_rejected};

/// What every example's request needs.
#[derive(Debug)]
struct Asking {
    served: Served,
    template: Option<ChatTemplate>,
    /// The token that ends a text.
    end: Option<u32>,
    /// Tokens that are looked at.
    limit: usize,
}

impl Endpoint {
    /// How likely the answer of each example is (everything, where it is plain text), by the same tokens as
    /// [`Local::likelihoods`](crate::evaluate::local::Local::likelihoods) looks at; nothing where the limit leaves none.
    pub fn likelihoods(
        &self,
        examples: &Examples,
        config: &EvalConfig,
        host: &Host,
        progress: &mut Progress,
    ) -> Result<Vec<Likelihood>, Failure> {
        let served = host.wait(self.served())?;
        let compiled = served.template.as_ref().map(|source| {
            let text = |token: &Option<String>| token.clone().unwrap_or_default();
            ChatTemplate::new(source, text(&served.bos), text(&served.eos))
        });
        let template = compiled
            .transpose()
            .map_err(|error| Failure::new(FailureReason::InvalidModel, error.to_string()))?;
        let end = match served.ends.first() {
            Some(text) => host.wait(self.tokens(text, false, 0))?.first().copied(),
            None => None,
        };
        let asking = Arc::new(Asking {
            limit: limit(config, served.limit)?,
            served,
            template,
            end,
        });
        let batch = (config.batch_size as usize).max(1);
        let mut found = Vec::with_capacity(examples.len());
        for (number, chunk) in examples.rows().chunks(batch).enumerate() {
            let mut shown = Vec::with_capacity(chunk.len());
            for (index, example) in (number * batch..).zip(chunk) {
                shown.push((index, asking.shown(example, examples, index)?));
            }
            let asked = shown.into_iter().map(|(index, shown)| {
                let (endpoint, asking) = (self.clone(), asking.clone());
                async move { endpoint.likelihood(&asking, shown, index).await }
            });
            found.extend(host.wait(together(asked))?);
            progress.advance(chunk.len(), host);
        }
        Ok(found)
    }

    async fn likelihood(&self, asking: &Asking, shown: Shape, index: usize) -> Result<Likelihood, Failure> {
        let (mut ids, mut learned) = match shown {
            Shape::Pieces(pieces) => self.pieces(&pieces, asking.end, index).await?,
            Shape::Masked { text, answers } => self.masked(&text, &answers, index).await?,
        };
        ids.truncate(asking.limit);
        learned.truncate(asking.limit);
        if !learned.iter().skip(1).any(|&learned| learned) {
            return Ok(Likelihood::default());
        }
        let body = json!({
            "model": asking.served.name, "prompt": [ids], "echo": true, "logprobs": 0, "max_tokens": 0, "temperature": 0,
        });
        let read = |bytes: &[u8]| read(bytes, &learned);
        let answer = self.ask(COMPLETIONS, Some(&body), read).await?;
        answer.map_err(|refusal| self.refused(COMPLETIONS, refusal, index))
    }

    async fn pieces(
        &self,
        pieces: &[Piece],
        end: Option<u32>,
        index: usize,
    ) -> Result<(Vec<u32>, Vec<bool>), Failure> {
        let (mut ids, mut learned) = (Vec::new(), Vec::new());
        for piece in pieces {
            ids.extend(self.tokens(&piece.text, piece.special, index).await?);
            learned.resize(ids.len(), piece.learned);
        }
        if let Some(end) = end.filter(|end| ids.last() != Some(end)) {
            ids.push(end);
            learned.push(true);
        }
        Ok((ids, learned))
    }

    /// The tokens of a conversation. The server does not say where in the text a token stands, but the tokens of a text that
    /// ends where an answer begins, or ends, are as many as come before that place.
    async fn masked(
        &self,
        text: &str,
        answers: &[std::ops::Range<usize>],
        index: usize,
    ) -> Result<(Vec<u32>, Vec<bool>), Failure> {
        let ids = self.tokens(text, false, index).await?;
        let mut learned = vec![false; ids.len()];
        for answer in answers {
            let mut places = [0; 2];
            for (place, end) in places.iter_mut().zip([answer.start, answer.end]) {
                let before = self.tokens(&text[..end], false, index).await?;
                if !ids.starts_with(&before) {
                    return Err(Failure::new(
                        FailureReason::InvalidRow,
                        format!(
                            "example {} cannot be used: a token of {}'s model joins the end of a message with what follows it, so the answer's own tokens cannot be told; name the model instead of the endpoint",
                            index + 1,
                            self.url
                        ),
                    ));
                }
                *place = before.len();
            }
            learned[places[0]..places[1]].fill(true);
        }
        Ok((ids, learned))
    }
}

/// An example as it is sent.
#[derive(Debug)]
enum Shape {
    Pieces(Vec<Piece>),
    /// A conversation's text, and its answers in it.
    Masked {
        text: String,
        answers: Vec<std::ops::Range<usize>>,
    },
}

impl Asking {
    fn shown(&self, example: &Example, examples: &Examples, index: usize) -> Result<Shape, Failure> {
        let rejected = |bad| match bad {
            Rejected::Fatal(failure) => failure,
            Rejected::Row(bad) => unusable(examples, index, &bad),
        };
        let shown = Shown::of(example.clone(), self.template.is_some()).map_err(rejected)?;
        match shown {
            Shown::Pieces(pieces) => Ok(Shape::Pieces(pieces)),
            Shown::Conversation(messages) => self
                .mask(&messages)
                .map_err(|error| rejected(chat_rejected(error))),
        }
    }

    fn mask(&self, messages: &[Message]) -> Result<Shape, ChatError> {
        let template = self.template.as_ref().ok_or(ChatError::NoTemplate)?;
        let masked = mask_conversation(template, messages, &self.served.ends)?;
        Ok(Shape::Masked {
            text: masked.text,
            answers: masked.answers,
        })
    }
}

/// The log-probability of a token; JSON has no NaN, so that stands as null.
pub(super) fn log_probability(value: &Value) -> Result<f64, String> {
    match value {
        Value::Null => Ok(f64::NAN),
        other => other
            .as_f64()
            .ok_or_else(|| format!("a log-probability that is {other}")),
    }
}

/// The likelihood of the `learned` tokens of a prompt that is repeated with its log-probabilities.
fn read(bytes: &[u8], learned: &[bool]) -> Result<Likelihood, String> {
    let answer: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let choice = &answer["choices"][0];
    let columns = &choice["logprobs"];
    let (Some(text), Some(each), Some(offsets)) = (
        choice["text"].as_str(),
        columns["token_logprobs"].as_array(),
        columns["text_offset"].as_array(),
    ) else {
        return Err("an answer without the prompt's text, log-probabilities and offsets".into());
    };
    if each.len() < learned.len() || offsets.len() < learned.len() {
        return Err("an answer without a log-probability for every token".into());
    }
    let mut found = Likelihood::default();
    for (value, _) in each.iter().zip(learned).skip(1).filter(|(_, learned)| **learned) {
        found.nats -= log_probability(value)?;
        found.tokens += 1;
    }
    // The API counts characters.
    let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
    let starts = offsets.iter().take(learned.len()).map(|offset| {
        let character = offset.as_u64().unwrap_or(u64::MAX);
        places.get(character as usize).copied().unwrap_or(text.len())
    });
    found.bytes = added_bytes(learned, &starts.collect::<Vec<_>>(), text.len());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_counts_with_its_bytes() {
        let answer = json!({ "choices": [{ "text": "aé水b", "logprobs": {
            "token_logprobs": [null, -1.0, -2.0, -4.0, -8.0], "text_offset": [0, 1, 2, 2, 3],
        } }] })
        .to_string();
        let found = |learned: [bool; 5]| read(answer.as_bytes(), &learned).unwrap();
        let expected = |nats, tokens, bytes| Likelihood { nats, tokens, bytes };
        assert_eq!(found([true; 5]), expected(15.0, 4, 6));
        // 水 is of two tokens.
        assert_eq!(found([false, false, true, true, false]), expected(6.0, 2, 3));
        assert_eq!(found([false, true, false, false, true]), expected(9.0, 2, 3));
    }

    #[test]
    fn an_answer_that_lacks_something_is_told() {
        for (answer, sentence) in [
            (
                json!({ "choices": [{ "text": "ab" }] }),
                "without the prompt's text",
            ),
            (
                json!({ "choices": [{ "text": "ab", "logprobs": { "token_logprobs": [null], "text_offset": [0] } }] }),
                "every token",
            ),
            (
                json!({ "choices": [{ "text": "ab", "logprobs": { "token_logprobs": [null, "x"], "text_offset": [0, 1] } }] }),
                "that is \"x\"",
            ),
        ] {
            let error = read(answer.to_string().as_bytes(), &[true, true]).unwrap_err();
            assert!(error.contains(sentence), "{error}");
        }
    }
}
