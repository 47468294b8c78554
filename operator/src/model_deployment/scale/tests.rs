//! Loads that come and go, and what follows.

use k8s_openapi::api::apps::v1::Deployment;
use proptest::prelude::*;
use slipway_contract::{Mirrored, RevisionStats};

use super::*;
use crate::{
    crd::ModelDeploymentSpec,
    model_deployment::{
        plan::plan,
        routes,
        tests::{desired, inputs, now, object, settings, settle, status},
    },
};

const DELAY: i64 = 300;

fn asked(min: i32, max: i32) -> Scaling {
    let yaml = format!("{{minReplicas: {min}, maxReplicas: {max}}}");
    let scaling: Scaling = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(
        (scaling.target_requests, signed(scaling.scale_down_delay)),
        (8, SignedDuration::from_secs(DELAY))
    );
    scaling
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn load(requests: u64) -> Load {
    Load {
        requests,
        idle: Span::ZERO,
        complete: true,
    }
}

fn idle(seconds: u64) -> Load {
    Load {
        requests: 0,
        idle: Span::from_secs(seconds),
        complete: true,
    }
}

fn having(scaling: Scaling, replicas: i32) -> Arm {
    Arm {
        scaling,
        floor: 0,
        apart: None,
        before: ScalingStatus {
            desired_replicas: replicas,
            ..ScalingStatus::default()
        },
        ready_since: Some(at(-10_000)),
    }
}

/// The same arm, after a decision.
fn after(arm: &Arm, before: ScalingStatus) -> Arm {
    Arm {
        before,
        ..arm.clone()
    }
}

#[test]
fn a_request_that_waits_starts_a_pod_and_more_requests_more() {
    let arm = having(asked(0, 4), 0);
    for (requests, pods) in [(0, 0), (1, 1), (8, 1), (9, 2), (30, 4), (1000, 4)] {
        assert_eq!(
            decide(&arm, &load(requests), at(0)).desired_replicas,
            pods,
            "{requests}"
        );
    }
}

#[test]
fn fewer_pods_come_after_the_delay_and_as_many_as_were_needed_in_it() {
    let mut arm = having(asked(1, 4), 4);
    for (seconds, requests, pods) in [
        (0, 8, 4),
        (100, 17, 4),
        (299, 1, 4),
        (300, 1, 3),
        (599, 1, 3),
        (600, 1, 1),
    ] {
        let told = decide(&arm, &load(requests), at(seconds));
        assert_eq!(told.desired_replicas, pods, "{seconds}: {told:?}");
        arm = after(&arm, told);
    }
    assert_eq!(arm.before.lower_since, None);
    // A need in between starts the delay anew.
    arm.before = decide(&having(asked(1, 4), 4), &load(1), at(0));
    arm.before = decide(&arm, &load(25), at(299));
    assert_eq!(decide(&arm, &load(1), at(301)).desired_replicas, 4);
}

#[test]
fn there_are_no_pods_once_no_request_came_for_the_delay() {
    let arm = having(asked(0, 4), 1);
    for (load, pods) in [(idle(299), 1), (idle(300), 0), (load(1), 1)] {
        let told = decide(&arm, &load, at(0));
        assert_eq!(told.desired_replicas, pods, "{load:?}");
        assert_eq!(told.lower_since, None, "waiting for it writes nothing");
    }
    assert_eq!(
        decide(&having(asked(0, 4), 3), &idle(300), at(0)).desired_replicas,
        0
    );
    assert_eq!(
        decide(&having(asked(1, 4), 1), &idle(9000), at(0)).desired_replicas,
        1
    );
    // A rollout needs one.
    let rolled = Arm {
        floor: 1,
        ..having(asked(0, 4), 1)
    };
    assert_eq!(decide(&rolled, &idle(9000), at(0)).desired_replicas, 1);
}

#[test]
fn a_pod_that_loads_or_has_just_loaded_is_not_taken_away() {
    let arm = |ready_since| Arm {
        ready_since,
        ..having(asked(0, 1), 1)
    };
    for (ready, pods) in [(None, 1), (Some(at(-299)), 1), (Some(at(-300)), 0)] {
        assert_eq!(
            decide(&arm(ready), &idle(9000), at(0)).desired_replicas,
            pods,
            "{ready:?}"
        );
    }
}

#[test]
fn the_load_is_what_all_routers_say_of_a_variant() {
    let series = |variant: &str, in_flight, queued, idle_seconds| RevisionStats {
        variant: variant.into(),
        in_flight,
        queued,
        idle_seconds,
        ..RevisionStats::default()
    };
    let answer = |series| {
        Some(RouterStats {
            series,
            ..RouterStats::default()
        })
    };
    let copied = RevisionStats {
        mirrored: Some(Mirrored {
            in_flight: 5,
            ..Mirrored::default()
        }),
        ..series("a", 1, 0, 0)
    };
    let one = answer(vec![series("a", 3, 2, 0), copied, series("b", 9, 9, 0)]);
    let two = answer(vec![series("a", 0, 0, 40)]);
    let sum = |answers: &[Option<RouterStats>]| Load::of(answers, "a", None);
    assert_eq!(
        sum(&[one.clone(), two.clone()]),
        Load {
            requests: 11,
            idle: Span::ZERO,
            complete: true
        }
    );
    assert_eq!(sum(std::slice::from_ref(&two)).idle, Span::from_secs(40));
    for silent in [
        vec![],
        vec![None, one.clone()],
        vec![two, answer(vec![series("b", 0, 0, 0)])],
    ] {
        assert!(!sum(&silent).complete, "{silent:?}");
    }
    assert_eq!(sum(&[None, one]).requests, 11);
}

#[test]
fn what_evaluations_ask_of_a_revision_without_a_share_wakes_nobody() {
    let web = object(ONE);
    let seen = inputs(&web);
    let rolled = |target: u32| -> RolloutStatus {
        serde_json::from_value(serde_json::json!({
            "revision": "new", "from": "old", "sources": {"asked": "", "model": {}}, "phase": "Progressing",
            "step": 0, "stepStarted": at(0), "started": at(0), "target": target,
        }))
        .unwrap()
    };
    let asked = |rollout: &RolloutStatus| {
        let mut arm = arm(&web, &seen.variants[0], Some(rollout)).unwrap();
        arm.before.desired_replicas = 0;
        let series = |revision: &str, in_flight| RevisionStats {
            variant: "control".into(),
            revision: revision.into(),
            in_flight,
            ..RevisionStats::default()
        };
        let answer = |own| {
            [Some(RouterStats {
                series: vec![series("new", 9), series("old", own)],
                ..RouterStats::default()
            })]
        };
        [0, 1].map(|own| {
            let load = Load::of(&answer(own), "control", arm.apart.as_deref());
            decide(&arm, &load, at(1)).desired_replicas
        })
    };
    assert_eq!(asked(&rolled(0)), [0, 1], "only its own requests wake it");
    assert_eq!(
        asked(&rolled(10)),
        [1, 1],
        "a share needs a pod of the old revision too"
    );
}

const ONE: &str = "
metadata: {name: web, namespace: models, uid: u, generation: 3}
spec:
  variants:
  - {name: control, model: {hub: {repo: a/old}}, scaling: {minReplicas: 0, holdTimeout: 90s}}
  strategy: {canary: {steps: [{setWeight: 50}, {pause: {}}]}}
";

#[test]
fn an_arm_without_pods_is_ready_and_a_new_revision_passes_its_steps_beside_none() {
    let mut web = object(ONE);
    let before = web.clone();
    let mut seen = inputs(&before);
    let first = desired(&before, &seen);
    let replicas =
        |desired: &super::super::desired::Desired| desired.servers[0].spec.as_ref().unwrap().replicas;
    assert_eq!(
        replicas(&first),
        Some(1),
        "the first pod shows that the model can be served"
    );
    settle(&mut seen, &first);
    web.status = Some(status(&before, &seen, &first).0);
    assert_eq!(
        web.status.as_ref().unwrap().variants[0]
            .scaling
            .as_ref()
            .unwrap()
            .desired_replicas,
        1
    );

    web.status.as_mut().unwrap().variants[0]
        .scaling
        .as_mut()
        .unwrap()
        .desired_replicas = 0;
    let asleep = web.clone();
    let mut seen = inputs(&asleep);
    let none = desired(&asleep, &seen);
    assert_eq!(replicas(&none), Some(0));
    settle(&mut seen, &none);
    for input in &mut seen.variants {
        input.pods.clear();
    }
    let (told, _) = status(&asleep, &seen, &none);
    assert_eq!(
        told.variants[0].message,
        "has no pods; the next request is held until one is ready"
    );
    assert!(
        crate::conditions::is_true(&told.conditions, crate::conditions::kind::READY),
        "{told:?}"
    );
    let hold = |object: &ModelDeployment, seen: &Inputs<'_>| {
        let plan = plan(object, seen, &settings(), now());
        let route = routes::table(object, &plan).variants[0].clone();
        (route.hold.unwrap(), route.revision)
    };
    let (held, revision) = hold(&asleep, &seen);
    assert_eq!((held.seconds, held.limit), (90, HELD));
    assert_eq!(
        revision, told.variants[0].revision,
        "who waits is told what will answer"
    );

    web.spec.variants[0].resources = serde_saphyr::from_str("limits: {memory: 3Gi}").unwrap();
    let mut changed = inputs(&web);
    changed.variants[0].server = seen.variants[0].server.take();
    let gated = desired(&web, &changed);
    let pods = |server: &Deployment| server.spec.as_ref().unwrap().replicas;
    assert_eq!(
        gated.held,
        [("web-control".to_owned(), 0)],
        "the old revision sleeps on"
    );
    assert_eq!(gated.canaries.iter().map(pods).collect::<Vec<_>>(), [Some(1)]);
    // Without steps nothing is to be asked first.
    let mut plain = web.clone();
    plain.spec.strategy.canary = None;
    let swapped = desired(&plain, &changed);
    assert!(swapped.canaries.is_empty() && swapped.held.is_empty());
    assert_eq!((swapped.servers.len(), replicas(&swapped)), (1, Some(0)));
}

