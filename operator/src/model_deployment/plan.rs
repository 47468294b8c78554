//! Step: which revision each arm goes to, and how far. Pure: no client, no clock.

use std::time::Duration as Span;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use slipway_contract::RouterStats;

use super::{
    analysis::Measured,
    experiment::{self, Course},
    gateway,
    inputs::{Inputs, Resolved, VariantInput},
    rollout::{self, Arm, CanaryPods, Command, Intent},
    routes, scale, server,
    status::{self, revision_label},
    trouble,
};
use crate::{
    conditions::Summary,
    crd::{
        ModelDeployment, RevisionSources, RolloutPhase, RolloutStatus, ScalingStatus, VariantStatus,
        WhenNoCapacity,
    },
    names::VARIANT_LABEL,
    settings::Settings,
};

/// Annotations that steer a rollout. The value is the name of a variant, or anything for the one under way.
const COMMANDS: [(&str, Command); 3] = [
    ("slipway.dev/abort", Command::Abort),
    ("slipway.dev/promote", Command::Promote),
    ("slipway.dev/retry", Command::Retry),
];

/// What every arm comes to.
#[derive(Debug)]
pub struct Plan<'a> {
    /// One for each variant of the spec, in its order.
    pub arms: Vec<Planned<'a>>,
    /// What changed, one event each.
    pub events: Vec<Summary>,
    /// When to look again, though nothing announces itself.
    pub look: Option<Span>,
    /// The command that was carried out, as the status remembers it.
    pub handled: Option<String>,
    /// The annotation to remove, since the status remembers it.
    pub consumed: Option<&'static str>,
    /// How the experiment between the arms goes.
    pub experiment: Course,
    /// Seals the ids of answers that clients score for analyses; none where no analysis asks for scores.
    pub feedback_key: Option<String>,
}

/// What one arm comes to.
#[derive(Debug)]
pub struct Planned<'a> {
    /// What is known of it.
    pub input: &'a VariantInput<'a>,
    /// The revision that the spec asks for; none while its model is missing.
    pub wanted: Option<String>,
    /// How far a new revision has come.
    pub rollout: Option<RolloutStatus>,
    /// What that means.
    pub intent: Intent,
    /// Whether the arm's own pods stay of the revision that they are.
    pub held: bool,
    /// Another arm's rollout that this one waits for.
    pub waits_for: Option<String>,
    /// Pods that its requests need, where `scaling` is set.
    pub scaling: Option<ScalingStatus>,
}

impl Planned<'_> {
    /// The rollout, unless it is over.
    pub fn under_way(&self) -> Option<&RolloutStatus> {
        self.rollout.as_ref().filter(|rollout| is_active(rollout))
    }

    /// Pods that it is to have, whatever is rolled in.
    fn replicas(&self, object: &ModelDeployment) -> i32 {
        self.scaling.as_ref().map_or_else(
            || scale::fixed(object, self.input.spec),
            |scaling| scaling.desired_replicas,
        )
    }
}

/// Whether a rollout has pods and a place among the routes.
pub fn is_active(rollout: &RolloutStatus) -> bool {
    rollout.phase != RolloutPhase::RolledBack
}

/// What the status says of a variant.
pub fn known<'a>(object: &'a ModelDeployment, variant: &str) -> Option<&'a VariantStatus> {
    let status = object.status.as_ref()?;
    status.variants.iter().find(|known| known.name == variant)
}

/// The command of the annotations: its name, what the status would remember of it, and what it means.
pub fn command(object: &ModelDeployment) -> Option<(&'static str, String, Command)> {
    COMMANDS.iter().find_map(|&(name, command)| {
        let value = object.annotations().get(name)?;
        Some((name, format!("{name}={value}"), command))
    })
}

