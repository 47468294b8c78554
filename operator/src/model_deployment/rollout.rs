//! Step: how far a new revision has come inside its arm, and how far it goes now. Pure: the same status, strategy,
//! observations and time give the same decision, so an operator that restarts goes on where it was.

mod room;
mod run;
#[cfg(test)]
mod tests;

use std::time::Duration as Span;

use jiff::Timestamp;

use self::run::Run;
use super::analysis;
use crate::{
    conditions::Summary,
    crd::{RevisionSources, RolloutPhase, RolloutStatus, Step, Strategy},
    names,
};

/// How soon something that announces itself by no event is looked at again: routers, measurements.
const SOON: Span = Span::from_secs(2);
/// Reason while the evaluation of a step is made and runs: the revision answers, and every router knows it.
pub const EVALUATING: &str = "Evaluating";
/// Findings kept in the status.
const HISTORY: usize = 64;

/// What a person asks of a rollout by an annotation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// Go on from a pause, of whatever kind.
    Promote,
    /// Give the whole share back to the revision before.
    Abort,
    /// Try a revision that was rolled back once more.
    Retry,
}

/// An arm of which the spec asks for another revision than the one that has its share.
#[derive(Clone, Debug)]
pub struct Arm<'a> {
    /// Its name.
    pub variant: &'a str,
    /// How revisions take over.
    pub strategy: &'a Strategy,
    /// `spec.paused`.
    pub paused: bool,
    /// Pods that the arm asks for.
    pub replicas: i32,
    /// The revision that has the share now.
    pub stable: &'a str,
    /// The revision that the spec asks for.
    pub wanted: &'a str,
    /// Its model and adapters.
    pub sources: &'a RevisionSources,
    /// Whether the arm's own pods are all of the revision asked for, and ready.
    pub promoted: bool,
    /// The new revision's own pods.
    pub canary: CanaryPods,
    /// Why no node takes the arm's own pods of the revision asked for.
    pub unschedulable: Option<String>,
    /// Whether every router follows the split that the status asks for.
    pub routers_follow: bool,
    /// What the routers measured in the window that the status asks for.
    pub measured: Option<analysis::Measured>,
    /// The evaluation that this step made, where it made one.
    pub evaluation: Option<Evaluation>,
    /// What a person asks for.
    pub command: Option<Command>,
}

/// The new revision's own pods.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CanaryPods {
    /// Those that answer.
    pub ready: i32,
    /// Why they cannot ever become ready, in their own words.
    pub broken: Option<String>,
    /// Why no node takes them.
    pub unschedulable: Option<String>,
    /// What keeps them from answering, though it may mend itself.
    pub trouble: Option<String>,
}

/// How the evaluation of a step went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Evaluation {
    /// It goes on; what it is at.
    Running(String),
    /// The template cannot be used: cause and fix.
    Unusable(String),
    /// It found that every bound is met.
    Passed(String),
    /// It found that a bound is missed.
    Failed(String),
    /// It could not tell.
    Inconclusive(String),
}

/// What should be, as a rollout's status says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Intent {
    /// Pods of the new revision; 0 for none.
    pub canary_replicas: i32,
    /// Pods of the arm itself.
    pub stable_replicas: i32,
    /// Whether the arm's own pods become the new revision.
    pub promote: bool,
    /// Whether the arm's pods give way before their successors come, for want of room.
    pub in_place: bool,
    /// Share of the arm's requests for the new revision.
    pub weight: u32,
    /// Share of the arm's requests that it gets a copy of.
    pub mirror: u32,
}

/// What a look at a rollout comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The new status; none when the arm is of the revision asked for.
    pub status: Option<RolloutStatus>,
    /// What changed, one event each.
    pub events: Vec<Summary>,
    /// When to look again, though nothing announces itself.
    pub look: Option<Span>,
}