#[test]
fn the_subresource_scales_a_single_variant_that_says_nothing_itself() {
    let yaml = "
metadata: {name: web, namespace: models, uid: u, generation: 3}
spec: {replicas: 3, variants: [{name: control, model: {hub: {repo: a/old}}}]}
";
    let web = object(yaml);
    let seen = inputs(&web);
    let children = desired(&web, &seen);
    assert_eq!(children.servers[0].spec.as_ref().unwrap().replicas, Some(3));
    let mut settled = inputs(&web);
    settle(&mut settled, &children);
    let (told, _) = status(&web, &settled, &children);
    assert_eq!(told.replicas, Some(3));
    assert_eq!(
        told.selector.as_deref(),
        Some("slipway.dev/model-deployment=web,slipway.dev/track=stable,slipway.dev/variant=control")
    );
    assert_eq!(
        hold(&web, &web.spec.variants[0], 100).unwrap().seconds,
        HOLD_SECONDS
    );
    let own = object(
        &yaml
            .replace("replicas: 3, ", "")
            .replace("}}}]", "}}, replicas: 2}]"),
    );
    assert_eq!(
        (fixed(&own, &own.spec.variants[0]), by_subresource(&own)),
        (2, None)
    );
    assert_eq!(hold(&own, &own.spec.variants[0], 100), None);
    let strategy = "{whenNoCapacity: Replace, canary: {steps: [{setWeight: 50}]}}";
    let replaced = ModelDeployment {
        spec: ModelDeploymentSpec {
            strategy: serde_saphyr::from_str(strategy).unwrap(),
            ..own.spec.clone()
        },
        ..own.clone()
    };
    let held = |percent| hold(&replaced, &replaced.spec.variants[0], percent).map(|hold| hold.seconds);
    assert_eq!(
        (held(100), held(80)),
        (Some(HOLD_SECONDS), None),
        "other arms answer where there are some"
    );
}

