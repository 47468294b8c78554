//! Continuous batching: all running sequences take a step together, new ones join and finished ones leave
//! between steps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use slipway_model::tokenizer::Tokenizer;
use slipway_model::{AdapterId, Batch, KvCache, ModelError, Network, Rows};
use tokio::sync::mpsc::UnboundedSender;

use super::output::{Delta, Output};
use super::{failed, rows};
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::queue::{Abandon, Queue};
use crate::sampling::{Logprobs, Sampler, Sampling, logprobs};

/// Prompt tokens computed at once. Running answers wait that long for their next token when a prompt arrives.
/// Chunks begin at multiples of this whatever else runs, so that rounding never depends on the load.
const PREFILL_CHUNK: usize = 256;

/// Positions scored at once for the log-probabilities of a prompt; each takes a row as wide as the vocabulary.
const SCORED_POSITIONS: usize = 64;

/// Why an answer ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finish {
    /// An end-of-text token or a stop string.
    Stop,
    /// As long as it may be.
    Length,
}

impl Finish {
    /// OpenAI's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// What happens to a sequence.
#[derive(Debug)]
pub enum Event {
    /// Log-probabilities of the prompt; the first token has none.
    Prompt(Vec<Option<Logprobs>>),
    /// More of the answer.
    Delta(Delta),
    /// The answer is complete.
    Done {
        /// Why.
        finish: Finish,
        /// Tokens sampled, an end-of-text token included.
        tokens: usize,
    },
    /// The answer cannot be completed.
    Failed(ApiError),
}

/// One answer to compute.
#[derive(Debug)]
pub struct Sequence {
    /// Its place in the response.
    pub index: usize,
    /// The name asked for.
    pub model: Arc<str>,
    /// The adapter of that name.
    pub adapter: Option<AdapterId>,
    /// Token ids, at least one.
    pub prompt: Arc<[u32]>,
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// How to choose them.
    pub sampling: Sampling,
    /// Strings that end the answer.
    pub stop: Vec<String>,
    /// Log-probabilities of the answer with this many alternatives.
    pub logprobs: Option<usize>,
    /// The same for the prompt.
    pub prompt_logprobs: Option<usize>,
    /// Goes on after an end-of-text token.
    pub ignore_eos: bool,
    /// Where events go; closed when the client has left.
    pub events: UnboundedSender<(usize, Event)>,
    /// When the request arrived.
    pub arrived: Instant,
}

impl Sequence {
    fn send(&self, event: Event) {
        // A client that left is noticed at the next step.
        let _ = self.events.send((self.index, event));
    }
}

/// The sequences of one HTTP request.
#[derive(Debug)]
pub struct Request(pub Vec<Sequence>);

impl Abandon for Request {
    fn abandoned(&self) -> bool {
        self.0.iter().all(|sequence| sequence.events.is_closed())
    }
}

/// Which sequences run, and how far each is.
#[derive(Debug)]
pub struct Generator {
    network: Network,
    tokenizer: Arc<Tokenizer>,
    queue: Arc<Queue<Request>>,
    metrics: Arc<Metrics>,
    max_batch: usize,
    // Sequences of requests that were taken from the queue but do not fit yet.
    backlog: VecDeque<Sequence>,
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    sequence: Sequence,
    cache: KvCache,
    sampler: Sampler,
    output: Output,
    generated: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Tokens of the prompt in the cache.
    Prompt { done: usize },
    /// The last token sampled, which is not in the cache yet, and when that was.
    Answer { last: u32, at: Instant },
    /// To be removed.
    Ended,
}

impl Generator {
    /// A generator with nothing to do.
    pub fn new(
        network: Network,
        tokenizer: Arc<Tokenizer>,
        queue: Arc<Queue<Request>>,
        metrics: Arc<Metrics>,
        max_batch: usize,
    ) -> Self {
        Self {
            network,
            tokenizer,
            queue,
            metrics,
            max_batch,
            backlog: VecDeque::new(),
            running: Vec::new(),
        }
    }

    /// Serves the queue for ever.
    pub fn run(mut self) {
        loop {
            self.admit();
            self.prefill();
            self.decode();
            self.running
                .retain(|running| !matches!(running.state, State::Ended));
        }
    }

