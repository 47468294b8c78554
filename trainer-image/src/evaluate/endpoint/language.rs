//! What a served language model answers, and how likely it holds what is given: the OpenAI API, and the tokenizer's own
//! routes as vLLM has them.

use std::collections::HashMap;

use serde_json::{Value, json};
use slipway_contract::{Benchmark, Failure, FailureReason};
use slipway_model::chat::Message;
use tokio::task::JoinSet;

use super::Endpoint;
use super::likelihood::log_probability;
use crate::data::Example;
use crate::evaluate::benchmark::ChoiceQuestion;
use crate::evaluate::examples::Examples;
use crate::evaluate::local::{ended, last_answer, unusable};
use crate::evaluate::pair::{Prefix, encode_pair};
use crate::evaluate::{Progress, Spoken};
use crate::host::Host;

pub(super) const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
/// Stops that the API takes.
const STOPS: usize = 4;

/// What the server says of its model.
#[derive(Debug)]
pub(super) struct Served {
    /// Its name.
    pub name: String,
    /// Tokens it attends to.
    pub limit: usize,
    /// The token that begins a text.
    pub bos: Option<String>,
    /// The token that ends a text.
    pub eos: Option<String>,
    /// The tokens that end an answer.
    pub ends: Vec<String>,
    /// Its chat template.
    pub template: Option<String>,
}

impl Endpoint {
    /// What the model says to each example's prompt in `most` tokens at most, and the example's own answer, asked for as a
    /// client does: a conversation as one, other prompts as they are.
    pub fn answers(
        &self,
        examples: &Examples,
        benchmark: Option<&Benchmark>,
        (most, batch): (u32, usize),
        host: &Host,
        progress: &mut Progress,
    ) -> Result<Vec<Spoken>, Failure> {
        let served = host.wait(self.served())?;
        let until = benchmark.map_or(&[][..], |benchmark| &benchmark.until);
        let mut requests = Vec::with_capacity(examples.len());
        let mut spoken = Vec::with_capacity(examples.len());
        for (index, example) in examples.rows().iter().enumerate() {
            let (path, mut body, reference) =
                request(&served, example, benchmark).map_err(|bad| unusable(examples, index, &bad))?;
            body["model"] = json!(served.name);
            body["max_tokens"] = json!(most);
            body["temperature"] = json!(0);
            if !until.is_empty() {
                body["stop"] = json!(until.iter().take(STOPS).collect::<Vec<_>>());
            }
            requests.push((path, body));
            spoken.push(Spoken {
                answer: String::new(),
                reference: reference.trim().to_owned(),
            });
        }
        let batch = batch.max(1);
        for (number, chunk) in requests.chunks(batch).enumerate() {
            let first = number * batch;
            let asked = chunk.iter().enumerate().map(|(offset, (path, body))| {
                let (endpoint, path, body) = (self.clone(), *path, body.clone());
                async move {
                    let answer = endpoint.ask(path, Some(&body), text).await?;
                    answer.map_err(|refusal| endpoint.refused(path, refusal, first + offset))
                }
            });
            let answers = host.wait(together(asked))?;
            for (one, text) in spoken[first..].iter_mut().zip(answers) {
                ended(&text, until).trim().clone_into(&mut one.answer);
            }
            progress.advance(chunk.len(), host);
        }
        Ok(spoken)
    }

