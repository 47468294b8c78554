//! How a changed model takes over an arm of a ModelDeployment. Pure: no client.

use std::time::Duration as Span;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Duration;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::{
    common::{NamedRef, ResolvedSource},
    schema::{duration, rules},
};

/// How a changed model takes over. Default: its pods replace the old ones, one after the other.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = strategy_rules)]
pub struct Strategy {
    /// Rolls the new revision in beside the old one, inside the arm's share, step by step. Several arms that
    /// change are rolled one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// What to do when a step fails: restore the revision before, or stop where it is and wait for
    /// `slipway.dev/promote` or `slipway.dev/abort`.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// How long one step may take, a pause without duration excepted. Default 30m.
    #[serde(default = "half_an_hour")]
    #[schemars(transform = duration)]
    pub progress_deadline: Duration,
    /// What to do when no node has room for the new revision beside the old one: wait until `progressDeadline`,
    /// or take the place of pods of the old revision. Where that is the arm's only pod, nobody answers for it while the
    /// new one loads: see `Replace`.
    #[serde(default)]
    pub when_no_capacity: WhenNoCapacity,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            canary: None,
            on_failure: OnFailure::default(),
            progress_deadline: half_an_hour(),
            when_no_capacity: WhenNoCapacity::default(),
        }
    }
}

fn half_an_hour() -> Duration {
    Span::from_mins(30).into()
}

/// Steps, carried out in their order; after the last one the new revision has the whole share.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Canary {
    /// The steps.
    #[schemars(length(min = 1, max = 32))]
    pub steps: Vec<Step>,
}

/// One step of a rollout: exactly one of these.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = slipway_contract::union)]
pub enum Step {
    /// Share of the arm's requests that the new revision answers, 0–100. Done once it has pods enough for that
    /// share and every router follows it. Clients told apart by `traffic.sticky` stay where they are.
    SetWeight(Weight),
    /// Share of the arm's requests that the new revision gets a copy of, 0–100; its answers are discarded.
    Mirror(Mirror),
    /// Waits.
    Pause(Pause),
    /// Looks at what the routers measured.
    Analysis(Analysis),
    /// Evaluates the new revision, asked by its own name before or beside its traffic.
    Eval(EvalStep),
}

/// A share in percent.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Weight(#[schemars(range(min = 0, max = 100))] pub u32);

/// A copy of traffic.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Mirror {
    /// Share of the arm's requests, 0–100.
    #[schemars(range(min = 0, max = 100))]
    pub percent: u32,
}

/// A wait.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Pause {
    /// How long. Default: until the annotation `slipway.dev/promote` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = duration)]
    pub duration: Option<Duration>,
}

/// A look at what the routers measured since this step began. Requests that ask for a revision by name do not
/// count. While the new revision has no share, its copies from `mirror` are looked at. With `traffic.gateway` it is
/// what the revisions' own servers measured.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// For how long requests are counted before they are judged. An error rate that is certainly too high ends
    /// the step at once.
    #[schemars(transform = duration)]
    pub duration: Duration,
    /// With fewer answers of the new revision than this the analysis is Inconclusive, and the rollout pauses.
    /// Default 50.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_requests: u64,
    /// What must hold; all of them.
    #[schemars(length(min = 1, max = 16), transform = bounded)]
    pub metrics: Vec<AnalysisMetric>,
}

fn fifty() -> u64 {
    50
}

/// A bound on a figure of the new revision: one that routers measure, or the answer of a Prometheus server.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisMetric {
    /// A figure that routers measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<RouterMetric>,
    /// A figure that a Prometheus server knows, asked for at the end of `duration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusQuery>,
    /// It must be at most this (a share, or seconds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// It must be at least this. For `feedbackScore`, and for a Prometheus query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// It must be at most this many times that of the old revision over the same time. For a figure of the routers but
    /// `feedbackScore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub max_ratio_to_stable: Option<f64>,
    /// It must be at least this many times that of the old revision over the same time. For `feedbackScore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub min_ratio_to_stable: Option<f64>,
    /// With fewer scores than this, of the new revision or of one that it is compared with, the analysis is Inconclusive.
    /// For `feedbackScore`. Default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_scores: Option<u64>,
}

