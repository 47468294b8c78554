//! Embeddings and classification: texts of similar length from all waiting requests go through the model
//! together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use slipway_model::{AdapterId, Batch, ModelError, Network, Rows};
use tokio::sync::oneshot;

use super::{failed, rows};
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::queue::{Abandon, Queue};

/// Tokens of a batch, padding included: beyond this a larger batch computes no faster and only holds others up.
const BATCH_TOKENS: usize = 4096;

/// Texts looked through for a batch of similar lengths.
const POOL: usize = 1024;

/// The texts of one HTTP request.
#[derive(Debug)]
pub struct Request {
    /// The name asked for.
    pub model: Arc<str>,
    /// The adapter of that name.
    pub adapter: Option<AdapterId>,
    /// Numbers that come out for each text. Only texts with as many of them can share a batch.
    pub width: usize,
    /// Token ids of each text.
    pub texts: Vec<Vec<u32>>,
    /// Receives a vector for each text.
    pub reply: oneshot::Sender<Result<Vec<Vec<f32>>, ApiError>>,
    /// When the request arrived.
    pub arrived: Instant,
}

impl Abandon for Request {
    fn abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// What is computed from a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Vectors of unit length.
    Embed,
    /// Scores of the classes, before softmax.
    Classify,
}

/// Requests under way.
#[derive(Debug)]
pub struct Encoder {
    network: Network,
    kind: Kind,
    queue: Arc<Queue<Request>>,
    metrics: Arc<Metrics>,
    max_batch: usize,
    // By order of arrival.
    open: BTreeMap<u64, Open>,
    pool: Vec<Text>,
    arrivals: u64,
}

#[derive(Debug)]
struct Open {
    request: Request,
    results: Vec<Option<Vec<f32>>>,
    missing: usize,
}

#[derive(Debug)]
struct Text {
    request: u64,
    index: usize,
    tokens: Vec<u32>,
    adapter: Option<AdapterId>,
    width: usize,
}

impl Encoder {
    /// An encoder with nothing to do.
    pub fn new(
        network: Network,
        kind: Kind,
        queue: Arc<Queue<Request>>,
        metrics: Arc<Metrics>,
        max_batch: usize,
    ) -> Self {
        Self {
            network,
            kind,
            queue,
            metrics,
            max_batch,
            open: BTreeMap::new(),
            pool: Vec::new(),
            arrivals: 0,
        }
    }

    /// Serves the queue for ever.
    pub fn run(mut self) {
        loop {
            self.admit();
            self.step();
        }
    }

    fn admit(&mut self) {
        self.open.retain(|_, open| !open.request.abandoned());
        self.pool.retain(|text| self.open.contains_key(&text.request));
        if self.pool.is_empty() {
            self.metrics.running(0);
            let request = self.queue.pop();
            self.start(request);
        }
        while self.pool.len() < POOL
            && let Some(request) = self.queue.try_pop()
        {
            self.start(request);
        }
        self.metrics.running(self.open.len());
    }

    fn start(&mut self, mut request: Request) {
        let id = self.arrivals;
        self.arrivals += 1;
        let texts = std::mem::take(&mut request.texts);
        let count = texts.len();
        let tokens = texts.iter().map(Vec::len).sum();
        self.metrics
            .prompt(&request.model, tokens, request.arrived.elapsed());
        let (adapter, width) = (request.adapter, request.width);
        self.pool
            .extend(texts.into_iter().enumerate().map(|(index, tokens)| Text {
                request: id,
                index,
                tokens,
                adapter,
                width,
            }));
        self.open.insert(
            id,
            Open {
                request,
                results: vec![None; count],
                missing: count,
            },
        );
    }

