//! ModelDeployment: serves models behind one URL and splits traffic between them. Pure: no client.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Toleration, apimachinery::pkg::apis::meta::v1::Condition};
use kube::CustomResource;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use slipway_contract::{Sticky, Task};

use super::{
    common::{HubSettings, ModelSource, ResolvedSource, Resources},
    experiment::{Experiment, ExperimentStatus},
    gateway::{self, GatewayRoute},
    scaling::{Scaling, ScalingStatus},
    schema::{LABEL_NAME, OBJECT_NAME, condition_list, named_list, rules},
    strategy::{RolloutStatus, Strategy},
};

/// Which models answer, and which share of the traffic each gets.
#[derive(Clone, CustomResource, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "slipway.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    namespaced,
    status = "ModelDeploymentStatus",
    shortname = "mdep",
    category = "slipway",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    doc = "ModelDeployment serves one or several variants of a model behind one URL and splits traffic between them.",
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
    printcolumn(name = "Weight", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(
        name = "Experiment",
        type_ = "string",
        json_path = ".status.experiment.verdict",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = spec_rules)]
#[schemars(transform = gateway::spec_rules)]
pub struct ModelDeploymentSpec {
    /// What the models do. Default: told from the models' files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The arms of the split. A changed model is rolled in beside the old one, which answers until the new one
    /// is ready.
    #[schemars(length(min = 1, max = 16), transform = variant_list)]
    pub variants: Vec<Variant>,
    /// Pods of a single variant that sets neither `replicas` nor `scaling`: what `kubectl scale` and autoscalers set.
    /// While no pod is ready, requests are held for up to 2m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,
    /// How requests meet variants.
    #[serde(default)]
    pub traffic: Traffic,
    /// How a changed model takes over its arm.
    #[serde(default)]
    pub strategy: Strategy,
    /// Compares the variants by what their requests score. Default: no comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<Experiment>,
    /// Holds every rollout where it is; what serves goes on serving.
    #[serde(default)]
    pub paused: bool,
    /// How the pods reach the Hub.
    #[serde(default)]
    pub hub: HubSettings,
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
}

/// One arm of the split.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = variant_rules)]
pub struct Variant {
    /// Its name: in metrics, in `x-slipway-variant`, and in the names of its Deployment and Service.
    #[schemars(regex(pattern = LABEL_NAME), length(max = 30))]
    pub name: String,
    /// The model that answers.
    pub model: ModelSource,
    /// Adapters on top of it, each of which clients ask for by its name in `model`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), transform = adapter_list)]
    pub adapters: Vec<AdapterRef>,
    /// Its share of the requests; all shares add up to 100. 0 takes only requests that ask for it by name.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 100))]
    pub traffic_percent: u32,
    /// Pods. Default 1, where `scaling` is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: Option<i32>,
    /// Pods by how many requests there are. Default: as many as `replicas` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// What each pod may use.
    #[serde(default)]
    pub resources: Resources,
}

fn hundred() -> u32 {
    100
}

/// A named adapter on top of a variant's model.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AdapterRef {
    /// The name clients put into `model`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), length(max = 63))]
    pub name: String,
    /// Where its PEFT files are.
    pub model: ModelSource,
}

/// How requests meet variants.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = gateway::traffic_rules)]
pub struct Traffic {
    /// Keeps a client on one variant. Default: each request is drawn anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Gateways through which requests come, split by an HTTPRoute and not by the router. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayRoute>,
    /// One variant gets a copy of what the others answer; its answers to those are discarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<TrafficMirror>,
}

/// Copies of requests for a variant. It may have a share of its own as well.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TrafficMirror {
    /// The variant that gets them.
    #[schemars(regex(pattern = LABEL_NAME), length(max = 30))]
    pub variant: String,
    /// Share of the other variants' requests that it gets a copy of, 0–100.
    #[schemars(range(min = 0, max = 100))]
    pub percent: u32,
}

