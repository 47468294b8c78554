//! Forward and backward passes, and what is made of gradients before the optimizer sees them.

use candle_core::{D, Device, Tensor};
use slipway_contract::Failure;
use slipway_model::{ModelError, Network, Rows};

use super::adamw::Parameter;
use super::corpus::{MicroBatch, Targets};

/// Gradients and losses summed over forward passes (and workers); divided by `count` only when all are in.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    /// One for each trained tensor, in order; None where nothing reached it.
    pub gradients: Vec<Option<Tensor>>,
    /// Sum of losses.
    pub loss: f64,
    /// Terms in that sum: learned tokens, or examples.
    pub count: u64,
    /// Tokens that are not padding.
    pub tokens: u64,
}

/// What a batch says about its targets, in sums.
pub(super) struct Judged {
    /// Scalar, F32, with gradients while training.
    pub loss: Tensor,
    /// Terms in it.
    pub count: u64,
    /// The likeliest class of each row (classification).
    pub classes: Option<Vec<u32>>,
}

/// Runs a batch forward and sums its losses.
pub(super) fn judge(network: &Network, batch: &MicroBatch, device: &Device) -> Result<Judged, ModelError> {
    let rows = Rows::default();
    match &batch.targets {
        Targets::Tokens(labels) => {
            let hidden = network.hidden(&batch.batch, &rows)?;
            let loss = network.lm_loss(&hidden, &batch.batch, labels)?;
            Ok(Judged {
                loss: loss.sum,
                count: loss.count as u64,
                classes: None,
            })
        }
        Targets::Classes(classes) => {
            let logits = network.classify(&batch.batch, &rows)?;
            let targets = Tensor::from_slice(classes, (classes.len(), 1), device)?;
            let log_likelihood = candle_nn::ops::log_softmax(&logits, D::Minus1)?;
            Ok(Judged {
                loss: log_likelihood.gather(&targets, 1)?.sum_all()?.neg()?,
                count: classes.len() as u64,
                classes: Some(logits.argmax(D::Minus1)?.to_vec1()?),
            })
        }
    }
}

impl Sums {
    /// Zeros for `parameters` tensors.
    pub fn new(parameters: usize) -> Self {
        Self {
            gradients: vec![None; parameters],
            ..Self::default()
        }
    }

    /// Runs a batch forward and backward and adds it.
    pub fn add(
        &mut self,
        network: &Network,
        parameters: &[Parameter],
        batch: &MicroBatch,
        device: &Device,
    ) -> Result<(), Failure> {
        let judged = judge(network, batch, device).map_err(|error| error.failure())?;
        let mut grads = judged.loss.backward().map_err(failure)?;
        for (sum, parameter) in self.gradients.iter_mut().zip(parameters) {
            if let Some(gradient) = grads.remove(&parameter.value) {
                add(sum, gradient.detach())?;
            }
        }
        self.loss += f64::from(judged.loss.to_scalar::<f32>().map_err(failure)?);
        self.count += judged.count;
        self.tokens += batch.tokens;
        Ok(())
    }

    /// Adds the sums of another worker.
    pub fn merge(&mut self, other: Self) -> Result<(), Failure> {
        for (sum, gradient) in self.gradients.iter_mut().zip(other.gradients) {
            if let Some(gradient) = gradient {
                add(sum, gradient)?;
            }
        }
        self.loss += other.loss;
        self.count += other.count;
        self.tokens += other.tokens;
        Ok(())
    }

    /// The L2 norm of the mean gradient over all tensors. Summed in double precision one number after another,
    /// so that every processor gets the same bits.
    pub fn norm(&self) -> Result<f64, Failure> {
        let mut total = 0.0;
        for gradient in self.gradients.iter().flatten() {
            let numbers = gradient
                .flatten_all()
                .and_then(|flat| flat.to_vec1::<f32>())
                .map_err(failure)?;
            total += numbers
                .iter()
                .map(|&number| f64::from(number) * f64::from(number))
                .sum::<f64>();
        }
        Ok(total.sqrt() / self.count.max(1) as f64)
    }
}

fn add(sum: &mut Option<Tensor>, gradient: Tensor) -> Result<(), Failure> {
    *sum = Some(match sum.take() {
        Some(sum) => (sum + gradient).map_err(failure)?,
        None => gradient,
    });
    Ok(())
}

/// The factor that brings a gradient of this norm within `limit`, as `torch.nn.utils.clip_grad_norm_`; 0 turns
/// clipping off.
pub(super) fn clip(norm: f64, limit: f64) -> f64 {
    if limit > 0.0 {
        (limit / (norm + 1e-6)).min(1.0)
    } else {
        1.0
    }
}

/// A failed computation.
pub(crate) fn failure(error: candle_core::Error) -> Failure {
    ModelError::from(error).failure()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_is_that_of_the_mean_over_all_tensors() {
        let gradient = |numbers: &[f32]| Some(Tensor::new(numbers, &Device::Cpu).unwrap());
        let mut sums = Sums::new(3);
        sums.gradients = vec![gradient(&[6.0]), None, gradient(&[0.0, 8.0])];
        sums.count = 2;
        assert!((sums.norm().unwrap() - 5.0).abs() < 1e-12);
        let mut both = sums.clone();
        both.merge(sums).unwrap();
        assert!((both.norm().unwrap() - 5.0).abs() < 1e-12 && both.count == 4);
    }

    #[test]
    fn only_long_gradients_are_clipped() {
        assert!((clip(10.0, 1.0) - 0.1).abs() < 1e-6);
        assert!((clip(0.5, 1.0) - 1.0).abs() < 1e-12 && (clip(10.0, 0.0) - 1.0).abs() < 1e-12);
    }
}
