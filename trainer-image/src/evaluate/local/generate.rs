//! Answers to prompts: the likeliest token at each step, until the model ends the text.

use candle_core::D;
use serde_json::Value;
use slipway_contract::{Benchmark, Failure, FailureReason};
use slipway_model::chat::{ChatTemplate, Message};
use slipway_model::{AdapterId, KvCache, ModelError, Network};

use super::{Local, unusable};
use crate::data::Example;
use crate::evaluate::examples::Examples;
use crate::evaluate::{Progress, Spoken};
use crate::host::Host;
use crate::train::tokenizer_failure;

/// Prompt tokens computed at once.
const PREFILL_CHUNK: usize = 256;

/// A sequence that goes on.
#[derive(Debug)]
struct Running {
    /// Its place in the batch.
    index: usize,
    cache: KvCache,
    answer: Vec<u32>,
    /// Tokens of the answer at most.
    most: usize,
}

impl Local {
    /// What the model says to each example's prompt in `most` tokens at most, and the example's own answer. White space
    /// around both is dropped. `benchmark` tells how prompts are shown and where answers end, where there is one.
    pub fn answers(
        &self,
        examples: &Examples,
        benchmark: Option<&Benchmark>,
        most: usize,
        host: &Host,
        progress: &mut Progress,
    ) -> Result<Vec<Spoken>, Failure> {
        let bare = benchmark.is_some_and(|benchmark| !benchmark.chat_template);
        let until = benchmark.map_or(&[][..], |benchmark| &benchmark.until);
        let template = match self.tokenizer.chat_template() {
            Some(_) if !bare => Some(
                ChatTemplate::of(&self.tokenizer)
                    .map_err(|error| Failure::new(FailureReason::InvalidModel, error.to_string()))?,
            ),
            _ => None,
        };
        let mut spoken = Vec::with_capacity(examples.len());
        let mut prompts = Vec::with_capacity(examples.len());
        for (index, example) in examples.rows().iter().enumerate() {
            let (prompt, reference) = self
                .prompt(example, template.as_ref(), bare)
                .map_err(|bad| unusable(examples, index, &bad))?;
            self.check_length(&prompt, index)?;
            prompts.push(prompt);
            spoken.push(Spoken {
                answer: String::new(),
                reference: reference.trim().to_owned(),
            });
        }
        let first = (0..prompts.len()).step_by(self.batch_size.max(1));
        for (first, batch) in first.zip(prompts.chunks(self.batch_size.max(1))) {
            let answers = self.generate(batch, most, host)?;
            for (one, ids) in spoken[first..].iter_mut().zip(answers) {
                let text = self
                    .tokenizer
                    .decode(&ids, true)
                    .map_err(|error| tokenizer_failure(&error))?;
                ended(&text, until).trim().clone_into(&mut one.answer);
            }
            progress.advance(batch.len(), host);
        }
        Ok(spoken)
    }

    /// An example's prompt, as training shows it to the model, and what the answer should be.
    fn prompt(
        &self,
        example: &Example,
        template: Option<&ChatTemplate>,
        bare: bool,
    ) -> Result<(Vec<u32>, String), String> {
        let encode = |text: &str, special| {
            self.tokenizer
                .encode(text, special)
                .map_err(|error| error.to_string())
        };
        let (messages, reference) = match (example, template) {
            (Example::Completion { prompt, completion }, None) => {
                let end = if bare { "" } else { "\n" };
                return Ok((encode(&format!("{prompt}{end}"), true)?, completion.clone()));
            }
            (Example::Completion { prompt, completion }, Some(_)) => {
                (vec![Message::new("user", prompt.as_str())], completion.clone())
            }
            (Example::Conversation(turns), _) => last_answer(turns)?,
            (Example::Text(_) | Example::Labelled { .. }, _) => {
                return Err(
                    "it has no answer to compare with; give prompt and completion columns, or messages"
                        .into(),
                );
            }
        };
        let template = template.ok_or("the model has no chat template, which messages need")?;
        let text = template
            .render(&messages, None, true)
            .map_err(|error| error.to_string())?;
        // The template writes special tokens itself.
        let ids = encode(&text, false)?;
        if ids.is_empty() {
            return Err("its prompt is empty".into());
        }
        Ok((ids, reference))
    }

    fn check_length(&self, prompt: &[u32], index: usize) -> Result<(), Failure> {
        let limit = self.network.max_sequence_length();
        if prompt.len() < limit {
            return Ok(());
        }
        Err(Failure::new(
            FailureReason::SequenceTooLong,
            format!(
                "the prompt of example {} has {} tokens, and the model attends to {limit} with the answer; shorten it",
                index + 1,
                prompt.len()
            ),
        ))
    }