/// What the status of a rollout means for pods and routes.
pub fn intent(status: Option<&RolloutStatus>, arm_replicas: i32) -> Intent {
    let none = Intent {
        canary_replicas: 0,
        stable_replicas: arm_replicas,
        promote: false,
        in_place: false,
        weight: 0,
        mirror: 0,
    };
    let Some(status) = status.filter(|status| status.phase != RolloutPhase::RolledBack) else {
        return none;
    };
    let share = share(status);
    let promote = status.phase == RolloutPhase::Promoting;
    // Without a share it has nothing to answer while the arm's own pods become it, nor while a person is waited for:
    // what made room for it comes back.
    let unasked = promote && (share == 0 || status.vacated) || gives_way(status);
    let canary_replicas = match needed(arm_replicas, share) {
        _ if unasked => 0,
        // In place there are as many pods as the arm asks for, and one of them stays an old one.
        needed if status.replacing => needed.min(arm_replicas - 1).max(1),
        needed => needed,
    };
    let spared = if status.replacing { canary_replicas } else { 0 };
    // An arm that is scaled to zero has no pod of its own before the new revision is to have a share.
    let fewest = i32::from(!status.vacated && arm_replicas.max(share.cast_signed()) > 0);
    Intent {
        canary_replicas,
        stable_replicas: (arm_replicas - spared).max(fewest),
        promote,
        in_place: status.replacing,
        weight: status.weight,
        mirror: status.mirror,
    }
}

/// Share of the arm's requests that it is to be ready for, copies included.
pub fn share(status: &RolloutStatus) -> u32 {
    status.target.max(status.weight).max(status.mirror)
}

/// Whether the arm's only pod comes back in place of the new revision's: nobody is to wait for a person, or for the end
/// of a pause, while nobody answers.
fn gives_way(status: &RolloutStatus) -> bool {
    status.vacated && status.phase == RolloutPhase::Paused && status.weight == 0
}

/// Pods for a share of an arm: enough for it, and one at least.
pub fn needed(replicas: i32, percent: u32) -> i32 {
    let share = u64::from(replicas.unsigned_abs()) * u64::from(percent);
    i32::try_from(share.div_ceil(100).max(1)).unwrap_or(i32::MAX)
}

/// Names the measurements of one step of one rollout; empty between analyses.
pub fn window(status: &RolloutStatus, strategy: &Strategy) -> String {
    let analysed = matches!(step(strategy, status.step), Some(Step::Analysis(_)));
    if !analysed || status.phase != RolloutPhase::Progressing {
        return String::new();
    }
    names::digest(&(&status.revision, status.step, &status.step_started))
}

/// Name of the EvalRun of the step under way, the same for each look at this attempt and another for the next.
pub fn eval_run_name(object: &str, variant: &str, status: &RolloutStatus) -> String {
    let attempt = names::digest(&(object, variant, &status.revision, status.step, &status.started));
    let stem: String = format!("{object}-{variant}").chars().take(36).collect();
    format!("{}-{}", stem.trim_end_matches('-'), &attempt[..8])
}

fn step(strategy: &Strategy, index: u32) -> Option<&Step> {
    strategy.canary.as_ref()?.steps.get(index as usize)
}

/// Carries a rollout on by one step at most: what was observed belongs to the step that `status` was at.
pub fn advance(status: Option<&RolloutStatus>, arm: &Arm<'_>, now: Timestamp) -> Decision {
    let mut run = Run::new(arm, now);
    let active = status.filter(|status| status.phase != RolloutPhase::RolledBack);
    let promoting = active.is_some_and(|status| status.phase == RolloutPhase::Promoting);
    if arm.wanted == arm.stable && !promoting {
        if let Some(status) = active {
            run.cancelled(status);
        }
        return run.decide(None);
    }
    let Some(status) = status.filter(|status| status.revision == arm.wanted) else {
        let status = run.begin(active);
        return run.decide(Some(status));
    };
    let mut status = status.clone();
    if let Some(command) = arm.command
        && run.obey(&mut status, command)
    {
        return run.decide(Some(status));
    }
    run.heed_pause(&mut status);
    match status.phase {
        RolloutPhase::Progressing => run.turn(&mut status),
        RolloutPhase::Paused => run.sit_out_pause(&mut status),
        RolloutPhase::Promoting => {
            if run.promoted(&mut status) {
                return run.decide(None);
            }
        }
        RolloutPhase::RolledBack => {}
    }
    run.decide(Some(status))
}

/// How many steps a rollout has.
pub fn step_count(strategy: &Strategy) -> u32 {
    let steps = strategy.canary.as_ref().map_or(0, |canary| canary.steps.len());
    u32::try_from(steps).unwrap_or(u32::MAX)
}
