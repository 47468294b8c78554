//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use serde_json::{Value, json};
use slipway_contract::Task;
use slipway_model::tokenizer::Tokenizer;

use super::generate::{Chunks, Usage, Work, collect, stream, submit};
use super::{Body, Record, off_runtime, ok, with_model};
use crate::app::App;
use crate::engine::generation::Finish;
use crate::engine::output::Delta;
use crate::error::ApiError;
use crate::openai::{ChatRequest, chat_logprobs, unique_id};
use crate::sampling::Logprobs;
use crate::served::{Served, unix_now};

pub(super) async fn handle(
    State(app): State<App>,
    Extension(record): Extension<Arc<Record>>,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let served = app.served()?;
    served.needs(Task::CausalLM, "/v1/chat/completions")?;
    let (request, prompt) = off_runtime({
        let served = served.clone();
        move || {
            let request = ChatRequest::parse(&body)?;
            served.name(&request.params.model)?;
            let prompt = prompt(&served, &request)?;
            Ok((request, prompt))
        }
    })
    .await?;
    let name = served.name(&request.params.model)?.clone();
    record.model(&name.name);

    let usage = Usage {
        prompt: prompt.len(),
        completion: 0,
    };
    let room = served.max_tokens - prompt.len();
    let work = Work {
        prompts: vec![prompt.into()],
        max_tokens: vec![request.max_tokens.unwrap_or(room)],
        logprobs: request.logprobs,
        prompt_logprobs: None,
    };
    let params = &request.params;
    let events = submit(&served, &name, params, &work, &record)?;
    let shape = Shape {
        id: unique_id("chatcmpl"),
        created: unix_now(),
        model: name.name.to_string(),
        fingerprint: served.fingerprint.clone(),
        tokenizer: served.tokenizer.clone(),
        logprobs: request.logprobs.is_some(),
        include_usage: params.include_usage,
    };
    let count = params.n as usize;
    let response = if params.stream {
        stream(events, count, params.include_usage, usage, shape, record).await?
    } else {
        let (answers, completion) = collect(events, count, &record).await?;
        let choices: Vec<Value> = answers
            .into_iter()
            .enumerate()
            .map(|(index, answer)| {
                json!({
                    "index": index,
                    "message": {"role": "assistant", "content": answer.text, "refusal": null},
                    "logprobs": shape.logprobs(&answer.tokens),
                    "finish_reason": answer.finish.map(Finish::name),
                })
            })
            .collect();
        ok(shape.whole(&choices, Usage { completion, ..usage }))
    };
    Ok(with_model(response, &name.name))
}

/// The conversation's token ids.
fn prompt(served: &Served, request: &ChatRequest) -> Result<Vec<u32>, ApiError> {
    let template = served.chat.as_ref().map_err(|reason| {
        ApiError::body(format!("{reason}; or use /v1/completions")).code("no_chat_template")
    })?;
    let text = template
        .render(&request.messages, None, true)
        .map_err(|error| ApiError::invalid("messages", error.to_string()))?;
    // The template writes the special tokens itself.
    let ids = served.encode(&text, false)?;
    // Without a bound of its own, an answer needs room for one token at least.
    served.fits("messages", ids.len(), request.max_tokens.unwrap_or(1))?;
    Ok(ids)
}

/// What is the same in every chunk of a response.
struct Shape {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    tokenizer: Arc<Tokenizer>,
    logprobs: bool,
    include_usage: bool,
}

impl Shape {
    fn logprobs(&self, tokens: &[crate::engine::output::TokenInfo]) -> Value {
        if self.logprobs {
            chat_logprobs(tokens, &self.tokenizer)
        } else {
            Value::Null
        }
    }

    fn whole(&self, choices: &[Value], usage: Usage) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "usage": usage.to_json(),
            "system_fingerprint": self.fingerprint,
        })
    }

    fn chunk(&self, choices: &[Value]) -> Value {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

impl Chunks for Shape {
    fn open(&mut self, index: usize, _: Option<Vec<Option<Logprobs>>>) -> Option<Value> {
        let delta = json!({"role": "assistant", "content": ""});
        Some(self.chunk(&[json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null})]))
    }

    fn delta(&mut self, index: usize, delta: Delta) -> Value {
        let logprobs = self.logprobs(&delta.tokens);
        let content = json!({"content": delta.text});
        self.chunk(&[json!({"index": index, "delta": content, "logprobs": logprobs, "finish_reason": null})])
    }

    fn done(&mut self, index: usize, finish: Finish) -> Value {
        self.chunk(&[json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": finish.name()})])
    }

    fn usage(&mut self, usage: Usage) -> Value {
        let mut chunk = self.chunk(&[]);
        chunk["usage"] = usage.to_json();
        chunk
    }
}
