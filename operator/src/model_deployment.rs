//! ModelDeployment: serves variants of a model behind one URL. Reconciliation is the steps in this order.

pub mod analysis;
pub mod desired;
pub mod experiment;
pub mod gate;
pub mod gateway;
pub mod inputs;
pub mod plan;
pub mod prometheus;
pub mod rollout;
pub mod routes;
pub mod scale;
pub mod served;
pub mod server;
pub mod status;
#[cfg(test)]
mod tests;
pub mod trouble;

use std::{future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod, Service},
};
use kube::{
    ResourceExt,
    core::DeserializeGuard,
    runtime::{Controller, controller::Action, watcher},
};
use serde_json::json;

use crate::{
    apply::{Applier, ApplyError},
    backoff::spread,
    conditions::{Standing, Summary},
    context::Context,
    crd::{EvalRun, ModelDeployment, ModelDeploymentStatus},
    error::Error,
    gateway_api::HttpRoute,
    names::{MODEL_DEPLOYMENT_LABEL, MODEL_DEPLOYMENT_MANAGER},
    pods, runner,
};
use desired::Desired;
use experiment::record::Due;
use inputs::Inputs;
use plan::Plan;

/// Annotation of a server's Deployment: what its sources were resolved to.
const SOURCES_ANNOTATION: &str = "slipway.dev/sources";
/// Annotation of a router's pod: version of the split it was told.
const ROUTES_ANNOTATION: &str = "slipway.dev/routes";
/// Key of the split in its ConfigMap.
const ROUTES_KEY: &str = "routes.json";
/// The container that serves.
const SERVER_CONTAINER: &str = "server";

/// How soon something that nothing announces is looked at again: a model being published, a split being told.
const SOON: Duration = Duration::from_secs(5);
/// How often a Gateway's word on its route is asked for.
const MINUTE: Duration = Duration::from_mins(1);
/// How often a settled object is looked at all the same.
const SELDOM: Duration = Duration::from_mins(30);

/// Runs the controller until `shutdown` resolves and what is under way has ended.
pub async fn run(context: Arc<Context>, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let ours = || watcher::Config::default().labels(MODEL_DEPLOYMENT_LABEL);
    let objects = Controller::new(
        context.api::<DeserializeGuard<ModelDeployment>>(),
        watcher::Config::default(),
    )
    .owns(context.api::<Deployment>(), ours())
    .owns(context.api::<Service>(), ours())
    .owns(context.api::<ConfigMap>(), ours())
    .owns(context.api::<EvalRun>(), ours())
    // Pods belong to ReplicaSets; their readiness and their last words matter here all the same.
    .watches(
        context.api::<Pod>(),
        ours(),
        runner::by_label(MODEL_DEPLOYMENT_LABEL),
    )
    .reconcile_on(scale::watch::follow(context.scaled.clone(), context.http.clone()));
    runner::run(objects, context, shutdown, reconcile).await;
}

/// Brings the children of `object` into being and says in its status how they are.
pub async fn reconcile(object: Arc<ModelDeployment>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(owner) = pods::owner_reference(object.as_ref()) else {
        return Ok(Action::await_change());
    };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let namespace = object.namespace().unwrap_or_default();
    // The watch may lag behind our own writes; a rollout that forgot a step would take it twice.
    let Some(object) = context.live(object.as_ref()).await? else {
        return Ok(Action::await_change());
    };
    let inputs = inputs::read(&context, &object).await?;
    let plan = plan::plan(&object, &inputs, &context.settings, Timestamp::now());
    let desired = desired::desired(&object, &plan, &context.settings);

    let applier = Applier::new(&context.client, &namespace, MODEL_DEPLOYMENT_MANAGER, owner);
    let refused = match apply(&applier, &object, &inputs, &desired).await {
        Ok(()) => None,
        Err(error) if error.unknown_kind::<HttpRoute>() => Some(gateway::not_installed()),
        // What the apiserver refuses by its content stays refused: a person must change something.
        Err(error) => Some(Summary::stalled("ChildRefused", error.refusal().ok_or(error)?)),
    };

    let (status, summary) = status::status(&object, &inputs, &plan, &desired, refused, Timestamp::now());
    context.report(&object, &status, &summary).await?;
    context.scaled.remember(&object, &inputs, &plan);
    for event in &plan.events {
        context.record(&object, event).await;
    }
    let due = experiment::record::due(&object, &plan.experiment, Timestamp::now());
    if due == Due::Now {
        record(&context, &object, &plan, &status).await?;
    }
    // Only now, since a command that was removed before the status remembers it would be lost.
    if let Some(annotation) = plan.consumed {
        context.forget(&object, annotation).await?;
    }
    let soon = match summary.standing {
        // What a Gateway's controller says of the route is not watched, since the kind may not be there.
        Standing::Ready if object.spec.traffic.gateway.is_some() => MINUTE,
        Standing::Ready | Standing::Suspended => SELDOM,
        Standing::Reconciling | Standing::Stalled | Standing::Failed => SOON,
    };
    let again = match due {
        Due::Never => None,
        Due::In(wait) => Some(wait),
        Due::Now => Some(SOON),
    };
    let looks = plan.look.into_iter().chain(again).chain([soon]);
    Ok(Action::requeue(spread(looks.min().unwrap_or(soon))))
}

