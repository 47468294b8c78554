//! The number that a model finds for each text.

use slipway_contract::Failure;
use slipway_hub::source::LocalModel;
use slipway_model::{Batch, Head, ModelError, ModelFiles, Rows};

use super::Local;
use crate::evaluate::Progress;
use crate::host::Host;
use crate::train::compute_failure;

/// The head of a model that gives one number. An adapter may bring one, where the base has classes or no head.
pub(super) fn head(files: &ModelFiles, model: &LocalModel) -> Result<Head, ModelError> {
    match files.labels() {
        Some(labels) if labels.len() != 1 && model.adapter.is_none() => Err(wrong_head(labels.len())),
        _ => Ok(Head::Regression),
    }
}

fn wrong_head(outputs: usize) -> ModelError {
    ModelError::InvalidSetting(format!(
        "task Regression needs a head with one output, and this model's has {outputs}; set task to SequenceClassification, or choose a model with num_labels 1"
    ))
}

impl Local {
    /// The number found for each text, in their order.
    pub fn numbers(&self, texts: &[&str], host: &Host, progress: &mut Progress) -> Result<Vec<f64>, Failure> {
        let mut numbers = vec![0.0; texts.len()];
        let classify = |batch: &Batch, rows: &Rows| self.network.classify(batch, rows);
        self.in_batches(texts, host, classify, |places, logits| {
            let found = logits.to_vec2::<f32>().map_err(compute_failure)?;
            for (&index, outputs) in places.iter().zip(found) {
                let [number] = outputs[..] else {
                    return Err(wrong_head(outputs.len()).failure());
                };
                numbers[index] = f64::from(number);
            }
            progress.advance(places.len(), host);
            Ok(())
        })?;
        Ok(numbers)
    }
}
