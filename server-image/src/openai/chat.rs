//! `/v1/chat/completions`.

use serde_json::{Value, json};
use slipway_model::chat::Message;
use slipway_model::tokenizer::Tokenizer;

use super::fields::{Fields, kind};
use super::params::Params;
use crate::engine::output::TokenInfo;
use crate::error::ApiError;
use crate::token_text::TokenText;

/// A conversation to continue.
#[derive(Debug)]
pub struct ChatRequest {
    /// What completions have too.
    pub params: Params,
    /// The conversation, each content a text.
    pub messages: Vec<Message>,
    /// Tokens of the answer at most; none: as many as fit.
    pub max_tokens: Option<usize>,
    /// Log-probabilities with this many alternatives.
    pub logprobs: Option<usize>,
}

impl ChatRequest {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut body = Fields::parse(body)?;
        let params = Params::take(&mut body)?;
        let messages: Vec<Message> = body.required("messages")?;
        // The older name of the same parameter.
        let older = body.optional("max_tokens")?;
        let max_tokens = body.optional("max_completion_tokens")?.or(older);
        let asked = body.or("logprobs", false)?;
        let top = body.within("top_logprobs", 0..=20, 0)?;
        if top > 0 && !asked {
            return Err(ApiError::invalid(
                "top_logprobs",
                "top_logprobs needs logprobs: true",
            ));
        }
        body.finish()?;
        if messages.is_empty() {
            return Err(ApiError::invalid(
                "messages",
                "messages is empty; send at least one message",
            ));
        }
        if max_tokens == Some(0) {
            return Err(ApiError::invalid("max_tokens", "max_tokens must be at least 1"));
        }
        let messages = messages
            .into_iter()
            .enumerate()
            .map(plain)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            params,
            messages,
            max_tokens,
            logprobs: asked.then_some(top),
        })
    }
}

/// A message whose content is a text, as every chat template takes it.
fn plain((place, mut message): (usize, Message)) -> Result<Message, ApiError> {
    const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];
    let path = |field: &str| format!("messages[{place}].{field}");
    if !ROLES.contains(&message.role.as_str()) {
        return Err(ApiError::invalid(
            &path("role"),
            format!(
                "{} must be one of {}, not {:?}",
                path("role"),
                ROLES.join(", "),
                message.role
            ),
        ));
    }
    // OpenAI's newer name; templates know the older.
    if message.role == "developer" {
        message.role = "system".into();
    }
    if let Some(name) = ["tool_calls", "function_call", "audio"]
        .into_iter()
        .find(|name| message.rest.get(*name).is_some_and(|value| !value.is_null()))
    {
        return Err(ApiError::invalid(
            &path(name),
            format!("{} is not supported; send text only", path(name)),
        )
        .code("unsupported_parameter"));
    }
    message.content = Value::String(text(&message.content, &path("content"))?);
    Ok(message)
}

fn text(content: &Value, path: &str) -> Result<String, ApiError> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match (part["type"].as_str(), part["text"].as_str()) {
                (Some("text"), Some(text)) => Ok(text),
                (kind, _) => Err(ApiError::invalid(
                    path,
                    format!("{path} has a part of type {:?}; only {{\"type\": \"text\", \"text\": …}} is supported", kind.unwrap_or("(none)")),
                )
                .code("unsupported_content")),
            })
            .collect(),
        other => Err(ApiError::invalid(
            path,
            format!("{path} must be a string or an array of text parts, not {}", kind(other)),
        )
        .code("invalid_type")),
    }
}

/// `logprobs` of a choice or chunk.
pub fn logprobs(tokens: &[TokenInfo], tokenizer: &Tokenizer) -> Value {
    let entry = |id, logprob| {
        let TokenText { text, bytes } = TokenText::of(tokenizer, id);
        json!({"token": text, "logprob": logprob, "bytes": bytes})
    };
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let mut value = entry(token.id, token.logprobs.chosen);
            value["top_logprobs"] = token
                .logprobs
                .top
                .iter()
                .map(|&(id, logprob)| entry(id, logprob))
                .collect();
            value
        })
        .collect();
    json!({"content": content, "refusal": null})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &Value) -> Result<ChatRequest, ApiError> {
        ChatRequest::parse(value.to_string().as_bytes())
    }

    #[test]
    fn text_parts_become_text_and_developer_is_system() {
        let request = parse(&json!({"model": "m", "max_tokens": 5, "max_completion_tokens": 7, "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "c", "name": "n"},
        ]}))
        .unwrap();
        assert_eq!(request.messages[0], Message::new("system", "ab"));
        assert_eq!(request.messages[1].rest["name"], "n");
        assert_eq!(request.max_tokens, Some(7));
    }

    #[test]
    fn mistakes_in_messages_name_the_place() {
        for (messages, param) in [
            (json!([]), "messages"),
            (json!("hi"), "messages"),
            (json!([{"content": "x"}]), "messages[0]"),
            (
                json!([{"role": "user", "content": "x"}, {"role": "robot", "content": "x"}]),
                "messages[1].role",
            ),
            (json!([{"role": "user", "content": 5}]), "messages[0].content"),
            (
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
                "messages[0].content",
            ),
            (
                json!([{"role": "assistant", "content": "", "tool_calls": [{}]}]),
                "messages[0].tool_calls",
            ),
        ] {
            let error = parse(&json!({"model": "m", "messages": messages})).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{error}");
        }
    }

    #[test]
    fn alternatives_need_logprobs() {
        let messages = json!([{"role": "user", "content": "x"}]);
        let error = parse(&json!({"model": "m", "messages": messages, "top_logprobs": 2})).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("top_logprobs"));
        let request =
            parse(&json!({"model": "m", "messages": messages, "logprobs": true, "top_logprobs": 2})).unwrap();
        assert_eq!(request.logprobs, Some(2));
    }
}
