//! Which arm of a ModelDeployment is better: what is asked, and what was found. Pure: no client.

use std::time::Duration as Span;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Duration;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use slipway_contract::{
    CardCommit, ExperimentMetric, FeedbackScore, ModelCardRecord, Success, Within,
    experiment::{ArmOutcome, Decision, Difference, Rule, SampleRatio},
};

use super::schema::{duration, rules};

/// Compares the arms by what their requests score. It recommends a winner; who gets which share stays as
/// `variants` say, unless `autoPromote` is set.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = experiment_rules)]
pub struct Experiment {
    /// What a request scores; more is better.
    pub metric: ScoredBy,
    /// The bound of `latency` and `timeToFirstToken`, for instance 500ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = duration)]
    pub within: Option<Duration>,
    /// Nothing is said before each arm has so many scores, worth as many independent ones. Differences that show
    /// between one and ten times that many are found soonest. Default 500.
    #[serde(default = "five_hundred")]
    #[schemars(range(min = 100, max = 1_000_000_000))]
    pub min_requests: u64,
    /// All intervals hold together, at all moments, with this probability: above 0.5, at most 0.9999. Default 0.95.
    #[serde(default = "confidence")]
    pub confidence: f64,
    /// Where a winner is written down, once. Needs `hub.tokenSecretRef`. Default: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<ExperimentRecord>,
    /// Gives a winner the whole traffic, until `variants` change. The spec stays as it is.
    #[serde(default)]
    pub auto_promote: bool,
}

fn five_hundred() -> u64 {
    Rule::default().min_requests
}

fn confidence() -> f64 {
    Rule::default().confidence
}

/// What a request scores.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ScoredBy {
    /// What its client posts to `/v1/feedback`: a number from 0 to 1.
    FeedbackScore,
    /// 1 where its answer was whole and had a status below 500, else 0.
    Success,
    /// 1 where the last byte of its answer came in time; 0 where it did not, or the answer was an error.
    Latency,
    /// 1 where the first byte of its answer's body came in time: of a stream, its first token; 0 where it did not,
    /// or the answer was an error.
    TimeToFirstToken,
}

impl ScoredBy {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FeedbackScore => "feedbackScore",
            Self::Success => "success",
            Self::Latency => "latency",
            Self::TimeToFirstToken => "timeToFirstToken",
        }
    }
}

/// Where an outcome is written down.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExperimentRecord {
    /// A model repository whose card gets a section about the winner, and which gets its figures as a file in
    /// `experiments/`.
    pub model_card: ModelCardRecord,
}

impl Experiment {
    /// What the routers count.
    pub fn counted(&self) -> ExperimentMetric {
        let within = Within {
            seconds: self.within.map_or(0.0, |within| Span::from(within).as_secs_f64()),
        };
        match self.metric {
            ScoredBy::FeedbackScore => ExperimentMetric::FeedbackScore(FeedbackScore {}),
            ScoredBy::Success => ExperimentMetric::Success(Success {}),
            ScoredBy::Latency => ExperimentMetric::LatencyWithin(within),
            ScoredBy::TimeToFirstToken => ExperimentMetric::FirstByteWithin(within),
        }
    }

    /// When and how surely it speaks.
    pub fn rule(&self) -> Rule {
        Rule {
            confidence: self.confidence,
            min_requests: self.min_requests,
        }
    }
}

fn experiment_rules(schema: &mut Schema) {
    rules(
        schema,
        &[
            (
                "(self.metric in ['latency', 'timeToFirstToken']) == has(self.within)",
                "set within, for instance 500ms, for the metrics latency and timeToFirstToken, and for these only",
            ),
            (
                "!has(self.within) || duration(self.within) > duration('0s')",
                "set within to more than 0s",
            ),
            (
                "!has(self.confidence) || (self.confidence > 0.5 && self.confidence <= 0.9999)",
                "set confidence to a probability above 0.5 and at most 0.9999, for instance 0.95",
            ),
        ],
    );
}

/// What an experiment says so far.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExperimentStatus {
    /// Names it: another one each time it begins. None while it waits to begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the figures below were read; about every half minute while they change, and for the last time when the
    /// verdict was Winner or Inconclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Time>,
    /// What follows from the figures. The first Winner or Inconclusive is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Decision>,
    /// The arm that is better than every other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub winner: Option<String>,
    /// Whether `autoPromote` gives the winner all requests.
    pub promoted: bool,
    /// The verdict in a sentence, with its figures or what is missing, and what to do.
    pub message: String,
    /// Each arm, in the order of the spec.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub arms: Vec<ArmOutcome>,
    /// Each pair of arms: a later one minus an earlier one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 120))]
    pub differences: Vec<Difference>,
    /// Whether the arms met the users that the split promised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_ratio: Option<SampleRatio>,
    /// Seconds from its begin until the figures were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
    /// All intervals hold together, at all moments, with this probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// The commit or pull request on the model card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<CardCommit>,
    /// Why the winner could not be written down yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_failure: Option<RecordFailure>,
}

/// A winner that could not be written down; it is tried again.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordFailure {
    /// Cause and fix in one sentence.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was last tried.
    pub at: Time,
}
