//! What completions and chat completions share: handing sequences to the engine, and sending what comes back
//! whole or as a stream.

use std::sync::Arc;

use axum::body::Bytes;
use axum::response::Response;
use serde_json::{Value, json};

use super::Record;
use crate::engine::generation::{Event, Finish, Sequence};
use crate::engine::output::{Delta, TokenInfo};
use crate::error::ApiError;
use crate::openai::Params;
use crate::sampling::{Logprobs, Sampling};
use crate::served::{Events, Name, Served};
use crate::sse;

/// What to generate beyond the common parameters.
#[derive(Debug)]
pub struct Work {
    /// Token ids of each prompt.
    pub prompts: Vec<Arc<[u32]>>,
    /// Tokens of each answer at most, which fit behind every prompt.
    pub max_tokens: Vec<usize>,
    /// Log-probabilities of answers with this many alternatives.
    pub logprobs: Option<usize>,
    /// The same for prompts.
    pub prompt_logprobs: Option<usize>,
}

/// Hands `n` sequences for each prompt to the engine. Choice `i` of prompt `p` has the index `p·n + i`.
pub fn submit(
    served: &Served,
    name: &Name,
    params: &Params,
    work: &Work,
    record: &Record,
) -> Result<Events, ApiError> {
    let (events, receiver) = tokio::sync::mpsc::unbounded_channel();
    let n = params.n as usize;
    let mut sequences = Vec::with_capacity(work.prompts.len() * n);
    for (prompt, &max_tokens) in work.prompts.iter().zip(&work.max_tokens) {
        for choice in 0..params.n {
            sequences.push(Sequence {
                index: sequences.len(),
                model: name.name.clone(),
                adapter: name.adapter,
                prompt: prompt.clone(),
                max_tokens,
                sampling: Sampling {
                    seed: params.sampling.seed.wrapping_add(u64::from(choice)),
                    ..params.sampling.clone()
                },
                stop: params.stop.clone(),
                logprobs: work.logprobs,
                prompt_logprobs: work.prompt_logprobs,
                ignore_eos: params.ignore_eos,
                events: events.clone(),
                arrived: record.arrived(),
            });
        }
    }
    served.generate(sequences)?;
    record.tokens(work.prompts.iter().map(|prompt| prompt.len()).sum(), 0);
    Ok(receiver)
}

/// Token counts of a response.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Of all prompts, each counted once.
    pub prompt: usize,
    /// Of all answers.
    pub completion: usize,
}

impl Usage {
    /// The JSON of the API.
    pub fn to_json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        })
    }
}

/// A complete answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// Its tokens, when log-probabilities were asked for.
    pub tokens: Vec<TokenInfo>,
    /// Log-probabilities of its prompt, when asked for.
    pub prompt: Vec<Option<Logprobs>>,
    /// Why it ended.
    pub finish: Option<Finish>,
}

/// Waits for `count` answers. The second value counts their tokens.
pub async fn collect(
    mut events: Events,
    count: usize,
    record: &Record,
) -> Result<(Vec<Answer>, usize), ApiError> {
    let mut answers: Vec<Answer> = std::iter::repeat_with(Answer::default).take(count).collect();
    let (mut open, mut generated) = (count, 0);
    while open > 0 {
        let (index, event) = events.recv().await.ok_or_else(ended)?;
        let answer = &mut answers[index];
        match event {
            Event::Prompt(scores) => answer.prompt = scores,
            Event::Delta(Delta { text, tokens }) => {
                answer.text.push_str(&text);
                answer.tokens.extend(tokens);
            }
            Event::Done { finish, tokens } => {
                answer.finish = Some(finish);
                generated += tokens;
                open -= 1;
            }
            Event::Failed(error) => return Err(error),
        }
    }
    record.tokens(0, generated);
    Ok((answers, generated))
}

fn ended() -> ApiError {
    ApiError::internal("the compute thread ended before the answer was complete")
}

/// How the chunks of a stream look.
pub trait Chunks: Send + 'static {
    /// Before the first part of an answer; `scores` are the prompt's log-probabilities.
    fn open(&mut self, index: usize, scores: Option<Vec<Option<Logprobs>>>) -> Option<Value>;
    /// A part of an answer.
    fn delta(&mut self, index: usize, delta: Delta) -> Value;
    /// The end of an answer.
    fn done(&mut self, index: usize, finish: Finish) -> Value;
    /// The token counts after all answers.
    fn usage(&mut self, usage: Usage) -> Value;
}

/// Sends `count` answers as they come. The first event is awaited, so that a request that fails at once is
/// answered with its proper status.
pub async fn stream(
    mut events: Events,
    count: usize,
    include_usage: bool,
    usage: Usage,
    chunks: impl Chunks,
    record: Arc<Record>,
) -> Result<Response, ApiError> {
    let first = match events.recv().await {
        Some((_, Event::Failed(error))) => return Err(error),
        Some(event) => event,
        None => return Err(ended()),
    };
    let state = Streaming {
        events,
        first: Some(first),
        chunks,
        opened: vec![false; count],
        open: count,
        usage,
        include_usage,
        record,
    };
    Ok(sse::response(futures::stream::unfold(state, Streaming::next)))
}

struct Streaming<C> {
    events: Events,
    first: Option<(usize, Event)>,
    chunks: C,
    opened: Vec<bool>,
    open: usize,
    usage: Usage,
    include_usage: bool,
    record: Arc<Record>,
}

impl<C: Chunks> Streaming<C> {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.open == 0 {
            return None;
        }
        let event = match self.first.take() {
            Some(event) => Some(event),
            None => self.events.recv().await,
        };
        let mut frames = Vec::new();
        match event {
            Some((index, event)) => self.write(index, event, &mut frames),
            None => self.abort(&ended(), &mut frames),
        }
        if self.open == 0 {
            frames.extend_from_slice(sse::DONE.as_bytes());
        }
        Some((frames.into(), self))
    }

    fn write(&mut self, index: usize, event: Event, frames: &mut Vec<u8>) {
        let mut event = event;
        if !self.opened[index] {
            self.opened[index] = true;
            let scores = match &mut event {
                Event::Prompt(scores) => Some(std::mem::take(scores)),
                _ => None,
            };
            if let Some(chunk) = self.chunks.open(index, scores) {
                frames.extend_from_slice(&sse::event(&chunk));
            }
        }
        match event {
            Event::Prompt(_) => {}
            Event::Delta(delta) => frames.extend_from_slice(&sse::event(&self.chunks.delta(index, delta))),
            Event::Done { finish, tokens } => {
                frames.extend_from_slice(&sse::event(&self.chunks.done(index, finish)));
                self.usage.completion += tokens;
                self.record.tokens(0, tokens);
                self.open -= 1;
                if self.open == 0 && self.include_usage {
                    frames.extend_from_slice(&sse::event(&self.chunks.usage(self.usage)));
                }
            }
            Event::Failed(error) => self.abort(&error, frames),
        }
    }

    /// The status line is out, so the stream's last event says what happened.
    fn abort(&mut self, error: &ApiError, frames: &mut Vec<u8>) {
        frames.extend_from_slice(&sse::event(&error.to_json()));
        self.open = 0;
    }
}
