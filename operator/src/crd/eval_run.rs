//! EvalRun: measures a model and judges it. Pure: no client.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Toleration,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::CustomResource;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use slipway_contract::{
    CardCommit, ConfidenceInterval, EvalTask, FewShot, MetricName, MetricResult, MetricSpec, Progress,
    Record, Threshold, Verdict,
};

use super::{
    common::{ClaimRef, DatasetRef, HubSettings, ModelSource, NamedRef, ResolvedSource, Resources},
    eval_rules::{self, BenchmarkRef, PredictionsRef},
    schedule::{ActiveRun, RunRecord, Schedule},
    schema::{OBJECT_NAME, condition_list, frozen, rules},
};

/// What to measure, on what, and what the figures must be.
#[derive(Clone, CustomResource, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "slipway.dev",
    version = "v1alpha1",
    kind = "EvalRun",
    namespaced,
    status = "EvalRunStatus",
    shortname = "evr",
    category = "slipway",
    derive = "PartialEq",
    doc = "EvalRun measures a model on a dataset, holds the figures against bounds and a baseline, and records them \
           in the model's card.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Verdict", type_ = "string", json_path = ".status.verdict"),
    printcolumn(name = "Score", type_ = "string", json_path = ".status.summary"),
    printcolumn(
        name = "Drifted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Drifted\")].status",
        priority = 1
    ),
    printcolumn(
        name = "Next",
        type_ = "string",
        json_path = ".status.nextScheduledTime",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = spec_rules)]
pub struct EvalRunSpec {
    /// What is measured. It is waited for. An EvalRun without a target is a template: it never runs itself, and
    /// each `eval` step of a ModelDeployment makes a copy with the new revision as its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetRef>,
    /// What the target does.
    #[serde(default)]
    pub task: EvalTask,
    /// The examples.
    #[schemars(transform = no_validation)]
    pub dataset: DatasetRef,
    /// How rows become questions. Default: the columns' usual names tell. MultipleChoice needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<BenchmarkRef>,
    /// Worked examples before each question, in place of the benchmark's own. Default: the benchmark's, which those that are
    /// shipped have none of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub few_shot: Option<FewShot>,
    /// What to compute, each with a confidence interval. Default: what the benchmark names.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub metrics: Vec<MetricSpec>,
    /// Tokens of an answer at most, for metrics that compare answers with references. Default: 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    pub max_new_tokens: Option<u32>,
    /// nltk's data, unpacked, with `corpora/wordnet` and `tokenizers/punkt_tab`, for meteor. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lexicon: Option<ClaimRef>,
    /// Bounds that decide the verdict, held against the whole confidence interval. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub thresholds: Vec<Threshold>,
    /// A model to compare with, over the same examples. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineRef>,
    /// Where the results are written down. Default: only in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// Measures again and again, keeps a history, and says in the condition Drifted when a figure leaves where it
    /// was at first. Each run looks branches up anew. Such a run is never Complete. Default: it measures once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Where each example's prediction is kept. Default: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<PredictionsRef>,
    /// Seconds that the pod may run; then the run fails. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub active_deadline_seconds: Option<i64>,
    /// How often a pod that failed is tried again. Failures that a retry cannot mend end the run at once.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 1000))]
    pub backoff_limit: i32,
    /// Seconds after the end until Job and pod (with its logs) are removed. The EvalRun stays, and does not run
    /// again. Default: they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// What the pod may use.
    #[serde(default)]
    pub resources: Resources,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// PriorityClass of the pod. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = OBJECT_NAME), length(max = 253))]
    pub priority_class_name: Option<String>,
    /// How the pod reaches the Hub.
    #[serde(default)]
    pub hub: HubSettings,
}

fn three() -> i32 {
    3
}

/// What is measured: exactly one.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
#[schemars(transform = slipway_contract::union)]
pub enum TargetRef {
    /// A model, loaded by the pod.
    Model(ModelSource),
    /// A ModelDeployment of this namespace, over HTTP as a client sees it.
    Deployment {
        /// Its name.
        #[schemars(regex(pattern = OBJECT_NAME), length(max = 253))]
        name: String,
        /// The variant that is asked. Default: whichever the split chooses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1, max = 63))]
        variant: Option<String>,
        /// The revision that is asked, also before it has any traffic. Default: whichever has the traffic.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1, max = 63))]
        revision: Option<String>,
    },
}

/// What to compare with: exactly one of model and evalRun.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = one_baseline)]
pub struct BaselineRef {
    /// Another model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSource>,
    /// The model that another EvalRun measured, at the commit it measured; it is measured again here, because a
    /// paired difference needs both answers to each example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_run: Option<NamedRef>,
    /// The metric compared; one of `metrics`.
    pub metric: MetricName,
    /// The interval of the difference must lie at or above this; positive always means better than the baseline.
    #[serde(default)]
    pub min_difference: f64,
    /// Two-sided confidence level of the difference's interval.
    #[serde(default = "confidence")]
    #[schemars(range(min = 0.5, max = 0.9999))]
    pub confidence: f64,
}

