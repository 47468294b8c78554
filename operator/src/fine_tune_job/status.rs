//! Step: what a person is told about a FineTuneJob. Pure: no client, no clock.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use slipway_contract::{Phase, Progress, TrainOutcome};

use super::inputs::Inputs;
use crate::{
    conditions::{self, Standing, Summary, kind},
    crd::{FineTuneJob, FineTuneJobStatus},
    jobs::{self, Observed, Pods},
    names,
};

/// Whether it has ended; what has ended never runs again.
pub fn is_terminal(object: &FineTuneJob) -> bool {
    object.status.as_ref().is_some_and(|status| {
        conditions::is_true(&status.conditions, kind::COMPLETE)
            || conditions::is_true(&status.conditions, kind::FAILED)
    })
}

/// The status of one that has ended, when its spec changed since: read, and without effect.
pub fn acknowledged(object: &FineTuneJob) -> Option<FineTuneJobStatus> {
    let mut status = object.status.clone()?;
    if status.observed_generation == object.metadata.generation {
        return None;
    }
    status.observed_generation = object.metadata.generation;
    for condition in &mut status.conditions {
        condition.observed_generation = object.metadata.generation;
    }
    Some(status)
}

/// The status before anything runs, or when nothing can.
pub fn unstarted(object: &FineTuneJob, summary: &Summary, now: Timestamp) -> FineTuneJobStatus {
    let mut status = object.status.clone().unwrap_or_default();
    conclude(&mut status, object, summary, now);
    status
}

fn conclude(status: &mut FineTuneJobStatus, object: &FineTuneJob, summary: &Summary, now: Timestamp) {
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    status.conditions = conditions::summarize_job(&status.conditions, summary, generation, now);
}

/// The status that follows from what there is.
pub fn derive(object: &FineTuneJob, inputs: &Inputs, now: Timestamp) -> (FineTuneJobStatus, Summary) {
    let mut status = object.status.clone().unwrap_or_default();
    status.claim = inputs
        .claim
        .as_ref()
        .map(|_| names::checkpoint_claim(&object.name_any()))
        .or(status.claim);
    let counted = inputs
        .job
        .as_ref()
        .and_then(|job| job.status.as_ref()?.failed)
        .unwrap_or(0);
    let seen = Pods(&inputs.pods).failed_count();
    status.failed_attempts = status.failed_attempts.max(counted).max(seen);
    if let Some(progress) = inputs.progress.clone() {
        follow(&mut status, progress);
    }
    let observed = jobs::observe(inputs.job.as_ref(), Pods(&inputs.pods));
    if let Observed::Running { since } = &observed {
        let since = since.clone().unwrap_or(Time(now));
        status.start_time.get_or_insert_with(|| since.clone());
        status.running_since.get_or_insert(since);
    } else {
        account(&mut status, object, inputs, now);
    }
    let summary = summarize(&mut status, object, inputs, observed);
    if matches!(summary.standing, Standing::Ready | Standing::Failed) {
        let end = Pods(&inputs.pods).last_end().unwrap_or(Time(now));
        status.completion_time.get_or_insert(end);
    }
    conclude(&mut status, object, &summary, now);
    (status, summary)
}

/// Takes over what the trainer says. The checkpoint has a place of its own.
fn follow(status: &mut FineTuneJobStatus, mut progress: Progress) {
    if let Some(mark) = progress.last_checkpoint.take() {
        status.last_checkpoint = Some(mark);
    }
    status.summary = Some(jobs::describe(&progress, "step").0);
    for figure in [
        &mut progress.loss,
        &mut progress.eval_loss,
        &mut progress.tokens_per_second,
    ] {
        *figure = figure.map(rounded);
    }
    status.progress = Some(progress);
}

/// Four decimals: what a person reads in a column. The training log keeps every digit.
fn rounded(figure: f64) -> f64 {
    (figure * 1e4).round() / 1e4
}

