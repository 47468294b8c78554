//! Pods of the new revision: whether they answer, and what to do without room for them. Pure.

use super::{intent, run::Run};
use crate::crd::{RolloutStatus, WhenNoCapacity};

/// What becomes of requests while an arm's only pod is away.
pub(super) const MEANWHILE: &str =
    "until it answers, the arm's requests go to the other arms or, without any, are held";

/// What a new rollout takes over of the one `before`: what made room stays away, where it would only have to go again.
pub(super) fn taken(before: Option<&RolloutStatus>, arm_replicas: i32) -> (bool, bool) {
    let Some(before) = before.filter(|before| before.replacing) else {
        return (false, false);
    };
    let vacated = intent(Some(before), arm_replicas).stable_replicas == 0;
    (vacated || arm_replicas > 1, vacated)
}

impl Run<'_> {
    /// Whether the new revision has the pods that the step needs.
    pub(super) fn answers(&mut self, status: &mut RolloutStatus) -> bool {
        let wanted = intent(Some(status), self.arm.replicas).canary_replicas;
        let pods = &self.arm.canary;
        if pods.ready >= wanted {
            return true;
        }
        if let Some(why) = &pods.broken {
            self.fail(status, "RevisionFailed", why);
        } else if let Some(why) = &pods.unschedulable {
            let text = self.make_room(status, why);
            self.wait(status, "NoCapacity", &text);
        } else {
            let why = pods.trouble.as_ref().map(|why| format!(": {why}"));
            let text = format!(
                "{} of {wanted} pods of the new revision are ready{}",
                pods.ready,
                why.unwrap_or_default()
            );
            self.wait(status, "WaitingForPods", &text);
        }
        false
    }

    /// No node takes a pod of the new revision, and `why`: makes room where that is wanted, and says what happens.
    pub(super) fn make_room(&mut self, status: &mut RolloutStatus, why: &str) -> String {
        let told = |fix: &str| format!("no room for the new revision: {why}; {fix}");
        if self.arm.strategy.when_no_capacity == WhenNoCapacity::Wait {
            let fix = "free or add nodes, or set strategy.whenNoCapacity to Replace";
            return told(fix);
        }
        let text = match self.arm.replicas {
            0 => {
                let fix =
                    "free or add nodes: the arm is scaled to zero, and has no pod whose place it could take";
                return told(fix);
            }
            // Requests are held by the split that says so.
            1 if !status.vacated && !self.arm.routers_follow => {
                let next = "it takes the place of the arm's only pod once every router follows the split";
                return told(next);
            }
            1 => format!("takes the place of the arm's only pod, since {why}; {MEANWHILE}"),
            _ => format!("takes the place of old pods, since {why}"),
        };
        let vacated = status.vacated || self.arm.replicas == 1;
        if (status.replacing, status.vacated) != (true, vacated) {
            (status.replacing, status.vacated) = (true, vacated);
            self.say(status, true, "NoCapacity", &text);
        }
        text
    }
}
