//! Step: what a scheduled EvalRun remembers, from one run to the next. Pure: no client, no clock.
//!
//! Everything is in the status and in Jobs named after the times they belong to, so that an operator may stop after
//! any write: the one that follows goes on from there, and starts no run twice.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{
    drift,
    inputs::Inputs,
    schedule::{Clock, Due, due},
    status,
};
use crate::{
    conditions::{self, Standing, Summary, kind},
    crd::{
        ActiveRun, Answering, EvalRun, EvalRunStatus, MAX_HISTORY, ModelDeployment, RunFailure, RunRecord,
        Schedule, TargetRef, Trigger,
    },
    jobs::Pods,
    names::{self, RUN_NOW_ANNOTATION},
};

/// The name of the Job that the object has now or would have next.
pub fn job_name(object: &EvalRun) -> String {
    let active = object.status.as_ref().and_then(|status| status.active.as_ref());
    active.map_or_else(|| names::eval_job(&object.name_any()), |run| run.job.clone())
}

/// What a person asked for by annotation.
pub fn request(object: &EvalRun) -> Option<Trigger> {
    let value = object.annotations().get(RUN_NOW_ANNOTATION)?;
    Some(if value == "reference" {
        Trigger::Reference
    } else {
        Trigger::Request
    })
}

/// What is due, when everything up to the run that was last started is dealt with.
pub fn look(object: &EvalRun, schedule: &Schedule, clock: &Clock, now: Timestamp) -> Due {
    let last = object
        .status
        .as_ref()
        .and_then(|status| status.last_scheduled_time.as_ref());
    let since = last.or(object.metadata.creation_timestamp.as_ref());
    due(clock, schedule, since.map_or(now, |time| time.0), now)
}

/// The run to start now, if any. One that was asked for goes first; what is due follows it.
pub fn next_run(object: &EvalRun, due: Due, now: Timestamp) -> Option<ActiveRun> {
    let name = object.name_any();
    if let Some(trigger) = request(object) {
        let taken = |job: &String| {
            let history = object.status.iter().flat_map(|status| &status.history);
            history.into_iter().any(|run| run.job == *job)
        };
        // A clock that was set back may come to the same second again; of one more than the history has, one is free.
        let (second, job) = (0..=i64::from(MAX_HISTORY))
            .map(|later| now.as_second() + later)
            .map(|second| (second, names::scheduled_job(&name, second)))
            .find(|(_, job)| !taken(job))?;
        return Some(ActiveRun {
            scheduled_time: Time(Timestamp::from_second(second).ok()?),
            trigger,
            job,
            answering: Vec::new(),
        });
    }
    let time = due.run?;
    Some(ActiveRun {
        scheduled_time: Time(time),
        trigger: Trigger::Schedule,
        job: names::scheduled_job(&name, time.as_second() / 60),
        answering: Vec::new(),
    })
}

/// The status when `run` starts: nothing of the run before is left but what is on record.
pub fn begin(object: &EvalRun, run: ActiveRun, next: Option<Timestamp>, now: Timestamp) -> EvalRunStatus {
    let summary = Summary::reconciling("Starting", format!("starts the run of {}", run.scheduled_time.0));
    let mut status = status::unstarted(object, &summary, now);
    if run.trigger == Trigger::Schedule {
        status.last_scheduled_time = Some(run.scheduled_time.clone());
    }
    status.next_scheduled_time = next.map(Time);
    status.active = Some(run);
    (status.target, status.baseline, status.dataset) = (None, None, None);
    (status.start_time, status.completion_time) = (None, None);
    (status.progress, status.failed_attempts) = (None, 0);
    status
}

/// Who answers for the deployment that is measured.
pub fn answering(target: Option<&TargetRef>, deployment: Option<&ModelDeployment>) -> Vec<Answering> {
    let Some(TargetRef::Deployment {
        variant, revision, ..
    }) = target
    else {
        return Vec::new();
    };
    let variants = deployment
        .and_then(|deployment| deployment.status.as_ref())
        .map_or(&[][..], |status| &status.variants);
    variants
        .iter()
        .filter(|found| variant.as_ref().is_none_or(|asked| *asked == found.name))
        .map(|found| match revision {
            Some(revision) if *revision != found.revision => Answering {
                variant: found.name.clone(),
                revision: revision.clone(),
                model: found
                    .next_model
                    .clone()
                    .filter(|_| found.next_revision.as_ref() == Some(revision)),
            },
            _ => Answering {
                variant: found.name.clone(),
                revision: found.revision.clone(),
                model: found.model.clone(),
            },
        })
        .collect()
}

/// Why a run has to be given up that could not even start: another one is due, or its deadline passed.
pub fn given_up(active: &ActiveRun, schedule: &Schedule, due: Due, now: Timestamp) -> bool {
    let waited = now.as_second() - active.scheduled_time.0.as_second();
    let late = schedule
        .starting_deadline_seconds
        .is_some_and(|seconds| waited > seconds);
    late || due.run.is_some()
}

