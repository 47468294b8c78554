//! What an experiment says in the status, and when that is worth a write. Pure: no client, no clock.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use slipway_contract::experiment::{Decision, Outcome};

use super::{
    WRITE,
    kept::{Concluded, Kept},
    passed,
};
use crate::{
    conditions::{Standing, Summary},
    crd::ExperimentStatus,
};

/// While arms change.
pub fn waiting(reason: &str) -> ExperimentStatus {
    ExperimentStatus {
        message: format!(
            "an experiment compares revisions that stay as they are: it begins, from zero, once {reason}"
        ),
        ..ExperimentStatus::default()
    }
}

/// Without a clear answer. What the status says already stays, unless the figures changed and it is time.
pub fn running(
    before: Option<&ExperimentStatus>,
    kept: &Kept,
    outcome: &Outcome,
    now: Timestamp,
) -> ExperimentStatus {
    let same = before
        .filter(|before| before.id.as_ref() == Some(&kept.id) && before.verdict == Some(outcome.verdict));
    if let Some(before) = same {
        let counts = |arms: &[_]| -> Vec<(u64, u64)> {
            let arms = arms.iter();
            arms.map(|arm: &slipway_contract::experiment::ArmOutcome| (arm.requests, arm.scores))
                .collect()
        };
        let fresh = before
            .observed_at
            .as_ref()
            .is_some_and(|at| passed(at.0, now) < WRITE);
        if fresh || counts(&before.arms) == counts(&outcome.arms) {
            return before.clone();
        }
    }
    figures(kept, outcome, now)
}

/// With the first clear answer. A status that has it keeps it, and what it says of its record.
pub fn concluded(
    before: Option<&ExperimentStatus>,
    kept: &Kept,
    answer: &Concluded,
    auto_promote: bool,
    promoted: bool,
) -> ExperimentStatus {
    let same = before.filter(|before| {
        before.id.as_ref() == Some(&kept.id) && before.verdict == Some(answer.outcome.verdict)
    });
    ExperimentStatus {
        promoted,
        message: sentence(answer, auto_promote, promoted),
        ..same
            .cloned()
            .unwrap_or_else(|| figures(kept, &answer.outcome, answer.at))
    }
}

fn sentence(answer: &Concluded, auto_promote: bool, promoted: bool) -> String {
    let said = &answer.outcome.message;
    let Some(winner) = &answer.outcome.winner else {
        return said.clone();
    };
    let last = format!("set trafficPercent of {winner} to 100 and of the others to 0, and remove experiment");
    let then = if promoted {
        format!("autoPromote gives {winner} all requests until spec.variants change; to make it last, {last}")
    } else if auto_promote {
        format!("autoPromote ended when trafficPercent changed; to give {winner} all requests, {last}")
    } else {
        format!("to give {winner} all requests, {last}")
    };
    format!(
        "{said}; this was clear at {:.0} and is kept, whatever is scored later; {then}",
        answer.at
    )
}

fn figures(kept: &Kept, outcome: &Outcome, now: Timestamp) -> ExperimentStatus {
    ExperimentStatus {
        id: Some(kept.id.clone()),
        started_at: Some(Time(kept.started)),
        observed_at: Some(Time(now)),
        verdict: Some(outcome.verdict),
        winner: outcome.winner.clone(),
        promoted: false,
        message: outcome.message.clone(),
        arms: outcome.arms.clone(),
        differences: outcome.differences.clone(),
        sample_ratio: Some(outcome.sample_ratio),
        duration_seconds: Some(outcome.duration_seconds),
        confidence: Some(outcome.confidence),
        recorded: None,
        record_failure: None,
    }
}

/// What changed from `before` to `after`: each of it once.
pub fn events(before: Option<&ExperimentStatus>, after: &ExperimentStatus, arms: &[&str]) -> Vec<Summary> {
    let same = before.filter(|before| before.id == after.id);
    let mut events = Vec::new();
    if same.is_none() {
        let arms = arms.join(", ");
        let message = format!("an experiment between {arms} began");
        events.push(Summary::new(Standing::Ready, "ExperimentStarted", message));
    }
    if same.and_then(|before| before.verdict) != after.verdict {
        match after.verdict {
            Some(Decision::Winner) => {
                events.push(Summary::new(
                    Standing::Ready,
                    "ExperimentDecided",
                    &*after.message,
                ));
            }
            Some(Decision::Inconclusive) => {
                events.push(Summary::stalled("ExperimentMismatch", &*after.message));
            }
            Some(Decision::NoDifferenceYet) | None => {}
        }
    }
    events
}
