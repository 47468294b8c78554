//! FineTuneJob: trains a model and publishes it. Pure: no client.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Toleration,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::CustomResource;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use slipway_contract::{
    CheckpointMark, Evaluation, Hyperparameters, Method, Metric, Objective, OutputHub, Progress, Published,
    Task,
};

use super::{
    common::{DatasetRef, HubSettings, ModelSource, Quantity, ResolvedSource, Resources},
    schema::{OBJECT_NAME, condition_list, frozen, rules},
};

/// What to train, on what, and where the result goes.
#[derive(Clone, CustomResource, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "slipway.dev",
    version = "v1alpha1",
    kind = "FineTuneJob",
    namespaced,
    status = "FineTuneJobStatus",
    shortname = "ftj",
    category = "slipway",
    derive = "PartialEq",
    doc = "FineTuneJob fine-tunes a model on a dataset, keeps checkpoints, and publishes the result to a Hub.",
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
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Loss", type_ = "number", json_path = ".status.progress.loss"),
    printcolumn(name = "Output", type_ = "string", json_path = ".status.output.repo"),
    printcolumn(
        name = "Commit",
        type_ = "string",
        json_path = ".status.output.commit",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = spec_rules)]
pub struct FineTuneJobSpec {
    /// The model to start from.
    pub model: ModelSource,
    /// What the model learns to do.
    #[serde(default)]
    pub task: Task,
    /// What it learns from.
    pub dataset: DatasetRef,
    /// Which weights are trained: all of them, or low-rank adapters beside them.
    #[serde(default)]
    pub method: Method,
    /// What is minimised.
    #[serde(default)]
    pub objective: Objective,
    /// How long and how fast.
    #[serde(default)]
    #[schemars(transform = epochs_or_steps)]
    pub hyperparameters: Hyperparameters,
    /// Evaluation while training.
    #[serde(default)]
    #[schemars(transform = early_stopping)]
    pub evaluation: Evaluation,
    /// What survives a restart of a pod.
    #[serde(default)]
    pub checkpoint: CheckpointSpec,
    /// Data-parallel workers, one pod each; the effective batch grows with them.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub workers: u32,
    /// Stops the pods after a checkpoint and keeps everything else; set it back to go on from there.
    #[serde(default)]
    pub suspend: bool,
    /// The Kueue LocalQueue that admits the job. Default: it starts at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = OBJECT_NAME), length(max = 63))]
    pub queue_name: Option<String>,
    /// Seconds that the pods may run since the last start or resume; then the job fails. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub active_deadline_seconds: Option<i64>,
    /// How often a pod that failed is tried again; each try resumes from the newest checkpoint. Failures that a
    /// retry cannot mend (wrong configuration, model or data) end the job at once.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 1000))]
    pub backoff_limit: i32,
    /// Seconds after the end until Job and pods (with their logs) are removed. The FineTuneJob stays, and does
    /// not run again. Default: they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// What each worker may use.
    #[serde(default)]
    pub resources: Resources,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// PriorityClass of the pods. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = OBJECT_NAME), length(max = 253))]
    pub priority_class_name: Option<String>,
    /// How the pods reach the Hub.
    #[serde(default)]
    pub hub: HubSettings,
    /// Where the result goes.
    #[serde(default)]
    pub output: OutputSpec,
}

fn one() -> u32 {
    1
}

fn three() -> i32 {
    3
}

/// What survives a restart of a pod.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointSpec {
    /// Writes a checkpoint every so many optimizer steps, at the end, and when a pod is told to stop.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub every_steps: u64,
    /// How many to keep.
    #[schemars(range(min = 1, max = 1000))]
    pub keep: u32,
    /// The PersistentVolumeClaim they are written to; it goes with the FineTuneJob.
    pub volume: CheckpointVolume,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self {
            every_steps: 50,
            keep: 2,
            volume: CheckpointVolume::default(),
        }
    }
}

/// The PersistentVolumeClaim that checkpoints and the result are written to.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointVolume {
    /// Its size: `keep` checkpoints of trained weights with two optimizer moments each, and the result.
    pub size: Quantity,
    /// Its StorageClass. Default: the cluster's default class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = OBJECT_NAME), length(max = 253))]
    pub storage_class_name: Option<String>,
    /// How many nodes may mount it. Workers on several nodes need ReadWriteMany.
    pub access_mode: AccessMode,
}

/// How many nodes may mount a volume.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum AccessMode {
    /// One node.
    #[default]
    ReadWriteOnce,
    /// Several nodes.
    ReadWriteMany,
}

impl AccessMode {
    /// As a claim says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteMany => "ReadWriteMany",
        }
    }
}

impl Default for CheckpointVolume {
    fn default() -> Self {
        Self {
            access_mode: AccessMode::default(),
            size: Quantity("10Gi".into()),
            storage_class_name: None,
        }
    }
}

