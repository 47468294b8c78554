//! The servers of one revision of one variant. Pure: no client.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{Container, Lifecycle, LifecycleHandler, PodSpec, PodTemplateSpec, SleepAction, Volume},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kube::ResourceExt;
use slipway_contract::{HubRef, ModelSource};

use super::{
    SERVER_CONTAINER, SOURCES_ANNOTATION,
    desired::{HTTP_PORT, child_name, metadata, object_name, port, probe},
};
use crate::{
    crd::{ModelDeployment, RevisionSources, Variant},
    names::{self, MODEL_DEPLOYMENT_LABEL, REVISION_LABEL, TRACK_LABEL, VARIANT_LABEL},
    pods::{self, Mounts},
    settings::Settings,
};

/// Seconds for which a pod that is to end goes on answering: the router learns of pods by name, and the cluster's
/// DNS may hand out what it knew for 30 seconds (kubeadm's default).
const OVERLAP_SECONDS: i64 = 35;
/// Seconds that a stream may go on after its pod was told to stop.
pub(super) const DRAIN_SECONDS: i64 = 60;
/// A server that has not loaded its model after a day never will.
const LOADING_SECONDS: i32 = 24 * 60 * 60;

/// Whose pods.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Track {
    /// The variant's own, which have its share.
    Stable,
    /// A revision's that is being rolled in beside them.
    Canary,
}

impl Track {
    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        }
    }
}

/// How many pods, and how they make room for their successors.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Pods.
    pub replicas: i32,
    /// Whether an old pod ends before its successor starts, for want of room.
    pub in_place: bool,
}

/// Name of the Deployment and Service of `revision` of `variant`.
pub fn name(object: &ModelDeployment, variant: &str, track: Track, revision: &str) -> String {
    match track {
        Track::Stable => child_name(object, variant),
        Track::Canary => child_name(
            object,
            &format!("{variant}-{}", revision.get(..8).unwrap_or(revision)),
        ),
    }
}

/// Which pods belong to it.
pub fn selector(
    object: &ModelDeployment,
    variant: &str,
    track: Track,
    revision: &str,
) -> BTreeMap<String, String> {
    let mut selector = BTreeMap::from([
        (MODEL_DEPLOYMENT_LABEL.to_owned(), object_name(object).to_owned()),
        (VARIANT_LABEL.to_owned(), variant.to_owned()),
        (TRACK_LABEL.to_owned(), track.as_str().to_owned()),
    ]);
    if track == Track::Canary {
        selector.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    }
    selector
}

/// Hash of everything that decides which files a variant serves.
pub fn asked(object: &ModelDeployment, variant: &Variant) -> String {
    names::digest(&(&variant.model, &variant.adapters, &object.spec.hub.endpoint))
}

fn pod(
    object: &ModelDeployment,
    variant: &Variant,
    sources: &RevisionSources,
    settings: &Settings,
) -> PodSpec {
    let (container, volumes) = server_container(object, variant, sources, settings);
    PodSpec {
        containers: vec![container],
        volumes: Some(volumes),
        termination_grace_period_seconds: Some(OVERLAP_SECONDS + DRAIN_SECONDS + 30),
        node_selector: (!object.spec.node_selector.is_empty()).then(|| object.spec.node_selector.clone()),
        tolerations: (!object.spec.tolerations.is_empty()).then(|| object.spec.tolerations.clone()),
        priority_class_name: object.spec.priority_class_name.clone(),
        ..pods::restricted()
    }
}

/// The revision of a variant: it stands for all that needs new pods, so it is the hash of the pod itself.
pub fn revision(
    object: &ModelDeployment,
    variant: &Variant,
    sources: &RevisionSources,
    settings: &Settings,
) -> String {
    names::digest(&pod(object, variant, sources, settings))
}