fn confidence() -> f64 {
    0.95
}

fn one_baseline(schema: &mut Schema) {
    rules(
        schema,
        &[(
            "has(self.model) != has(self.evalRun)",
            "set exactly one of: model, evalRun",
        )],
    );
}

fn no_validation(schema: &mut Schema) {
    // Held-out examples of a training set mean nothing here: a field that does nothing is not in the schema.
    if let Some(properties) = schema
        .get_mut("properties")
        .and_then(|value| value.as_object_mut())
    {
        properties.remove("validation");
    }
}

fn spec_rules(schema: &mut Schema) {
    eval_rules::add(schema);
    rules(
        schema,
        &[
            (
                "self.metrics.all(m, m.name != 'meteor') || has(self.lexicon)",
                "set lexicon to a claim with nltk's data (wordnet and punkt_tab): meteor needs it",
            ),
            (
                "!has(self.target) || !has(self.target.deployment) || self.metrics.all(m, !has(m.average) || m.average \
                 != 'binary')",
                "choose average macro, micro or weighted: a deployment does not tell which class is the second",
            ),
            (
                "self.metrics.all(m, m.name in ['precision', 'recall', 'f1'] || !has(m.average))",
                "remove average: only precision, recall and f1 are averaged over classes",
            ),
            (
                "!has(self.thresholds) || self.metrics.size() == 0 || self.thresholds.all(t, self.metrics.exists(m, m.name == t.metric))",
                "list each threshold's metric under metrics too, so that it is computed",
            ),
            (
                "!has(self.baseline) || self.metrics.size() == 0 || self.metrics.exists(m, m.name == self.baseline.metric)",
                "list baseline.metric under metrics too, so that it is computed",
            ),
            (
                "!has(self.record) || has(self.hub.tokenSecretRef)",
                "set hub.tokenSecretRef to a Secret with a token that may write: record writes to the Hub",
            ),
            (
                "!has(self.schedule) || has(self.target)",
                "set target, or remove schedule: a template is only ever copied",
            ),
            (
                "has(self.schedule) == has(oldSelf.schedule)",
                "schedule cannot be added or removed once the run exists (its fields can change, and schedule.suspend \
                 stops it); create an EvalRun of another name instead",
            ),
        ],
    );
    for field in [
        "target",
        "task",
        "dataset",
        "benchmark",
        "fewShot",
        "metrics",
        "maxNewTokens",
        "lexicon",
        "thresholds",
        "baseline",
        "record",
        "predictions",
        "hub",
    ] {
        let message = format!(
            "{field} cannot change: the results belong to it; create an EvalRun of another name instead"
        );
        frozen(schema, field, None, &message);
    }
    for field in ["resources", "nodeSelector", "tolerations", "priorityClassName"] {
        let message =
            format!("{field} cannot change once the run exists; create an EvalRun of another name instead");
        frozen(schema, field, None, &message);
    }
}

/// What an EvalRun found.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EvalRunStatus {
    /// The generation of the spec that the rest of this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The model that is measured; none for a deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<ResolvedSource>,
    /// The model it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<ResolvedSource>,
    /// The dataset that is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<ResolvedSource>,
    /// The first figure, or the progress, in a few words for `kubectl get`: `accuracy 0.7421 ±0.0310`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What the pod last reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Every metric with its interval and the number of examples.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<MetricResult>,
    /// The comparison with the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<ComparisonStatus>,
    /// What the figures say against the bounds; Inconclusive when an interval reaches over one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// One sentence a bound: what was found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// The commit or pull request on the model card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<CardCommit>,
    /// The commit with each example's prediction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictions: Option<CardCommit>,
    /// When the first pod started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it completed or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The run of the schedule that is under way. What is above describes it, or else the latest that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveRun>,
    /// When a run was last started because it was due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scheduled_time: Option<Time>,
    /// When the next run is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_scheduled_time: Option<Time>,
    /// The run that later ones are held against: the first that measured, or the latest that was asked for with
    /// `slipway.dev/run-now=reference`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<RunRecord>,
    /// The runs that ended, the latest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<RunRecord>,
    /// Pods that failed so far.
    pub failed_attempts: i32,
    /// Ready, Reconciling and Stalled (kstatus), Complete and Failed. A run whose verdict is Failed is Complete:
    /// it did what it was asked to. With a schedule Suspended and Drifted, in place of Complete and Failed.
    #[schemars(transform = condition_list)]
    pub conditions: Vec<Condition>,
}

/// A paired comparison with the baseline.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComparisonStatus {
    /// The metric compared.
    pub metric: MetricName,
    /// Target minus baseline (negated where less is better).
    pub difference: f64,
    /// Paired bootstrap over the same examples.
    pub confidence_interval: ConfidenceInterval,
    /// What the baseline scored.
    pub baseline_value: f64,
    /// The bound the interval is held against.
    pub min_difference: f64,
    /// What the baseline is.
    pub baseline: ResolvedSource,
}
