//! The number that a model finds for each text.

use slipway_contract::Failure;
use slipway_hub::source::LocalModel;
use slipway_model::{Batch, Head, ModelError, ModelFiles};

use super::Local;
use crate::evaluate::Progress;
use crate::host::Host;
use crate::train::{compute_failure, tokenizer_failure};

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
        let encoded = self
            .tokenizer
            .encode_batch(texts, true, self.limit)
            .map_err(|error| tokenizer_failure(&error))?;
        // Texts of like length share a batch, so that little of it is padding.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(encoded[index].0.len()));
        let mut numbers = vec![0.0; texts.len()];
        for chunk in order.chunks(self.batch_size.max(1)) {
            host.stop.check()?;
            let ids: Vec<Vec<u32>> = chunk.iter().map(|&index| encoded[index].0.clone()).collect();
            let logits = self
                .network
                .classify(&Batch::padded(&ids), &self.rows(ids.len()))
                .map_err(|error| error.failure())?;
            let found = logits.to_vec2::<f32>().map_err(compute_failure)?;
            for (&index, outputs) in chunk.iter().zip(found) {
                let [number] = outputs[..] else {
                    return Err(wrong_head(outputs.len()).failure());
                };
                numbers[index] = f64::from(number);
            }
            progress.advance(chunk.len(), host);
        }
        Ok(numbers)
    }
}
