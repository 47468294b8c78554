//! Step: what a ModelDeployment's status says. Pure: no client.

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::ResourceExt;
use slipway_contract::{Failure, Report};

use super::{
    ROUTES_ANNOTATION, SERVER_CONTAINER,
    desired::{Desired, object_name, revision_of},
    inputs::{Inputs, Resolved, VariantInput, remembered},
};
use crate::{
    conditions::{self, Standing, Summary, kind},
    crd::{Conditioned, ModelDeployment, ModelDeploymentStatus, VariantPhase, VariantStatus},
    names::{self, REVISION_LABEL, VARIANT_LABEL},
};

/// Derives the status from what was read and what was applied. `refused` is what the apiserver had against a
/// child, which outweighs everything else.
pub fn status(
    object: &ModelDeployment,
    inputs: &Inputs<'_>,
    desired: &Desired,
    refused: Option<Summary>,
    now: Timestamp,
) -> (ModelDeploymentStatus, Summary) {
    let variants: Vec<VariantStatus> = inputs
        .variants
        .iter()
        .map(|input| variant_status(input, desired))
        .collect();
    let summary = refused.unwrap_or_else(|| overall(inputs, &variants, desired));
    let generation = object.metadata.generation;
    let mut conditions = conditions::summarize(object.conditions(), &summary, generation, now);
    let progressing = variants
        .iter()
        .any(|variant| variant.phase == VariantPhase::Progressing);
    conditions::set(
        &mut conditions,
        kind::PROGRESSING,
        progressing,
        &summary,
        generation,
        now,
    );
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let status = ModelDeploymentStatus {
        observed_generation: generation,
        url: Some(names::deployment_url(object_name(object), namespace)),
        summary: Some(shares(&variants)),
        variants,
        conditions,
    };
    (status, summary)
}

fn shares(variants: &[VariantStatus]) -> String {
    let shares: Vec<String> = variants
        .iter()
        .map(|variant| format!("{}={}%", variant.name, variant.traffic_percent))
        .collect();
    shares.join(" ")
}

fn variant_status(input: &VariantInput<'_>, desired: &Desired) -> VariantStatus {
    let live = input.server.as_ref();
    let ready = live
        .and_then(|server| server.status.as_ref()?.ready_replicas)
        .unwrap_or(0);
    let target = desired
        .servers
        .iter()
        .find(|server| server.labels().get(VARIANT_LABEL) == Some(&input.spec.name));
    let wanted = target.map(revision_of).unwrap_or_default();
    let serving = input.serving_revision();
    let complete = live.is_some_and(|server| rolled_out(server, &wanted, input.spec.replicas));
    let sources = target.and_then(remembered);
    let mut status = VariantStatus {
        name: input.spec.name.clone(),
        traffic_percent: input.spec.traffic_percent,
        ready_replicas: ready,
        ..VariantStatus::default()
    };
    if complete || serving == wanted {
        status.revision = serving;
        status.model = sources.as_ref().map(|sources| sources.model.clone());
        status.adapters = sources.map(|sources| sources.adapters).unwrap_or_default();
    } else {
        status.revision = serving;
        status.next_revision = (!wanted.is_empty()).then_some(wanted.clone());
        status.next_model = sources.as_ref().map(|sources| sources.model.clone());
        status.next_adapters = sources.map(|sources| sources.adapters).unwrap_or_default();
    }
    let failure = input
        .pods
        .iter()
        .filter(|pod| revision_label(pod) == wanted)
        .find_map(failure);
    (status.phase, status.message) = match (&input.resolved, failure) {
        (Resolved::Missing(missing), _) if ready > 0 => (VariantPhase::Degraded, missing.message.clone()),
        (Resolved::Missing(missing), _) => (VariantPhase::Pending, missing.message.clone()),
        (Resolved::Known(_), _) if complete => (VariantPhase::Ready, String::new()),
        (Resolved::Known(_), Some(text)) => (VariantPhase::Degraded, text),
        (Resolved::Known(_), None) => (
            if ready > 0 {
                VariantPhase::Progressing
            } else {
                VariantPhase::Pending
            },
            waiting(input, &wanted, ready),
        ),
    };
    status
}

