//! The configuration of a training run.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Dataset, HubAccess, ModelSource};

/// `slipway-trainer train --config FILE`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrainConfig {
    /// The model to start from.
    pub model: ModelSource,
    /// What the model learns to do.
    #[serde(default)]
    pub task: Task,
    /// What it learns from.
    pub dataset: Dataset,
    /// Which weights are trained.
    #[serde(default)]
    pub method: Method,
    /// What is minimised.
    #[serde(default)]
    pub objective: Objective,
    /// How long and how fast.
    #[serde(default)]
    pub hyperparameters: Hyperparameters,
    /// Evaluation while training.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// What survives a restart.
    pub checkpoint: Checkpoint,
    /// Where the result goes.
    pub output: Output,
    /// How to reach the Hub.
    #[serde(default)]
    pub hub: HubAccess,
    /// Data-parallel workers.
    #[serde(default)]
    pub workers: Workers,
    /// Address that serves `GET /progress`, `/metrics` and `/healthz`, for instance `0.0.0.0:8080`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Which object this run belongs to, for the model card.
    #[serde(default)]
    pub provenance: Provenance,
}

/// What a model does.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Task {
    /// Continues text (chat, instructions).
    #[default]
    CausalLM,
    /// Assigns one label to a text.
    SequenceClassification,
    /// Turns a text into a vector (serving only).
    Embedding,
}

/// Which weights are trained: exactly one.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::union)]
pub enum Method {
    /// All weights.
    Full(Full),
    /// Low-rank adapters (Hu et al., arXiv 2106.09685) in PEFT's file layout.
    Lora(Lora),
}

impl Default for Method {
    fn default() -> Self {
        Self::Lora(Lora::default())
    }
}

/// Full fine-tuning has no settings of its own.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Full {}

/// Settings of LoRA, named and defaulted as PEFT's `LoraConfig` where a default of PEFT's is in common use.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Lora {
    /// Rank r of the update B·A.
    #[schemars(range(min = 1, max = 1024))]
    pub rank: u32,
    /// The update is scaled by alpha / rank (alpha / √rank with `rsLora`).
    #[schemars(range(min = 0.0))]
    pub alpha: f64,
    /// Probability of dropping an input of the adapter.
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout: f64,
    /// Names of the linear layers that get an adapter, or `all-linear`. Empty: the attention projections that
    /// PEFT chooses for the architecture.
    pub target_modules: Vec<String>,
    /// Rank-stabilised scaling (Kalajdzievski, arXiv 2312.03732).
    pub rs_lora: bool,
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            target_modules: Vec::new(),
            rs_lora: false,
        }
    }
}

/// What is minimised: exactly one.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::union)]
pub enum Objective {
    /// Supervised fine-tuning: cross-entropy of the next token or of the label.
    Sft(Sft),
}

impl Default for Objective {
    fn default() -> Self {
        Self::Sft(Sft::default())
    }
}

/// Settings of supervised fine-tuning.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sft {
    /// Puts several short examples into one sequence; attention and positions restart at each.
    pub packing: bool,
    /// Learns the prompt's tokens too, not only the answer's.
    pub train_on_prompt: bool,
}

/// How long and how fast.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hyperparameters {
    /// Passes over the data. Ignored when `maxSteps` is set.
    #[schemars(range(min = 0.0))]
    pub epochs: f64,
    /// Optimizer steps; set it instead of `epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_steps: Option<u64>,
    /// Peak learning rate of AdamW.
    #[schemars(range(min = 0.0))]
    pub learning_rate: f64,
    /// Course of the learning rate after warm-up.
    pub scheduler: Scheduler,
    /// Steps in which the learning rate rises linearly from 0.
    pub warmup_steps: u64,
    /// Sequences per forward pass and worker.
    #[schemars(range(min = 1, max = 4096))]
    pub batch_size: u32,
    /// Forward passes per optimizer step.
    #[schemars(range(min = 1, max = 4096))]
    pub gradient_accumulation_steps: u32,
    /// Longer sequences are cut to this many tokens; must not exceed what the model can attend to.
    #[schemars(range(min = 1))]
    pub max_sequence_length: u32,
    /// Decoupled weight decay of AdamW (not on biases and norms).
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Gradients are scaled down to this global L2 norm; 0 turns clipping off.
    #[schemars(range(min = 0.0))]
    pub max_gradient_norm: f64,
    /// Number type of the computation.
    pub precision: Precision,
    /// Seed of initialisation, order of data, dropout and the validation split.
    pub seed: u64,
}

