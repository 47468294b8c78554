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
use serde_json::json;

use crate::{
    apply::{Applier, ApplyError, apply_status},
    backoff::spread,
    conditions::{Standing, Summary},
    context::Context,
    crd::{EvalRun, EvalRunStatus},
    jobs::Plan,
    names::{self, EVAL_RUN_LABEL, EVAL_RUN_MANAGER},
    pods,
    runner::{self, ReconcileError},
    sources,
};
use desired::Desired;
use inputs::{Inputs, Sources};

/// Name of the controller in logs, metrics and events.
pub const NAME: &str = "EvalRun";

/// How often a running evaluation is asked for its progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// How soon something that nothing announces is looked at again.
const SOON: Duration = Duration::from_secs(15);
/// How often anything else is looked at all the same.
const SELDOM: Duration = Duration::from_mins(30);

/// Why a reconciliation broke off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be read.
    #[error("failed to read what the EvalRun depends on")]
    Inputs(#[from] sources::Error),
    /// A child could not be written.
    #[error("failed to write a child of the EvalRun")]
    Apply(#[from] ApplyError),
    /// The status could not be written.
    #[error("failed to write the status")]
    Status(#[source] kube::Error),
}

impl ReconcileError for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Inputs(_) => "InputsFailed",
            Self::Apply(_) => "ApplyFailed",
            Self::Status(_) => "StatusFailed",
        }
    }
}

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
    runner::run(NAME, EVAL_RUN_MANAGER, objects, context, shutdown, reconcile).await;
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
        report(&context, &object, &told, &summary).await?;
        return Ok(Action::await_change());
    }
    let namespace = object.namespace().unwrap_or_default();
    let applier = Applier::new(&context.client, &namespace, EVAL_RUN_MANAGER, owner);
    if status::is_terminal(&object) {
        if let Some(told) = status::acknowledged(&object) {
            apply_status(&context.client, EVAL_RUN_MANAGER, object.as_ref(), &told)
                .await
                .map_err(Error::Status)?;
        }
        return expire(&applier, &object).await;
    }
    // The watch may lag behind our own writes; a lost pin or end would measure twice.
    let live = context
        .namespaced::<EvalRun>(&namespace)
        .get_opt(&object.name_any())
        .await;
    let object = match live.map_err(sources::Error::Api)? {
        Some(live) if live.uid() == object.uid() && !status::is_terminal(&live) => Arc::new(live),
        _ => return Ok(Action::await_change()),
    };

    let now = Timestamp::now();
    if let Some(schedule) = object.spec.schedule.clone() {
        return Box::pin(scheduled::reconcile(&context, &applier, object, &schedule, now)).await;
    }
    let key = format!("missing/{NAME}/{namespace}/{}", object.name_any());
    let sources = match inputs::sources(&context, &object).await? {
        Ok(sources) => sources,
        Err(missing) => {
            let summary = missing.summary();
            report(
                &context,
                &object,
                &status::unstarted(&object, &summary, now),
                &summary,
            )
            .await?;
            return Ok(Action::requeue(context.backoff.missing(&key, missing.waits)));
        }
    };
    context.backoff.succeeded(&key);
    // Pinned before anything is built from it: an operator that restarts here must not meet another commit.
    let object = pin(&context, object, &sources, now).await?;

    let (told, summary, _) = once(&context, &applier, &object, &sources, now).await?;
    report(&context, &object, &told, &summary).await?;
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
    match crate::jobs::plan(job, inputs.job.as_ref(), &inputs.all_pods, false) {
        Plan::Create => drop(applier.create_once::<Job>(job).await?),
        Plan::Adjust(change) => {
            if let Some(live) = inputs.job.clone() {
                applier.adjust::<Job>(live, &change).await?;
            }
        }
        Plan::Delete => applier.delete::<Job>(&job.name_any()).await?,
        Plan::Keep | Plan::Wait => {}
    }
    Ok(())
}

/// Hands the time to live to the finished Job. Only now, since a Job that was removed before its end was
/// recorded would look like one that never ran.
async fn expire(applier: &Applier<'_>, object: &EvalRun) -> Result<Action, Error> {
    let Some(seconds) = object.spec.ttl_seconds_after_finished else {
        return Ok(Action::await_change());
    };
    if let Some(job) = applier.get::<Job>(&names::eval_job(&object.name_any())).await? {
        let change = json!({ "spec": { "ttlSecondsAfterFinished": seconds } });
        applier.adjust::<Job>(job, &change).await?;
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
    report(context, &object, &told, &summary).await?;
    let mut pinned = EvalRun::clone(&object);
    pinned.status = Some(told);
    Ok(Arc::new(pinned))
}

async fn report(
    context: &Context,
    object: &EvalRun,
    told: &EvalRunStatus,
    summary: &Summary,
) -> Result<(), Error> {
    context
        .report(
            NAME,
            EVAL_RUN_MANAGER,
            object,
            object.status.as_ref(),
            told,
            summary,
        )
        .await
        .map_err(Error::Status)
}