/// Moves the run under way into the history. `summary` says how it ended: Ready where it measured. The event, if
/// there is one, is about drift.
pub fn record(
    status: &mut EvalRunStatus,
    object: &EvalRun,
    schedule: &Schedule,
    inputs: &Inputs,
    summary: &Summary,
    now: Timestamp,
) -> Option<Summary> {
    let active = status.active.take()?;
    let measured = summary.standing == Standing::Ready;
    let end = Pods(&inputs.pods).last_end().unwrap_or(Time(now));
    let run = RunRecord {
        scheduled_time: active.scheduled_time,
        trigger: active.trigger,
        job: active.job,
        completed_at: end.clone(),
        verdict: status.verdict.filter(|_| measured),
        results: if measured {
            status.results.clone()
        } else {
            Vec::new()
        },
        failure: (!measured).then(|| RunFailure {
            reason: summary.reason.clone(),
            message: summary.message.clone(),
        }),
        target: status.target.clone(),
        dataset: status.dataset.clone(),
        answering: active.answering,
        record: status.record.clone().filter(|_| measured),
    };
    status.completion_time = Some(end);
    status.progress = None;
    let event = if measured {
        judge(status, object, &run, now)
    } else {
        None
    };
    status.history.insert(0, run);
    status.history.truncate(schedule.history_limit as usize);
    event
}

/// Holds `run` against the reference, or makes it the reference.
fn judge(status: &mut EvalRunStatus, object: &EvalRun, run: &RunRecord, now: Timestamp) -> Option<Summary> {
    let before = conditions::is_true(&status.conditions, kind::DRIFTED);
    let reference = status
        .reference
        .clone()
        .filter(|_| run.trigger != Trigger::Reference);
    let (drifted, told) = match &reference {
        None => {
            status.reference = Some(run.clone());
            let message = format!(
                "later runs are held against this one, of {}",
                run.scheduled_time.0
            );
            (false, Summary::new(Standing::Ready, "ReferenceSet", message))
        }
        Some(reference) => {
            let moved = drift::moved(reference, run);
            if moved.is_empty() {
                let message = format!(
                    "every metric is within reach of the reference run of {} again",
                    reference.scheduled_time.0
                );
                (false, Summary::new(Standing::Ready, "WithinReference", message))
            } else {
                let message = drift::sentence(&moved, reference, run);
                (true, Summary::new(Standing::Stalled, "OutsideReference", message))
            }
        }
    };
    let generation = object.metadata.generation;
    conditions::set(
        &mut status.conditions,
        kind::DRIFTED,
        drifted,
        &told,
        generation,
        now,
    );
    match (before, drifted) {
        (false, true) => Some(Summary {
            reason: "Drifted".into(),
            ..told
        }),
        (true, false) => Some(Summary {
            reason: "DriftCleared".into(),
            ..told
        }),
        _ => None,
    }
}

/// What is told between two runs.
pub fn settled(
    status: &mut EvalRunStatus,
    object: &EvalRun,
    due: Due,
    suspended: bool,
    now: Timestamp,
) -> Summary {
    let next = due.run.or(due.next);
    status.next_scheduled_time = next.map(Time);
    let coming = match next {
        _ if suspended => "schedule.suspend keeps it from running by itself".to_owned(),
        Some(next) => format!("the next run is at {next}"),
        None => "no run is to come".to_owned(),
    };
    let last = status.history.first().map(last);
    let summary = match (&last, suspended) {
        (_, true) => Summary::new(Standing::Suspended, "Suspended", sentence(&coming, last.as_ref())),
        (Some((true, _)), false) => {
            status.summary = Some("failed".into());
            Summary::stalled("LastRunFailed", sentence(&coming, last.as_ref()))
        }
        (_, false) => Summary::new(Standing::Ready, "Scheduled", sentence(&coming, last.as_ref())),
    };
    status::conclude(status, object, &summary, now);
    summary
}

fn sentence(coming: &str, last: Option<&(bool, String)>) -> String {
    last.map_or_else(|| coming.to_owned(), |(_, told)| format!("{coming}; {told}"))
}

/// Whether the latest run failed to measure, and what is told of it.
fn last(run: &RunRecord) -> (bool, String) {
    let at = run.scheduled_time.0;
    if let Some(failure) = &run.failure {
        let RunFailure { reason, message } = failure;
        return (
            true,
            format!("the run of {at} could not measure ({reason}): {message}"),
        );
    }
    let figures: Vec<String> = run.results.iter().map(status::score).collect();
    let verdict = run
        .verdict
        .map(|verdict| format!("{verdict:?}, "))
        .unwrap_or_default();
    (false, format!("the run of {at}: {verdict}{}", figures.join(", ")))
}
