//! Step: how many pods a variant has. Pure: the same scaling, status, observations and time give the same number, so
//! an operator that restarts goes on where it was.

pub mod watch;

#[cfg(test)]
mod tests;

use std::time::Duration as Span;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};
use kube::core::Duration;
use slipway_contract::{Hold, RevisionStats, RouterStats};

use super::{
    inputs::{Inputs, VariantInput},
    plan, rollout, status,
};
use crate::crd::{ModelDeployment, RolloutStatus, Scaling, ScalingStatus, Variant, WhenNoCapacity};

/// Requests that one router holds for one variant at most. Bodies of up to 1 MiB are held with them, and a router has
/// 256 MiB.
const HELD: u32 = 100;
/// How long a request is held where no `scaling` says so.
const HOLD_SECONDS: u32 = 120;

/// What is known of a variant's requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Load {
    /// Requests under way and waiting, copies included.
    pub requests: u64,
    /// How long there was none.
    pub idle: Span,
    /// Whether every router that takes requests answered.
    pub complete: bool,
}

/// What is decided about, beside the load.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// What is asked for.
    pub scaling: Scaling,
    /// Never fewer, whatever is asked for.
    pub floor: i32,
    /// The revision whose requests are none of the variant's: evaluations ask it before it has a share.
    pub apart: Option<String>,
    /// What the status remembers; what the variant has now where it remembers nothing.
    pub before: ScalingStatus,
    /// Since when one of its pods is ready; none while none is.
    pub ready_since: Option<Timestamp>,
}

impl Load {
    /// Of the variant `name`, but for the revision `apart`, over the answers of all routers. A router that did not
    /// answer, or does not know the variant yet, leaves it incomplete.
    pub fn of<'a>(
        answers: impl IntoIterator<Item = &'a Option<RouterStats>>,
        name: &str,
        apart: Option<&str>,
    ) -> Self {
        let mut sum = Self {
            idle: Span::MAX,
            complete: true,
            ..Self::default()
        };
        let (mut routers, mut known) = (0, 0);
        for answer in answers {
            routers += 1;
            let series = answer.iter().flat_map(|answer| &answer.series);
            let mut found = false;
            let own = |series: &&RevisionStats| series.variant == name && Some(&*series.revision) != apart;
            for series in series.filter(own) {
                found = true;
                let copies = series.mirrored.as_ref().map_or(0, |copies| copies.in_flight);
                for count in [series.in_flight, series.queued, copies] {
                    sum.requests = sum.requests.saturating_add(count);
                }
                sum.idle = sum.idle.min(Span::from_secs(series.idle_seconds));
            }
            known += i32::from(found);
        }
        sum.complete = routers > 0 && known == routers;
        if !sum.complete {
            sum.idle = Span::ZERO;
        }
        sum
    }
}

