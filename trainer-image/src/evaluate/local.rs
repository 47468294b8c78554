//! A model loaded here: classes of texts, likelihoods of references.

mod choices;
mod embed;
mod generate;
mod numbers;

use candle_core::{D, DType, Device, Tensor};
use slipway_contract::{EvalConfig, EvalTask, Failure, FailureReason, ModelSource, Task};
use slipway_hub::Client;
use slipway_hub::source::LocalModel;
use slipway_model::tokenizer::{StreamDecoder, Tokenizer};
use slipway_model::{AdapterId, Batch, Head, LoadOptions, Mode, ModelError, ModelFiles, Network, Rows};

pub(super) use self::generate::{ended, last_answer};
use super::examples::Examples;
use super::labels::Classes;
use super::likelihood::{Likelihood, added_bytes, limit};
use super::{Answer, Progress};
use crate::data::Rejected;
use crate::host::Host;
use crate::train::{Encoder, compute_failure, tokenizer_failure};

/// What the loss ignores.
const IGNORED: i64 = -100;

/// A model ready to be measured.
#[derive(Debug)]
pub(super) struct Local {
    network: Network,
    tokenizer: Tokenizer,
    adapter: Option<AdapterId>,
    limit: usize,
    batch_size: usize,
}

impl Local {
    /// Fetches and loads `source`.
    pub fn load(
        source: &ModelSource,
        config: &EvalConfig,
        host: &Host,
        client: &Client,
    ) -> Result<(Self, LocalModel), Failure> {
        let model = host.fetch_model(source, client)?;
        let files = ModelFiles::open(&model.base).map_err(|error| error.failure())?;
        let device = slipway_model::device().map_err(|error| error.failure())?;
        let opened = Self::open(&files, &model, config.task, device);
        let (network, adapter) = opened.map_err(|error| error.failure())?;
        let tokenizer = Tokenizer::of(&files).map_err(|error| tokenizer_failure(&error))?;
        let limit = limit(config, network.max_sequence_length())?;
        let local = Self {
            network,
            tokenizer,
            adapter,
            limit,
            batch_size: config.batch_size as usize,
        };
        Ok((local, model))
    }

    fn open(
        files: &ModelFiles,
        model: &LocalModel,
        task: EvalTask,
        device: Device,
    ) -> Result<(Network, Option<AdapterId>), ModelError> {
        let head = match task {
            EvalTask::SequenceClassification => Head::SequenceClassification {
                // The adapter brings its own, where the base has none.
                labels: files
                    .labels()
                    .unwrap_or_else(|| vec!["LABEL_0".into(), "LABEL_1".into()]),
            },
            EvalTask::Regression => numbers::head(files, model)?,
            EvalTask::Retrieval => Head::Embedding,
            EvalTask::CausalLM | EvalTask::MultipleChoice => Head::CausalLm,
        };
        let options = LoadOptions {
            device,
            dtype: DType::F32,
            mode: Mode::Serve,
            seed: 0,
            head_from_adapter: model.adapter.is_some(),
        };
        let mut network = Network::load(files, head, options)?;
        let adapter = match &model.adapter {
            Some(directory) => Some(network.add_adapter("target", directory)?),
            None => None,
        };
        Ok((network, adapter))
    }

    /// The classes it knows.
    pub fn classes(&self) -> Classes {
        Classes {
            names: self.network.labels(self.adapter).unwrap_or_default().to_vec(),
            ordered: true,
        }
    }

    fn rows(&self, count: usize) -> Rows {
        Rows {
            adapters: self.adapter.map(|id| vec![Some(id); count]),
        }
    }

    /// The likeliest class of each text, in their order.
    pub fn classify(
        &self,
        texts: &[&str],
        host: &Host,
        progress: &mut Progress,
    ) -> Result<Vec<Answer>, Failure> {
        let mut answers = vec![Answer::default(); texts.len()];
        let classify = |batch: &Batch, rows: &Rows| self.network.classify(batch, rows);
        self.in_batches(texts, host, classify, |places, logits| {
            let shares = candle_nn::ops::softmax(&logits, D::Minus1)
                .and_then(|shares| shares.to_vec2::<f32>())
                .map_err(compute_failure)?;
            for (&index, shares) in places.iter().zip(shares) {
                let best = shares
                    .iter()
                    .enumerate()
                    .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
                answers[index] = Answer {
                    class: best.map_or(0, |(class, _)| class as u32),
                    scores: shares.iter().copied().map(f64::from).collect(),
                };
            }
            progress.advance(places.len(), host);
            Ok(())
        })?;
        Ok(answers)
    }