/// Whether every pod that is asked for is of this revision and answers, and none is left over.
fn rolled_out(server: &Deployment, revision: &str, replicas: i32) -> bool {
    let Some(status) = &server.status else {
        return false;
    };
    revision_of(server) == revision
        && status.observed_generation >= server.metadata.generation
        && status.updated_replicas.unwrap_or(0) == replicas
        && status.ready_replicas.unwrap_or(0) == replicas
        && status.replicas.unwrap_or(0) == replicas
}

/// What a variant without a failure waits for.
fn waiting(input: &VariantInput<'_>, revision: &str, ready: i32) -> String {
    let unscheduled = input
        .pods
        .iter()
        .filter(|pod| revision_label(pod) == revision)
        .find_map(|pod| {
            let conditions = pod.status.as_ref()?.conditions.as_ref()?;
            let scheduled = conditions
                .iter()
                .find(|condition| condition.type_ == "PodScheduled")?;
            (scheduled.status == "False")
                .then(|| scheduled.message.clone())
                .flatten()
        });
    match unscheduled {
        Some(reason) => format!(
            "variant {} waits for a node: {reason}; lower resources.requests or add nodes",
            input.spec.name
        ),
        None => format!(
            "variant {} has {ready} of {} pods ready",
            input.spec.name, input.spec.replicas
        ),
    }
}

/// Why a pod's server ended, in its own words where it left some.
fn failure(pod: &Pod) -> Option<String> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let container = containers
        .iter()
        .find(|container| container.name == SERVER_CONTAINER)?;
    let ended = [container.state.as_ref(), container.last_state.as_ref()]
        .into_iter()
        .flatten()
        .find_map(|state| state.terminated.as_ref());
    if let Some(ended) = ended.filter(|ended| ended.exit_code != 0) {
        if ended.reason.as_deref() == Some("OOMKilled") {
            return Some(format!(
                "server {} was killed for memory; raise resources.limits.memory of its variant",
                pod.name_any()
            ));
        }
        let told = ended
            .message
            .as_deref()
            .and_then(|text| serde_json::from_str::<Report<()>>(text).ok());
        return Some(match told {
            Some(Report::Failure(Failure { message, .. })) => message,
            _ => format!(
                "server {} ended with exit code {}; see its logs",
                pod.name_any(),
                ended.exit_code
            ),
        });
    }
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    matches!(
        reason,
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "CreateContainerConfigError"
    )
    .then(|| {
        format!(
            "server {} cannot start: {reason}: {}",
            pod.name_any(),
            waiting.message.as_deref().unwrap_or("")
        )
    })
}

/// The most pressing thing to say: what is missing, then what failed, then what is on its way.
fn overall(inputs: &Inputs<'_>, variants: &[VariantStatus], desired: &Desired) -> Summary {
    let missing = inputs.variants.iter().find_map(|input| match &input.resolved {
        Resolved::Missing(missing) => Some((input, missing)),
        Resolved::Known(_) => None,
    });
    if let Some((input, missing)) = missing {
        let mut summary = missing.summary();
        summary.message = format!("variant {}: {}", input.spec.name, summary.message);
        return summary;
    }
    if let Some(variant) = variants
        .iter()
        .find(|variant| variant.phase == VariantPhase::Degraded)
    {
        return Summary::stalled(
            "ServerFailed",
            format!("variant {}: {}", variant.name, variant.message),
        );
    }
    if let Some(variant) = variants
        .iter()
        .find(|variant| variant.phase != VariantPhase::Ready)
    {
        return Summary::reconciling("RollingOut", &*variant.message);
    }
    let routers: Vec<&Pod> = inputs.router_pods.iter().filter(|pod| is_ready(pod)).collect();
    if routers.is_empty() {
        return Summary::reconciling("RouterStarting", "the router has no ready pod yet");
    }
    if routers
        .iter()
        .any(|pod| pod.annotations().get(ROUTES_ANNOTATION) != Some(&desired.routes_hash))
    {
        return Summary::reconciling("SplitChanging", "the router is being told the new split");
    }
    if !inputs.orphans.is_empty() {
        return Summary::reconciling("Removing", "pods of a removed variant are being drained");
    }
    Summary::new(
        Standing::Ready,
        "Serving",
        format!("all variants answer ({})", shares(variants)),
    )
}

/// Whether the pod takes requests.
pub fn is_ready(pod: &Pod) -> bool {
    let ready = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        });
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// The revision in a pod's label; empty for none.
pub fn revision_label(pod: &Pod) -> String {
    pod.labels().get(REVISION_LABEL).cloned().unwrap_or_default()
}