    /// The log-likelihood of each choice of each question, in nats.
    pub fn choose(
        &self,
        questions: &[ChoiceQuestion],
        delimiter: &str,
        host: &Host,
        progress: &mut Progress,
    ) -> Result<Vec<Vec<f64>>, Failure> {
        let served = host.wait(self.served())?;
        let text = served.bos.as_ref().or(served.eos.as_ref());
        let prefix = Prefix {
            id: match text {
                Some(text) => host.wait(self.tokens(text, false, 0))?.first().copied(),
                None => None,
            },
            text: text.cloned(),
        };
        let mut found = Vec::with_capacity(questions.len());
        for (index, question) in questions.iter().enumerate() {
            let mut known: HashMap<(String, bool), Vec<u32>> = HashMap::new();
            let mut failure = None;
            let mut prompts = Vec::new();
            let mut scored = Vec::new();
            for choice in &question.choices {
                let encoded = encode_pair(
                    &question.context,
                    &format!("{delimiter}{choice}"),
                    &prefix,
                    &mut |text, special| {
                        let key = (text.to_owned(), special);
                        if let Some(ids) = known.get(&key) {
                            return Ok(ids.clone());
                        }
                        match host.wait(self.tokens(text, special, index)) {
                            Ok(ids) => {
                                known.insert(key, ids.clone());
                                Ok(ids)
                            }
                            Err(error) => {
                                failure = Some(error);
                                Err("the server did not tokenize it".into())
                            }
                        }
                    },
                );
                let (mut ids, count) = encoded.map_err(|bad| {
                    failure.take().unwrap_or_else(|| {
                        Failure::new(
                            FailureReason::InvalidRow,
                            format!("example {} cannot be used: {bad}", index + 1),
                        )
                    })
                })?;
                ids.drain(..ids.len().saturating_sub(served.limit));
                prompts.push(ids);
                scored.push(count);
            }
            let body = json!({
                "model": served.name, "prompt": prompts, "echo": true, "logprobs": 1, "max_tokens": 0, "temperature": 0,
            });
            let read = |bytes: &[u8]| likelihoods(bytes, &prompts, &scored);
            let answer = host.wait(self.ask(COMPLETIONS, Some(&body), read))?;
            found.push(answer.map_err(|refusal| self.refused(COMPLETIONS, refusal, index))?);
            progress.advance(1, host);
        }
        Ok(found)
    }

    pub(super) async fn served(&self) -> Result<Served, Failure> {
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(|error| error.to_string());
        let models = self.ask("/v1/models", None, json).await?;
        let models = models.map_err(|refusal| self.refused("/v1/models", refusal, 0))?;
        let info = self.ask("/tokenizer_info", None, json).await?;
        let info = info.map_err(|refusal| self.refused("/tokenizer_info", refusal, 0))?;
        let model = &models["data"][0];
        let (Some(name), Some(limit)) = (model["id"].as_str(), info["model_max_length"].as_u64()) else {
            return Err(Failure::new(
                FailureReason::InvalidConfig,
                format!(
                    "{} does not say what it serves; check that it is a server of language models",
                    self.url
                ),
            ));
        };
        let text = |field: &str| info[field].as_str().map(str::to_owned);
        let eos = text("eos_token");
        Ok(Served {
            name: name.to_owned(),
            limit: limit as usize,
            bos: text("bos_token"),
            // vLLM says only which one ends a text.
            ends: serde_json::from_value(info["eos_tokens"].clone())
                .unwrap_or_else(|_| eos.iter().cloned().collect()),
            eos,
            template: text("chat_template"),
        })
    }

    pub(super) async fn tokens(&self, text: &str, special: bool, index: usize) -> Result<Vec<u32>, Failure> {
        let body = json!({ "prompt": text, "add_special_tokens": special });
        let read = |bytes: &[u8]| {
            let answer: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
            serde_json::from_value(answer["tokens"].clone())
                .map_err(|error| format!("no list of tokens ({error})"))
        };
        let answer = self.ask("/tokenize", Some(&body), read).await?;
        answer.map_err(|refusal| self.refused("/tokenize", refusal, index))
    }
}