fn spec_rules(schema: &mut Schema) {
    rules(
        schema,
        &[
            (
                "!has(self.experiment) || (self.variants.size() > 1 && self.variants.all(v, !has(v.trafficPercent) || \
                 v.trafficPercent > 0))",
                "an experiment compares all variants: list two or more, each with a trafficPercent above 0, or remove \
                 experiment",
            ),
            (
                "!has(self.experiment) || !has(self.experiment.record) || (has(self.hub) && has(self.hub.tokenSecretRef))",
                "set hub.tokenSecretRef to a Secret with a token that may write: experiment.record writes to the Hub",
            ),
            (
                "!has(self.replicas) || (self.variants.size() == 1 && !has(self.variants[0].replicas) && \
                 !has(self.variants[0].scaling))",
                "the ModelDeployment's own replicas count for a single variant that sets neither replicas nor scaling; \
                 set replicas or scaling of its variants instead",
            ),
            (
                "!has(self.traffic) || !has(self.traffic.mirror) || (self.variants.size() > 1 && \
                 self.variants.exists(v, v.name == self.traffic.mirror.variant))",
                "traffic.mirror.variant must be one of several variants; name the one that gets copies of what the \
                 others answer",
            ),
        ],
    );
}

fn variant_rules(schema: &mut Schema) {
    rules(
        schema,
        &[(
            "!(has(self.replicas) && has(self.scaling))",
            "set replicas or scaling of a variant, not both",
        )],
    );
}

fn variant_list(schema: &mut Schema) {
    named_list(schema);
    rules(
        schema,
        &[
            (
                "self.map(v, has(v.trafficPercent) ? v.trafficPercent : 100).sum() == 100",
                "set trafficPercent of the variants so that they add up to 100",
            ),
            (
                "self.all(v, self.exists_one(w, w.name == v.name))",
                "give each variant a name of its own",
            ),
        ],
    );
}

fn adapter_list(schema: &mut Schema) {
    named_list(schema);
    rules(
        schema,
        &[(
            "self.all(a, self.exists_one(b, b.name == a.name))",
            "give each adapter a name of its own",
        )],
    );
}

/// What a ModelDeployment serves.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelDeploymentStatus {
    /// The generation of the spec that the rest of this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where clients inside the cluster reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The split in a few words, for `kubectl get`: `control=50% candidate=50%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Each variant, in the order of the spec.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), transform = named_list)]
    pub variants: Vec<VariantStatus>,
    /// What the experiment between the variants says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ExperimentStatus>,
    /// The HTTPRoute that carries the split for `traffic.gateway`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_route: Option<String>,
    /// Pods of a single variant, ready or not, for `kubectl scale` and autoscalers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Which pods those are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The annotation by which a person last steered a rollout, until it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handled_command: Option<String>,
    /// Ready, Reconciling and Stalled (kstatus), Progressing while a revision is rolled in, and RolledBack while
    /// the spec asks for one that failed.
    #[schemars(transform = condition_list)]
    pub conditions: Vec<Condition>,
}

/// What one variant serves.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VariantStatus {
    /// The variant.
    pub name: String,
    /// The revision that answers; empty before the first one is ready. A revision stands for model, adapters and
    /// everything else that needs new pods.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The model that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ResolvedSource>,
    /// The adapters that answer, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<ResolvedSource>,
    /// The revision that is being rolled in, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_revision: Option<String>,
    /// The model that is being rolled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_model: Option<ResolvedSource>,
    /// The adapters that are being rolled in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next_adapters: Vec<ResolvedSource>,
    /// The share it gets now.
    #[serde(default)]
    pub traffic_percent: u32,
    /// Pods that answer now.
    #[serde(default)]
    pub ready_replicas: i32,
    /// How many pods its requests need, where `scaling` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<ScalingStatus>,
    /// How far the revision that is being rolled in has come, or why it was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// Where it stands.
    #[serde(default)]
    pub phase: VariantPhase,
    /// What it waits for or what went wrong, in one sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Where a variant stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum VariantPhase {
    /// Waits for its model, or for its first pod.
    #[default]
    Pending,
    /// A revision is being rolled in while the one before answers.
    Progressing,
    /// All its pods answer.
    Ready,
    /// It answers with fewer pods than asked for, or its next revision cannot start.
    Degraded,
    /// A rollout waits for a person, or for the end of a pause.
    Paused,
    /// The revision that the spec asks for failed; the one before answers.
    RolledBack,
}
