//! Step: what a ModelDeployment's status says. Pure: no client.

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentStatus},
    core::v1::Pod,
};
use kube::ResourceExt;
use slipway_contract::RouterStats;

use super::{
    ROUTES_ANNOTATION,
    desired::{Desired, object_name},
    experiment::Told,
    gateway,
    inputs::{Inputs, Resolved},
    plan::{Plan, Planned, known},
    scale,
    server::{self, Track, remembered, revision_of},
    trouble,
};
use crate::{
    conditions::{self, Standing, Summary, kind},
    crd::{
        Kind, ModelDeployment, ModelDeploymentStatus, RolloutPhase, RolloutStatus, Variant, VariantPhase,
        VariantStatus,
    },
    names::{self, REVISION_LABEL},
};

/// Derives the status from what was read and what was applied. `refused` is what the apiserver had against a
/// child, which outweighs everything else.
pub fn status(
    object: &ModelDeployment,
    inputs: &Inputs<'_>,
    plan: &Plan<'_>,
    desired: &Desired,
    refused: Option<Summary>,
    now: Timestamp,
) -> (ModelDeploymentStatus, Summary) {
    let variants: Vec<VariantStatus> = (plan.arms.iter())
        .map(|arm| variant_status(object, arm, &plan.experiment.told))
        .collect();
    let summary = refused
        .or_else(|| gateway::trouble(object, inputs, now))
        .unwrap_or_else(|| overall(inputs, plan, &variants, desired));
    let generation = object.metadata.generation;
    let mut conditions = conditions::summarize(object.conditions(), &summary, generation, now);
    let any = |phases: &[VariantPhase]| variants.iter().any(|variant| phases.contains(&variant.phase));
    for (kind, holds) in [
        (
            kind::PROGRESSING,
            any(&[VariantPhase::Progressing, VariantPhase::Paused]),
        ),
        (kind::ROLLED_BACK, any(&[VariantPhase::RolledBack])),
    ] {
        conditions::set(&mut conditions, kind, holds, &summary, generation, now);
    }
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let status = ModelDeploymentStatus {
        observed_generation: generation,
        url: Some(names::deployment_url(object_name(object), namespace)),
        summary: Some(shares(&variants)),
        replicas: scaled_pods(object, inputs),
        selector: scale::by_subresource(object).map(|only| selector(object, only)),
        variants,
        experiment: plan.experiment.status.clone(),
        http_route: desired.gateway.as_ref().map(|gateway| gateway.route.name_any()),
        handled_command: plan.handled.clone(),
        conditions,
    };
    (status, summary)
}

/// Pods of a single variant, as its Deployment counts them.
fn scaled_pods(object: &ModelDeployment, inputs: &Inputs<'_>) -> Option<i32> {
    scale::by_subresource(object)?;
    let server = inputs.variants.first()?.server.as_ref();
    let status = server.and_then(|server| server.status.as_ref());
    Some(status.and_then(|status| status.replicas).unwrap_or(0))
}

/// Which pods those are, as `kubectl get --selector` takes it.
fn selector(object: &ModelDeployment, variant: &Variant) -> String {
    let labels = server::selector(object, &variant.name, Track::Stable, "");
    let pairs: Vec<String> = labels
        .iter()
        .map(|(label, value)| format!("{label}={value}"))
        .collect();
    pairs.join(",")
}

fn shares(variants: &[VariantStatus]) -> String {
    let shares: Vec<String> = variants
        .iter()
        .map(|variant| {
            let share = format!("{}={}%", variant.name, variant.traffic_percent);
            match variant.rollout.as_ref().map(|rollout| rollout.weight) {
                Some(weight) if weight > 0 => format!("{share} (new {weight}%)"),
                _ => share,
            }
        })
        .collect();
    shares.join(" ")
}

fn variant_status(object: &ModelDeployment, arm: &Planned<'_>, told: &Told) -> VariantStatus {
    let input = arm.input;
    let live = input.server.as_ref();
    let ready = live
        .and_then(|server| server.status.as_ref()?.ready_replicas)
        .unwrap_or(0);
    let before = known(object, &input.spec.name);
    let serving = input.serving_revision();
    let mut status = VariantStatus {
        name: input.spec.name.clone(),
        traffic_percent: told.percent(input.spec),
        ready_replicas: ready,
        rollout: arm.rollout.clone(),
        scaling: arm.scaling.clone(),
        ..VariantStatus::default()
    };
    let wanted = arm.wanted.clone().unwrap_or_default();
    let replicas = arm.intent.stable_replicas;
    let complete = live.is_some_and(|server| {
        // Pods that come and go with the requests are no news of a variant that answers.
        rolled_out(server, &wanted, replicas) || (arm.scaling.is_some() && answers(server, &wanted, ready))
    });
    // Its pods may all be away for a moment; it is the same revision that they come back as.
    status.revision = match before {
        // Without pods there is nothing that another revision would have to take over from.
        _ if complete && replicas == 0 => wanted.clone(),
        Some(before) if serving.is_empty() => before.revision.clone(),
        _ => serving,
    };
    let now = live
        .filter(|server| revision_of(server) == status.revision)
        .and_then(remembered);
    let next = match &input.resolved {
        Resolved::Known(sources) => Some(sources),
        Resolved::Missing(_) => None,
    };
    if let Some(sources) = now {
        (status.model, status.adapters) = (Some(sources.model), sources.adapters);
    } else if let Some(before) = before {
        (status.model, status.adapters) = (before.model.clone(), before.adapters.clone());
    }
    if let Some(sources) = next.filter(|_| !wanted.is_empty() && wanted != status.revision) {
        status.next_revision = Some(wanted.clone());
        status.next_model = Some(sources.model.clone());
        status.next_adapters.clone_from(&sources.adapters);
    }
    (status.phase, status.message) = match (&input.resolved, &arm.rollout, &arm.waits_for) {
        (Resolved::Missing(missing), ..) if ready > 0 => (VariantPhase::Degraded, missing.message.clone()),
        (Resolved::Missing(missing), ..) => (VariantPhase::Pending, missing.message.clone()),
        (_, Some(rollout), _) => rolling(rollout),
        (_, None, Some(other)) => (
            VariantPhase::Progressing,
            format!(
                "variant {} waits for the rollout of variant {other}",
                input.spec.name
            ),
        ),
        (_, None, None) if complete && replicas == 0 => (
            VariantPhase::Ready,
            "has no pods; the next request is held until one is ready".into(),
        ),
        (_, None, None) if complete => (VariantPhase::Ready, String::new()),
        (_, None, None) => replacing(arm, &wanted, ready),
    };
    status
}

