//! Looks every second at what the routers of scaled variants count, and has a ModelDeployment reconciled when another
//! number of pods follows from it. Asks routers only; the apiserver hears nothing of it until something changes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    StreamExt,
    stream::{self, Stream},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, core::DeserializeGuard, runtime::reflector::ObjectRef};
use slipway_contract::RouterStats;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{Arm, Load, decide};
use crate::{
    crd::{ModelDeployment, ScalingStatus},
    model_deployment::{inputs, inputs::Inputs, plan::Plan, status::is_ready},
};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Looks in a row without any router's answer after which a ModelDeployment is left to its next reconciliation: it may
/// be gone.
const VAIN: u32 = 60;
/// ModelDeployments whose routers are asked at once.
const CONCURRENCY: usize = 32;

/// A ModelDeployment as its controller names it.
pub type Reference = ObjectRef<DeserializeGuard<ModelDeployment>>;

/// The ModelDeployments with variants that scale, as they were last reconciled.
#[derive(Debug, Default)]
pub struct Watched(Mutex<HashMap<Reference, Watch>>);

/// What one look needs.
#[derive(Clone, Debug)]
struct Watch {
    routers: Vec<Pod>,
    arms: Vec<(String, Arm)>,
    vain: u32,
}

impl Watched {
    /// Remembers what `plan` decided, or forgets an object without anything to scale.
    pub fn remember(&self, object: &ModelDeployment, inputs: &Inputs<'_>, plan: &Plan<'_>) {
        let arms = plan.arms.iter().filter_map(|arm| {
            let watched = super::arm(object, arm.input, arm.rollout.as_ref())?;
            let before = arm.scaling.clone()?;
            Some((arm.input.spec.name.clone(), Arm { before, ..watched }))
        });
        let routers = inputs.router_pods.iter().filter(|pod| is_ready(pod)).cloned();
        self.set(&reference(object), arms.collect(), routers.collect());
    }

    fn set(&self, object: &Reference, arms: Vec<(String, Arm)>, routers: Vec<Pod>) {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if arms.is_empty() {
            watched.remove(object);
        } else {
            let vain = 0;
            watched.insert(object.clone(), Watch { routers, arms, vain });
        }
    }

    fn all(&self) -> Vec<(Reference, Watch)> {
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched
            .iter()
            .map(|(object, watch)| (object.clone(), watch.clone()))
            .collect()
    }

    /// Counts a look at `object`; whether it is to be reconciled, because another decision follows or nobody answered
    /// for long. Then it is not looked at until that has succeeded: what fails is tried again by the controller's own
    /// clock.
    fn looked(&self, object: &Reference, answered: bool, changes: bool) -> bool {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watch) = watched.get_mut(object) else {
            return false;
        };
        watch.vain = if answered { 0 } else { watch.vain + 1 };
        let over = changes || watch.vain >= VAIN;
        if over {
            watched.remove(object);
        }
        over
    }
}

fn reference(object: &ModelDeployment) -> Reference {
    ObjectRef::new(&object.name_any()).within(&object.namespace().unwrap_or_default())
}

impl Watch {
    /// Whether another decision follows from these answers than the one made last.
    fn changes(&self, answers: &[Option<RouterStats>], now: Timestamp) -> bool {
        self.arms.iter().any(|(name, arm)| {
            let load = Load::of(answers, name, arm.apart.as_deref());
            let next: ScalingStatus = decide(arm, &load, now);
            next != arm.before
        })
    }
}

/// The ModelDeployments to reconcile, for as long as the stream is read.
pub fn follow(
    watched: Arc<Watched>,
    http: reqwest::Client,
) -> impl Stream<Item = Reference> + Send + 'static {
    let (changed, receiver) = mpsc::unbounded_channel();
    let looks = async move {
        let mut period = interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            let looks = stream::iter(watched.all()).for_each_concurrent(CONCURRENCY, |(object, watch)| {
                let (watched, http, changed) = (&watched, &http, &changed);
                async move {
                    let answers = inputs::stats(http, &watch.routers).await;
                    let answered = answers.iter().any(Option::is_some);
                    let changes = watch.changes(&answers, Timestamp::now());
                    if watched.looked(&object, answered, changes) {
                        // Nobody listens any more once the controller ends, and this task with it.
                        changed.send(object).ok();
                    }
                }
            });
            looks.await;
        }
    };
    let receiver = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|object| (object, receiver))
    });
    // Both in one stream: the looks end when nobody reads what they find.
    stream::select(receiver, stream::once(looks))
}

#[cfg(test)]
mod tests {
    use slipway_contract::RevisionStats;

    use super::*;

    fn watched() -> (Watched, Reference, Watch) {
        let arm = Arm {
            scaling: serde_saphyr::from_str("{minReplicas: 0}").unwrap(),
            floor: 0,
            apart: None,
            before: ScalingStatus::default(),
            ready_since: None,
        };
        let (all, object) = (Watched::default(), ObjectRef::new("web").within("models"));
        all.set(&object, vec![("a".into(), arm)], Vec::new());
        let watch = all.all().remove(0).1;
        (all, object, watch)
    }

    #[test]
    fn a_request_that_waits_is_a_change_and_silence_is_none() {
        let (all, object, watch) = watched();
        let answer = |queued| {
            let series = RevisionStats {
                variant: "a".into(),
                queued,
                ..RevisionStats::default()
            };
            [Some(RouterStats {
                series: vec![series],
                ..RouterStats::default()
            })]
        };
        assert!(!watch.changes(&answer(0), Timestamp::now()) && !watch.changes(&[None], Timestamp::now()));
        assert!(watch.changes(&answer(1), Timestamp::now()));
        assert!(!all.looked(&object, true, false));
        assert!(all.looked(&object, true, true));
        assert!(
            all.all().is_empty(),
            "its reconciliation begins to watch it again"
        );
    }

    #[test]
    fn what_never_answers_is_reconciled_once_and_no_longer_watched() {
        let (all, object, _) = watched();
        let looks: Vec<bool> = (0..2 * VAIN).map(|_| all.looked(&object, false, false)).collect();
        assert_eq!(looks.iter().filter(|over| **over).count(), 1);
        assert!(looks[VAIN as usize - 1] && all.all().is_empty());
    }
}
