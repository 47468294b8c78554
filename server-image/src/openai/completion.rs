//! `/v1/completions`.

use serde_json::{Map, Value, json};
use slipway_model::tokenizer::Tokenizer;

use super::fields::Fields;
use super::input::Input;
use super::params::Params;
use crate::error::ApiError;
use crate::sampling::Logprobs;
use crate::token_text::TokenText;

/// Prompts one request may have.
const MAX_PROMPTS: usize = 1024;

/// Prompts to continue.
#[derive(Debug)]
pub struct CompletionRequest {
    /// What chat completions have too.
    pub params: Params,
    /// Each is continued `n` times.
    pub prompts: Vec<Input>,
    /// Tokens of each answer at most.
    pub max_tokens: usize,
    /// Repeats the prompt before the answer.
    pub echo: bool,
    /// Log-probabilities with this many alternatives.
    pub logprobs: Option<usize>,
}

impl CompletionRequest {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut body = Fields::parse(body)?;
        let params = Params::take(&mut body)?;
        let prompts = Input::parse("prompt", body.required("prompt")?)?;
        let max_tokens = body.or("max_tokens", 16)?;
        let echo = body.or("echo", false)?;
        let logprobs = body.optional::<usize>("logprobs")?;
        body.finish()?;
        if prompts.len() > MAX_PROMPTS {
            return Err(ApiError::invalid(
                "prompt",
                format!(
                    "prompt has {} prompts; at most {MAX_PROMPTS} are taken at once",
                    prompts.len()
                ),
            ));
        }
        if let Some(top) = logprobs.filter(|&top| top > 20) {
            return Err(ApiError::invalid(
                "logprobs",
                format!("logprobs must be between 0 and 20, not {top}"),
            ));
        }
        if max_tokens == 0 && !echo {
            return Err(ApiError::invalid(
                "max_tokens",
                "max_tokens is 0, which without echo leaves nothing to answer; ask for at least 1",
            ));
        }
        Ok(Self {
            params,
            prompts,
            max_tokens,
            echo,
            logprobs,
        })
    }
}

/// `logprobs` of a choice or chunk, in the columns of the older API.
#[derive(Debug, Default)]
pub struct Columns {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<Map<String, Value>>>,
    text_offset: Vec<usize>,
}

impl Columns {
    /// Adds a token that begins after `offset` characters of the text.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32, logprobs: Option<&Logprobs>, offset: usize) {
        let name = |id| TokenText::of(tokenizer, id).text;
        self.tokens.push(name(id));
        self.token_logprobs.push(logprobs.map(|found| found.chosen));
        self.top_logprobs.push(logprobs.map(|found| {
            // Two tokens can have one text; the more likely one stands for both. The chosen one is always there.
            let mut top = Map::new();
            for (id, logprob) in found.top.iter().copied().chain([(id, found.chosen)]) {
                top.entry(name(id)).or_insert_with(|| json!(logprob));
            }
            top
        }));
        self.text_offset.push(offset);
    }

    /// The JSON of the API.
    pub fn to_json(&self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &Value) -> Result<CompletionRequest, ApiError> {
        CompletionRequest::parse(value.to_string().as_bytes())
    }

    #[test]
    fn defaults_are_openais() {
        let request = parse(&json!({"model": "m", "prompt": "a"})).unwrap();
        assert_eq!(
            (request.max_tokens, request.echo, request.logprobs),
            (16, false, None)
        );
    }

    #[test]
    fn mistakes_name_their_parameter() {
        for (body, param) in [
            (json!({"model": "m"}), "prompt"),
            (json!({"prompt": "a"}), "model"),
            (json!({"model": "m", "prompt": "a", "logprobs": 21}), "logprobs"),
            (json!({"model": "m", "prompt": "a", "logprobs": true}), "logprobs"),
            (
                json!({"model": "m", "prompt": "a", "max_tokens": 0}),
                "max_tokens",
            ),
            (
                json!({"model": "m", "prompt": "a", "max_tokens": -1}),
                "max_tokens",
            ),
            (json!({"model": "m", "prompt": vec!["a"; 1025]}), "prompt"),
            (json!({"model": "m", "prompt": "a", "suffix": "b"}), "suffix"),
        ] {
            let error = parse(&body).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{error}");
        }
        assert!(parse(&json!({"model": "m", "prompt": "a", "max_tokens": 0, "echo": true})).is_ok());
    }
}
