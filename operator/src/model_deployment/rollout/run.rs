//! One look at a rollout: the step under way, and what ends it. Pure.

use std::time::Duration as Span;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Duration;

use super::{
    Arm, Command, Decision, EVALUATING, Evaluation, HISTORY, SOON, gives_way, room, step, step_count,
};
use crate::{
    conditions::Summary,
    crd::{OnFailure, RolloutPhase, RolloutStatus, Step},
    model_deployment::analysis::{self, Finding, Judged},
};

pub(super) struct Run<'a> {
    pub(super) arm: &'a Arm<'a>,
    now: Timestamp,
    events: Vec<Summary>,
    look: Option<Span>,
}

impl<'a> Run<'a> {
    pub(super) fn new(arm: &'a Arm<'a>, now: Timestamp) -> Self {
        Self {
            arm,
            now,
            events: Vec::new(),
            look: None,
        }
    }

    pub(super) fn decide(self, status: Option<RolloutStatus>) -> Decision {
        Decision {
            status,
            events: self.events,
            look: self.look,
        }
    }

    pub(super) fn cancelled(&mut self, status: &RolloutStatus) {
        let why = "the spec asks for the revision that has the share again";
        self.say(status, false, "RolloutCancelled", why);
    }

    /// Whether the arm's own pods have all become the new revision.
    pub(super) fn promoted(&mut self, status: &mut RolloutStatus) -> bool {
        if self.arm.promoted && self.arm.stable == self.arm.wanted {
            let told = format!("revision {} has the whole share", status.revision);
            self.say(status, false, "RolloutComplete", &told);
            return true;
        }
        self.await_promotion(status);
        false
    }

    fn await_promotion(&mut self, status: &mut RolloutStatus) {
        let arm = self.arm;
        (status.reason, status.message) = match &arm.unschedulable {
            Some(why) => ("NoCapacity".into(), self.make_room(status, why)),
            None if status.vacated => (
                "Promoting".into(),
                format!("the arm's only pod becomes the new revision; {}", room::MEANWHILE),
            ),
            None => (
                "Promoting".into(),
                "the arm's pods become the new revision, one after the other".into(),
            ),
        };
        self.look = Some(SOON);
    }

    pub(super) fn say(&mut self, status: &RolloutStatus, warning: bool, reason: &str, what: &str) {
        let message = format!(
            "variant {}, revision {}: {what}",
            self.arm.variant, status.revision
        );
        self.events.push(if warning {
            Summary::stalled(reason, message)
        } else {
            Summary::reconciling(reason, message)
        });
    }

    /// Begins; `before` is the rollout of another revision that it takes the place of.
    pub(super) fn begin(&mut self, before: Option<&RolloutStatus>) -> RolloutStatus {
        let (replacing, vacated) = room::taken(before, self.arm.replicas);
        let status = RolloutStatus {
            revision: self.arm.wanted.into(),
            from: self.arm.stable.into(),
            sources: self.arm.sources.clone(),
            phase: RolloutPhase::Progressing,
            step: 0,
            step_started: Time(self.now),
            started: Time(self.now),
            target: 0,
            weight: 0,
            mirror: 0,
            replacing,
            vacated,
            reason: "Starting".into(),
            message: String::new(),
            history: Vec::new(),
        };
        let place = before.map(|before| format!(", in place of revision {}", before.revision));
        let what = format!(
            "begins beside the revision that has the share{}",
            place.unwrap_or_default()
        );
        self.say(&status, false, "RolloutStarted", &what);
        self.look = Some(SOON);
        status
    }

    /// Whether the command had a meaning here.
    pub(super) fn obey(&mut self, status: &mut RolloutStatus, command: Command) -> bool {
        match (command, status.phase) {
            (Command::Abort, RolloutPhase::Progressing | RolloutPhase::Paused) => {
                self.roll_back(status, "Aborted", "aborted by slipway.dev/abort");
            }
            (Command::Retry, RolloutPhase::RolledBack) => *status = self.begin(None),
            (Command::Promote, RolloutPhase::Paused) if !self.arm.paused => {
                self.say(status, false, "Promoted", "goes on by slipway.dev/promote");
                self.complete(status, "promoted by hand");
            }
            _ => return false,
        }
        true
    }

    /// `spec.paused` holds a step that is under way; afterwards that step begins again.
    pub(super) fn heed_pause(&mut self, status: &mut RolloutStatus) {
        if self.arm.paused && status.phase == RolloutPhase::Progressing {
            self.pause(
                status,
                "SpecPaused",
                "spec.paused is set; the step begins again once it is not",
            );
        } else if !self.arm.paused && status.phase == RolloutPhase::Paused && status.reason == "SpecPaused" {
            go_on(status);
            status.step_started = Time(self.now);
        }
    }

