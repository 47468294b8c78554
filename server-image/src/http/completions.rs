//! `POST /v1/completions`.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use serde_json::{Value, json};
use slipway_contract::Task;
use slipway_model::tokenizer::{StreamDecoder, Tokenizer};

use super::generate::{Answer, Chunks, Usage, Work, collect, stream, submit};
use super::{Body, Record, off_runtime, ok, with_model};
use crate::app::App;
use crate::engine::generation::Finish;
use crate::engine::output::{Delta, TokenInfo};
use crate::error::ApiError;
use crate::openai::{Columns, CompletionRequest, Input, unique_id};
use crate::sampling::Logprobs;
use crate::served::{Served, unix_now};

pub(super) async fn handle(
    State(app): State<App>,
    Extension(record): Extension<Arc<Record>>,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let served = app.served()?;
    served.needs(Task::CausalLM, "/v1/completions")?;
    let (request, prompts) = off_runtime({
        let served = served.clone();
        move || {
            let request = CompletionRequest::parse(&body)?;
            served.name(&request.params.model)?;
            let prompts = request
                .prompts
                .iter()
                .map(|prompt| Prompt::new(&served, prompt, &request))
                .collect::<Result<Vec<_>, _>>()?;
            Ok((request, prompts))
        }
    })
    .await?;
    let name = served.name(&request.params.model)?.clone();
    record.model(&name.name);

    let params = &request.params;
    let count = prompts.len() * params.n as usize;
    let usage = Usage {
        prompt: prompts.iter().map(|prompt| prompt.tokens.len()).sum(),
        completion: 0,
    };
    let work = Work {
        prompts: prompts.iter().map(|prompt| prompt.tokens.clone()).collect(),
        max_tokens: vec![request.max_tokens; prompts.len()],
        logprobs: request.logprobs,
        prompt_logprobs: request.logprobs.filter(|_| request.echo),
    };
    let events = submit(&served, &name, params, &work, &record)?;
    let shape = Shape {
        id: unique_id("cmpl"),
        created: unix_now(),
        model: name.name.to_string(),
        fingerprint: served.fingerprint.clone(),
        tokenizer: served.tokenizer.clone(),
        prompts,
        n: params.n as usize,
        echo: request.echo,
        logprobs: request.logprobs.is_some(),
        include_usage: params.include_usage,
    };
    let response = if params.stream {
        stream(events, count, params.include_usage, usage, shape, record).await?
    } else {
        let (answers, completion) = collect(events, count, &record).await?;
        let choices: Vec<Value> = answers
            .into_iter()
            .enumerate()
            .map(|(index, answer)| shape.choice(index, &answer))
            .collect();
        let mut body = shape.body(&choices);
        body["usage"] = Usage { completion, ..usage }.to_json();
        ok(body)
    };
    Ok(with_model(response, &name.name))
}

/// A prompt as it is computed and as it is repeated.
struct Prompt {
    tokens: Arc<[u32]>,
    // The text before the answer: the prompt with echo, else nothing.
    echoed: String,
}

impl Prompt {
    fn new(served: &Served, input: &Input, request: &CompletionRequest) -> Result<Self, ApiError> {
        let tokens: Arc<[u32]> = served.tokens("prompt", input, request.max_tokens)?.into();
        let echoed = match input {
            _ if !request.echo => String::new(),
            Input::Text(text) => text.clone(),
            Input::Tokens(ids) => served
                .tokenizer
                .decode(ids, true)
                .map_err(|error| ApiError::internal(error.to_string()))?,
        };
        Ok(Self { tokens, echoed })
    }
}

/// What is the same in every chunk of a response.
struct Shape {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    tokenizer: Arc<Tokenizer>,
    prompts: Vec<Prompt>,
    n: usize,
    echo: bool,
    logprobs: bool,
    include_usage: bool,
}

impl Shape {
    fn body(&self, choices: &[Value]) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "system_fingerprint": self.fingerprint,
        })
    }

    fn chunk(&self, index: usize, text: &str, logprobs: Option<&Columns>, finish: Option<Finish>) -> Value {
        let mut chunk = self.body(&[choice(index, text, logprobs, finish)]);
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn choice(&self, index: usize, answer: &Answer) -> Value {
        let prompt = &self.prompts[index / self.n];
        let columns = self.logprobs.then(|| {
            let mut columns = self.prompt_columns(prompt, &answer.prompt);
            self.add(&mut columns, prompt, &answer.tokens);
            columns
        });
        let text = format!("{}{}", prompt.echoed, answer.text);
        choice(index, &text, columns.as_ref(), answer.finish)
    }

    fn prompt_columns(&self, prompt: &Prompt, scores: &[Option<Logprobs>]) -> Columns {
        let mut columns = Columns::default();
        let mut decoder = StreamDecoder::new(true);
        let mut offset = 0;
        for (&id, score) in prompt.tokens.iter().zip(scores) {
            columns.push(&self.tokenizer, id, score.as_ref(), offset);
            // A token that cannot be decoded takes no room in the text either.
            offset += decoder
                .push(&self.tokenizer, id)
                .map_or(0, |text| text.chars().count());
        }
        columns
    }

    fn add(&self, columns: &mut Columns, prompt: &Prompt, tokens: &[TokenInfo]) {
        let before = prompt.echoed.chars().count();
        for token in tokens {
            columns.push(
                &self.tokenizer,
                token.id,
                Some(&token.logprobs),
                before + token.offset,
            );
        }
    }
}

fn choice(index: usize, text: &str, logprobs: Option<&Columns>, finish: Option<Finish>) -> Value {
    json!({
        "index": index,
        "text": text,
        "logprobs": logprobs.map(Columns::to_json),
        "finish_reason": finish.map(Finish::name),
    })
}

impl Chunks for Shape {
    fn open(&mut self, index: usize, scores: Option<Vec<Option<Logprobs>>>) -> Option<Value> {
        let prompt = self.echo.then(|| &self.prompts[index / self.n])?;
        let columns = scores.map(|scores| self.prompt_columns(prompt, &scores));
        Some(self.chunk(index, &prompt.echoed, columns.as_ref(), None))
    }

    fn delta(&mut self, index: usize, delta: Delta) -> Value {
        let columns = self.logprobs.then(|| {
            let mut columns = Columns::default();
            self.add(&mut columns, &self.prompts[index / self.n], &delta.tokens);
            columns
        });
        self.chunk(index, &delta.text, columns.as_ref(), None)
    }

    fn done(&mut self, index: usize, finish: Finish) -> Value {
        self.chunk(index, "", None, Some(finish))
    }

    fn usage(&mut self, usage: Usage) -> Value {
        let mut chunk = self.body(&[]);
        chunk["usage"] = usage.to_json();
        chunk
    }
}