    fn generate(&self, prompts: &[Vec<u32>], most: usize, host: &Host) -> Result<Vec<Vec<u32>>, Failure> {
        let failed = |error: ModelError| error.failure();
        let limit = self.network.max_sequence_length();
        let mut answers = vec![Vec::new(); prompts.len()];
        let mut running = Vec::with_capacity(prompts.len());
        for (index, prompt) in prompts.iter().enumerate() {
            host.stop.check()?;
            let mut cache = self.network.kv_cache();
            let token = first_token(&self.network, prompt, &mut cache, self.adapter).map_err(failed)?;
            running.push(Running {
                index,
                cache,
                answer: vec![token],
                most: most.min(limit - prompt.len()),
            });
        }
        loop {
            for mut ended in running.extract_if(.., |one| self.has_ended(one)) {
                ended.answer.pop_if(|id| self.tokenizer.eos().contains(id));
                answers[ended.index] = ended.answer;
            }
            if running.is_empty() {
                return Ok(answers);
            }
            host.stop.check()?;
            let tokens = next_tokens(&self.network, &mut running, self.adapter).map_err(failed)?;
            for (one, token) in running.iter_mut().zip(tokens) {
                one.answer.push(token);
            }
        }
    }

    fn has_ended(&self, one: &Running) -> bool {
        let ends = |id| self.tokenizer.eos().contains(id);
        one.answer.len() >= one.most || one.answer.last().is_some_and(ends)
    }
}

/// The answer before the first of `until`.
pub(in crate::evaluate) fn ended<'a>(text: &'a str, until: &[String]) -> &'a str {
    let ends = until.iter().filter(|stop| !stop.is_empty());
    let end = ends.filter_map(|stop| text.find(stop.as_str())).min();
    &text[..end.unwrap_or(text.len())]
}

/// The turns before a conversation's last answer, and that answer.
pub(in crate::evaluate) fn last_answer(turns: &[Value]) -> Result<(Vec<Message>, String), String> {
    let last = turns
        .iter()
        .rposition(|turn| turn["role"] == "assistant")
        .ok_or("it has no message of the assistant")?;
    let reference = turns[last]["content"]
        .as_str()
        .ok_or("the assistant's last message is no text")?;
    let messages: Result<Vec<Message>, _> = turns[..last]
        .iter()
        .cloned()
        .map(serde_json::from_value)
        .collect();
    Ok((messages.map_err(|error| error.to_string())?, reference.to_owned()))
}

fn first_token(
    network: &Network,
    prompt: &[u32],
    cache: &mut KvCache,
    adapter: Option<AdapterId>,
) -> Result<u32, ModelError> {
    let mut token = 0;
    for chunk in prompt.chunks(PREFILL_CHUNK) {
        let logits = network.prefill(chunk, cache, adapter)?;
        token = logits.argmax(D::Minus1)?.to_scalar()?;
    }
    Ok(token)
}

fn next_tokens(
    network: &Network,
    running: &mut [Running],
    adapter: Option<AdapterId>,
) -> Result<Vec<u32>, ModelError> {
    let last: Vec<u32> = running
        .iter()
        .filter_map(|one| one.answer.last().copied())
        .collect();
    let adapters = vec![adapter; running.len()];
    let mut caches: Vec<&mut KvCache> = running.iter_mut().map(|one| &mut one.cache).collect();
    let logits = network.decode(&last, &mut caches, &adapters)?;
    Ok(logits.argmax(D::Minus1)?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_ends_before_the_first_stop() {
        let until = ["\n".to_owned(), "Q:".to_owned(), String::new()];
        assert_eq!(ended("one Q: two\nthree", &until), "one ");
        assert_eq!(ended("one", &until), "one");
    }

    #[test]
    fn the_last_answer_of_a_conversation_is_asked_for_again() {
        let turns = [
            json!({ "role": "user", "content": "one" }),
            json!({ "role": "assistant", "content": "two" }),
            json!({ "role": "user", "content": "three" }),
            json!({ "role": "assistant", "content": "four" }),
            json!({ "role": "user", "content": "thanks" }),
        ];
        let (messages, reference) = last_answer(&turns).unwrap();
        assert_eq!((messages.len(), reference.as_str()), (3, "four"));
        assert_eq!(messages[2], Message::new("user", "three"));
        let parts = [json!({ "role": "assistant", "content": [{ "type": "image" }] })];
        assert_eq!(
            last_answer(&parts).unwrap_err(),
            "the assistant's last message is no text"
        );
    }
}
