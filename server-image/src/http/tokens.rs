//! `/tokenize`, `/detokenize` and `/tokenizer_info`, in vLLM's shapes (which lm-evaluation-harness reads).

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use serde_json::json;
use slipway_model::chat::Message;

use super::{Body, Record, off_runtime, ok};
use crate::app::App;
use crate::error::ApiError;
use crate::openai::Fields;
use crate::token_text::TokenText;

pub(super) async fn tokenize(
    State(app): State<App>,
    Extension(record): Extension<Arc<Record>>,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let served = app.served()?;
    off_runtime(move || {
        let mut body = Fields::parse(&body)?;
        let model: Option<String> = body.optional("model")?;
        let prompt: Option<String> = body.optional("prompt")?;
        let messages: Option<Vec<Message>> = body.optional("messages")?;
        let add_special = body.optional("add_special_tokens")?;
        let generation_prompt = body.or("add_generation_prompt", true)?;
        let strings = body.or("return_token_strs", false)?;
        body.finish()?;
        let name = served.name_or_default(model.as_deref())?;
        record.model(&name.name);
        let ids = match (prompt, messages) {
            (Some(text), None) => served.encode(&text, add_special.unwrap_or(true))?,
            (None, Some(messages)) => {
                let template = served
                    .chat
                    .as_ref()
                    .map_err(|reason| ApiError::body(reason.clone()).code("no_chat_template"))?;
                let text = template
                    .render(&messages, None, generation_prompt)
                    .map_err(|error| ApiError::invalid("messages", error.to_string()))?;
                served.encode(&text, add_special.unwrap_or(false))?
            }
            _ => return Err(ApiError::invalid("prompt", "send either prompt or messages")),
        };
        let texts: Option<Vec<String>> = strings.then(|| {
            ids.iter()
                .map(|&id| TokenText::of(&served.tokenizer, id).text)
                .collect()
        });
        Ok(ok(json!({
            "count": ids.len(),
            "max_model_len": served.max_tokens,
            "tokens": ids,
            "token_strs": texts,
        })))
    })
    .await
}

pub(super) async fn detokenize(
    State(app): State<App>,
    Extension(record): Extension<Arc<Record>>,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let served = app.served()?;
    off_runtime(move || {
        let mut body = Fields::parse(&body)?;
        let model: Option<String> = body.optional("model")?;
        let tokens: Vec<u32> = body.required("tokens")?;
        body.finish()?;
        let name = served.name_or_default(model.as_deref())?;
        record.model(&name.name);
        if let Some(id) = tokens.iter().find(|&&id| id as usize >= served.vocabulary) {
            let last = served.vocabulary - 1;
            return Err(ApiError::invalid(
                "tokens",
                format!("tokens has the id {id}, but the vocabulary ends at {last}"),
            ));
        }
        let text = served
            .tokenizer
            .decode(&tokens, false)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        Ok(ok(json!({"prompt": text})))
    })
    .await
}

pub(super) async fn info(State(app): State<App>) -> Result<Response, ApiError> {
    let served = app.served()?;
    let tokenizer = &served.tokenizer;
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token(id));
    let ends = tokenizer.eos().iter().filter_map(|&id| tokenizer.token(id));
    Ok(ok(json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": text(tokenizer.bos()),
        "eos_token": text(tokenizer.eos_token()),
        // Beyond vLLM: every token that ends an answer, by its id.
        "eos_tokens": ends.collect::<Vec<String>>(),
        "pad_token": text(tokenizer.pad()),
        "vocab_size": served.vocabulary,
        "model_max_length": served.max_tokens,
        "chat_template": tokenizer.chat_template(),
    })))
}
