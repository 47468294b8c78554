//! A model loaded here: classes of texts, likelihoods of references.

mod choices;
mod embed;
mod generate;
mod numbers;

use candle_core::{D, DType, Device};
use slipway_contract::{EvalConfig, EvalTask, Failure, FailureReason, ModelSource, Task};
use slipway_hub::Client;
use slipway_hub::source::LocalModel;
use slipway_model::tokenizer::Tokenizer;
use slipway_model::{AdapterId, Batch, Head, LoadOptions, Mode, ModelError, ModelFiles, Network, Rows};

pub(super) use self::generate::{ended, last_answer};
use super::examples::Examples;
use super::labels::Classes;
use super::measure::Likelihood;
use super::{Answer, Progress};
use crate::data::Rejected;
use crate::host::Host;
use crate::train::{Encoder, compute_failure, tokenizer_failure};

/// Longer texts are cut to this many tokens unless the configuration says otherwise.
const USUAL_LIMIT: usize = 512;
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
        let possible = network.max_sequence_length();
        let limit = match config.max_sequence_length.map(|limit| limit as usize) {
            Some(asked) if asked > possible => {
                return Err(Failure::new(
                    FailureReason::SequenceTooLong,
                    format!(
                        "maxSequenceLength is {asked}, but the model can attend to {possible} tokens; set it to at most {possible}"
                    ),
                ));
            }
            Some(asked) => asked,
            // Choices are compared with whatever came before them, as far as the model can look back.
            None if config.task == EvalTask::MultipleChoice => possible,
            None => possible.min(USUAL_LIMIT),
        };
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
        let encoded = self
            .tokenizer
            .encode_batch(texts, true, self.limit)
            .map_err(|error| tokenizer_failure(&error))?;
        // Texts of like length share a batch, so that little of it is padding.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(encoded[index].0.len()));
        let mut answers = vec![Answer::default(); texts.len()];
        for chunk in order.chunks(self.batch_size.max(1)) {
            host.stop.check()?;
            let ids: Vec<Vec<u32>> = chunk.iter().map(|&index| encoded[index].0.clone()).collect();
            let logits = self
                .network
                .classify(&Batch::padded(&ids), &self.rows(ids.len()))
                .map_err(|error| error.failure())?;
            let shares = candle_nn::ops::softmax(&logits, D::Minus1)
                .and_then(|shares| shares.to_vec2::<f32>())
                .map_err(compute_failure)?;
            for (&index, shares) in chunk.iter().zip(shares) {
                let best = shares
                    .iter()
                    .enumerate()
                    .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
                answers[index] = Answer {
                    class: best.map_or(0, |(class, _)| class as u32),
                    scores: shares.iter().copied().map(f64::from).collect(),
                };
            }
            progress.advance(chunk.len(), host);
        }
        Ok(answers)
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

    /// Bytes of text that the learned tokens add to what comes before them; the first token is predicted from nothing.
    fn bytes(&self, ids: &[u32], learned: &[bool]) -> Result<u64, Failure> {
        let until = |end: usize| -> Result<usize, Failure> {
            let text = self.tokenizer.decode(&ids[..end], true);
            Ok(text.map_err(|error| tokenizer_failure(&error))?.len())
        };
        let mut bytes = 0;
        let mut at = 1;
        for run in learned[1..].chunk_by(|a, b| a == b) {
            if run[0] {
                bytes += until(at + run.len())?.saturating_sub(until(at)?);
            }
            at += run.len();
        }
        Ok(bytes as u64)
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
