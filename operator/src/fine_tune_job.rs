//! FineTuneJob: trains a model and publishes it. Reconciliation is the steps in this order.

pub mod desired;
pub mod inputs;
pub mod status;
#[cfg(test)]
mod tests;

use std::{future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service},
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
    crd::{FineTuneJob, Kind},
    error::Error,
    jobs,
    names::{self, FINE_TUNE_JOB_LABEL, FINE_TUNE_JOB_MANAGER},
    pods, runner,
};
use desired::Desired;
use inputs::{Inputs, Sources};

/// How often a running trainer is asked for its progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// How soon something that nothing announces is looked at again.
const SOON: Duration = Duration::from_secs(15);
/// How often anything else is looked at all the same.
const SELDOM: Duration = Duration::from_mins(30);

/// Runs the controller until `shutdown` resolves and what is under way has ended.
pub async fn run(context: Arc<Context>, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let ours = || watcher::Config::default().labels(FINE_TUNE_JOB_LABEL);
    let objects = Controller::new(
        context.api::<DeserializeGuard<FineTuneJob>>(),
        watcher::Config::default(),
    )
    .owns(context.api::<Job>(), ours())
    .owns(context.api::<ConfigMap>(), ours())
    .owns(context.api::<PersistentVolumeClaim>(), ours())
    .owns(context.api::<Service>(), ours())
    // Pods belong to the Job; what they say matters here all the same.
    .watches(
        context.api::<Pod>(),
        ours(),
        runner::by_label(FINE_TUNE_JOB_LABEL),
    );
    runner::run(objects, context, shutdown, reconcile).await;
}

/// Brings the children of `object` into being and says in its status how they are.
pub async fn reconcile(object: Arc<FineTuneJob>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(owner) = pods::owner_reference(object.as_ref()) else {
        return Ok(Action::await_change());
    };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let namespace = object.namespace().unwrap_or_default();
    let applier = Applier::new(&context.client, &namespace, FINE_TUNE_JOB_MANAGER, owner);
    if status::is_terminal(&object) {
        if let Some(told) = status::acknowledged(&object) {
            context.tell(object.as_ref(), &told).await?;
        }
        return expire(&applier, &object).await;
    }
    // The watch may lag behind our own writes; a lost pin or end would train twice.
    let object = match context.live(object.as_ref()).await? {
        Some(live) if !status::is_terminal(&live) => Arc::new(live),
        _ => return Ok(Action::await_change()),
    };

    let now = Timestamp::now();
    let key = format!("missing/{}/{namespace}/{}", FineTuneJob::NAME, object.name_any());
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

    let desired = desired::desired(&object, &sources, &context.settings);
    let (told, summary) = match bring_about(&context, &applier, &object, &desired).await {
        Ok(inputs) => status::derive(&object, &inputs, now),
        Err(Error::Apply(error)) => match error.refusal() {
            // What the apiserver refuses by its content stays refused: a person must change something.
            Some(message) => {
                let summary = Summary::stalled("Refused", message);
                (status::unstarted(&object, &summary, now), summary)
            }
            None => return Err(Error::Apply(error)),
        },
        Err(error) => return Err(error),
    };
    context.report(object.as_ref(), &told, &summary).await?;
    Ok(match summary.standing {
        Standing::Ready | Standing::Failed => return expire(&applier, &object).await,
        Standing::Reconciling if told.running_since.is_some() => Action::requeue(spread(PROGRESS)),
        Standing::Reconciling | Standing::Stalled => Action::requeue(spread(SOON)),
        Standing::Suspended => Action::requeue(spread(SELDOM)),
    })
}

/// Reads what there is and applies what should be.
async fn bring_about(
    context: &Context,
    applier: &Applier<'_>,
    object: &FineTuneJob,
    desired: &Desired,
) -> Result<Inputs, Error> {
    let inputs = inputs::read(context, applier, object).await?;
    apply(applier, object, &inputs, desired).await?;
    Ok(inputs)
}

/// The children in an order in which each finds what it needs; the Job comes last.
async fn apply(
    applier: &Applier<'_>,
    object: &FineTuneJob,
    inputs: &Inputs,
    desired: &Desired,
) -> Result<(), ApplyError> {
    let Desired {
        config,
        claim,
        service,
        job,
    } = desired;
    applier.ensure::<ConfigMap>(config).await?;
    applier.ensure::<PersistentVolumeClaim>(claim).await?;
    if let Some(service) = service {
        applier.ensure::<Service>(service).await?;
    }
    jobs::bring_about(
        applier,
        job,
        inputs.job.as_ref(),
        &inputs.all_pods,
        object.spec.suspend,
    )
    .await
}

/// Leaves the finished Job to its time to live.
async fn expire(applier: &Applier<'_>, object: &FineTuneJob) -> Result<Action, Error> {
    if let Some(seconds) = object.spec.ttl_seconds_after_finished
        && let Some(job) = applier.get::<Job>(&names::train_job(&object.name_any())).await?
    {
        jobs::expire(applier, job, seconds).await?;
    }
    Ok(Action::await_change())
}

/// Records what the sources were resolved to, once.
async fn pin(
    context: &Context,
    object: Arc<FineTuneJob>,
    sources: &Sources,
    now: Timestamp,
) -> Result<Arc<FineTuneJob>, Error> {
    let known = object.status.as_ref();
    if known.is_some_and(|status| status.model.is_some() && status.dataset.is_some()) {
        return Ok(object);
    }
    let summary = Summary::reconciling("Starting", "creates its children");
    let mut told = status::unstarted(&object, &summary, now);
    told.model = Some(sources.model.clone());
    told.dataset = Some(sources.dataset.clone());
    context.report(object.as_ref(), &told, &summary).await?;
    let mut pinned = FineTuneJob::clone(&object);
    pinned.status = Some(told);
    Ok(Arc::new(pinned))
}