fn loads() -> impl Strategy<Value = Load> {
    (0u64..200, 0u64..1000, any::<bool>()).prop_map(|(requests, idle, complete)| Load {
        requests: requests.saturating_sub(100),
        idle: Span::from_secs(idle),
        complete,
    })
}

proptest! {
    #[test]
    fn no_sequence_of_loads_breaks_a_bound(
        min in 0i32..4,
        more in 0i32..5,
        start in 0i32..12,
        looks in proptest::collection::vec((loads(), 0i64..400), 1..60),
    ) {
        let max = (min + more).max(1);
        let mut arm = having(asked(min, max), start);
        let mut time = 0;
        for (load, pause) in looks {
            time += pause;
            let told = decide(&arm, &load, at(time));
            let have = arm.before.desired_replicas.clamp(min, max);
            let need = i32::try_from(load.requests.div_ceil(8)).unwrap().clamp(min, max);
            prop_assert!((min..=max).contains(&told.desired_replicas));
            prop_assert!(told.desired_replicas >= need, "{load:?}: {told:?}");
            prop_assert!(load.requests == 0 || told.desired_replicas > 0);
            prop_assert!(load.complete || told.desired_replicas >= have, "a router was silent");
            if told.desired_replicas < have {
                let long = arm.before.lower_since.as_ref().map(|since| at(time).duration_since(since.0));
                let asleep = load.requests == 0 && load.idle >= Span::from_mins(5);
                prop_assert!(asleep || long.is_some_and(|long| long.as_secs() >= DELAY));
                prop_assert!(asleep || Some(told.desired_replicas) >= arm.before.lower_peak);
            }
            // An operator that restarts reads its status, and looks at the same moment again.
            let read: ScalingStatus = serde_json::from_value(serde_json::to_value(&told).unwrap()).unwrap();
            prop_assert_eq!(&read, &told);
            arm = after(&arm, told);
            let again = decide(&arm, &load, at(time));
            prop_assert!(again.desired_replicas == arm.before.desired_replicas, "{again:?}");
            prop_assert_eq!(&decide(&after(&arm, again.clone()), &load, at(time)), &again);
        }
    }
}
