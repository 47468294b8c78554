//! How likely each choice of a question is.

use std::collections::HashMap;

use candle_core::{D, DType, IndexOp, Tensor};
use slipway_contract::{Failure, FailureReason};
use slipway_model::Batch;

use super::Local;
use crate::evaluate::Progress;
use crate::evaluate::benchmark::ChoiceQuestion;
use crate::evaluate::pair::{Prefix, encode_pair};
use crate::host::Host;
use crate::train::compute_failure;

/// A text to score.
#[derive(Debug)]
struct Request {
    /// Its question and choice.
    place: (usize, usize),
    /// What the model reads: all but the last token.
    input: Vec<u32>,
    /// The tokens scored; the last of them is not in `input`.
    targets: Vec<u32>,
}

impl Local {
    /// The log-likelihood of each choice of each question, in nats. A question that is too long for the model loses its
    /// beginning.
    pub fn choose(
        &self,
        questions: &[ChoiceQuestion],
        delimiter: &str,
        host: &Host,
        progress: &mut Progress,
    ) -> Result<Vec<Vec<f64>>, Failure> {
        let mut found: Vec<Vec<f64>> = questions
            .iter()
            .map(|question| vec![0.0; question.choices.len()])
            .collect();
        let size = self.batch_size.max(1);
        for (number, block) in questions.chunks(size).enumerate() {
            let mut requests = Vec::new();
            for (offset, question) in block.iter().enumerate() {
                let index = number * size + offset;
                for (choice, text) in question.choices.iter().enumerate() {
                    let request = self
                        .request((index, choice), &question.context, &format!("{delimiter}{text}"))
                        .map_err(|bad| {
                            Failure::new(
                                FailureReason::InvalidRow,
                                format!("example {} cannot be used: {bad}", index + 1),
                            )
                        })?;
                    requests.push(request);
                }
            }
            self.score(&requests, host, |(question, choice), value| {
                found[question][choice] = value;
            })?;
            progress.advance(block.len(), host);
        }
        Ok(found)
    }

    fn request(&self, place: (usize, usize), context: &str, continuation: &str) -> Result<Request, String> {
        let id = self.tokenizer.bos().or_else(|| self.tokenizer.eos_token());
        let prefix = Prefix {
            id,
            text: id.and_then(|id| self.tokenizer.token(id)),
        };
        let (mut ids, scored) = encode_pair(context, continuation, &prefix, &mut |text, special| {
            self.tokenizer
                .encode(text, special)
                .map_err(|error| error.to_string())
        })?;
        if scored > self.limit {
            return Err(format!(
                "the answer {continuation:?} has {scored} tokens, and the model attends to {}",
                self.limit
            ));
        }
        ids.drain(..ids.len().saturating_sub(self.limit + 1));
        let targets = ids[ids.len() - scored..].to_vec();
        ids.pop();
        Ok(Request {
            place,
            input: ids,
            targets,
        })
    }

    /// Scores every request; those that read the same are computed once, as answers of one token are.
    fn score(
        &self,
        requests: &[Request],
        host: &Host,
        mut found: impl FnMut((usize, usize), f64),
    ) -> Result<(), Failure> {
        let mut alike: HashMap<&[u32], Vec<&Request>> = HashMap::new();
        for request in requests {
            alike.entry(&request.input).or_default().push(request);
        }
        let mut inputs: Vec<(&[u32], Vec<&Request>)> = alike.into_iter().collect();
        // Like lengths share a batch, so that little of it is padding; ids decide the rest, so that runs repeat.
        inputs.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        for chunk in inputs.chunks(self.batch_size.max(1)) {
            host.stop.check()?;
            let ids: Vec<Vec<u32>> = chunk.iter().map(|(input, _)| input.to_vec()).collect();
            let hidden = self
                .network
                .hidden(&Batch::padded(&ids), &self.rows(ids.len()))
                .map_err(|error| error.failure())?;
            for (row, (input, requests)) in chunk.iter().enumerate() {
                for request in requests {
                    let states = hidden
                        .i((row, input.len() - request.targets.len()..input.len()))
                        .map_err(compute_failure)?;
                    found(request.place, self.log_likelihood(&states, &request.targets)?);
                }
            }
        }
        Ok(())
    }

    /// The sum of the log-probabilities of `targets` after `states` [N, H].
    fn log_likelihood(&self, states: &Tensor, targets: &[u32]) -> Result<f64, Failure> {
        let logits = self.network.lm_logits(states).map_err(|error| error.failure())?;
        let each = logits
            .to_dtype(DType::F32)
            .and_then(|logits| candle_nn::ops::log_softmax(&logits, D::Minus1))
            .and_then(|shares| {
                let targets = Tensor::from_vec(targets.to_vec(), (targets.len(), 1), shares.device())?;
                shares.gather(&targets, 1)?.flatten_all()?.to_vec1::<f32>()
            })
            .map_err(compute_failure)?;
        Ok(each.into_iter().map(f64::from).sum())
    }
}
