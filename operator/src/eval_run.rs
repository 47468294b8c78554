//! EvalRun: measures a model and judges it. Reconciliation is the steps in this order.

pub mod desired;
pub mod drift;
pub mod inputs;
pub mod monitor;
pub mod schedule;
pub mod scheduled;
pub mod status;
#[cfg(test)]
mod tests;

use std::{future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    ResourceExt,
    core::DeserializeGuard,
    runtime::{Controller, controller::Action, watcher},
};

use crate::{
    apply::{Applier, ApplyError},
    backoff::spread,
    conditions::{Standing, Summary},
    context::Context,
    crd::{EvalRun, EvalRunStatus, Kind},
    error::Error,
    jobs,
    names::{self, EVAL_RUN_LABEL, EVAL_RUN_MANAGER},
    pods, runner,
};
use desired::Desired;
use inputs::{Inputs, Sources};

/// How often a running evaluation is asked for its progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// How soon something that nothing announces is looked at again.
const SOON: Duration = Duration::from_secs(15);
/// How often anything else is looked at all the same.
const SELDOM: Duration = Duration::from_mins(30);

/// Runs the controller until `shutdown` resolves and what is under way has ended.
pub async fn run(context: Arc<Context>, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let ours = || watcher::Config::default().labels(EVAL_RUN_LABEL);
    let objects = Controller::new(
        context.api::<DeserializeGuard<EvalRun>>(),
        watcher::Config::default(),
    )
    .owns(context.api::<Job>(), ours())
    .owns(context.api::<ConfigMap>(), ours())
    // Pods belong to the Job; what they say matters here all the same.
    .watches(context.api::<Pod>(), ours(), runner::by_label(EVAL_RUN_LABEL));
    runner::run(objects, context, shutdown, reconcile).await;
}

/// Brings the children of `object` into being and says in its status how they are.
pub async fn reconcile(object: Arc<EvalRun>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(owner) = pods::owner_reference(object.as_ref()) else {
        return Ok(Action::await_change());
    };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if object.spec.target.is_none() {
        let (told, summary) = status::template(&object, Timestamp::now());
        context.report(object.as_ref(), &told, &summary).await?;
        return Ok(Action::await_change());
    }
    let namespace = object.namespace().unwrap_or_default();
    let applier = Applier::new(&context.client, &namespace, EVAL_RUN_MANAGER, owner);
    if status::is_terminal(&object) {
        if let Some(told) = status::acknowledged(&object) {
            context.tell(object.as_ref(), &told).await?;
        }
        return expire(&applier, &object).await;
    }
    // The watch may lag behind our own writes; a lost pin or end would measure twice.
    let object = match context.live(object.as_ref()).await? {
        Some(live) if !status::is_terminal(&live) => Arc::new(live),
        _ => return Ok(Action::await_change()),
    };

    let now = Timestamp::now();
    if let Some(schedule) = object.spec.schedule.clone() {
        return Box::pin(scheduled::reconcile(&context, &applier, object, &schedule, now)).await;
    }
    let key = format!("missing/{}/{namespace}/{}", EvalRun::NAME, object.name_any());
    let sources = match inputs::sources(&context, &object).await? {
        Ok(sources) => sources,
        Err(missing) => {
            let summary = missing.summary();
            let told = status::unstarted(&object, &summary, now);
            context.report(object.as_ref(), &told, &summary).await?;
            return Ok(Action::requeue(context.backoff.missing(&key, missing.waits)));
        }
    };
    context.backoff.succeeded(&key);
    // Pinned before anything is built from it: an operator that restarts here must not meet another commit.
    let object = pin(&context, object, &sources, now).await?;

    let (told, summary, _) = once(&context, &applier, &object, &sources, now).await?;
    context.report(object.as_ref(), &told, &summary).await?;
    Ok(match summary.standing {
        Standing::Ready | Standing::Failed => return expire(&applier, &object).await,
        Standing::Reconciling if summary.reason == "Running" => Action::requeue(spread(PROGRESS)),
        Standing::Reconciling | Standing::Stalled => Action::requeue(spread(SOON)),
        Standing::Suspended => Action::requeue(spread(SELDOM)),
    })
}

/// Brings one run on: its children, and what is to be told of them.
async fn once(
    context: &Context,
    applier: &Applier<'_>,
    object: &EvalRun,
    sources: &Sources,
    now: Timestamp,
) -> Result<(EvalRunStatus, Summary, Inputs), Error> {
    let desired = desired::desired(object, sources, &context.settings);
    match bring_about(context, applier, object, &desired).await {
        Ok(inputs) => {
            let (told, summary) = status::derive(object, &inputs, now);
            Ok((told, summary, inputs))
        }
        Err(Error::Apply(error)) => match error.refusal() {
            // What the apiserver refuses by its content stays refused: a person must change something.
            Some(message) => {
                let summary = Summary::stalled("Refused", message);
                let told = status::unstarted(object, &summary, now);
                Ok((told, summary, Inputs::default()))
            }
            None => Err(Error::Apply(error)),
        },
        Err(error) => Err(error),
    }
}

/// Reads what there is and applies what should be.
async fn bring_about(
    context: &Context,
    applier: &Applier<'_>,
    object: &EvalRun,
    desired: &Desired,
) -> Result<Inputs, Error> {
    let inputs = inputs::read(context, applier, object).await?;
    apply(applier, &inputs, desired).await?;
    Ok(inputs)
}

/// The children in an order in which each finds what it needs; the Job comes last.
async fn apply(applier: &Applier<'_>, inputs: &Inputs, desired: &Desired) -> Result<(), ApplyError> {
    let Desired { config, job } = desired;
    applier.ensure::<ConfigMap>(config).await?;
    jobs::bring_about(applier, job, inputs.job.as_ref(), &inputs.all_pods, false).await
}

/// Leaves the finished Job to its time to live.
async fn expire(applier: &Applier<'_>, object: &EvalRun) -> Result<Action, Error> {
    if let Some(seconds) = object.spec.ttl_seconds_after_finished
        && let Some(job) = applier.get::<Job>(&names::eval_job(&object.name_any())).await?
    {
        jobs::expire(applier, job, seconds).await?;
    }
    Ok(Action::await_change())
}

/// Records what the sources were resolved to, once.
async fn pin(
    context: &Context,
    object: Arc<EvalRun>,
    sources: &Sources,
    now: Timestamp,
) -> Result<Arc<EvalRun>, Error> {
    if inputs::pinned(&object).is_some() {
        return Ok(object);
    }
    let summary = Summary::reconciling("Starting", "creates its children");
    let mut told = status::unstarted(&object, &summary, now);
    told.target.clone_from(&sources.target);
    told.baseline.clone_from(&sources.baseline);
    told.dataset = Some(sources.dataset.clone());
    context.report(object.as_ref(), &told, &summary).await?;
    let mut pinned = EvalRun::clone(&object);
    pinned.status = Some(told);
    Ok(Arc::new(pinned))
}