    /// Computes `texts` in batches: `take` gets the places of a batch's texts and what `compute` makes of them, row by row.
    fn in_batches(
        &self,
        texts: &[&str],
        host: &Host,
        compute: impl Fn(&Batch, &Rows) -> Result<Tensor, ModelError>,
        mut take: impl FnMut(&[usize], Tensor) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let encoded = self
            .tokenizer
            .encode_batch(texts, true, self.limit)
            .map_err(|error| tokenizer_failure(&error))?;
        // Texts of like length share a batch, so that little of it is padding.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(encoded[index].0.len()));
        for places in order.chunks(self.batch_size.max(1)) {
            host.stop.check()?;
            let ids: Vec<Vec<u32>> = places.iter().map(|&index| encoded[index].0.clone()).collect();
            let rows = self.rows(ids.len());
            take(
                places,
                compute(&Batch::padded(&ids), &rows).map_err(|error| error.failure())?,
            )?;
        }
        Ok(())
    }

    /// How likely the answer of each example is (everything, where it is plain text); nothing where the limit leaves no
    /// token of it.
    pub fn likelihoods(
        &self,
        examples: &Examples,
        host: &Host,
        progress: &mut Progress,
    ) -> Result<Vec<Likelihood>, Failure> {
        let encoder = Encoder::new(&self.tokenizer, Task::CausalLM, self.limit, false)?;
        let mut terms = Vec::with_capacity(examples.len());
        for (number, example) in examples.rows().iter().enumerate() {
            host.stop.check()?;
            let (mut ids, mut learned) = encoder.tokens(example.clone()).map_err(|bad| match bad {
                Rejected::Fatal(failure) => failure,
                Rejected::Row(bad) => unusable(examples, number, &bad),
            })?;
            ids.truncate(self.limit);
            learned.truncate(self.limit);
            terms.push(if learned.iter().skip(1).any(|&learned| learned) {
                self.likelihood(ids, &learned)?
            } else {
                Likelihood::default()
            });
            progress.advance(1, host);
        }
        Ok(terms)
    }

    fn likelihood(&self, ids: Vec<u32>, learned: &[bool]) -> Result<Likelihood, Failure> {
        let bytes = self.bytes(&ids, learned)?;
        let labels: Vec<i64> = ids
            .iter()
            .zip(learned)
            .map(|(&id, &learned)| if learned { i64::from(id) } else { IGNORED })
            .collect();
        let batch = Batch::padded(&[ids]);
        let loss = self
            .network
            .hidden(&batch, &self.rows(1))
            .and_then(|hidden| self.network.lm_loss(&hidden, &batch, &labels))
            .map_err(|error| error.failure())?;
        Ok(Likelihood {
            nats: f64::from(loss.sum.to_scalar::<f32>().map_err(compute_failure)?),
            tokens: loss.count as u64,
            bytes,
        })
    }

    fn bytes(&self, ids: &[u32], learned: &[bool]) -> Result<u64, Failure> {
        // As a server tells the place of each token.
        let mut decoder = StreamDecoder::new(true);
        let mut starts = Vec::with_capacity(ids.len());
        let mut place = 0;
        for &id in ids {
            starts.push(place);
            let text = decoder.push(&self.tokenizer, id);
            place += text.map_err(|error| tokenizer_failure(&error))?.len();
        }
        let text = self.tokenizer.decode(ids, true);
        let text = text.map_err(|error| tokenizer_failure(&error))?;
        Ok(added_bytes(learned, &starts, text.len()))
    }
}

pub(super) fn unusable(examples: &Examples, index: usize, bad: &str) -> Failure {
    Failure::new(
        FailureReason::InvalidRow,
        format!(
            "example {} of split `{}` cannot be used: {bad}",
            index + 1,
            examples.split
        ),
    )
}