    /// Drops sequences whose client left and lets waiting ones in; waits while there is nothing at all to do.
    fn admit(&mut self) {
        let metrics = &self.metrics;
        self.running.retain(|running| {
            let left = running.sequence.events.is_closed();
            if left {
                metrics.finished(
                    &running.sequence.model,
                    "abort",
                    running.sequence.arrived.elapsed(),
                );
            }
            !left
        });
        self.backlog.retain(|sequence| !sequence.events.is_closed());
        while self.running.len() < self.max_batch {
            if let Some(sequence) = self.backlog.pop_front() {
                self.start(sequence);
            } else if let Some(request) = self.queue.try_pop() {
                self.backlog.extend(request.0);
            } else if self.running.is_empty() {
                self.metrics.running(0);
                self.backlog.extend(self.queue.pop().0);
            } else {
                break;
            }
        }
        self.metrics.running(self.running.len());
    }

    fn start(&mut self, sequence: Sequence) {
        self.metrics
            .prompt(&sequence.model, sequence.prompt.len(), sequence.arrived.elapsed());
        self.running.push(Running {
            cache: self.network.kv_cache(),
            sampler: Sampler::new(sequence.sampling.clone()),
            output: Output::new(sequence.stop.clone()),
            generated: 0,
            state: State::Prompt { done: 0 },
            sequence,
        });
    }

    /// Computes prompts, about one chunk in all, so that running answers never wait long.
    fn prefill(&mut self) {
        let mut budget = PREFILL_CHUNK;
        for running in &mut self.running {
            while let State::Prompt { done } = running.state {
                if budget == 0 {
                    return;
                }
                let end = (done + PREFILL_CHUNK).min(running.sequence.prompt.len());
                budget = budget.saturating_sub(end - done);
                if let Err(error) = running.prefill(&self.network, &self.tokenizer, &self.metrics, done..end)
                {
                    running.fail(&self.metrics, error);
                }
            }
        }
    }

    /// One token for every running answer.
    fn decode(&mut self) {
        let mut rows_of: Vec<&mut Running> = Vec::new();
        let mut tokens = Vec::new();
        for running in &mut self.running {
            if let State::Answer { last, .. } = running.state {
                tokens.push(last);
                rows_of.push(running);
            }
        }
        if tokens.is_empty() {
            return;
        }
        self.metrics.batch(tokens.len(), 0);
        let adapters: Vec<_> = rows_of.iter().map(|running| running.sequence.adapter).collect();
        let mut caches: Vec<&mut KvCache> = rows_of.iter_mut().map(|running| &mut running.cache).collect();
        let scored = self
            .network
            .decode(&tokens, &mut caches, &adapters)
            .and_then(|logits| rows(&logits));
        match scored {
            Ok(scored) => {
                for (running, mut logits) in rows_of.into_iter().zip(scored) {
                    if let Err(error) = running.take(&mut logits, &self.tokenizer, &self.metrics) {
                        running.fail(&self.metrics, error);
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, sequences = rows_of.len(), "failed to compute a step");
                for running in rows_of {
                    running.fail(&self.metrics, failed(&error));
                }
            }
        }
    }
}

impl Running {
    fn prefill(
        &mut self,
        network: &Network,
        tokenizer: &Tokenizer,
        metrics: &Metrics,
        chunk: std::ops::Range<usize>,
    ) -> Result<(), ApiError> {
        let Sequence {
            prompt,
            adapter,
            max_tokens,
            prompt_logprobs,
            ..
        } = &self.sequence;
        let mut logits = None;
        if chunk.start == 0
            && let Some(top) = *prompt_logprobs
        {
            let (scores, last) = score(network, prompt, *adapter, top).map_err(|error| failed(&error))?;
            self.sequence.send(Event::Prompt(scores));
            // Scoring computed the whole prompt; its last row is all that one token needs.
            if *max_tokens <= 1 {
                logits = Some(last);
            }
        }
        if *max_tokens == 0 {
            self.end(metrics, Finish::Length);
            return Ok(());
        }
        if logits.is_none() {
            let end = chunk.end;
            let scored = network
                .prefill(&prompt[chunk], &mut self.cache, *adapter)
                .and_then(|logits| vector(&logits))
                .map_err(|error| failed(&error))?;
            if end < prompt.len() {
                self.state = State::Prompt { done: end };
                return Ok(());
            }
            logits = Some(scored);
        }
        self.take(&mut logits.unwrap_or_default(), tokenizer, metrics)
    }

