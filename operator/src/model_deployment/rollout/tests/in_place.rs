//! Arms with one pod, and a node with room for one.

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::{properties::steps, *};

const ONE_BY_ONE: &str = "
canary: {steps: [{eval: {templateRef: {name: gate}}}, {setWeight: 20}, {pause: {}}, {setWeight: 100}]}
whenNoCapacity: Replace
";

/// A node with room for one pod, and what runs on it.
#[derive(Debug, Default)]
struct Node {
    old: i32,
    new: i32,
    /// Whether the arm's own pod is of the new revision.
    promoted: bool,
}

impl Node {
    /// Pods that are not asked for end; others start where that leaves room for them. A pod that another revision is to
    /// take the place of ends before that one starts only where it may.
    fn turn(&mut self, intent: &Intent) {
        if intent.promote && intent.in_place && !self.promoted {
            self.old = 0;
        }
        self.old = self.old.min(intent.stable_replicas);
        self.new = self.new.min(intent.canary_replicas);
        if self.old + self.new == 0 {
            self.new = intent.canary_replicas.min(1);
            self.old = (1 - self.new).min(intent.stable_replicas);
            self.promoted = intent.promote;
        }
    }
}

/// An arm with one pod on that node.
struct Lone {
    world: World,
    node: Node,
    second: i64,
}

impl Lone {
    fn new(yaml: &str) -> Self {
        let world = World {
            replicas: 1,
            ..World::new(yaml)
        };
        let node = Node {
            old: 1,
            ..Node::default()
        };
        Self {
            world,
            node,
            second: 0,
        }
    }

    /// Looks every two seconds until the rollout is over, or settled for a person; every status on the way.
    fn run(&mut self, mut status: Option<RolloutStatus>) -> Vec<Option<RolloutStatus>> {
        let mut way = Vec::new();
        for _ in 0..2000 {
            self.world.pods = CanaryPods {
                ready: self.node.new,
                unschedulable: (self.node.new == 0).then(|| "1 Insufficient nvidia.com/gpu".into()),
                ..CanaryPods::default()
            };
            let promoting = self.world.stable == self.world.wanted;
            self.world.stable_done = promoting && self.node.old == 1 && self.node.promoted;
            self.world.unschedulable =
                (promoting && !self.world.stable_done).then(|| "1 Insufficient nvidia.com/gpu".into());
            let decision = self.world.look(status.as_ref(), at(self.second));
            self.world.command = None;
            let settled = decision.status == status && decision.look.is_none();
            status = decision.status;
            let intent = intent(status.as_ref(), self.world.replicas);
            if intent.promote {
                self.world.stable = self.world.wanted.clone();
            }
            self.node.turn(&intent);
            way.push(status.clone());
            if status.is_none() || settled {
                break;
            }
            self.second += 2;
        }
        way
    }

    fn rest(&mut self, status: Option<RolloutStatus>) -> RolloutStatus {
        self.run(status).pop().flatten().unwrap()
    }
}

#[test]
fn the_only_pod_makes_room_and_the_new_revision_goes_through_every_step() {
    let mut lone = Lone::new(ONE_BY_ONE);
    let way = lone.run(None);
    let paused = way.last().unwrap().clone().unwrap();
    assert_eq!(
        (paused.reason.as_str(), paused.weight, paused.vacated),
        ("WaitingForPromotion", 20, true)
    );
    assert_eq!((lone.node.old, lone.node.new), (0, 1));
    assert!(paused.history[1].contains("in fact all"), "{:?}", paused.history);
    let said = |words: &str| way.iter().flatten().any(|status| status.message.contains(words));
    assert!(said("takes the place of the arm's only pod") && said("are held"));
    lone.world.command = Some(Command::Promote);
    let end = lone.run(Some(paused));
    assert_eq!(end.last(), Some(&None));
    assert_eq!(
        (lone.world.stable.as_str(), lone.node.old, lone.node.new),
        ("new", 1, 0),
        "the arm's own pod answers before the rollout is over"
    );
}

#[test]
fn the_only_pod_makes_room_for_its_own_successor() {
    for (yaml, ends) in [
        (
            "{canary: {steps: [{setWeight: 100}]}, whenNoCapacity: Replace}",
            true,
        ),
        ("canary: {steps: [{setWeight: 100}]}", false),
    ] {
        let mut lone = Lone::new(yaml);
        let way = lone.run(None);
        assert_eq!(way.last() == Some(&None), ends, "{:?}", way.last());
        let said = |words: &str| way.iter().flatten().any(|status| status.message.contains(words));
        assert!(said(if ends {
            "takes the place of the arm's only pod"
        } else {
            "or set strategy.whenNoCapacity"
        }));
        assert_eq!((lone.node.old, lone.node.promoted), (1, ends));
    }
}

#[test]
fn the_only_pod_stays_until_requests_would_be_held() {
    let mut lone = Lone::new(ONE_BY_ONE);
    lone.world.follow = false;
    let begun = lone.world.begun();
    lone.world.pods = CanaryPods {
        unschedulable: Some("1 Insufficient nvidia.com/gpu".into()),
        ..CanaryPods::default()
    };
    let waits = lone.world.look(Some(&begun), at(2)).status.unwrap();
    assert_eq!(waits.reason, "NoCapacity");
    assert_eq!(intent(Some(&waits), 1).stable_replicas, 1);
    lone.world.follow = true;
    let gone = lone.world.look(Some(&waits), at(4));
    assert_eq!(
        intent(gone.status.as_ref(), 1),
        Intent {
            canary_replicas: 1,
            stable_replicas: 0,
            promote: false,
            in_place: true,
            weight: 0,
            mirror: 0
        }
    );
    assert_eq!(gone.events.last().unwrap().reason, "NoCapacity");
}