/// Writes an experiment's winner into the model card, and says in the status what came of it. All else is as it
/// should be already: a Hub that is away keeps nobody from being served.
async fn record(
    context: &Arc<Context>,
    object: &ModelDeployment,
    plan: &Plan<'_>,
    status: &ModelDeploymentStatus,
) -> Result<(), Error> {
    let tried = experiment::record::record(context, object, &plan.experiment, Timestamp::now()).await;
    let Some((experiment, event)) = tried else {
        return Ok(());
    };
    let status = ModelDeploymentStatus {
        experiment: Some(experiment),
        ..status.clone()
    };
    context.tell(object, &status).await?;
    if let Some(event) = &event {
        context.record(object, event).await;
    }
    Ok(())
}

/// Writes every child. Pods of a removed variant go last, once the router no longer sends them anything.
async fn apply(
    applier: &Applier<'_>,
    object: &ModelDeployment,
    inputs: &Inputs<'_>,
    desired: &Desired,
) -> Result<(), ApplyError> {
    let Desired {
        servers,
        held,
        canaries,
        services,
        evaluations,
        experiment,
        forgotten,
        routes,
        version,
        router,
        front,
        gateway,
    } = desired;
    for service in services {
        applier.ensure::<Service>(service).await?;
    }
    for server in servers.iter().chain(canaries) {
        applier.ensure::<Deployment>(server).await?;
    }
    for (name, replicas) in held {
        if let Some(live) = applier.get::<Deployment>(name).await? {
            let change = json!({ "spec": { "replicas": replicas } });
            applier.adjust::<Deployment>(live, &change).await?;
        }
    }
    for evaluation in evaluations {
        applier.create_once::<EvalRun>(evaluation).await?;
    }
    // Before the split tells of it: an id that routers know is never forgotten, nor given out again.
    if let Some(name) = forgotten {
        applier.delete::<ConfigMap>(name).await?;
    }
    if let Some(experiment) = experiment {
        applier.ensure::<ConfigMap>(experiment).await?;
    }
    applier.ensure::<ConfigMap>(routes).await?;
    applier.ensure::<Deployment>(router).await?;
    applier.ensure::<Service>(front).await?;
    for pod in inputs
        .router_pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
    {
        // A kubelet refreshes mounted ConfigMaps within a minute, or at once when the pod changes.
        let change = json!({ "metadata": { "annotations": { ROUTES_ANNOTATION: version } } });
        applier.adjust::<Pod>(pod.clone(), &change).await?;
    }
    let wanted: Vec<String> = canaries.iter().map(ResourceExt::name_any).collect();
    let over = inputs
        .canaries
        .iter()
        .filter(|canary| !wanted.contains(&canary.name_any()));
    if let Some(gateway::Desired { services, route }) = gateway {
        for service in services {
            applier.ensure::<Service>(service).await?;
        }
        applier.ensure::<HttpRoute>(route).await?;
    } else if let Some(route) = object
        .status
        .as_ref()
        .and_then(|status| status.http_route.as_ref())
    {
        applier.delete::<HttpRoute>(route).await?;
        for service in services {
            applier
                .delete::<Service>(&gateway::twin(object, &service.name_any()))
                .await?;
        }
    }
    let route = inputs.route.as_ref();
    if inputs.follow(version)
        && gateway::follows(object, route, version)
        && gateway::settled(object, route, Timestamp::now())
    {
        for orphan in inputs.orphans.iter().chain(over) {
            applier.delete::<Deployment>(&orphan.name_any()).await?;
            applier.delete::<Service>(&orphan.name_any()).await?;
            if object.spec.traffic.gateway.is_some() {
                applier
                    .delete::<Service>(&gateway::twin(object, &orphan.name_any()))
                    .await?;
            }
        }
    }
    Ok(())
}
