//! What holds whatever happens.

use proptest::{
    prelude::{Just, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest},
    strategy::Strategy as Generator,
};

use super::*;

pub(super) fn steps() -> impl Generator<Value = String> {
    let step = prop_oneof![
        (0u32..=100).prop_map(|weight| format!("{{setWeight: {weight}}}")),
        (0u32..=100).prop_map(|percent| format!("{{mirror: {{percent: {percent}}}}}")),
        Just("{pause: {}}".to_owned()),
        (1u32..300).prop_map(|seconds| format!("{{pause: {{duration: {seconds}s}}}}")),
        Just(
            "{analysis: {duration: 30s, minRequests: 10, metrics: [{name: errorRate, max: 0.1}]}}".to_owned()
        ),
        Just("{eval: {templateRef: {name: gate}}}".to_owned()),
    ];
    prop::collection::vec(step, 1..8).prop_map(|steps| {
        format!(
            "{{canary: {{steps: [{}]}}, progressDeadline: 3m}}",
            steps.join(", ")
        )
    })
}

#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent things that may happen")]
struct Turn {
    seconds: i64,
    ready: i32,
    full: bool,
    broken: bool,
    follow: bool,
    errors: u64,
    requests: u64,
    evaluation: u8,
    command: u8,
    edit: bool,
    paused: bool,
}

fn turns() -> impl Generator<Value = Vec<Turn>> {
    let turn = (
        (1i64..120, 0i32..=4, any::<bool>(), 0u8..20, any::<bool>()),
        (0u64..30, 0u64..60, 0u8..5, 0u8..12, 0u8..15, 0u8..10),
    )
        .prop_map(
            |(
                (seconds, ready, full, broken, follow),
                (errors, requests, evaluation, command, edit, paused),
            )| Turn {
                seconds,
                ready,
                full,
                broken: broken == 0,
                follow,
                errors: errors.min(requests),
                requests,
                evaluation,
                command,
                edit: edit == 0,
                paused: paused == 0,
            },
        );
    prop::collection::vec(turn, 1..40)
}

/// Every look of a run of an arm with so many pods under these observations. `keep` stands for what becomes of the status between two looks.
fn replay(
    yaml: &str,
    (replicas, replace): (i32, bool),
    turns: &[Turn],
    keep: impl Fn(RolloutStatus) -> RolloutStatus,
) -> Vec<Decision> {
    let mut world = World::new(yaml);
    world.replicas = replicas;
    if replace {
        world.strategy.when_no_capacity = WhenNoCapacity::Replace;
    }
    let (mut status, mut second, mut revision, mut decisions) = (None, 0, 0, Vec::new());
    for turn in turns {
        second += turn.seconds;
        world.pods = CanaryPods {
            ready: turn.ready,
            broken: turn.broken.then(|| "crashes".into()),
            unschedulable: turn.full.then(|| "no room".into()),
            trouble: None,
        };
        world.unschedulable = turn.full.then(|| "no room".into());
        (world.follow, world.errors, world.requests) = (turn.follow, turn.errors, turn.requests);
        world.paused = turn.paused;
        world.evaluation = match turn.evaluation {
            0 => None,
            1 => Some(Evaluation::Running("half".into())),
            2 => Some(Evaluation::Failed("0.1".into())),
            3 => Some(Evaluation::Inconclusive("0.5".into())),
            _ => Some(Evaluation::Passed("0.9".into())),
        };
        world.command = match turn.command {
            0 => Some(Command::Abort),
            1 => Some(Command::Retry),
            2..4 => Some(Command::Promote),
            _ => None,
        };
        if turn.edit {
            revision += 1;
            world.wanted = format!("new{revision}");
        }
        let decision = world.look(status.as_ref(), at(second));
        status = decision.status.clone().map(&keep);
        if intent(status.as_ref(), world.replicas).promote {
            world.stable = world.wanted.clone();
            world.stable_done = turn.ready >= replicas;
        } else {
            world.stable_done = false;
        }
        decisions.push(decision);
    }
    decisions
}

proptest! {
    #[test]
    fn shares_and_pods_stay_within_bounds_whatever_happens(
        yaml in steps(), turns in turns(), replace in any::<bool>(), replicas in prop::sample::select(vec![0, 1, 2, 4])
    ) {
        for decision in replay(&yaml, (replicas, replace), &turns, |status| status) {
            let intent = intent(decision.status.as_ref(), replicas);
            prop_assert!(intent.weight <= 100 && intent.mirror <= 100);
            let (old, new) = (intent.stable_replicas, intent.canary_replicas);
            prop_assert!(replace || old >= replicas, "the stable revision keeps its pods");
            prop_assert!(replicas < 2 || old >= 1, "of several, one stays");
            prop_assert!(replicas == 0 || old + new >= 1, "somebody is there to answer: {decision:?}");
            prop_assert!(!intent.in_place || old + new <= replicas.max(1), "in place there are no more pods than before");
            prop_assert!(intent.weight == 0 || intent.promote || new >= needed(replicas, intent.weight).min((replicas - 1).max(1)));
            prop_assert!(
                intent.in_place || intent.weight == 0 || new >= needed(replicas, intent.weight), "{decision:?}"
            );
            if let Some(status) = &decision.status {
                prop_assert!(!status.reason.is_empty(), "{status:?}");
                prop_assert!(status.history.len() <= HISTORY);
                if matches!(status.phase, RolloutPhase::Paused | RolloutPhase::RolledBack) {
                    prop_assert!(!status.message.is_empty(), "a reason is stated: {status:?}");
                }
                if status.phase == RolloutPhase::RolledBack {
                    prop_assert_eq!((intent.weight, intent.mirror, intent.canary_replicas), (0, 0, 0));
                }
            }
        }
    }

    #[test]
    fn replayed_observations_and_restarts_change_nothing(
        yaml in steps(), turns in turns(), replace in any::<bool>(), replicas in prop::sample::select(vec![0, 1, 4])
    ) {
        let straight = replay(&yaml, (replicas, replace), &turns, |status| status);
        let restarted = replay(&yaml, (replicas, replace), &turns, |status| {
            // As the apiserver keeps it for an operator that starts anew.
            serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap()
        });
        prop_assert_eq!(straight, restarted);
    }

    #[test]
    fn every_run_comes_to_an_end_with_a_reason(
        yaml in steps(), errors in 0u64..100, requests in 0u64..100, ready in 0i32..=4, verdict in 0u8..3
    ) {
        let mut world = World::new(&yaml);
        (world.errors, world.requests) = (errors.min(requests), requests);
        world.pods.ready = ready;
        world.evaluation = Some(match verdict {
            0 => Evaluation::Passed("0.9".into()),
            1 => Evaluation::Failed("0.1".into()),
            _ => Evaluation::Running("half".into()),
        });
        let (mut status, mut second) = world.run(None, 0, 20_000);
        // A person answers every question with yes.
        for _ in 0..10 {
            match &status {
                Some(paused) if paused.phase == RolloutPhase::Paused => {
                    world.command = Some(Command::Promote);
                    (status, second) = world.run(Some(paused.clone()), second, second + 20_000);
                }
                _ => break,
            }
        }
        match status {
            None => prop_assert_eq!(world.stable.as_str(), "new"),
            Some(status) => prop_assert!(
                status.phase == RolloutPhase::RolledBack && !status.message.is_empty(), "{:?}", status
            ),
        }
    }
}
