//! What an image reports while it runs and when it ends.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Comparison, MetricResult, Verdict};

/// Exit codes of `slipway-trainer`, chosen so that a Job's `podFailurePolicy` can tell what a retry can mend.
pub mod exit {
    /// Everything was done.
    pub const OK: i32 = 0;
    /// The command line or the configuration is wrong; a retry cannot help.
    pub const CONFIG: i32 = 2;
    /// The model or the data is wrong; a retry cannot help.
    pub const INPUT: i32 = 3;
    /// Something outside failed (the Hub, the disk); a retry may help.
    pub const TRANSIENT: i32 = 4;
    /// Told to stop; a checkpoint was written and a retry resumes from it.
    pub const INTERRUPTED: i32 = 143;
}

/// `GET /progress` of a running trainer.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Optimizer steps done (examples done, when evaluating).
    pub step: u64,
    /// Optimizer steps planned; 0 while unknown.
    pub total_steps: u64,
    /// 0 to 100.
    pub percentage: u32,
    /// Seconds until the last step, from the speed of the steps so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_remaining_seconds: Option<u64>,
    /// Training loss of the last step (mean over its tokens or examples).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Loss on the validation split when it was last evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
    /// Learning rate of the last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Tokens a second over the last steps, padding not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// The newest checkpoint on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<CheckpointMark>,
    /// When any of this last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_time: Option<Timestamp>,
}

/// What an image is doing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Phase {
    /// Reading its configuration.
    #[default]
    Starting,
    /// Fetching model and data.
    Downloading,
    /// Turning text into tokens.
    Tokenizing,
    /// Taking optimizer steps.
    Training,
    /// Measuring.
    Evaluating,
    /// Writing to the Hub.
    Publishing,
    /// Finished.
    Done,
}

/// A checkpoint on disk.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointMark {
    /// Optimizer steps done when it was written.
    pub step: u64,
    /// When it was written.
    pub time: Timestamp,
}

/// The termination message of an image: how a run ended. At most 4,096 bytes, the kubelet's limit.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Report<T> {
    /// It did what it was asked to.
    Outcome(T),
    /// It did not.
    Failure(Failure),
}

impl<T: Serialize> Report<T> {
    /// The kubelet keeps this many bytes of `/dev/termination-log`.
    pub const LIMIT: usize = 4096;

    /// The message as JSON, within [`Self::LIMIT`]: a failure's sentence is cut where it would not fit.
    pub fn to_message(&self) -> String {
        let text = serde_json::to_string(self).expect("a report is plain data");
        match self {
            Self::Failure(failure) if text.len() > Self::LIMIT => {
                // JSON escapes can grow a character sixfold, so the cut leaves room for that.
                let kept: String = failure.message.chars().take(Self::LIMIT / 8).collect();
                let cut = Failure {
                    message: format!("{kept}…"),
                    ..failure.clone()
                };
                serde_json::to_string(&Self::Failure(cut)).expect("a report is plain data")
            }
            _ => text,
        }
    }
}

/// What a training run left behind.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainOutcome {
    /// Optimizer steps taken in all, over every restart.
    pub steps: u64,
    /// Whether early stopping ended it.
    #[serde(default)]
    pub stopped_early: bool,
    /// The commit, when something was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// Final figures: `loss`, `evalLoss`, `evalAccuracy`…
    pub metrics: Vec<Metric>,
    /// The newest checkpoint on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<CheckpointMark>,
    /// What was left undone on the way, one sentence each: a card that cannot be edited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A named figure.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: f64,
}

/// What an evaluation found.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvalOutcome {
    /// Every metric.
    pub results: Vec<MetricResult>,
    /// The comparison with the baseline, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// What they say against the bounds.
    pub verdict: Verdict,
    /// One sentence a bound.
    #[serde(default)]
    pub findings: Vec<String>,
    /// The commit or pull request on the card, when one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<CardCommit>,
    /// The dataset repository with each example's prediction, when one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<CardCommit>,
    /// What was left undone on the way, one sentence each: a card that cannot be edited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Weights on the Hub.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// `owner/name`.
    pub repo: String,
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// Where a person sees it: the repository, or the pull request.
    pub url: String,
}

/// A commit or pull request on a model card: the same shape as [`Published`].
pub type CardCommit = Published;

/// Why a run failed.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct Failure {
    /// For machines.
    pub reason: FailureReason,
    /// For people: cause and fix in one sentence.
    pub message: String,
}

impl Failure {
    /// A failure with its sentence.
    pub fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Kinds of failure. Each knows whether a retry can help.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum FailureReason {
    /// A field of the configuration is wrong, alone or together with another.
    InvalidConfig,
    /// The model's repository, revision or files are not there.
    ModelNotFound,
    /// The dataset's repository, revision, split or files are not there.
    DatasetNotFound,
    /// Private or gated, and the token (if any) does not open it.
    AccessDenied,
    /// Whole weights would be published, and the base's licence is not known to permit that.
    LicenseNotAccepted,
    /// A column is not in the data.
    ColumnNotFound,
    /// A row is malformed.
    InvalidRow,
    /// A split is empty, or has one class only.
    EmptyDataset,
    /// Splits disagree about the labels.
    LabelMismatch,
    /// The model's architecture is not one we know.
    UnsupportedArchitecture,
    /// The weights are in a format that can run code (pickle).
    UnsafeWeights,
    /// The model's files are damaged or disagree with one another.
    InvalidModel,
    /// A sequence is longer than the model can attend to.
    SequenceTooLong,
    /// The loss became NaN or infinite.
    LossNotFinite,
    /// No checkpoint can be resumed from by this configuration.
    CheckpointMismatch,
    /// The disk is full.
    OutOfDisk,
    /// The Hub did not answer, or answered with an error of its own, after every retry.
    HubUnavailable,
    /// A running server did not answer as a client may expect.
    EndpointUnavailable,
    /// A worker of the group went away.
    WorkerLost,
    /// Told to stop; the checkpoint is written.
    Interrupted,
    /// A fault of ours.
    Internal,
}

impl FailureReason {
    /// Whether another try, with nothing changed, may succeed.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::OutOfDisk
                | Self::HubUnavailable
                | Self::EndpointUnavailable
                | Self::WorkerLost
                | Self::Interrupted
                | Self::Internal
        )
    }

    /// The process's exit code.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::InvalidConfig => exit::CONFIG,
            Self::Interrupted => exit::INTERRUPTED,
            reason if reason.retryable() => exit::TRANSIENT,
            _ => exit::INPUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_failure_fits_the_termination_message_and_stays_json() {
        let failure = Failure::new(FailureReason::InvalidRow, "\u{1}é\"".repeat(5000));
        let message = Report::<TrainOutcome>::Failure(failure).to_message();
        assert!(
            message.len() <= Report::<TrainOutcome>::LIMIT,
            "{}",
            message.len()
        );
        let back: Report<TrainOutcome> = serde_json::from_str(&message).unwrap();
        assert!(matches!(back, Report::Failure(f) if f.reason == FailureReason::InvalidRow));
    }

    #[test]
    fn permanent_failures_have_the_codes_a_job_stops_on() {
        assert_eq!(FailureReason::InvalidConfig.exit_code(), exit::CONFIG);
        assert_eq!(FailureReason::InvalidRow.exit_code(), exit::INPUT);
        assert_eq!(FailureReason::HubUnavailable.exit_code(), exit::TRANSIENT);
    }
}