    /// Samples a token from `logits` and sends what is certain of the text.
    fn take(&mut self, logits: &mut [f32], tokenizer: &Tokenizer, metrics: &Metrics) -> Result<(), ApiError> {
        let wanted = self.sequence.logprobs;
        // Penalties change logits in place, and log-probabilities are the model's own.
        let own = wanted.map(|_| logits.to_vec());
        let token = self
            .sampler
            .next(logits)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        self.generated += 1;
        let now = Instant::now();
        match self.state {
            State::Answer { at, .. } => metrics.next_token(&self.sequence.model, now - at),
            _ => metrics.first_token(&self.sequence.model, now - self.sequence.arrived),
        }
        self.state = State::Answer { last: token, at: now };
        if !self.sequence.ignore_eos && tokenizer.eos().contains(&token) {
            self.finish(tokenizer, metrics, Finish::Stop)?;
            return Ok(());
        }
        let scores = own.zip(wanted).map(|(own, top)| logprobs(&own, token, top));
        let (delta, stopped) = self.output.push(tokenizer, token, scores).map_err(undecodable)?;
        if !delta.is_empty() {
            self.sequence.send(Event::Delta(delta));
        }
        if stopped {
            self.end(metrics, Finish::Stop);
        } else if self.generated >= self.sequence.max_tokens {
            self.finish(tokenizer, metrics, Finish::Length)?;
        }
        Ok(())
    }

    /// Ends an answer of which something may still be held back.
    fn finish(&mut self, tokenizer: &Tokenizer, metrics: &Metrics, finish: Finish) -> Result<(), ApiError> {
        let output = std::mem::replace(&mut self.output, Output::new(Vec::new()));
        let rest = output.finish(tokenizer).map_err(undecodable)?;
        if !rest.is_empty() {
            self.sequence.send(Event::Delta(rest));
        }
        self.end(metrics, finish);
        Ok(())
    }

    fn end(&mut self, metrics: &Metrics, finish: Finish) {
        self.sequence.send(Event::Done {
            finish,
            tokens: self.generated,
        });
        self.leave(metrics, finish.name());
    }

    fn fail(&mut self, metrics: &Metrics, error: ApiError) {
        self.sequence.send(Event::Failed(error));
        self.leave(metrics, "error");
    }

    fn leave(&mut self, metrics: &Metrics, reason: &'static str) {
        let took: Duration = self.sequence.arrived.elapsed();
        metrics.finished(&self.sequence.model, reason, took);
        self.state = State::Ended;
    }
}

/// Log-probabilities of every prompt token after the first, and the logits after the last.
fn score(
    network: &Network,
    prompt: &[u32],
    adapter: Option<AdapterId>,
    top: usize,
) -> Result<(Vec<Option<Logprobs>>, Vec<f32>), ModelError> {
    let batch = Batch::padded(&[prompt.to_vec()]);
    let hidden = network
        .hidden(
            &batch,
            &Rows {
                adapters: Some(vec![adapter]),
            },
        )?
        .squeeze(0)?;
    let mut scores = vec![None];
    let mut last = Vec::new();
    for start in (0..prompt.len()).step_by(SCORED_POSITIONS) {
        let count = SCORED_POSITIONS.min(prompt.len() - start);
        let logits = rows(&network.lm_logits(&hidden.narrow(0, start, count)?)?)?;
        for (position, logits) in (start..).zip(logits) {
            match prompt.get(position + 1) {
                Some(&next) => scores.push(Some(logprobs(&logits, next, top))),
                None => last = logits,
            }
        }
    }
    Ok((scores, last))
}

fn vector(logits: &Tensor) -> Result<Vec<f32>, ModelError> {
    Ok(logits.to_dtype(candle_core::DType::F32)?.to_vec1()?)
}

fn undecodable(error: impl std::fmt::Display) -> ApiError {
    ApiError::internal(format!(
        "the answer's tokens could not be turned into text: {error}"
    ))
}
