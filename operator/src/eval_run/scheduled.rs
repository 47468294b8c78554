//! The way of an EvalRun with a schedule: starts the run that is due, follows it, records it, looks again. Needs a
//! client.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{batch::v1::Job, core::v1::ConfigMap},
};
use kube::{Api, Resource, ResourceExt, api::ListParams, runtime::controller::Action};
use serde::de::DeserializeOwned;

use super::{PROGRESS, SELDOM, SOON, inputs, inputs::Inputs, monitor, once, schedule::Clock, status};
use crate::{
    apply::Applier,
    backoff::spread,
    conditions::{Standing, Summary},
    context::Context,
    crd::{EvalRun, EvalRunStatus, Kind, ModelDeployment, Schedule, TargetRef},
    error::Error,
    jobs,
    names::{EVAL_RUN_LABEL, RUN_NOW_ANNOTATION},
    sources,
};

/// How soon after its time a run is looked for, so that a timer that is a little early does not come twice.
const AFTER: Duration = Duration::from_millis(50);

/// One look at `object`, which is as the apiserver has it now.
pub async fn reconcile(
    context: &Arc<Context>,
    applier: &Applier<'_>,
    object: Arc<EvalRun>,
    schedule: &Schedule,
    now: Timestamp,
) -> Result<Action, Error> {
    let clock = match Clock::of(schedule, now) {
        Ok(clock) => clock,
        Err(sentence) => {
            let summary = Summary::stalled("InvalidSchedule", sentence);
            let mut told = status::unstarted(&object, &summary, now);
            told.next_scheduled_time = None;
            context.report(object.as_ref(), &told, &summary).await?;
            return Ok(Action::await_change());
        }
    };
    let due = monitor::look(&object, schedule, &clock, now);
    let active = object.status.as_ref().and_then(|status| status.active.as_ref());
    if active.is_some() {
        // A request that finds a run under way means that run: so it is also when the operator stopped between
        // starting it and taking the request away.
        forget(context, &object).await?;
        return Box::pin(follow(context, applier, object, schedule, &clock, now)).await;
    }
    let Some(run) = monitor::next_run(&object, due, now) else {
        let mut told = object.status.clone().unwrap_or_default();
        let summary = monitor::settled(&mut told, &object, due, schedule.suspend, now);
        context.report(object.as_ref(), &told, &summary).await?;
        prune(context, applier, &object, &told).await?;
        return Ok(Action::requeue(until(due.next, now)));
    };
    tracing::info!(job = %run.job, trigger = ?run.trigger, "starts a run");
    let told = monitor::begin(&object, run, due.next, now);
    let summary = Summary::reconciling("Starting", "creates its children");
    context.report(object.as_ref(), &told, &summary).await?;
    forget(context, &object).await?;
    // What was written comes back as a change, and is followed from there.
    Ok(Action::requeue(spread(SOON)))
}

/// Brings the run under way on, and records it when it has ended.
async fn follow(
    context: &Arc<Context>,
    applier: &Applier<'_>,
    object: Arc<EvalRun>,
    schedule: &Schedule,
    clock: &Clock,
    now: Timestamp,
) -> Result<Action, Error> {
    let key = format!(
        "missing/{}/{}/{}",
        EvalRun::NAME,
        object.namespace().unwrap_or_default(),
        object.name_any()
    );
    let (object, mut told, summary, inputs) = match inputs::sources(context, &object).await? {
        Err(missing) => {
            let summary = missing.summary();
            let told = status::unstarted(&object, &summary, now);
            (object, told, summary, Inputs::default())
        }
        Ok(sources) => {
            let object = identify(context, object).await?;
            let object = super::pin(context, object, &sources, now).await?;
            let (told, summary, inputs) = once(context, applier, &object, &sources, now).await?;
            (object, told, summary, inputs)
        }
    };
    let due = monitor::look(&object, schedule, clock, now);
    let lost = inputs.job.is_none()
        && told
            .active
            .as_ref()
            .is_some_and(|active| monitor::given_up(active, schedule, due, now));
    let ended = matches!(summary.standing, Standing::Ready | Standing::Failed);
    if !ended && !lost {
        context.report(object.as_ref(), &told, &summary).await?;
        return Ok(Action::requeue(match summary.reason.as_str() {
            "Running" => spread(PROGRESS),
            _ if told.dataset.is_none() => {
                let waits = summary.standing == Standing::Reconciling;
                // Not beyond the time at which this run is given up for the next.
                context.backoff.missing(&key, waits).min(until(due.next, now))
            }
            _ => spread(SOON),
        }));
    }
    context.backoff.succeeded(&key);
    // What is told of the run itself goes into the history; the conditions are about the schedule.
    let before = object.status.as_ref().map(|status| status.conditions.clone());
    told.conditions = before.unwrap_or_default();
    let event = monitor::record(&mut told, &object, schedule, &inputs, &summary, now);
    let summary = monitor::settled(&mut told, &object, due, schedule.suspend, now);
    context.report(object.as_ref(), &told, &summary).await?;
    if let Some(event) = event {
        context.record(object.as_ref(), &event).await;
    }
    Ok(Action::requeue(until(due.run.or(due.next), now)))
}

