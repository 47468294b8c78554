//! What is trained, and the loss it is trained on.

use candle_core::{Tensor, Var};
use slipway_contract::Lora;

use super::{Backbone, LossSum, Mode, Network, is_whole};
use crate::adapter::Adapter;
use crate::head::Classifier;
use crate::param::Param;
use crate::pass::{DropoutSeed, Selection};
use crate::{Batch, ModelError, loss};

impl Network {
    /// Turns gradients and dropout on for the forward passes that follow. Dropout masks derive from `(seed, step,
    /// layer)` and hold no other state: give each micro-batch (and each worker) its own `step` below 2^44, and a
    /// resumed run draws the same ones.
    pub fn set_training(&mut self, seed: u64, step: u64) {
        self.dropout = Some(DropoutSeed { seed, step });
    }

    /// Turns gradients and dropout off for the forward passes that follow. This is how a network starts.
    pub fn set_evaluation(&mut self) {
        self.dropout = None;
    }

    /// Cross-entropy of the next token, summed. `labels` are B·T ids in the layout of the batch, aligned with its ids
    /// as in transformers (the shift happens here); −100 is ignored. A sequence's first token is never a target, so
    /// packed sequences do not learn from one another. Scores are never held for all tokens at once.
    pub fn lm_loss(&self, hidden: &Tensor, batch: &Batch, labels: &[i64]) -> Result<LossSum, ModelError> {
        let segments = batch.segments();
        if labels.len() != segments.len() {
            return Err(ModelError::InvalidSetting(format!(
                "{} labels are given for {} tokens; give one a token, -100 for those not learned",
                labels.len(),
                segments.len()
            )));
        }
        let vocabulary = self.vocab_size();
        let mut sources = Vec::new();
        let mut targets = Vec::new();
        for index in 1..labels.len() {
            let follows = index % batch.columns() != 0 && segments[index] == segments[index - 1];
            if !follows || segments[index] == 0 || labels[index] == -100 {
                continue;
            }
            let target = u32::try_from(labels[index]).unwrap_or(u32::MAX);
            if target as usize >= vocabulary {
                return Err(ModelError::TokenOutOfRange {
                    id: target,
                    vocabulary,
                });
            }
            sources.push(index as u32 - 1);
            targets.push(target);
        }
        let count = targets.len();
        let weight = self.lm_weight(&self.pass(Selection::Base))?;
        let (b, t, width) = hidden.dims3()?;
        let sources = Tensor::from_vec(sources, count, &self.device)?;
        let targets = Tensor::from_vec(targets, count, &self.device)?;
        // Prompts and padding are left out before the large product.
        let states = hidden.reshape((b * t, width))?.index_select(&sources, 0)?;
        Ok(LossSum {
            sum: loss::cross_entropy(&states, &weight, &targets)?,
            count,
        })
    }

    fn check_trainable(&self) -> Result<(), ModelError> {
        if self.mode == Mode::Serve {
            return Err(ModelError::InvalidSetting(
                "the network was loaded to serve; load it with Mode::Train".into(),
            ));
        }
        if self.attached.is_some() || self.unfrozen {
            return Err(ModelError::InvalidSetting(
                "the network has its trainable weights already; load it again to change the method".into(),
            ));
        }
        Ok(())
    }

    /// Freezes the base and adds a LoRA to train. A classification head trains along.
    pub fn attach_lora(&mut self, lora: &Lora, seed: u64) -> Result<(), ModelError> {
        self.check_trainable()?;
        let linears = self.linears();
        let adapter = Adapter::attach(
            lora,
            &linears,
            self.architecture.lora_targets(),
            seed,
            &self.device,
        )?;
        let whole = self.whole_modules();
        for linear in self.classifier.iter_mut().flat_map(Classifier::linears_mut) {
            if is_whole(linear.name(), &whole) {
                linear.visit_mut(&mut Param::unfreeze)?;
            }
        }
        self.attached = Some(adapter);
        Ok(())
    }

    /// Makes every weight trainable (full fine-tuning).
    pub fn unfreeze(&mut self) -> Result<(), ModelError> {
        self.check_trainable()?;
        match &mut self.backbone {
            Backbone::Decoder(decoder) => decoder.visit_mut(&mut Param::unfreeze)?,
            Backbone::Encoder(encoder) => encoder.visit_mut(&mut Param::unfreeze)?,
        }
        if let Some(output) = &mut self.output {
            output.unfreeze()?;
        }
        for linear in self.classifier.iter_mut().flat_map(Classifier::linears_mut) {
            linear.visit_mut(&mut Param::unfreeze)?;
        }
        self.unfrozen = true;
        Ok(())
    }

    /// What is trained, in an order that does not change: PEFT's names after [`Self::attach_lora`], Hugging Face names
    /// after [`Self::unfreeze`], nothing before.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        let mut found = Vec::new();
        for param in self.attached.iter().flat_map(Adapter::params) {
            found.push((param.name.clone(), param.tensor.clone()));
        }
        let peft = if self.attached.is_some() {
            "base_model.model."
        } else {
            ""
        };
        self.visit(&mut |param| {
            if param.tensor.is_variable() {
                found.push((format!("{peft}{}", param.name), param.tensor.clone()));
            }
        });
        found
            .into_iter()
            // A tensor that is a variable becomes one without a copy.
            .filter_map(|(name, tensor)| Var::from_tensor(&tensor).ok().map(|var| (name, var)))
            .collect()
    }
}
