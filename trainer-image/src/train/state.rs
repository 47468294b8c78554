//! What of a run is not a tensor.

use serde::{Deserialize, Serialize};

use super::stopping::Best;
use super::validation::Scores;

/// Part of a checkpoint. Neither order of data nor dropout is here: both derive from seed and step.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RunState {
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens learned from, padding not counted.
    pub tokens: u64,
    /// Seconds of training, over every restart; evaluation and checkpoints not counted.
    pub seconds: f64,
    /// Seconds since the start, evaluation and checkpoints included; time between restarts is not.
    pub elapsed: f64,
    /// The newest evaluation and its step.
    pub evaluated: Option<(u64, Scores)>,
    /// Early stopping.
    pub best: Best,
    /// Whether early stopping ended the run.
    pub stopped_early: bool,
    /// The course of the run, published as `training_log.jsonl`.
    pub log: Vec<LogLine>,
}

/// One line of `training_log.jsonl`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogLine {
    /// Optimizer steps done.
    pub step: u64,
    /// Mean loss of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Its learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Norm of its gradient before clipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_norm: Option<f64>,
    /// Tokens of the step, padding not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// An evaluation made after the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Scores>,
}

/// Lines kept: a longer run writes every second step, or every third…
const LINES: u64 = 5000;

impl RunState {
    /// Whether step `step` of `total` gets a line.
    pub fn logs(step: u64, total: u64) -> bool {
        step == 1 || step == total || step.is_multiple_of(total.div_ceil(LINES).max(1))
    }
}