    /// One look at the step under way.
    pub(super) fn turn(&mut self, status: &mut RolloutStatus) {
        let Some(step) = step(self.arm.strategy, status.step) else {
            status.phase = RolloutPhase::Promoting;
            status.step_started = Time(self.now);
            self.say(status, false, "Promoting", "every step is done");
            self.await_promotion(status);
            return;
        };
        let last = step_count(self.arm.strategy) == status.step + 1;
        match step {
            // The arm's own pods will answer for it: pods for the whole share beside them would be wasted.
            Step::SetWeight(weight) if weight.0 == 100 && last => self.complete(status, "setWeight 100"),
            Step::SetWeight(weight) => self.shift(status, weight.0, None),
            Step::Mirror(mirror) => self.shift(status, status.weight, Some(mirror.percent)),
            Step::Pause(pause) => {
                let (reason, message) = match pause.duration {
                    Some(duration) => ("Pause", format!("pauses for {duration}")),
                    None => ("WaitingForPromotion", "waits for slipway.dev/promote".to_owned()),
                };
                self.pause(status, reason, &message);
                self.sit_out_pause(status);
            }
            Step::Analysis(asked) => {
                if self.answers(status) && self.followed(status) {
                    let ended = self.elapsed(status) >= length(asked.duration);
                    let judged = self.arm.measured.as_ref().map_or_else(
                        || Judged {
                            finding: Finding::Measuring,
                            message: "waits for the first figures".into(),
                        },
                        |measured| analysis::judge(asked, measured, ended),
                    );
                    self.conclude_analysis(status, judged);
                }
            }
            Step::Eval(_) => {
                if self.answers(status) && self.followed(status) {
                    self.conclude_evaluation(status);
                }
            }
        }
    }

    /// Brings the new revision to a share, once it has the pods for it.
    fn shift(&mut self, status: &mut RolloutStatus, weight: u32, mirror: Option<u32>) {
        let mirror = mirror.unwrap_or(if weight > 0 { 0 } else { status.mirror });
        status.target = weight.max(mirror);
        if !self.answers(status) {
            return;
        }
        if (status.weight, status.mirror) != (weight, mirror) {
            (status.weight, status.mirror) = (weight, mirror);
            // What the routers follow is the split before; the next look will know more.
            self.wait(status, "ShiftingTraffic", &told(status));
        } else if self.followed(status) {
            let done = shares(status);
            self.say(status, false, "TrafficShifted", &done);
            self.complete(status, &done);
        }
    }

    /// Whether the routers follow what the status asks for.
    fn followed(&mut self, status: &mut RolloutStatus) -> bool {
        if !self.arm.routers_follow {
            self.wait(status, "ShiftingTraffic", &told(status));
        }
        self.arm.routers_follow
    }

    fn conclude_analysis(&mut self, status: &mut RolloutStatus, judged: Judged) {
        let Judged { finding, message } = judged;
        match finding {
            Finding::Measuring => self.wait(status, "Analysis", &message),
            Finding::Passed => {
                self.say(status, false, "AnalysisPassed", &message);
                self.complete(status, &format!("analysis passed: {message}"));
            }
            Finding::Failed => self.fail(status, "AnalysisFailed", &message),
            Finding::Inconclusive => {
                self.say(status, true, "AnalysisInconclusive", &message);
                self.pause(status, "AnalysisInconclusive", &decision_needed(&message));
            }
        }
    }

    fn conclude_evaluation(&mut self, status: &mut RolloutStatus) {
        match self.arm.evaluation.clone() {
            None => self.wait(status, EVALUATING, "makes the EvalRun"),
            Some(Evaluation::Running(at)) => self.wait(status, EVALUATING, &at),
            Some(Evaluation::Unusable(why)) => self.wait(status, "EvalTemplate", &why),
            Some(Evaluation::Passed(figures)) => {
                self.say(status, false, "EvalPassed", &figures);
                self.complete(status, &format!("evaluation passed: {figures}"));
            }
            Some(Evaluation::Failed(figures)) => self.fail(status, "EvalFailed", &figures),
            Some(Evaluation::Inconclusive(figures)) => {
                self.say(status, true, "EvalInconclusive", &figures);
                self.pause(status, "EvalInconclusive", &decision_needed(&figures));
            }
        }
    }

