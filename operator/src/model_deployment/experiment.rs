//! Step: how the experiment between the arms goes. Pure: no client, no clock; the same spec, memory, counts and time
//! give the same course, so an operator that restarts goes on where it was.
//!
//! An experiment compares revisions that stay as they are. It begins once every arm is of one revision, under an id
//! of its own, ends when an arm changes, and another begins after that. What was counted before the first clear
//! answer is kept; the answer itself stays until the spec asks for another comparison.

pub mod arms;
pub mod card;
pub mod kept;
pub mod record;
mod report;
#[cfg(test)]
mod tests;

use std::time::Duration as Span;

use jiff::Timestamp;
use kube::ResourceExt;
use slipway_contract::{
    ExperimentMetric, RouteExperiment, RouterStats,
    experiment::{Decision, Ledger, decide},
};

use self::kept::{Concluded, Kept};
use super::{
    inputs::{Inputs, Resolved},
    plan::{self, Planned},
    server,
};
use crate::{
    conditions::Summary,
    crd::{Experiment, ExperimentStatus, ModelDeployment, ResolvedSource, Variant},
    names,
};

/// How often routers are asked while there is no clear answer.
const LOOK: Span = Span::from_secs(10);
/// How often while a router ends: what it counts in its last moments is asked for before it takes that with it.
const LAST_LOOK: Span = Span::from_secs(1);
/// Figures that change are written down so often at most, in the status and in the ConfigMap.
const WRITE: Span = Span::from_secs(30);

/// What was read of an experiment.
#[derive(Debug, Default)]
pub struct Seen {
    /// Whether the ConfigMap is there, readable or not.
    pub is_kept: bool,
    /// What it holds.
    pub kept: Option<Kept>,
    /// What each router says, those that are ending included.
    pub routers: Vec<RouterSaid>,
    /// 32 random bytes in hexadecimal digits, for an experiment that begins.
    pub fresh_key: String,
}

/// What a router says.
#[derive(Debug)]
pub struct RouterSaid {
    /// The uid of its pod.
    pub pod: String,
    /// Whether it was told to stop: what it counted must be written down now.
    pub ending: bool,
    /// None of one that did not answer.
    pub stats: Option<RouterStats>,
}

/// What an experiment comes to.
#[derive(Debug, Default)]
pub struct Course {
    /// What the split says of it.
    pub told: Told,
    /// What becomes of the ConfigMap.
    pub memory: Memory,
    /// What the status says.
    pub status: Option<ExperimentStatus>,
    /// The first clear answer, once there is one.
    pub concluded: Option<Concluded>,
    /// What changed, one event each.
    pub events: Vec<Summary>,
    /// When to look again, though nothing announces itself.
    pub look: Option<Span>,
}

/// What becomes of the ConfigMap that keeps an experiment.
#[derive(Debug, Default)]
pub enum Memory {
    /// It stays as it is.
    #[default]
    AsIs,
    /// The experiment is over: its id must not come back.
    Forget,
    /// It is to hold this.
    Write(Box<Kept>),
}

/// What the split says of an experiment.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// What the routers count.
    pub route: Option<RouteExperiment>,
    /// The arm that gets all requests in place of what the spec says.
    pub promoted: Option<String>,
}

impl Told {
    /// The share that a variant gets.
    pub fn percent(&self, variant: &Variant) -> u32 {
        match &self.promoted {
            Some(winner) if *winner == variant.name => 100,
            Some(_) => 0,
            None => variant.traffic_percent,
        }
    }
}

/// What the split that is in force says: that of the status and the ConfigMap.
pub fn told_before(object: &ModelDeployment, inputs: &Inputs<'_>) -> Told {
    let (Some(spec), Some(kept)) = (&object.spec.experiment, &inputs.experiment.kept) else {
        return Told::default();
    };
    if let Some(concluded) = answered(object, spec, kept) {
        return Told {
            route: Some(route(spec, kept)),
            promoted: promoted(object, spec, concluded),
        };
    }
    let rolling = inputs.variants.iter().any(|input| {
        let known = plan::known(object, &input.spec.name);
        known.is_some_and(|known| known.rollout.as_ref().is_some_and(plan::is_active))
    });
    Told {
        route: (!rolling).then(|| route(spec, kept)),
        promoted: None,
    }
}

/// Carries an experiment on.
pub fn course(object: &ModelDeployment, inputs: &Inputs<'_>, arms: &[Planned<'_>], now: Timestamp) -> Course {
    let seen = &inputs.experiment;
    let before = object
        .status
        .as_ref()
        .and_then(|status| status.experiment.as_ref());
    let forget = || {
        if seen.is_kept {
            Memory::Forget
        } else {
            Memory::AsIs
        }
    };
    let Some(spec) = &object.spec.experiment else {
        return Course {
            memory: forget(),
            ..Course::default()
        };
    };
    if let Some(kept) = &seen.kept
        && answered(object, spec, kept).is_some()
    {
        return conclude(object, spec, kept, before, Memory::AsIs);
    }
    let revisions = match arms::settled(object, arms) {
        Ok(revisions) => revisions,
        Err(reason) => {
            return Course {
                memory: forget(),
                status: Some(report::waiting(&reason)),
                ..Course::default()
            };
        }
    };
    let (mut kept, fresh) = goes_on_or_begins(object, spec, seen, &revisions, now);
    let counted = kept.ledger.counted();
    take(&mut kept, &seen.routers);
    let seconds = now.duration_since(kept.started).as_secs();
    let outcome = decide(
        &kept.ledger.total(),
        &spec.rule(),
        u64::try_from(seconds).unwrap_or(0),
    );
    if outcome.verdict != Decision::NoDifferenceYet {
        kept.written = now;
        kept.concluded = Some(Concluded {
            at: now,
            asked: asked(object, spec),
            shares: shares(object),
            models: (arms.iter())
                .filter_map(|arm| Some((arm.input.spec.name.clone(), model(object, arm)?)))
                .collect(),
            outcome,
        });
        let memory = Memory::Write(Box::new(kept.clone()));
        return conclude(object, spec, &kept, before, memory);
    }
    let changed = kept.ledger.counted() != counted;
    let ending = (seen.routers.iter()).any(|router| router.ending && router.stats.is_some());
    let due = changed && (ending || passed(kept.written, now) >= WRITE);
    let status = report::running(before, &kept, &outcome, now);
    Course {
        told: Told {
            route: Some(route(spec, &kept)),
            promoted: None,
        },
        events: report::events(before, &status, &names_of(object)),
        status: Some(status),
        memory: if fresh || due {
            kept.written = now;
            Memory::Write(Box::new(kept))
        } else {
            Memory::AsIs
        },
        concluded: None,
        look: Some(if ending { LAST_LOOK } else { LOOK }),
    }
}