/// An instant query whose answer is one number.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PrometheusQuery {
    /// Where the operator reaches the server, over plain HTTP, such as `http://prometheus.monitoring.svc:9090`.
    #[schemars(length(max = 256), regex(pattern = r"^http://[^\s/?#]+(/[^\s?#]*)?$"))]
    pub address: String,
    /// `PromQL` that comes to a scalar or to one series. `{{namespace}}`, `{{name}}`, `{{variant}}`, `{{revision}}`,
    /// `{{stableRevision}}` and `{{duration}}` (of the analysis, such as `120s`) are replaced.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
}

/// What routers measure of each revision. Quantiles come from a histogram whose buckets are 9% wide.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RouterMetric {
    /// Share of answers with a status of 500 or more, broken connections included.
    ErrorRate,
    /// Median seconds until the last byte.
    LatencyP50Seconds,
    /// 95th percentile of the seconds until the last byte.
    LatencyP95Seconds,
    /// 99th percentile of the seconds until the last byte.
    LatencyP99Seconds,
    /// Median seconds until the first byte: of a stream, its first token.
    TimeToFirstTokenP50Seconds,
    /// 95th percentile of the seconds until the first byte: of a stream, its first token.
    TimeToFirstTokenP95Seconds,
    /// Mean of the scores, 0 to 1, that clients posted to `/v1/feedback` of its answers; more is better.
    FeedbackScore,
}

impl Strategy {
    /// Whether an analysis looks at what clients post.
    pub fn asks_for_feedback(&self) -> bool {
        let steps = self.canary.iter().flat_map(|canary| &canary.steps);
        let mut analyses = steps.filter_map(|step| match step {
            Step::Analysis(analysis) => Some(analysis),
            _ => None,
        });
        analyses.any(|analysis| {
            let mut metrics = analysis.metrics.iter();
            metrics.any(|metric| metric.name == Some(RouterMetric::FeedbackScore))
        })
    }
}

impl RouterMetric {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrorRate => "errorRate",
            Self::LatencyP50Seconds => "latencyP50Seconds",
            Self::LatencyP95Seconds => "latencyP95Seconds",
            Self::LatencyP99Seconds => "latencyP99Seconds",
            Self::TimeToFirstTokenP50Seconds => "timeToFirstTokenP50Seconds",
            Self::TimeToFirstTokenP95Seconds => "timeToFirstTokenP95Seconds",
            Self::FeedbackScore => "feedbackScore",
        }
    }
}

/// An evaluation that the new revision must pass.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvalStep {
    /// An EvalRun of this namespace without a target, with thresholds or a baseline: a copy of it is made with the new revision as its target.
    /// Passed goes on, Failed is a failure, Inconclusive pauses.
    pub template_ref: NamedRef,
}

/// What a failed step leads to.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum OnFailure {
    /// The revision before gets the whole share back.
    #[default]
    Rollback,
    /// Everything stays as it is until a person decides.
    Pause,
}

/// What to do without room for more pods.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum WhenNoCapacity {
    /// Waits for room.
    #[default]
    Wait,
    /// Removes as many pods of the old revision as the new one needs. Of several one stays. An arm's only pod goes
    /// too: its requests go to the other arms, or, where no other arm has a share, are held for up to 2m
    /// (`scaling.holdTimeout`). The new revision answers all of them from its first share on.
    Replace,
}

