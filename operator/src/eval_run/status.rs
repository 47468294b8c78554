//! Step: what a person is told about an EvalRun. Pure: no client, no clock.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use slipway_contract::{EvalOutcome, MetricResult, Verdict};

use super::inputs::Inputs;
use crate::{
    conditions::{self, Standing, Summary, kind},
    crd::{ComparisonStatus, EvalRun, EvalRunStatus},
    jobs::{self, Observed, Pods},
};

/// Whether it has ended; what has ended never runs again.
pub fn is_terminal(object: &EvalRun) -> bool {
    object.status.as_ref().is_some_and(|status| {
        conditions::is_true(&status.conditions, kind::COMPLETE)
            || conditions::is_true(&status.conditions, kind::FAILED)
    })
}

/// The status of one that has ended, when its spec changed since: read, and without effect.
pub fn acknowledged(object: &EvalRun) -> Option<EvalRunStatus> {
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
pub fn unstarted(object: &EvalRun, summary: &Summary, now: Timestamp) -> EvalRunStatus {
    let mut status = object.status.clone().unwrap_or_default();
    conclude(&mut status, object, summary, now);
    status
}

/// The status of one without a target: there to be copied, and never run itself.
pub fn template(object: &EvalRun, now: Timestamp) -> (EvalRunStatus, Summary) {
    let summary = Summary::new(
        Standing::Ready,
        "Template",
        "a template: an eval step of a ModelDeployment runs a copy of it; set target to run it by itself",
    );
    let mut status = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    status.summary = Some("template".into());
    status.conditions = conditions::summarize(&status.conditions, &summary, generation, now);
    (status, summary)
}

/// Lays `summary` over the conditions. One with a schedule goes on, and so is never Complete.
pub fn conclude(status: &mut EvalRunStatus, object: &EvalRun, summary: &Summary, now: Timestamp) {
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    if object.spec.schedule.is_some() {
        status.conditions = conditions::summarize(&status.conditions, summary, generation, now);
        let suspended = summary.standing == Standing::Suspended;
        conditions::set(
            &mut status.conditions,
            kind::SUSPENDED,
            suspended,
            summary,
            generation,
            now,
        );
        return;
    }
    status.conditions = conditions::summarize_job(&status.conditions, summary, generation, now);
    // An evaluation has no pause.
    status
        .conditions
        .retain(|condition| condition.type_ != kind::SUSPENDED);
}

/// The status that follows from what there is.
pub fn derive(object: &EvalRun, inputs: &Inputs, now: Timestamp) -> (EvalRunStatus, Summary) {
    let mut status = object.status.clone().unwrap_or_default();
    let counted = inputs
        .job
        .as_ref()
        .and_then(|job| job.status.as_ref()?.failed)
        .unwrap_or(0);
    status.failed_attempts = status.failed_attempts.max(counted);
    if let Some(progress) = inputs.progress.clone() {
        status.summary = Some(jobs::describe(&progress, "example").0);
        status.progress = Some(progress);
    }
    let summary = match jobs::observe(inputs.job.as_ref(), Pods(&inputs.pods)) {
        Observed::Absent => Summary::reconciling("Starting", "creates its children"),
        Observed::Held => Summary::reconciling("Held", "waits for its Job to be resumed"),
        Observed::Waiting { reason, message } => {
            status.summary = Some("waiting".into());
            Summary::reconciling(reason, message)
        }
        Observed::Running { since } => {
            status
                .start_time
                .get_or_insert_with(|| since.unwrap_or(Time(now)));
            let doing = status
                .progress
                .as_ref()
                .map(|progress| jobs::describe(progress, "example").1);
            Summary::reconciling("Running", doing.unwrap_or_else(|| "starting".into()))
        }
        Observed::Retrying { reason, message } => {
            status.summary = Some("retrying".into());
            let failed = status.failed_attempts;
            Summary::reconciling(
                "Retrying",
                format!("attempt {failed} failed ({reason}): {message}; it is tried again"),
            )
        }
        Observed::Complete => completed(&mut status, inputs),
        Observed::Failed { reason, message } => {
            status.summary = Some("failed".into());
            Summary::new(Standing::Failed, reason, message)
        }
    };
    if matches!(summary.standing, Standing::Ready | Standing::Failed) {
        let end = Pods(&inputs.pods).last_end().unwrap_or(Time(now));
        status.completion_time.get_or_insert(end);
    }
    conclude(&mut status, object, &summary, now);
    (status, summary)
}

fn completed(status: &mut EvalRunStatus, inputs: &Inputs) -> Summary {
    let Some(outcome) = Pods(&inputs.pods).outcome::<EvalOutcome>() else {
        // A result that nobody read is none: saying Passed or Complete here would invent one.
        return Summary::new(
            Standing::Failed,
            "ReportLost",
            "it ran, but its pod was removed before its report could be read; create the EvalRun anew",
        );
    };
    let EvalOutcome {
        results,
        comparison,
        verdict,
        findings,
        record,
        predictions,
        notes,
    } = outcome;
    status.progress = None;
    status.summary = results.first().map(score);
    status.comparison = comparison.map(|comparison| ComparisonStatus {
        metric: comparison.metric,
        difference: comparison.difference,
        confidence_interval: comparison.confidence_interval,
        baseline_value: comparison.baseline_value,
        min_difference: comparison.min_difference,
        baseline: status.baseline.clone().unwrap_or_default(),
    });
    status.results = results;
    status.verdict = Some(verdict);
    status.record = record;
    status.predictions = predictions;
    let reason = match verdict {
        Verdict::Passed => "Passed",
        Verdict::Failed => "ThresholdMissed",
        Verdict::Inconclusive => "Inconclusive",
    };
    let detail = if findings.is_empty() {
        "no bounds were set".to_owned()
    } else {
        findings.join("; ")
    };
    let advice = match verdict {
        Verdict::Inconclusive => "; measure more examples to tell",
        Verdict::Passed | Verdict::Failed => "",
    };
    status.findings = findings;
    Summary::new(
        Standing::Ready,
        reason,
        format!("verdict {verdict:?}: {detail}{advice}{}", jobs::noted(&notes)),
    )
}

/// `accuracy 0.7421 ±0.0310`: the interval's half width, since Wilson's is not centred on the value.
pub fn score(result: &MetricResult) -> String {
    let interval = result.confidence_interval;
    format!(
        "{} {:.4} ±{:.4}",
        result.metric.as_str(),
        result.value,
        (interval.high - interval.low) / 2.0
    )
}