/// Asks several at once; the answers are in the order of the questions.
pub(super) async fn together<T: Send + 'static>(
    asked: impl Iterator<Item = impl Future<Output = Result<T, Failure>> + Send + 'static>,
) -> Result<Vec<T>, Failure> {
    let mut requests = JoinSet::new();
    for (place, request) in asked.enumerate() {
        requests.spawn(async move { (place, request.await) });
    }
    let mut answers = Vec::with_capacity(requests.len());
    while let Some(answer) = requests.join_next().await {
        let (place, answer) = answer.map_err(|error| {
            Failure::new(FailureReason::Internal, format!("a request broke off: {error}"))
        })?;
        answers.push((place, answer?));
    }
    answers.sort_unstable_by_key(|(place, _)| *place);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// Where an example's prompt is sent and how, and what the answer should be.
fn request(
    served: &Served,
    example: &Example,
    benchmark: Option<&Benchmark>,
) -> Result<(&'static str, Value, String), String> {
    let bare = benchmark.is_some_and(|benchmark| !benchmark.chat_template);
    match example {
        Example::Completion { prompt, completion } if bare || served.template.is_none() => {
            let end = if bare { "" } else { "\n" };
            let body = json!({ "prompt": format!("{prompt}{end}") });
            Ok((COMPLETIONS, body, completion.clone()))
        }
        Example::Completion { prompt, completion } => {
            let body = json!({ "messages": [Message::new("user", prompt.as_str())] });
            Ok((CHAT, body, completion.clone()))
        }
        Example::Conversation(turns) => {
            let (messages, reference) = last_answer(turns)?;
            Ok((CHAT, json!({ "messages": messages }), reference))
        }
        Example::Text(_) | Example::Labelled { .. } => {
            Err("it has no answer to compare with; give prompt and completion columns, or messages".into())
        }
    }
}

/// The text of the first choice of either API.
fn text(bytes: &[u8]) -> Result<String, String> {
    let answer: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let choice = &answer["choices"][0];
    let text = choice["text"]
        .as_str()
        .or_else(|| choice["message"]["content"].as_str());
    text.map(str::to_owned)
        .ok_or_else(|| "an answer without text".into())
}

/// The sums of the log-probabilities of the last `scored` tokens of each prompt.
fn likelihoods(bytes: &[u8], prompts: &[Vec<u32>], scored: &[usize]) -> Result<Vec<f64>, String> {
    let answer: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let choices = answer["choices"].as_array().map_or(&[][..], Vec::as_slice);
    let mut sums = vec![None; prompts.len()];
    for choice in choices {
        let (Some(index), Some(each)) = (
            choice["index"].as_u64(),
            choice["logprobs"]["token_logprobs"].as_array(),
        ) else {
            return Err("an answer without log-probabilities".into());
        };
        let index = index as usize;
        let (Some(prompt), Some(count)) = (prompts.get(index), scored.get(index)) else {
            return Err(format!(
                "an answer to prompt {index}, and there are {}",
                prompts.len()
            ));
        };
        let last = each
            .get(prompt.len().saturating_sub(*count)..prompt.len())
            .unwrap_or_default();
        if last.len() != *count {
            return Err("an answer without a log-probability for every token".into());
        }
        let values: Result<Vec<f64>, String> = last.iter().map(log_probability).collect();
        sums[index] = Some(values?.into_iter().sum());
    }
    let sums: Option<Vec<f64>> = sums.into_iter().collect();
    sums.ok_or_else(|| "an answer that leaves out a prompt".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likelihoods_are_those_of_the_last_tokens() {
        let answer = json!({ "choices": [
            { "index": 1, "logprobs": { "token_logprobs": [null, -1.0, -2.0, -4.0] } },
            { "index": 0, "logprobs": { "token_logprobs": [null, -0.5] } },
        ] });
        let prompts = [vec![1, 2], vec![1, 2, 3, 4]];
        let read = |scored: &[usize]| likelihoods(answer.to_string().as_bytes(), &prompts, scored);
        assert_eq!(read(&[1, 2]).unwrap(), [-0.5, -6.0]);
        assert!(read(&[3, 2]).unwrap_err().contains("every token"));
        let one = json!({ "choices": [] }).to_string();
        assert!(
            likelihoods(one.as_bytes(), &prompts, &[1, 2])
                .unwrap_err()
                .contains("leaves out")
        );
    }
}