/// Decides for every arm.
pub fn plan<'a>(
    object: &'a ModelDeployment,
    inputs: &'a Inputs<'a>,
    settings: &Settings,
    now: Timestamp,
) -> Plan<'a> {
    let asked = command(object);
    let done = object
        .status
        .as_ref()
        .and_then(|status| status.handled_command.as_ref());
    let (fresh, consumed) = match &asked {
        Some((name, remembered, _)) if done == Some(remembered) => (None, Some(*name)),
        Some((_, _, command)) => (Some(*command), None),
        None => (None, None),
    };
    let target = asked
        .as_ref()
        .and_then(|(name, ..)| object.annotations().get(*name))
        .filter(|value| object.spec.variants.iter().any(|variant| variant.name == **value));
    let command_of = |variant: &str| fresh.filter(|_| target.is_none_or(|target| target == variant));

    let mut arms: Vec<Planned<'_>> = inputs
        .variants
        .iter()
        .map(|input| {
            let rollout = known(object, &input.spec.name).and_then(|known| known.rollout.clone());
            Planned {
                input,
                wanted: wanted(object, input, settings),
                scaling: scale::scaled(object, input, rollout.as_ref(), inputs, now),
                rollout,
                // Each arm's own follows below.
                intent: rollout::intent(None, 1),
                held: false,
                waits_for: None,
            }
        })
        .collect();
    for arm in &mut arms {
        // What was rolled back no longer matters once the spec asks for what serves.
        let over =
            arm.under_way().is_none() && arm.wanted == arm.input.server.as_ref().map(server::revision_of);
        if over || !steps(object, arm) {
            arm.rollout = None;
        }
    }
    // One at a time: the figures of an analysis would mean little while another arm's share shifts as well.
    let turn = arms.iter().position(|arm| arm.under_way().is_some()).or_else(|| {
        arms.iter()
            .position(|arm| begins(object, arm, command_of(&arm.input.spec.name)))
    });
    let leader = turn.map(|index| arms[index].input.spec.name.clone());
    let version = routes::version(object, inputs);
    let follow = inputs.follow(&version) && gateway::follows(object, inputs.route.as_ref(), &version);

    let (mut events, mut look) = (Vec::new(), None);
    for (index, arm) in arms.iter_mut().enumerate() {
        let name = &arm.input.spec.name;
        if turn == Some(index) {
            let step = decide(object, arm, inputs, follow, command_of(name), now);
            if let Some(decision) = step {
                arm.rollout = decision.status;
                events = decision.events;
                look = decision.look;
            }
        } else if begins(object, arm, None) {
            arm.waits_for.clone_from(&leader);
        }
        arm.intent = rollout::intent(arm.rollout.as_ref(), arm.replicas(object));
        // Without steps there is no status to remember it: the next look finds a pod that waits, or it does not.
        let wanted = arm.wanted.as_deref().filter(|_| arm.rollout.is_none());
        arm.intent.in_place |= object.spec.strategy.when_no_capacity == WhenNoCapacity::Replace
            && wanted.is_some_and(|wanted| unschedulable(arm.input, wanted).is_some());
        arm.held = arm.waits_for.is_some() || arm.rollout.as_ref().is_some_and(|_| !arm.intent.promote);
    }
    let experiment = experiment::course(object, inputs, &arms, now);
    events.extend(experiment.events.iter().cloned());
    Plan {
        arms,
        events,
        look: look.into_iter().chain(experiment.look).min(),
        experiment,
        feedback_key: inputs.feedback_key.clone(),
        handled: asked.map(|(_, remembered, _)| remembered),
        consumed,
    }
}

/// Whether new revisions of this arm come step by step: it has something to fall back on. That it has no pods for want
/// of requests spares a new revision none of its gates.
fn steps(object: &ModelDeployment, arm: &Planned<'_>) -> bool {
    let input = arm.input;
    let served = known(object, &input.spec.name).is_some_and(|known| !known.revision.is_empty());
    object.spec.strategy.canary.is_some() && input.server.is_some() && served
}

/// Whether this arm has a revision to roll in that it has not begun with.
fn begins(object: &ModelDeployment, arm: &Planned<'_>, command: Option<Command>) -> bool {
    let (Some(wanted), Some(server)) = (&arm.wanted, &arm.input.server) else {
        return false;
    };
    let given_up = arm
        .rollout
        .as_ref()
        .is_some_and(|rollout| rollout.revision == *wanted);
    steps(object, arm)
        && *wanted != server::revision_of(server)
        && (!given_up || command == Some(Command::Retry))
}

fn wanted(object: &ModelDeployment, input: &VariantInput<'_>, settings: &Settings) -> Option<String> {
    match &input.resolved {
        Resolved::Known(sources) => Some(server::revision(object, input.spec, sources, settings)),
        Resolved::Missing(_) => None,
    }
}