    /// Still at the same step.
    pub(super) fn wait(&mut self, status: &mut RolloutStatus, reason: &str, message: &str) {
        let deadline = length(self.arm.strategy.progress_deadline);
        // An analysis may be as long as the deadline; what it waits for is not overdue before it has ended.
        let allowed = match step(self.arm.strategy, status.step) {
            Some(Step::Analysis(asked)) => deadline + length(asked.duration),
            _ => deadline,
        };
        if self.elapsed(status) > allowed {
            let within = self.arm.strategy.progress_deadline;
            self.fail(
                status,
                "ProgressDeadlineExceeded",
                &format!("no progress within {within}: {message}"),
            );
            return;
        }
        status.reason = reason.into();
        status.message = message.into();
        self.look = Some(SOON);
    }

    fn pause(&mut self, status: &mut RolloutStatus, reason: &str, message: &str) {
        status.phase = RolloutPhase::Paused;
        status.reason = reason.into();
        status.message = message.into();
        if gives_way(status) {
            status.message += "; the revision before comes back meanwhile, since there is no room for both";
        }
        if reason == "WaitingForPromotion" {
            self.say(status, false, reason, message);
        }
    }

    /// A pause that lasts for a while ends by itself.
    pub(super) fn sit_out_pause(&mut self, status: &mut RolloutStatus) {
        let Some(Step::Pause(pause)) = step(self.arm.strategy, status.step) else {
            return;
        };
        let Some(duration) = pause
            .duration
            .filter(|_| status.reason == "Pause" && !self.arm.paused)
        else {
            return;
        };
        let left = length(duration) - self.elapsed(status);
        if left > SignedDuration::ZERO {
            let left = Span::try_from(left).unwrap_or(SOON);
            self.look = Some(left.max(Span::from_millis(100)));
        } else {
            self.complete(status, &format!("paused for {duration}"));
        }
    }

    /// The step is done; the next one begins.
    fn complete(&mut self, status: &mut RolloutStatus, found: &str) {
        if status.history.len() < HISTORY {
            status.history.push(format!("step {}: {found}", status.step + 1));
        }
        go_on(status);
        status.step += 1;
        status.step_started = Time(self.now);
        status.target = 0;
        status.reason = "NextStep".into();
        status.message = format!("step {} is done: {found}", status.step);
        self.look = Some(SOON);
    }

    pub(super) fn fail(&mut self, status: &mut RolloutStatus, reason: &str, why: &str) {
        match self.arm.strategy.on_failure {
            OnFailure::Rollback => self.roll_back(status, reason, why),
            OnFailure::Pause => {
                self.say(status, true, reason, why);
                self.pause(status, reason, &decision_needed(why));
            }
        }
    }

    fn roll_back(&mut self, status: &mut RolloutStatus, reason: &str, why: &str) {
        let back = if status.vacated {
            format!("the revision before takes its place again; {}", room::MEANWHILE)
        } else {
            "the revision before has the whole share".to_owned()
        };
        self.say(status, true, "RolledBack", &format!("{why}; {back}"));
        status.phase = RolloutPhase::RolledBack;
        (status.target, status.weight, status.mirror) = (0, 0, 0);
        (status.replacing, status.vacated) = (false, false);
        status.reason = reason.into();
        status.message =
            format!("{why}; change the spec, or set slipway.dev/retry to try this revision again");
        self.look = Some(SOON);
    }

    fn elapsed(&self, status: &RolloutStatus) -> SignedDuration {
        self.now.duration_since(status.step_started.0)
    }
}

/// A step is under way again. Whether there is room is seen anew where the old revision came back meanwhile.
fn go_on(status: &mut RolloutStatus) {
    if gives_way(status) {
        (status.replacing, status.vacated) = (false, false);
    }
    status.phase = RolloutPhase::Progressing;
}

fn decision_needed(what: &str) -> String {
    format!("{what}; set slipway.dev/promote to go on, or slipway.dev/abort to roll back")
}

fn told(status: &RolloutStatus) -> String {
    format!("the routers are told: {}", shares(status))
}

fn shares(status: &RolloutStatus) -> String {
    match status.mirror {
        0 if status.vacated && status.weight > 0 => format!(
            "{}% of the arm's requests, in fact all, since it took the place of the arm's only pod",
            status.weight
        ),
        0 => format!("{}% of the arm's requests", status.weight),
        mirror => format!(
            "{}% of the arm's requests, and a copy of {mirror}%",
            status.weight
        ),
    }
}

fn length(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(Span::from(duration)).unwrap_or(SignedDuration::MAX)
}