/// Adds the GPU time of a run that has ended.
fn account(status: &mut FineTuneJobStatus, object: &FineTuneJob, inputs: &Inputs, now: Timestamp) {
    let Some(since) = status.running_since.take() else {
        return;
    };
    let end = Pods(&inputs.pods)
        .last_end()
        .filter(|end| end.0 >= since.0)
        .map_or(now, |end| end.0);
    let seconds = end.duration_since(since.0).as_secs().max(0);
    let gpus = i64::try_from(object.spec.resources.gpus()).unwrap_or(i64::MAX);
    let used = seconds
        .saturating_mul(gpus)
        .saturating_mul(object.spec.workers.into());
    status.gpu_seconds = status.gpu_seconds.saturating_add(used);
}

fn summarize(
    status: &mut FineTuneJobStatus,
    object: &FineTuneJob,
    inputs: &Inputs,
    observed: Observed,
) -> Summary {
    let resumes = status.last_checkpoint.as_ref().map_or_else(
        || "starts over".into(),
        |mark| format!("resumes from the checkpoint of step {}", mark.step),
    );
    if object.spec.suspend && !matches!(observed, Observed::Complete | Observed::Failed { .. }) {
        let live = inputs.all_pods.iter().any(|pod| !jobs::is_finished(pod));
        return if live {
            Summary::reconciling("Suspending", "waits for its pods to write a checkpoint and end")
        } else {
            status.summary = Some("suspended".into());
            let message = format!("suspended; set suspend to false, and it {resumes}");
            Summary::new(Standing::Suspended, "Suspended", message)
        };
    }
    match observed {
        Observed::Absent => Summary::reconciling("Starting", "creates its children"),
        Observed::Held => match &object.spec.queue_name {
            Some(queue) => {
                status.summary = Some("queued".into());
                Summary::reconciling(
                    "Queued",
                    format!("waits for Kueue to admit it to LocalQueue {queue}"),
                )
            }
            None => Summary::reconciling("Resuming", "waits for its Job to be resumed"),
        },
        Observed::Waiting { reason, message } => {
            status.summary = Some("waiting".into());
            Summary::reconciling(reason, message)
        }
        Observed::Running { .. } => {
            let doing = status
                .progress
                .as_ref()
                .map(|progress| jobs::describe(progress, "step").1);
            Summary::reconciling("Running", doing.unwrap_or_else(|| "starting".into()))
        }
        Observed::Retrying { reason, message } => {
            status.summary = Some("retrying".into());
            let failed = status.failed_attempts;
            Summary::reconciling(
                "Retrying",
                format!("attempt {failed} failed ({reason}): {message}; the next one {resumes}"),
            )
        }
        Observed::Complete => completed(status, inputs),
        Observed::Failed { reason, message } => {
            status.summary = Some("failed".into());
            Summary::new(Standing::Failed, reason, message)
        }
    }
}

fn completed(status: &mut FineTuneJobStatus, inputs: &Inputs) -> Summary {
    status.summary = Some("100%".into());
    let Some(outcome) = Pods(&inputs.pods).outcome::<TrainOutcome>() else {
        return Summary::new(
            Standing::Ready,
            "Complete",
            "trained; its pod was removed before its report could be read, so status.output and status.metrics are empty",
        );
    };
    let TrainOutcome {
        steps,
        stopped_early,
        published,
        metrics,
        last_checkpoint,
        notes,
    } = outcome;
    let progress = status.progress.get_or_insert_default();
    progress.phase = Phase::Done;
    progress.step = steps;
    progress.percentage = 100;
    progress.estimated_remaining_seconds = None;
    let early = if stopped_early { ", stopped early" } else { "" };
    let place = match &published {
        Some(published) => {
            let commit = published.commit.get(..12).unwrap_or(&published.commit);
            format!("published to {} at {commit}", published.repo)
        }
        None => format!(
            "the result is in {} on claim {}",
            names::OUTPUT_PATH,
            status.claim.as_deref().unwrap_or_default()
        ),
    };
    status.output = published;
    status.metrics = metrics;
    status.last_checkpoint = last_checkpoint.or(status.last_checkpoint.take());
    Summary::new(
        Standing::Ready,
        "Complete",
        format!("trained {steps} steps{early}; {place}{}", jobs::noted(&notes)),
    )
}