/// The experiment under way, or one that begins now, and whether it does.
fn goes_on_or_begins(
    object: &ModelDeployment,
    spec: &Experiment,
    seen: &Seen,
    revisions: &[(String, String)],
    now: Timestamp,
) -> (Kept, bool) {
    let subject = names::digest(&(spec.counted(), spec.rule(), revisions));
    let known = seen.kept.as_ref();
    if let Some(kept) = known.filter(|kept| kept.subject == subject && kept.concluded.is_none()) {
        return (kept.clone(), false);
    }
    let by_feedback = matches!(spec.counted(), ExperimentMetric::FeedbackScore(_));
    let kept = Kept {
        id: names::digest(&(object.uid(), &subject, now)),
        subject,
        started: now,
        key: if by_feedback {
            seen.fresh_key.clone()
        } else {
            String::new()
        },
        ledger: Ledger::new(revisions.iter().map(|(name, _)| name.clone())),
        written: now,
        concluded: None,
    };
    (kept, true)
}

/// Takes what routers say of this experiment. What they say of another one, by an older table, is none of it.
fn take(kept: &mut Kept, routers: &[RouterSaid]) {
    for router in routers {
        let Some(stats) = &router.stats else { continue };
        if let Some(told) = stats.experiment.as_ref().filter(|told| told.id == kept.id) {
            let counted = kept
                .ledger
                .count(&router.pod, &stats.instance, told.tally.clone());
            if let Err(error) = counted {
                tracing::warn!(pod = %router.pod, %error, "a router counts other arms than it was told");
            }
        }
    }
    let is_there = |pod: &str| routers.iter().any(|router| router.pod == pod);
    kept.ledger
        .keep(is_there)
        .expect("every tally was held against the arms when it came in");
}

/// The course of an experiment with a clear answer.
fn conclude(
    object: &ModelDeployment,
    spec: &Experiment,
    kept: &Kept,
    before: Option<&ExperimentStatus>,
    memory: Memory,
) -> Course {
    let concluded = kept.concluded.clone();
    let answer = concluded.as_ref().expect("it has its answer");
    let promoted = promoted(object, spec, answer);
    let status = report::concluded(before, kept, answer, spec.auto_promote, promoted.is_some());
    Course {
        told: Told {
            route: Some(route(spec, kept)),
            promoted,
        },
        events: report::events(before, &status, &names_of(object)),
        status: Some(status),
        memory,
        concluded,
        look: None,
    }
}

/// The answer, while the spec asks for the same comparison. Pods that are replaced for another reason, such as an
/// operator's upgrade, do not take it back.
fn answered<'a>(object: &ModelDeployment, spec: &Experiment, kept: &'a Kept) -> Option<&'a Concluded> {
    let answer = kept.concluded.as_ref()?;
    (answer.asked == asked(object, spec)).then_some(answer)
}

fn promoted(object: &ModelDeployment, spec: &Experiment, answer: &Concluded) -> Option<String> {
    let holds = spec.auto_promote && answer.shares == shares(object);
    answer.outcome.winner.clone().filter(|_| holds)
}

/// Hash of what the spec asks to compare.
fn asked(object: &ModelDeployment, spec: &Experiment) -> String {
    let variants: Vec<(&str, String)> = (object.spec.variants.iter())
        .map(|variant| (variant.name.as_str(), server::asked(object, variant)))
        .collect();
    names::digest(&(spec.counted(), spec.rule(), variants))
}

fn shares(object: &ModelDeployment) -> Vec<u32> {
    let variants = object.spec.variants.iter();
    variants.map(|variant| variant.traffic_percent).collect()
}

fn names_of(object: &ModelDeployment) -> Vec<&str> {
    let variants = object.spec.variants.iter();
    variants.map(|variant| variant.name.as_str()).collect()
}

/// What an arm serves.
fn model(object: &ModelDeployment, arm: &Planned<'_>) -> Option<ResolvedSource> {
    match &arm.input.resolved {
        Resolved::Known(sources) if !arm.held => Some(sources.model.clone()),
        _ => plan::known(object, &arm.input.spec.name)?.model.clone(),
    }
}

fn route(spec: &Experiment, kept: &Kept) -> RouteExperiment {
    RouteExperiment {
        id: kept.id.clone(),
        metric: spec.counted(),
        key: kept.key.clone(),
    }
}

/// Time from `since` to `now`; none of it while a clock runs backwards.
fn passed(since: Timestamp, now: Timestamp) -> Span {
    Span::try_from(now.duration_since(since)).unwrap_or_default()
}