fn decide(
    object: &ModelDeployment,
    arm: &Planned<'_>,
    inputs: &Inputs<'_>,
    follow: bool,
    command: Option<Command>,
    now: Timestamp,
) -> Option<rollout::Decision> {
    let (wanted, live) = (arm.wanted.as_deref()?, arm.input.server.as_ref()?);
    let Resolved::Known(sources) = &arm.input.resolved else {
        return None;
    };
    let stable = server::revision_of(live);
    let replicas = arm.replicas(object);
    let promoting = rollout::intent(arm.rollout.as_ref(), replicas).stable_replicas;
    // The routers know the arm's own pods by the revision before, whichever they are of.
    let found = arm
        .rollout
        .as_ref()
        .is_some_and(|rollout| inputs.see(&arm.input.spec.name, &rollout.from, promoting));
    let arm_view = Arm {
        variant: &arm.input.spec.name,
        strategy: &object.spec.strategy,
        paused: object.spec.paused,
        replicas,
        stable: &stable,
        wanted,
        sources,
        promoted: status::rolled_out(live, wanted, promoting) && found,
        canary: canary_pods(arm.input, &inputs.canaries, wanted),
        unschedulable: unschedulable(arm.input, wanted),
        routers_follow: follow,
        measured: arm
            .rollout
            .as_ref()
            .and_then(|rollout| measured(object, arm.input, inputs, rollout)),
        evaluation: arm.input.evaluation.clone(),
        command,
    };
    Some(rollout::advance(arm.rollout.as_ref(), &arm_view, now))
}

/// Why no node takes the arm's own pods of this revision.
fn unschedulable(input: &VariantInput<'_>, revision: &str) -> Option<String> {
    let mut pods = input.pods.iter().filter(|pod| revision_label(pod) == revision);
    pods.find_map(trouble::unscheduled)
}

fn canary_pods(input: &VariantInput<'_>, canaries: &[Deployment], revision: &str) -> CanaryPods {
    let pods: Vec<_> = input
        .canary_pods
        .iter()
        .filter(|pod| revision_label(pod) == revision)
        .collect();
    let ready = pods.iter().filter(|pod| status::is_ready(pod)).count();
    let mut own = canaries
        .iter()
        .filter(|canary| server::revision_of(canary) == revision && of_variant(canary, &input.spec.name));
    CanaryPods {
        ready: i32::try_from(ready).unwrap_or(i32::MAX),
        broken: pods.iter().find_map(|pod| trouble::given_up(pod)),
        unschedulable: pods.iter().find_map(|pod| trouble::unscheduled(pod)),
        trouble: pods
            .iter()
            .find_map(|pod| trouble::failure(pod))
            .or_else(|| own.find_map(trouble::refused)),
    }
}

fn of_variant(server: &Deployment, variant: &str) -> bool {
    server.labels().get(VARIANT_LABEL).map(String::as_str) == Some(variant)
}

fn measured(
    object: &ModelDeployment,
    input: &VariantInput<'_>,
    inputs: &Inputs<'_>,
    rollout: &RolloutStatus,
) -> Option<Measured> {
    let window = rollout::window(rollout, &object.spec.strategy);
    let name = &input.spec.name;
    if object.spec.traffic.gateway.is_some() {
        let series = input.served.series.as_ref();
        let series = series.filter(|_| input.served.window == window && !window.is_empty())?;
        return Some(Measured {
            answers: input.answers.clone(),
            uncounted: input.served.uncounted.clone(),
            ..Measured::of(series, name, &rollout.revision, &rollout.from, false)
        });
    }
    let answers: Vec<RouterStats> = inputs.stats.iter().flatten().cloned().collect();
    let same = !answers.is_empty() && answers.iter().all(|answer| answer.window == window);
    (same && !window.is_empty()).then(|| {
        let series = RouterStats::merge(answers);
        let mirrored = rollout.weight == 0;
        Measured {
            answers: input.answers.clone(),
            ..Measured::of(&series, name, &rollout.revision, &rollout.from, mirrored)
        }
    })
}

/// Sources that were resolved before, and that the spec still asks for.
pub fn remembered_sources(object: &ModelDeployment, variant: &str) -> Option<RevisionSources> {
    Some(known(object, variant)?.rollout.as_ref()?.sources.clone())
}

#[cfg(test)]
mod tests;