/// The Deployment of a revision's servers.
pub fn deployment(
    object: &ModelDeployment,
    variant: &Variant,
    sources: &RevisionSources,
    track: Track,
    scale: Scale,
    settings: &Settings,
) -> Deployment {
    let pod = pod(object, variant, sources, settings);
    let revision = names::digest(&pod);
    let name = name(object, &variant.name, track, &revision);
    let selector = selector(object, &variant.name, track, &revision);
    let mut labels = pods::labels("server", object_name(object), MODEL_DEPLOYMENT_LABEL);
    labels.insert(VARIANT_LABEL.into(), variant.name.clone());
    labels.insert(TRACK_LABEL.into(), track.as_str().into());
    labels.insert(REVISION_LABEL.into(), revision);
    let annotation = serde_json::to_string(sources).expect("sources are plain data");
    Deployment {
        metadata: ObjectMeta {
            annotations: Some(BTreeMap::from([(SOURCES_ANNOTATION.to_owned(), annotation)])),
            labels: Some(labels.clone()),
            ..metadata(object, &name, "server", Some(&variant.name))
        },
        spec: Some(DeploymentSpec {
            replicas: Some(scale.replicas),
            selector: LabelSelector {
                match_labels: Some(selector),
                ..LabelSelector::default()
            },
            strategy: Some(if scale.in_place {
                room_first()
            } else {
                surge_first()
            }),
            // A large model may load for long; what went wrong is read from the pods, not from this clock.
            progress_deadline_seconds: Some(3600),
            revision_history_limit: Some(2),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// The revision that `server` stands for.
pub fn revision_of(server: &Deployment) -> String {
    server.labels().get(REVISION_LABEL).cloned().unwrap_or_default()
}

/// What a Deployment's sources were resolved to when it was applied.
pub fn remembered(server: &Deployment) -> Option<RevisionSources> {
    serde_json::from_str(server.annotations().get(SOURCES_ANNOTATION)?).ok()
}

/// The old pods answer until the new ones are ready.
pub(super) fn surge_first() -> DeploymentStrategy {
    one_by_one(0, 1)
}

/// An old pod makes room for a new one.
fn room_first() -> DeploymentStrategy {
    one_by_one(1, 0)
}

fn one_by_one(unavailable: i32, surge: i32) -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateDeployment {
            max_unavailable: Some(IntOrString::Int(unavailable)),
            max_surge: Some(IntOrString::Int(surge)),
        }),
    }
}

fn server_container(
    object: &ModelDeployment,
    variant: &Variant,
    sources: &RevisionSources,
    settings: &Settings,
) -> (Container, Vec<Volume>) {
    let mut mounts = Mounts::new();
    let hub = &object.spec.hub;
    let access = mounts.hub_access(hub, hub.endpoint.as_deref().unwrap_or(&settings.hub_endpoint));
    let mut args = vec![
        format!("--name={}", object_name(object)),
        format!("--listen=0.0.0.0:{HTTP_PORT}"),
        format!("--drain-seconds={DRAIN_SECONDS}"),
        format!("--model={}", argument(&mounts.model("model", &sources.model))),
    ];
    for (index, (adapter, source)) in variant.adapters.iter().zip(&sources.adapters).enumerate() {
        let source = mounts.model(&format!("adapter-{index}"), source);
        args.push(format!("--adapter={}={}", adapter.name, argument(&source)));
    }
    if let Some(task) = object.spec.task {
        args.push(format!("--task={task:?}"));
    }
    args.extend(
        access
            .endpoint
            .map(|endpoint| format!("--hub-endpoint={endpoint}")),
    );
    args.extend(
        access
            .token_file
            .map(|file| format!("--hub-token-file={}", file.display())),
    );
    let container = Container {
        name: SERVER_CONTAINER.into(),
        image: Some(settings.server_image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        command: Some(vec!["/slipway-server".into()]),
        args: Some(args),
        env: Some(vec![
            pods::variable("SLIPWAY_CACHE_DIR", pods::CACHE),
            // Behind a Gateway nobody else could say who answered.
            pods::field_variable("SLIPWAY_VARIANT", &label(VARIANT_LABEL)),
            pods::field_variable("SLIPWAY_REVISION", &label(REVISION_LABEL)),
        ]),
        ports: Some(vec![port("http", HTTP_PORT)]),
        // Loading takes every core, and a probe may go unanswered: only a server that has loaded is killed for that.
        startup_probe: Some(probe("/health", HTTP_PORT, 1, LOADING_SECONDS)),
        liveness_probe: Some(probe("/healthz", HTTP_PORT, 20, 3)),
        readiness_probe: Some(probe("/health", HTTP_PORT, 1, 3)),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction {
                    seconds: OVERLAP_SECONDS,
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(variant.resources.to_api()),
        security_context: Some(pods::container_security()),
        volume_mounts: Some(mounts.mounts),
        ..Container::default()
    };
    (container, mounts.volumes)
}

/// The path of one of the pod's own labels.
fn label(name: &str) -> String {
    format!("metadata.labels['{name}']")
}

/// A model as `slipway-server` takes it on its command line.
fn argument(source: &ModelSource) -> String {
    match source {
        ModelSource::Hub(HubRef { repo, revision }) => format!("hf://{repo}@{revision}"),
        ModelSource::Path(path) => path.display().to_string(),
    }
}