/// How many pods there are to be: more at once, fewer once they were not needed for `scaleDownDelay`, and none once
/// there was no request for that long. Never fewer on incomplete figures.
pub fn decide(arm: &Arm, load: &Load, now: Timestamp) -> ScalingStatus {
    let Scaling {
        min_replicas,
        max_replicas,
        target_requests,
        scale_down_delay,
        ..
    } = &arm.scaling;
    let min = (*min_replicas).max(arm.floor);
    let max = (*max_replicas).max(min);
    let have = arm.before.desired_replicas.clamp(min, max);
    let delay = signed(*scale_down_delay);
    let needed = i32::try_from(load.requests.div_ceil(u64::from((*target_requests).max(1))));
    // What came between two looks counts too; and a model that took long to load is not given up at once.
    let quiet = SignedDuration::try_from(load.idle).unwrap_or(SignedDuration::MAX);
    let up = arm
        .ready_since
        .map_or(SignedDuration::ZERO, |since| now.duration_since(since));
    let asleep = load.requests == 0 && quiet >= delay && up >= delay;
    let need = needed
        .unwrap_or(i32::MAX)
        .max(i32::from(!asleep && have > 0))
        .clamp(min, max);
    let settled = |replicas| ScalingStatus {
        desired_replicas: replicas,
        lower_since: None,
        lower_peak: None,
    };
    if need >= have {
        return settled(need);
    }
    if !load.complete {
        return settled(have);
    }
    if need == 0 {
        // Nothing came for the whole delay: no number of pods was needed in it.
        return settled(0);
    }
    let (since, peak) = match (&arm.before.lower_since, arm.before.lower_peak) {
        (Some(since), Some(peak)) => (since.0, peak.clamp(need, have)),
        _ => (now, need),
    };
    let lower = |replicas: i32, since: Timestamp, peak: i32| {
        if peak >= replicas {
            return settled(replicas);
        }
        ScalingStatus {
            desired_replicas: replicas,
            lower_since: Some(Time(since)),
            lower_peak: Some(peak),
        }
    };
    if peak < have && now.duration_since(since) >= delay {
        lower(peak, now, need)
    } else {
        lower(have, since, peak)
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(Span::from(duration)).unwrap_or(SignedDuration::MAX)
}

/// What is to be decided about a variant; none where it has no `scaling`. A rollout needs one pod of the variant's own
/// at least once the new revision is to have a share; before, a variant that is scaled to zero stays so.
pub fn arm(
    object: &ModelDeployment,
    input: &VariantInput<'_>,
    rollout: Option<&RolloutStatus>,
) -> Option<Arm> {
    let scaling = input.spec.scaling.clone()?;
    let known = plan::known(object, &input.spec.name).and_then(|known| known.scaling.clone());
    let live = input
        .server
        .as_ref()
        .and_then(|server| server.spec.as_ref()?.replicas);
    let before = known.unwrap_or_else(|| ScalingStatus {
        // A first pod shows that the model can be served.
        desired_replicas: live.unwrap_or(1).max(1),
        ..ScalingStatus::default()
    });
    let active = rollout.filter(|rollout| plan::is_active(rollout));
    Some(Arm {
        scaling,
        floor: i32::from(active.is_some_and(|rollout| rollout::share(rollout) > 0)),
        apart: active
            .filter(|rollout| rollout::share(rollout) == 0)
            .map(|rollout| rollout.revision.clone()),
        before,
        ready_since: input.pods.iter().filter_map(ready_since).min(),
    })
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    if !status::is_ready(pod) {
        return None;
    }
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    Some(ready.last_transition_time.as_ref()?.0)
}

/// The decision for a variant; none where it has no `scaling`.
pub fn scaled(
    object: &ModelDeployment,
    input: &VariantInput<'_>,
    rollout: Option<&RolloutStatus>,
    inputs: &Inputs<'_>,
    now: Timestamp,
) -> Option<ScalingStatus> {
    let arm = arm(object, input, rollout)?;
    let load = Load::of(&inputs.stats, &input.spec.name, arm.apart.as_deref());
    Some(decide(&arm, &load, now))
}

/// Pods of a variant without `scaling`.
pub fn fixed(object: &ModelDeployment, variant: &Variant) -> i32 {
    variant.replicas.or(object.spec.replicas).unwrap_or(1)
}

/// Whether the ModelDeployment's own `replicas` decide, now or once they are set.
pub fn by_subresource(object: &ModelDeployment) -> Option<&Variant> {
    match object.spec.variants.as_slice() {
        [only] if only.replicas.is_none() && only.scaling.is_none() => Some(only),
        _ => None,
    }
}

/// How requests wait for a variant that may have no pods; `percent`: its share. It does not depend on how many pods it
/// has now: a table that changed with that would be told too late.
pub fn hold(object: &ModelDeployment, variant: &Variant, percent: u32) -> Option<Hold> {
    let strategy = &object.spec.strategy;
    // A new revision may take the place of its only pod, and nobody else would answer.
    let replaced =
        percent == 100 && strategy.canary.is_some() && strategy.when_no_capacity == WhenNoCapacity::Replace;
    let scaled_by_others = || by_subresource(object).is_some() && object.spec.replicas.is_some();
    let seconds = match &variant.scaling {
        Some(scaling) if scaling.min_replicas == 0 || replaced => {
            let whole = Span::from(scaling.hold_timeout).as_secs().max(1);
            u32::try_from(whole).unwrap_or(HOLD_SECONDS)
        }
        None if replaced || scaled_by_others() => HOLD_SECONDS,
        _ => return None,
    };
    Some(Hold { seconds, limit: HELD })
}