/// Where the result goes.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutputSpec {
    /// Publishes adapter or weights, tokenizer and model card in one commit. Default: the result stays on the
    /// checkpoint claim, from where other objects of the namespace can use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hub: Option<OutputHub>,
    /// Writes the base's weights with the adapter merged in, instead of the adapter.
    pub merge: bool,
    /// Names the base's licence, where whole weights (`merge`, or method `full`) are published to the Hub under one
    /// that is not known to permit that, or from a gated repository: you have read its terms, and they permit it.
    /// Default: such a job is refused before it trains.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub accept_license: Option<String>,
}

fn epochs_or_steps(schema: &mut Schema) {
    // A schema default for epochs would be set by the apiserver beside every maxSteps, and the rule below would
    // refuse each of them; the type's own default (3) applies when reading.
    let epochs = schema
        .get_mut("properties")
        .and_then(|properties| properties.get_mut("epochs"));
    if let Some(epochs) = epochs.and_then(serde_json::Value::as_object_mut) {
        epochs.remove("default");
        epochs.insert(
            "description".into(),
            "Passes over the data. Default 3, unless `maxSteps` is set.".into(),
        );
    }
    if let Some(default) = schema.get_mut("default").and_then(|value| value.as_object_mut()) {
        default.remove("epochs");
    }
    rules(
        schema,
        &[
            (
                "!(has(self.epochs) && has(self.maxSteps))",
                "set epochs or maxSteps, not both",
            ),
            ("!has(self.epochs) || self.epochs > 0.0", "set epochs above 0"),
            (
                "!has(self.learningRate) || self.learningRate > 0.0",
                "set learningRate above 0",
            ),
        ],
    );
}

fn early_stopping(schema: &mut Schema) {
    rules(
        schema,
        &[(
            "!has(self.earlyStopping) || !has(self.earlyStopping.metric) || \
             self.earlyStopping.metric in ['loss', 'accuracy', 'f1']",
            "set earlyStopping.metric to loss, accuracy or f1",
        )],
    );
}

fn spec_rules(schema: &mut Schema) {
    rules(
        schema,
        &[
            (
                "self.task != 'Embedding'",
                "set task to CausalLM or SequenceClassification: training embeddings is not supported",
            ),
            (
                "!(has(self.objective.sft) && has(self.objective.sft.packing) && self.objective.sft.packing \
                 && self.task != 'CausalLM')",
                "remove objective.sft.packing: only CausalLM examples can be packed",
            ),
            (
                "!has(self.evaluation.earlyStopping) || !has(self.evaluation.earlyStopping.metric) || \
                 self.evaluation.earlyStopping.metric == 'loss' || self.task == 'SequenceClassification'",
                "set evaluation.earlyStopping.metric to loss: accuracy and f1 exist only for SequenceClassification",
            ),
            (
                "!(has(self.output.merge) && self.output.merge && has(self.method.full))",
                "remove output.merge: full fine-tuning has no adapter to merge",
            ),
            (
                "!has(self.output.hub) || has(self.hub.tokenSecretRef)",
                "set hub.tokenSecretRef to a Secret with a token that may write: output.hub publishes to the Hub",
            ),
            (
                "!has(self.dataset.split) || !has(self.dataset.validation) || \
                 !has(self.dataset.validation.split) || self.dataset.split != self.dataset.validation.split",
                "name different splits in dataset.split and dataset.validation.split",
            ),
        ],
    );
    for field in [
        "model",
        "task",
        "dataset",
        "method",
        "objective",
        "hyperparameters",
        "evaluation",
        "checkpoint",
        "workers",
        "hub",
        "output",
    ] {
        let message = format!(
            "{field} cannot change: checkpoints belong to it; create a FineTuneJob of another name instead"
        );
        frozen(schema, field, None, &message);
    }
    for field in [
        "resources",
        "nodeSelector",
        "tolerations",
        "priorityClassName",
        "queueName",
    ] {
        let message =
            format!("set suspend to true first: {field} can change only while the job is suspended");
        frozen(schema, field, Some("oldSelf.suspend"), &message);
    }
}

/// What became of a FineTuneJob.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FineTuneJobStatus {
    /// The generation of the spec that the rest of this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The model that every pod starts from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ResolvedSource>,
    /// The dataset that every pod reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<ResolvedSource>,
    /// Progress in a few words, for `kubectl get`: `45% 3m20s left`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What the first worker last reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The newest checkpoint, from which a retry or a resume goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<CheckpointMark>,
    /// The commit that was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Published>,
    /// The PersistentVolumeClaim with checkpoints and result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Final figures of the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// When the first pod started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it completed or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Pods that failed so far (the running one not counted).
    pub failed_attempts: i32,
    /// GPU seconds used: running time of each worker times its GPUs, over every attempt. Counted when a run ends.
    pub gpu_seconds: i64,
    /// When the pods that run now started; set while they run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_since: Option<Time>,
    /// Ready, Reconciling and Stalled (kstatus), Complete, Failed and Suspended.
    #[schemars(transform = condition_list)]
    pub conditions: Vec<Condition>,
}
