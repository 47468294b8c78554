//! Rollouts against a simulated cluster that may be slow, full, or wrong.

use super::{Strategy, *};
use crate::{
    crd::{OnFailure, RevisionSources, WhenNoCapacity},
    model_deployment::analysis::{Figures, Measured},
};

mod in_place;
mod properties;

const CAREFUL: &str = "
canary:
  steps:
  - eval: {templateRef: {name: gate}}
  - setWeight: 10
  - analysis: {duration: 1m, minRequests: 20, metrics: [{name: errorRate, max: 0.05}]}
  - pause: {duration: 5m}
  - setWeight: 50
  - pause: {}
  - setWeight: 100
";

fn strategy(yaml: &str) -> Strategy {
    serde_saphyr::from_str(yaml).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// What the cluster shows, and how it answers what is asked of it.
#[derive(Clone, Debug)]
struct World {
    strategy: Strategy,
    paused: bool,
    replicas: i32,
    stable: String,
    wanted: String,
    stable_done: bool,
    pods: CanaryPods,
    unschedulable: Option<String>,
    evaluation: Option<Evaluation>,
    errors: u64,
    requests: u64,
    follow: bool,
    command: Option<Command>,
    sources: RevisionSources,
}

impl World {
    fn new(yaml: &str) -> Self {
        Self {
            strategy: strategy(yaml),
            paused: false,
            replicas: 4,
            stable: "old".into(),
            wanted: "new".into(),
            stable_done: false,
            pods: CanaryPods {
                ready: 4,
                ..CanaryPods::default()
            },
            unschedulable: None,
            evaluation: Some(Evaluation::Passed("accuracy 0.80".into())),
            errors: 0,
            requests: 100,
            follow: true,
            command: None,
            sources: RevisionSources::default(),
        }
    }

    fn look(&self, status: Option<&RolloutStatus>, now: Timestamp) -> Decision {
        let figures = Figures {
            requests: self.requests,
            errors: self.errors,
            ..Figures::default()
        };
        let arm = Arm {
            variant: "control",
            strategy: &self.strategy,
            paused: self.paused,
            replicas: self.replicas,
            stable: &self.stable,
            wanted: &self.wanted,
            sources: &self.sources,
            promoted: self.stable_done,
            canary: self.pods.clone(),
            unschedulable: self.unschedulable.clone(),
            routers_follow: self.follow,
            measured: Some(Measured {
                canary: figures.clone(),
                stable: figures,
                ..Measured::default()
            }),
            evaluation: self.evaluation.clone(),
            command: self.command,
        };
        advance(status, &arm, now)
    }

    /// The first look, and what it begins.
    fn begun(&self) -> RolloutStatus {
        self.look(None, at(0)).status.unwrap()
    }

    /// Looks as often as the decisions ask for, until nothing is asked for or `until` has passed.
    fn run(
        &mut self,
        mut status: Option<RolloutStatus>,
        from: i64,
        until: i64,
    ) -> (Option<RolloutStatus>, i64) {
        let mut second = from;
        while second <= until {
            let decision = self.look(status.as_ref(), at(second));
            self.command = None;
            let settled = decision.status == status && decision.look.is_none();
            status = decision.status;
            if intent(status.as_ref(), self.replicas).promote {
                (self.stable, self.stable_done) = (self.wanted.clone(), true);
            }
            if status.is_none() || settled {
                break;
            }
            second += i64::try_from(decision.look.unwrap_or(SOON).as_secs().max(1)).unwrap();
        }
        (status, second)
    }
}

#[test]
fn a_good_revision_goes_through_every_step_and_waits_where_it_was_told_to() {
    let mut world = World::new(CAREFUL);
    let (status, second) = world.run(None, 0, 3600);
    let status = status.unwrap();
    assert_eq!(
        (status.phase, status.reason.as_str()),
        (RolloutPhase::Paused, "WaitingForPromotion")
    );
    assert_eq!((status.step, status.weight), (5, 50));
    assert!(
        second >= 60 + 300,
        "the analysis takes a minute and the pause five, not {second} s"
    );
    assert!(
        status.history[0].contains("accuracy 0.80"),
        "{:?}",
        status.history
    );
    world.command = Some(Command::Promote);
    let (end, _) = world.run(Some(status), second, 7200);
    assert_eq!(end, None);
    assert_eq!(world.stable, "new");
}

#[test]
fn a_revision_that_misses_its_bound_never_gets_traffic() {
    let mut world = World::new(CAREFUL);
    world.evaluation = Some(Evaluation::Failed("accuracy 0.41 misses min 0.70".into()));
    let (status, _) = world.run(None, 0, 3600);
    let status = status.unwrap();
    assert_eq!(
        (status.phase, status.reason.as_str()),
        (RolloutPhase::RolledBack, "EvalFailed")
    );
    assert!(
        status.message.contains("0.41 misses min 0.70"),
        "{}",
        status.message
    );
    assert_eq!(intent(Some(&status), 4), intent(None, 4), "nothing is left of it");
    // It is not tried again by itself, only on request.
    assert_eq!(world.look(Some(&status), at(9000)).status.as_ref(), Some(&status));
    world.evaluation = Some(Evaluation::Passed("accuracy 0.80".into()));
    world.command = Some(Command::Retry);
    assert_eq!(
        world.look(Some(&status), at(9000)).status.unwrap().phase,
        RolloutPhase::Progressing
    );
}

#[test]
fn what_cannot_be_told_pauses_for_a_person() {
    let mut world = World::new(CAREFUL);
    world.requests = 3;
    let (status, _) = world.run(None, 0, 3600);
    let status = status.unwrap();
    assert_eq!(
        (status.phase, status.reason.as_str()),
        (RolloutPhase::Paused, "AnalysisInconclusive")
    );
    assert!(status.message.contains("only 3 requests") && status.message.contains("slipway.dev/promote"));
    assert_eq!(status.weight, 10, "it stays at the share that it had");
    world.command = Some(Command::Abort);
    let aborted = world.look(Some(&status), at(4000));
    assert_eq!(aborted.status.unwrap().phase, RolloutPhase::RolledBack);
}

#[test]
fn errors_give_the_share_back_at_once() {
    let mut world = World::new(CAREFUL);
    world.errors = 60;
    let (status, second) = world.run(None, 0, 3600);
    let status = status.unwrap();
    assert_eq!(
        (status.phase, status.reason.as_str()),
        (RolloutPhase::RolledBack, "AnalysisFailed")
    );
    assert!(second < 60, "the analysis did not wait for its end: {second} s");
    let mut patient = World::new(&format!("{CAREFUL}onFailure: Pause\n"));
    patient.errors = 60;
    let status = patient.run(None, 0, 3600).0.unwrap();
    assert_eq!((status.phase, status.weight), (RolloutPhase::Paused, 10));
}

#[test]
fn no_share_before_there_are_pods_for_it_and_routers_that_follow() {
    let mut world = World::new("canary: {steps: [{setWeight: 50}, {pause: {}}]}");
    world.pods.ready = 1;
    let (status, _) = world.run(None, 0, 60);
    let status = status.unwrap();
    assert_eq!((status.weight, intent(Some(&status), 4).canary_replicas), (0, 2));
    assert_eq!(status.message, "1 of 2 pods of the new revision are ready");
    (world.pods.ready, world.follow) = (2, false);
    let status = world.run(Some(status), 60, 120).0.unwrap();
    assert_eq!(
        (status.weight, status.step, status.reason.as_str()),
        (50, 0, "ShiftingTraffic")
    );
    world.follow = true;
    let status = world.run(Some(status), 120, 180).0.unwrap();
    assert_eq!((status.step, status.phase), (1, RolloutPhase::Paused));
}

#[test]
fn a_step_that_makes_no_progress_is_given_up() {
    let mut world = World::new("{canary: {steps: [{setWeight: 50}]}, progressDeadline: 2m}");
    (world.pods.ready, world.pods.trouble) = (0, Some("the Hub is away".into()));
    let (status, second) = world.run(None, 0, 3600);
    let status = status.unwrap();
    assert_eq!(
        (status.phase, status.reason.as_str()),
        (RolloutPhase::RolledBack, "ProgressDeadlineExceeded")
    );
    assert!(
        status
            .message
            .contains("0 of 2 pods of the new revision are ready: the Hub is away"),
        "{}",
        status.message
    );
    assert!((120..130).contains(&second), "{second}");
}

#[test]
fn a_gate_without_a_template_says_so_until_there_is_one_or_the_deadline_has_passed() {
    let mut world =
        World::new("{canary: {steps: [{eval: {templateRef: {name: gate}}}]}, progressDeadline: 2m}");
    world.evaluation = Some(Evaluation::Unusable("there is no EvalRun gate".into()));
    let status = world.look(Some(&world.begun()), at(10)).status.unwrap();
    assert_eq!(
        (status.phase, status.reason.as_str(), status.message.as_str()),
        (
            RolloutPhase::Progressing,
            "EvalTemplate",
            "there is no EvalRun gate"
        )
    );
    let late = world.look(Some(&status), at(130)).status.unwrap();
    assert_eq!(
        (late.phase, late.reason.as_str()),
        (RolloutPhase::RolledBack, "ProgressDeadlineExceeded")
    );
    assert!(
        late.message.contains("there is no EvalRun gate"),
        "{}",
        late.message
    );
    world.evaluation = Some(Evaluation::Passed("accuracy 0.80".into()));
    assert_eq!(world.look(Some(&status), at(20)).status.unwrap().step, 1);
}

#[test]
fn a_revision_that_crashes_is_given_up_at_once() {
    let mut world = World::new(CAREFUL);
    world.pods = CanaryPods {
        broken: Some("the architecture XLNet is not known".into()),
        ..CanaryPods::default()
    };
    let decision = world.look(Some(&world.begun()), at(1));
    let status = decision.status.unwrap();
    assert_eq!(
        (status.phase, status.reason.as_str()),
        (RolloutPhase::RolledBack, "RevisionFailed")
    );
    assert!(
        decision
            .events
            .iter()
            .any(|event| event.message.contains("XLNet")),
        "{:?}",
        decision.events
    );
}

#[test]
fn without_room_it_says_so_and_replaces_in_place_where_that_is_allowed() {
    let mut world = World::new("canary: {steps: [{setWeight: 25}]}");
    world.pods = CanaryPods {
        unschedulable: Some("1 Insufficient nvidia.com/gpu".into()),
        ..CanaryPods::default()
    };
    let status = world.look(Some(&world.begun()), at(1)).status.unwrap();
    assert_eq!(status.reason, "NoCapacity");
    assert!(
        status.message.contains("Insufficient nvidia.com/gpu") && status.message.contains("whenNoCapacity")
    );
    assert_eq!(intent(Some(&status), 4).stable_replicas, 4);
    world.strategy.when_no_capacity = WhenNoCapacity::Replace;
    let status = world.look(Some(&status), at(2)).status.unwrap();
    assert_eq!(
        intent(Some(&status), 4),
        Intent {
            canary_replicas: 1,
            stable_replicas: 3,
            promote: false,
            in_place: true,
            weight: 0,
            mirror: 0
        }
    );
    // Of several pods one stays, whatever the share.
    let all = RolloutStatus {
        target: 100,
        ..status
    };
    assert_eq!(
        (
            intent(Some(&all), 4).canary_replicas,
            intent(Some(&all), 4).stable_replicas
        ),
        (3, 1)
    );
}

#[test]
fn an_edit_starts_over_and_an_edit_back_ends_it() {
    let mut world = World::new(CAREFUL);
    let status = world.run(None, 0, 3600).0.unwrap();
    assert_eq!(status.weight, 50);
    world.wanted = "newer".into();
    let decision = world.look(Some(&status), at(4000));
    let over = decision.status.unwrap();
    assert_eq!(
        (over.revision.as_str(), over.from.as_str(), over.weight),
        ("newer", "old", 0)
    );
    assert!(
        decision.events[0].message.contains("in place of revision new"),
        "{:?}",
        decision.events
    );
    world.wanted = "old".into();
    let back = world.look(Some(&over), at(4002));
    assert_eq!(
        (back.status, back.events[0].reason.as_str()),
        (None, "RolloutCancelled")
    );
}

#[test]
fn a_pause_by_the_spec_holds_the_step_and_begins_it_again() {
    let mut world = World::new("{canary: {steps: [{setWeight: 50}]}, progressDeadline: 1m}");
    world.pods.ready = 0;
    let status = world.begun();
    world.paused = true;
    let held = world.look(Some(&status), at(10)).status.unwrap();
    assert_eq!(
        (held.phase, held.reason.as_str()),
        (RolloutPhase::Paused, "SpecPaused")
    );
    assert_eq!(
        world.look(Some(&held), at(7200)).status.as_ref(),
        Some(&held),
        "a pause is never overdue"
    );
    world.paused = false;
    let on = world.look(Some(&held), at(7200)).status.unwrap();
    assert_eq!(
        (on.phase, on.step_started.0),
        (RolloutPhase::Progressing, at(7200))
    );
}

#[test]
fn each_attempt_has_an_evaluation_of_its_own() {
    let world = World::new(CAREFUL);
    let first = world.look(None, at(0)).status.unwrap();
    let again = world.look(None, at(100)).status.unwrap();
    let name = |status| eval_run_name("web", "control", status);
    assert_eq!(name(&first), name(&first));
    assert_ne!(name(&first), name(&again));
    let long = eval_run_name(&"n".repeat(50), &"v".repeat(30), &first);
    assert!(long.len() <= crate::crd::MAX_NAME, "{long}");
}

#[test]
fn what_was_seen_of_one_step_never_ends_another() {
    // The evaluation that passed is that of the first gate, and of the revision before the edit.
    let mut world =
        World::new("canary: {steps: [{eval: {templateRef: {name: a}}}, {eval: {templateRef: {name: b}}}]}");
    let first = world.begun();
    let second = world.look(Some(&first), at(2)).status.unwrap();
    assert_eq!((first.step, second.step), (0, 1));
    world.wanted = "newer".into();
    let edited = world.look(Some(&second), at(4)).status.unwrap();
    assert_eq!((edited.revision.as_str(), edited.step), ("newer", 0));
    assert_ne!(
        eval_run_name("web", "control", &first),
        eval_run_name("web", "control", &second)
    );
}