    fn step(&mut self) {
        let Some(oldest) = self.pool.iter().map(|text| text.request).min() else {
            return;
        };
        let anchor = (0..self.pool.len())
            .filter(|&place| self.pool[place].request == oldest)
            .max_by_key(|&place| self.pool[place].tokens.len())
            .unwrap_or_default();
        let width = self.pool[anchor].width;
        let lengths: Vec<Option<usize>> = self
            .pool
            .iter()
            .map(|text| (text.width == width).then_some(text.tokens.len()))
            .collect();
        let mut chosen = choose(&lengths, anchor, self.max_batch);
        // From the back, so that the places of the others stay.
        chosen.sort_unstable_by(|a, b| b.cmp(a));
        let texts: Vec<Text> = chosen
            .into_iter()
            .map(|place| self.pool.swap_remove(place))
            .collect();
        match self.compute(&texts) {
            Ok(vectors) => {
                for (text, vector) in texts.iter().zip(vectors) {
                    self.store(text, vector);
                }
            }
            Err(error) => {
                tracing::error!(%error, texts = texts.len(), "failed to compute a batch");
                for text in &texts {
                    if let Some(open) = self.open.remove(&text.request) {
                        let _ = open.request.reply.send(Err(failed(&error)));
                    }
                }
            }
        }
    }

    fn compute(&self, texts: &[Text]) -> Result<Vec<Vec<f32>>, ModelError> {
        let sequences: Vec<Vec<u32>> = texts.iter().map(|text| text.tokens.clone()).collect();
        let batch = Batch::padded(&sequences);
        self.metrics
            .batch(batch.rows(), batch.rows() * batch.columns() - batch.tokens());
        let adapters = Rows {
            adapters: Some(texts.iter().map(|text| text.adapter).collect()),
        };
        rows(&match self.kind {
            Kind::Embed => self.network.embed(&batch, &adapters)?,
            Kind::Classify => self.network.classify(&batch, &adapters)?,
        })
    }

    fn store(&mut self, text: &Text, vector: Vec<f32>) {
        let Some(open) = self.open.get_mut(&text.request) else {
            return;
        };
        open.results[text.index] = Some(vector);
        open.missing -= 1;
        if open.missing == 0
            && let Some(open) = self.open.remove(&text.request)
        {
            self.metrics
                .finished(&open.request.model, "stop", open.request.arrived.elapsed());
            // The client may have left meanwhile.
            let _ = open
                .request
                .reply
                .send(Ok(open.results.into_iter().flatten().collect()));
        }
    }
}

/// Chooses the texts (by their lengths; none: cannot share this batch) that go through the model together with
/// the one at `anchor`: those nearest in length, as long as at most a quarter of what is computed is padding.
fn choose(lengths: &[Option<usize>], anchor: usize, max_rows: usize) -> Vec<usize> {
    let target = lengths[anchor].unwrap_or_default();
    let mut others: Vec<(usize, usize)> = lengths
        .iter()
        .enumerate()
        .filter(|&(place, _)| place != anchor)
        .filter_map(|(place, length)| Some((length.as_ref()?.abs_diff(target), place)))
        .collect();
    others.sort_unstable();
    let mut chosen = vec![anchor];
    let (mut longest, mut real) = (target, target);
    for (_, place) in others {
        if chosen.len() >= max_rows {
            break;
        }
        let length = lengths[place].unwrap_or_default();
        let padded = longest.max(length) * (chosen.len() + 1);
        if padded > BATCH_TOKENS || padded - (real + length) > padded / 4 {
            break;
        }
        longest = longest.max(length);
        real += length;
        chosen.push(place);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lengths: &[usize]) -> Vec<Option<usize>> {
        lengths.iter().copied().map(Some).collect()
    }

    #[test]
    fn texts_of_similar_length_go_together() {
        assert_eq!(choose(&all(&[10, 200, 11, 9, 180]), 0, 16), [0, 2, 3]);
        assert_eq!(choose(&all(&[10, 200, 11, 9, 180]), 1, 16), [1, 4]);
    }

    #[test]
    fn rows_and_tokens_are_bounded() {
        assert_eq!(choose(&all(&[8; 40]), 0, 16).len(), 16);
        assert_eq!(choose(&all(&[512; 40]), 0, 16).len(), 8);
        assert_eq!(choose(&all(&[9000]), 0, 16), [0]);
    }

    #[test]
    fn texts_with_other_results_stay_out() {
        assert_eq!(choose(&[Some(5), None, Some(5)], 0, 16), [0, 2]);
    }
}