#[test]
fn without_replace_the_only_pod_stays() {
    let mut lone = Lone::new("canary: {steps: [{setWeight: 20}]}");
    let way = lone.run(None);
    let end = way.last().unwrap().clone().unwrap();
    assert_eq!(
        (end.phase, end.reason.as_str()),
        (RolloutPhase::RolledBack, "ProgressDeadlineExceeded")
    );
    assert!(end.message.contains("set strategy.whenNoCapacity to Replace"));
    assert!(
        way.iter()
            .all(|status| intent(status.as_ref(), 1).stable_replicas == 1)
    );
}

#[test]
fn the_old_revision_takes_its_place_again_where_the_new_one_never_answers() {
    for (trouble, reason) in [(true, "RevisionFailed"), (false, "ProgressDeadlineExceeded")] {
        let mut lone = Lone::new(ONE_BY_ONE);
        let gone = lone
            .run(None)
            .into_iter()
            .flatten()
            .find(|status| status.vacated)
            .unwrap();
        lone.world.pods = CanaryPods {
            broken: trouble.then(|| "the architecture XLNet is not known".into()),
            ..CanaryPods::default()
        };
        let decision = lone.world.look(Some(&gone), at(9000));
        let back = decision.status.unwrap();
        assert_eq!(
            (back.phase, back.reason.as_str()),
            (RolloutPhase::RolledBack, reason)
        );
        assert_eq!(intent(Some(&back), 1), intent(None, 1));
        let told = &decision.events.last().unwrap().message;
        assert!(
            told.contains("takes its place again") && told.contains("are held"),
            "{told}"
        );
    }
}

#[test]
fn nobody_waits_for_a_person_without_a_pod_that_answers() {
    let mut lone = Lone::new(ONE_BY_ONE);
    lone.world.evaluation = Some(Evaluation::Inconclusive("accuracy 0.70 ± 0.10".into()));
    let paused = lone.rest(None);
    assert_eq!(paused.reason, "EvalInconclusive");
    assert!(
        paused.message.contains("comes back meanwhile"),
        "{}",
        paused.message
    );
    assert_eq!((lone.node.old, lone.node.new), (1, 0));
    // Whether there is room is seen anew.
    lone.world.command = Some(Command::Promote);
    let way = lone.run(Some(paused));
    let on = way[0].clone().unwrap();
    assert_eq!((on.step, on.vacated), (1, false));
    let paused = way.last().unwrap().clone().unwrap();
    assert_eq!(
        (paused.reason.as_str(), paused.weight),
        ("WaitingForPromotion", 20)
    );
}

#[test]
fn an_edit_takes_over_the_place_and_an_edit_back_gives_it_back() {
    let mut lone = Lone::new(ONE_BY_ONE);
    let paused = lone.rest(None);
    assert!(paused.vacated);
    lone.world.wanted = "newer".into();
    let over = lone.world.look(Some(&paused), at(lone.second)).status.unwrap();
    assert_eq!(
        (over.weight, over.vacated),
        (0, true),
        "the old pod would only have to go again"
    );
    lone.world.wanted = "old".into();
    let back = lone.world.look(Some(&over), at(lone.second));
    assert_eq!((back.status, intent(None, 1).stable_replicas), (None, 1));
}

proptest! {
    #[test]
    fn an_arm_with_one_pod_comes_to_an_end_on_a_node_with_room_for_one(
        yaml in steps(), errors in 0u64..100, requests in 0u64..100, verdict in 0u8..4, patient in any::<bool>()
    ) {
        let mut lone = Lone::new(&yaml);
        lone.world.strategy.when_no_capacity = WhenNoCapacity::Replace;
        lone.world.strategy.on_failure = if patient { OnFailure::Pause } else { OnFailure::Rollback };
        (lone.world.errors, lone.world.requests) = (errors.min(requests), requests);
        lone.world.evaluation = Some(match verdict {
            0 => Evaluation::Passed("0.9".into()),
            1 => Evaluation::Failed("0.1".into()),
            2 => Evaluation::Inconclusive("0.5".into()),
            _ => Evaluation::Running("half".into()),
        });
        let mut status = None;
        // A person answers every question with yes.
        for _ in 0..20 {
            status = lone.run(status).pop().flatten();
            let Some(waits) = &status else { break };
            prop_assert!(!waits.message.is_empty(), "a reason is stated: {:?}", waits);
            if waits.phase != RolloutPhase::Paused {
                break;
            }
            prop_assert!(lone.node.old + lone.node.new == 1, "somebody answers: {:?}", waits);
            prop_assert!(lone.node.old == 1 || waits.weight > 0, "who has a share: {:?}", waits);
            lone.world.command = Some(Command::Promote);
        }
        match status {
            None => prop_assert_eq!((lone.world.stable.as_str(), lone.node.old), ("new", 1)),
            Some(status) => {
                prop_assert_eq!(status.phase, RolloutPhase::RolledBack);
                lone.node.turn(&intent(Some(&status), 1));
                prop_assert_eq!((lone.world.stable.as_str(), lone.node.old), ("old", 1));
            }
        }
    }
}
