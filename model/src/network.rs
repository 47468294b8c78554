//! A model with a head: what trainer and server run.

use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use slipway_contract::Lora;

use crate::{Architecture, Batch, KvCache, ModelError, ModelFiles};

/// What comes after the backbone.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// Scores of the next token (decoders).
    CausalLm,
    /// Scores of the classes, named in order of their ids.
    SequenceClassification {
        /// Names of the classes.
        labels: Vec<String>,
    },
    /// One vector a sequence.
    Embedding,
}

/// What the network is loaded for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Answers only: fused operations without gradients.
    Serve,
    /// Gradients can be computed.
    Train,
}

/// How to load a network.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where it runs.
    pub device: Device,
    /// Number type of weights and computation.
    pub dtype: DType,
    /// What for.
    pub mode: Mode,
    /// Draws a missing head's first weights (Train only).
    pub seed: u64,
    /// The base may lack the head of a classifier, since an adapter added later brings it (Serve only; in Train a missing
    /// head is drawn by the seed).
    pub head_from_adapter: bool,
}

/// Names an adapter of a [`Network`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AdapterId(u64);

/// Which adapter each row of a batch goes through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// One entry a row; None: all rows go through the attached LoRA in training, else through the base alone.
    pub adapters: Option<Vec<Option<AdapterId>>>,
}

/// A sum of losses and of how many terms.
#[derive(Clone, Debug)]
pub struct LossSum {
    /// Scalar, F32; carries gradients while training.
    pub sum: Tensor,
    /// Terms in the sum.
    pub count: usize,
}

/// A model with a head.
#[derive(Debug)]
pub struct Network {}

impl Network {
    /// Builds the network from files. A missing head is drawn by the seed in Train, and an error in Serve.
    pub fn load(files: &ModelFiles, head: Head, options: LoadOptions) -> Result<Self, ModelError> {
        unimplemented!()
    }
    /// Which architecture it is.
    pub fn architecture(&self) -> Architecture {
        unimplemented!()
    }
    /// What comes after the backbone.
    pub fn head(&self) -> &Head {
        unimplemented!()
    }
    /// Names of the classes, of an adapter where it has its own.
    pub fn labels(&self, adapter: Option<AdapterId>) -> Option<&[String]> {
        unimplemented!()
    }
    /// The longest sequence it can attend to.
    pub fn max_sequence_length(&self) -> usize {
        unimplemented!()
    }
    /// Size of the vocabulary (rows of the embedding).
    pub fn vocab_size(&self) -> usize {
        unimplemented!()
    }
    /// Width of hidden states and embeddings.
    pub fn hidden_size(&self) -> usize {
        unimplemented!()
    }
    /// Turns gradients and dropout on for the forward passes that follow. Dropout masks derive from `(seed, step, layer)` and
    /// hold no other state: give each micro-batch (and each worker) its own `step`, and a resumed run draws the same ones.
    pub fn set_training(&mut self, seed: u64, step: u64) {
        unimplemented!()
    }
    /// Turns gradients and dropout off for the forward passes that follow. This is how a network starts.
    pub fn set_evaluation(&mut self) {
        unimplemented!()
    }
    /// Last hidden states, after the final norm: [B, T, H].
    pub fn hidden(&self, batch: &Batch, rows: &Rows) -> Result<Tensor, ModelError> {
        unimplemented!()
    }
    /// Scores of the next token: [.., H] to [.., V].
    pub fn lm_logits(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        unimplemented!()
    }
    /// Cross-entropy of the next token, summed. `labels` are B·T ids in the layout of the batch, aligned with its ids as in
    /// transformers (the shift happens here); −100 is ignored. A sequence's first token is never a target, so packed
    /// sequences do not learn from one another. Logits are never held for all tokens at once.
    pub fn lm_loss(&self, hidden: &Tensor, batch: &Batch, labels: &[i64]) -> Result<LossSum, ModelError> {
        unimplemented!()
    }
    /// Scores of the classes: [B, L]. All rows' adapters must have the same number of classes.
    pub fn classify(&self, batch: &Batch, rows: &Rows) -> Result<Tensor, ModelError> {
        unimplemented!()
    }
    /// Vectors of unit length: [B, H], pooled as `1_Pooling/config.json` says (else the mean over tokens).
    pub fn embed(&self, batch: &Batch, rows: &Rows) -> Result<Tensor, ModelError> {
        unimplemented!()
    }
    /// An empty cache for one sequence.
    pub fn kv_cache(&self) -> KvCache {
        unimplemented!()
    }
    /// Appends `tokens` to the sequence in `cache` and scores the token after them: [V].
    pub fn prefill(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        adapter: Option<AdapterId>,
    ) -> Result<Tensor, ModelError> {
        unimplemented!()
    }
    /// Appends one token to each of B sequences and scores the tokens after them: [B, V].
    pub fn decode(
        &self,
        tokens: &[u32],
        caches: &mut [&mut KvCache],
        adapters: &[Option<AdapterId>],
    ) -> Result<Tensor, ModelError> {
        unimplemented!()
    }
    /// Freezes the base and adds a LoRA to train. A classification head trains along.
    pub fn attach_lora(&mut self, lora: &Lora, seed: u64) -> Result<(), ModelError> {
        unimplemented!()
    }
    /// Makes every weight trainable (full fine-tuning).
    pub fn unfreeze(&mut self) -> Result<(), ModelError> {
        unimplemented!()
    }
    /// What is trained, in an order that does not change: PEFT's names after [`Self::attach_lora`], else Hugging Face names.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        unimplemented!()
    }
    /// Loads a PEFT adapter under `name`.
    pub fn add_adapter(&mut self, name: &str, directory: &Path) -> Result<AdapterId, ModelError> {
        unimplemented!()
    }
    /// Forgets an adapter; false when there is none of this id.
    pub fn remove_adapter(&mut self, id: AdapterId) -> bool {
        unimplemented!()
    }
    /// The adapter loaded under `name`.
    pub fn adapter(&self, name: &str) -> Option<AdapterId> {
        unimplemented!()
    }
    /// Adds an adapter (None: the attached LoRA) to the weights and forgets it.
    pub fn merge_adapter(&mut self, id: Option<AdapterId>) -> Result<(), ModelError> {
        unimplemented!()
    }
    /// Writes the attached LoRA in PEFT's layout: `adapter_config.json`, `adapter_model.safetensors` and, for a classifier,
    /// `config.json` with the names of its classes.
    pub fn save_adapter(
        &self,
        directory: &Path,
        base_model: &str,
        base_revision: Option<&str>,
    ) -> Result<(), ModelError> {
        unimplemented!()
    }
    /// Writes all weights in the layout of transformers: `model.safetensors` and `config.json`.
    pub fn save_full(&self, directory: &Path) -> Result<(), ModelError> {
        unimplemented!()
    }
}