impl Default for Hyperparameters {
    fn default() -> Self {
        Self {
            epochs: 3.0,
            max_steps: None,
            learning_rate: 2e-4,
            scheduler: Scheduler::Linear,
            warmup_steps: 0,
            batch_size: 8,
            gradient_accumulation_steps: 1,
            max_sequence_length: 512,
            weight_decay: 0.0,
            max_gradient_norm: 1.0,
            precision: Precision::F32,
            seed: 42,
        }
    }
}

/// Course of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Scheduler {
    /// Stays at the peak.
    Constant,
    /// Falls linearly to 0.
    #[default]
    Linear,
    /// Falls to 0 along half a cosine.
    Cosine,
}

/// Number type of the computation.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
}

/// Evaluation while training.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Evaluation {
    /// Evaluates every so many optimizer steps. Default: at the end of each epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub every_steps: Option<u64>,
    /// Stops when the validation split no longer improves. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
}

/// When to stop before the last step. The best weights seen are the ones published.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EarlyStopping {
    /// `loss` (less is better) or, for classification, `accuracy` or `f1` (more is better).
    #[serde(default = "loss")]
    pub metric: String,
    /// Evaluations without improvement before stopping.
    #[serde(default = "three")]
    #[schemars(range(min = 1))]
    pub patience: u32,
    /// Smallest change that counts as improvement.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub min_delta: f64,
}

fn loss() -> String {
    "loss".into()
}

fn three() -> u32 {
    3
}

/// What survives a restart.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkpoint {
    /// Where checkpoints are written; a run that finds one here resumes from it.
    pub directory: PathBuf,
    /// Writes one every so many optimizer steps, at the end, and on SIGTERM.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1))]
    pub every_steps: u64,
    /// How many to keep.
    #[serde(default = "two")]
    #[schemars(range(min = 1))]
    pub keep: u32,
}

fn fifty() -> u64 {
    50
}

fn two() -> u32 {
    2
}

/// Where the result goes.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Output {
    /// Local directory that receives the adapter or the weights, tokenizer, configuration and card.
    pub directory: PathBuf,
    /// Publishes that directory's content as one commit. Default: nothing is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<OutputHub>,
    /// Writes the base's weights with the adapter merged in, instead of the adapter.
    #[serde(default)]
    pub merge: bool,
    /// Names the base's licence, where whole weights are published to the Hub under one that is not known to
    /// permit that, or from a gated repository: you have read its terms, and they permit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub accept_license: Option<String>,
}

/// A repository to publish to; created when it is not there.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutputHub {
    /// `owner/name`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"))]
    pub repo: String,
    /// Creates the repository as private.
    #[serde(default)]
    pub private: bool,
    /// Opens a pull request instead of committing to the main branch.
    #[serde(default)]
    pub pull_request: bool,
}

/// Data-parallel workers. Each has the same configuration; a worker's rank comes from `JOB_COMPLETION_INDEX`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Workers {
    /// How many run together; the effective batch grows with them.
    #[schemars(range(min = 1, max = 64))]
    pub count: u32,
    /// `host:port` of rank 0, where gradients are averaged. Needed when `count` is above 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<String>,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            count: 1,
            coordinator: None,
        }
    }
}

/// Which object a run belongs to; empty outside a cluster.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Provenance {
    /// Kind of the object, for instance `FineTuneJob`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// `namespace/name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its uid: a run that is repeated knows by it the pull request that it opened before.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}