fn rolling(rollout: &RolloutStatus) -> (VariantPhase, String) {
    let phase = match rollout.phase {
        RolloutPhase::Progressing | RolloutPhase::Promoting => VariantPhase::Progressing,
        RolloutPhase::Paused => VariantPhase::Paused,
        RolloutPhase::RolledBack => VariantPhase::RolledBack,
    };
    (phase, rollout.message.clone())
}

/// Pods of the arm itself that are not as they should be yet.
fn replacing(arm: &Planned<'_>, wanted: &str, ready: i32) -> (VariantPhase, String) {
    let mut pods = arm.input.pods.iter().filter(|pod| revision_label(pod) == wanted);
    let unmade = || arm.input.server.as_ref().and_then(trouble::refused);
    if let Some(text) = pods.clone().find_map(trouble::failure).or_else(unmade) {
        return (VariantPhase::Degraded, text);
    }
    let name = &arm.input.spec.name;
    let message = match pods.find_map(trouble::unscheduled) {
        Some(reason) => {
            format!("variant {name} waits for a node: {reason}; lower resources.requests or add nodes")
        }
        None => format!(
            "variant {name} has {ready} of {} pods ready",
            arm.intent.stable_replicas
        ),
    };
    let phase = if ready > 0 {
        VariantPhase::Progressing
    } else {
        VariantPhase::Pending
    };
    (phase, message)
}

/// Whether every pod that is asked for is of this revision and answers, and none is left over.
pub fn rolled_out(server: &Deployment, revision: &str, replicas: i32) -> bool {
    let Some(status) = &server.status else {
        return false;
    };
    revision_of(server) == revision
        && status.observed_generation >= server.metadata.generation
        && status.updated_replicas.unwrap_or(0) == replicas
        && status.ready_replicas.unwrap_or(0) == replicas
        && status.replicas.unwrap_or(0) == replicas
}

/// Whether some pods answer, and all there are become or are of this revision.
fn answers(server: &Deployment, revision: &str, ready: i32) -> bool {
    let pods = |status: &DeploymentStatus| (status.updated_replicas, status.replicas);
    let counts = server.status.as_ref().map(pods);
    ready > 0
        && revision_of(server) == revision
        && counts.is_some_and(|(updated, all)| updated.unwrap_or(0) == all.unwrap_or(0))
}

/// The most pressing thing to say: what is missing, then what failed, then what is on its way.
fn overall(inputs: &Inputs<'_>, plan: &Plan<'_>, variants: &[VariantStatus], desired: &Desired) -> Summary {
    let missing = inputs.variants.iter().find_map(|input| match &input.resolved {
        Resolved::Missing(missing) => Some((input, missing)),
        Resolved::Known(_) => None,
    });
    if let Some((input, missing)) = missing {
        let mut summary = missing.summary();
        summary.message = format!("variant {}: {}", input.spec.name, summary.message);
        return summary;
    }
    if let Some(summary) = plan.arms.iter().find_map(steered) {
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
    let routers = || inputs.router_pods.iter().filter(|pod| is_ready(pod));
    if routers().next().is_none() {
        return Summary::reconciling("RouterStarting", "the router has no ready pod yet");
    }
    let told = |pod: &Pod| pod.annotations().get(ROUTES_ANNOTATION) == Some(&desired.version);
    // A router that cannot be asked from here was told all the same.
    let follows = |(pod, stats): (&Pod, &Option<RouterStats>)| match stats {
        Some(stats) => stats.version == desired.version,
        None => told(pod),
    };
    if !routers().zip(&inputs.stats).all(follows) {
        return Summary::reconciling("SplitChanging", "the router is being told the new split");
    }
    let wanted = |server: &Deployment| {
        let name = server.name_any();
        desired.canaries.iter().any(|canary| canary.name_any() == name)
    };
    if !inputs.canaries.iter().all(wanted) {
        return Summary::reconciling(
            "Removing",
            "pods of a revision that was rolled in are being drained",
        );
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

/// What a rollout is at, or what became of it.
fn steered(arm: &Planned<'_>) -> Option<Summary> {
    let rollout = arm.rollout.as_ref()?;
    let message = format!("variant {}: {}", arm.input.spec.name, rollout.message);
    let by_itself = ["Pause", "WaitingForPromotion", "SpecPaused"].contains(&rollout.reason.as_str());
    Some(match rollout.phase {
        RolloutPhase::RolledBack => Summary::stalled(&*rollout.reason, message),
        RolloutPhase::Paused if !by_itself => Summary::stalled(&*rollout.reason, message),
        _ => Summary::reconciling(&*rollout.reason, message),
    })
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