fn bounded(schema: &mut Schema) {
    rules(
        schema,
        &[
            (
                "self.all(m, has(m.name) != has(m.prometheus))",
                "set exactly one of name and prometheus for each metric",
            ),
            (
                "self.all(m, has(m.max) || has(m.min) || has(m.maxRatioToStable) || has(m.minRatioToStable))",
                "a metric without a bound: set max or maxRatioToStable, for feedbackScore min or minRatioToStable, for a \
                 Prometheus query max or min",
            ),
            (
                "self.all(m, !has(m.name) || m.name == 'feedbackScore' || !has(m.min))",
                "min is for feedbackScore and Prometheus queries; what else routers measure is better the lower it is: \
                 set max",
            ),
            (
                "self.all(m, !has(m.name) || m.name != 'feedbackScore' || (!has(m.max) && !has(m.maxRatioToStable)))",
                "a feedbackScore is better the higher it is: set min or minRatioToStable",
            ),
            (
                "self.all(m, (has(m.name) && m.name == 'feedbackScore') || (!has(m.minRatioToStable) && \
                 !has(m.minScores)))",
                "minRatioToStable and minScores are for the metric feedbackScore; remove them",
            ),
            (
                "self.all(m, !has(m.name) || !has(m.min) || (m.min >= 0.0 && m.min <= 1.0))",
                "scores are from 0 to 1: set min of feedbackScore to such a number",
            ),
            (
                "self.all(m, !has(m.prometheus) || !has(m.maxRatioToStable))",
                "maxRatioToStable is for figures of the routers; write the comparison into the Prometheus query",
            ),
            (
                "self.all(m, !has(m.name) || !has(m.max) || m.max >= 0.0)",
                "a share or a time is never below 0: set max to 0 or more",
            ),
        ],
    );
}

fn strategy_rules(schema: &mut Schema) {
    rules(
        schema,
        &[(
            "!has(self.canary) || self.canary.steps.all(s, !has(s.analysis) || duration(s.analysis.duration) <= \
             duration(has(self.progressDeadline) ? self.progressDeadline : '30m'))",
            "an analysis takes longer than progressDeadline; shorten its duration or raise progressDeadline",
        )],
    );
}

/// How far the revision that is being rolled in has come.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The revision that is being rolled in.
    pub revision: String,
    /// The revision that it replaces.
    pub from: String,
    /// Its model and adapters, each at the commit it was resolved to when the rollout began.
    pub sources: RevisionSources,
    /// Where it stands.
    pub phase: RolloutPhase,
    /// The step under way, counted from 0; as many as there are steps once all are done.
    pub step: u32,
    /// When that step began.
    pub step_started: Time,
    /// When the rollout began.
    pub started: Time,
    /// Share of the arm's requests that the step under way brings it to; its pods are made for that first.
    #[serde(default)]
    pub target: u32,
    /// Share of the arm's requests that it answers.
    #[serde(default)]
    pub weight: u32,
    /// Share of the arm's requests that it gets a copy of.
    #[serde(default)]
    pub mirror: u32,
    /// Whether it takes the place of old pods, for want of room.
    #[serde(default)]
    pub replacing: bool,
    /// Whether it takes the place of the arm's only pod: nobody else answers for the arm.
    #[serde(default)]
    pub vacated: bool,
    /// One word: what it waits for, or why it ended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The same in one sentence, with the figures.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What was found in each step that is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub history: Vec<String>,
}

/// The model and the adapters of a revision, each at the commit it was resolved to.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionSources {
    /// Hash of what the spec asked for when this was resolved: while it stays, so does the commit.
    pub asked: String,
    /// The model.
    pub model: ResolvedSource,
    /// The adapters, in the order of the spec.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub adapters: Vec<ResolvedSource>,
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum RolloutPhase {
    /// A step is under way.
    Progressing,
    /// Waits for a person, or for the end of a pause.
    Paused,
    /// Every step is done; the arm's pods become this revision.
    Promoting,
    /// A step failed, or a person aborted it: the revision before has the whole share. It is not tried again
    /// until the spec changes or `slipway.dev/retry` is set.
    RolledBack,
}