/// Notes who answers for the deployment, once at the start of a run.
async fn identify(context: &Context, object: Arc<EvalRun>) -> Result<Arc<EvalRun>, Error> {
    let Some(TargetRef::Deployment { name, .. }) = &object.spec.target else {
        return Ok(object);
    };
    if inputs::pinned(&object).is_some() {
        return Ok(object);
    }
    let deployment = context
        .namespaced::<ModelDeployment>(&object.namespace().unwrap_or_default())
        .get_opt(name)
        .await
        .map_err(sources::Error::Api)?;
    let mut named = EvalRun::clone(&object);
    if let Some(active) = named.status.as_mut().and_then(|status| status.active.as_mut()) {
        active.answering = monitor::answering(object.spec.target.as_ref(), deployment.as_ref());
    }
    Ok(Arc::new(named))
}

/// Removes the request that was carried out, so that another can be made.
async fn forget(context: &Context, object: &EvalRun) -> Result<(), Error> {
    if monitor::request(object).is_none() {
        return Ok(());
    }
    context.forget(object, RUN_NOW_ANNOTATION).await
}

/// Removes Jobs and configurations of runs that left the history, and hands the time to live to those that are in it.
async fn prune(
    context: &Context,
    applier: &Applier<'_>,
    object: &EvalRun,
    told: &EvalRunStatus,
) -> Result<(), Error> {
    let kept = |name: &str| told.history.iter().any(|run| run.job == name);
    for job in children::<Job>(context, object).await? {
        let name = job.name_any();
        if !kept(&name) {
            applier.delete::<Job>(&name).await?;
        } else if let Some(seconds) = object.spec.ttl_seconds_after_finished
            && jobs::finished(&job).is_some()
        {
            jobs::expire(applier, job, seconds).await?;
        }
    }
    for config in children::<ConfigMap>(context, object).await? {
        let name = config.name_any();
        if !kept(&name) {
            applier.delete::<ConfigMap>(&name).await?;
        }
    }
    Ok(())
}

/// The children of one kind that belong to `object` and are not on their way out.
async fn children<K>(context: &Context, object: &EvalRun) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = context.namespaced(&object.namespace().unwrap_or_default());
    let ours = ListParams::default().labels(&format!("{EVAL_RUN_LABEL}={}", object.name_any()));
    let mut found = api.list(&ours).await.map_err(sources::Error::Api)?.items;
    found.retain(|child| {
        let owned = child
            .owner_references()
            .iter()
            .any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref());
        owned && child.meta().deletion_timestamp.is_none()
    });
    Ok(found)
}

/// How long until `next`, and never so long that a clock which was changed goes unnoticed.
fn until(next: Option<Timestamp>, now: Timestamp) -> Duration {
    let wait = next.map_or(SELDOM, |next| {
        Duration::try_from(next.duration_since(now)).unwrap_or_default() + AFTER
    });
    wait.min(SELDOM)
}
