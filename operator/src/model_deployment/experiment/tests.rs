//! Experiments from their begin to their record, over routers and operators that come and go.

mod answer;
mod begin;
mod counts;
mod records;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use slipway_contract::{
    ExperimentStats, RouteTable, RouterStats,
    experiment::{Decision, Split, Tally},
};

use super::{Course, Memory, RouterSaid, Seen, kept::Kept};
use crate::{
    crd::{ExperimentStatus, ModelDeployment},
    model_deployment::{
        desired,
        inputs::Inputs,
        plan::plan,
        routes, status,
        tests::{self, TWO, inputs, settings, settle},
    },
};

/// Two arms that share the traffic evenly, compared by what clients post.
fn comparing(experiment: &str) -> ModelDeployment {
    let even = TWO
        .replace("trafficPercent: 20", "trafficPercent: 50")
        .replace("trafficPercent: 80", "trafficPercent: 50");
    tests::object(&format!("{even}  experiment: {experiment}\n"))
}

const FEEDBACK: &str = "{metric: feedbackScore, minRequests: 100}";

/// A router's process.
struct Router {
    pod: String,
    instance: String,
    ending: bool,
    told: Option<(String, Tally)>,
}

impl Router {
    fn new(pod: &str, instance: &str) -> Self {
        Self {
            pod: pod.into(),
            instance: instance.into(),
            ending: false,
            told: None,
        }
    }
}

/// A cluster as the pure steps see it, on which every look has its effect.
struct World {
    object: ModelDeployment,
    /// What its servers run of.
    running: ModelDeployment,
    kept: Option<ConfigMap>,
    routers: Vec<Router>,
    at: Timestamp,
    table: RouteTable,
    events: Vec<String>,
    status_writes: usize,
    kept_writes: usize,
}

impl World {
    fn new(object: ModelDeployment) -> Self {
        Self {
            running: object.clone(),
            object,
            kept: None,
            routers: vec![Router::new("p1", "a"), Router::new("p2", "b")],
            at: tests::now(),
            table: RouteTable::default(),
            events: Vec::new(),
            status_writes: 0,
            kept_writes: 0,
        }
    }

    /// One whose experiment has begun.
    fn begun(experiment: &str) -> Self {
        let mut world = Self::new(comparing(experiment));
        world.look();
        world
    }

    fn seen<'a>(&self, object: &'a ModelDeployment) -> Inputs<'a> {
        let mut seen = inputs(object);
        let before = inputs(&self.running);
        let plan = plan(&self.running, &before, &settings(), self.at);
        settle(&mut seen, &desired::desired(&self.running, &plan, &settings()));
        seen.experiment = Seen {
            is_kept: self.kept.is_some(),
            kept: self.kept.as_ref().and_then(Kept::read),
            routers: (self.routers.iter())
                .map(|router| RouterSaid {
                    pod: router.pod.clone(),
                    ending: router.ending,
                    stats: Some(RouterStats {
                        instance: router.instance.clone(),
                        experiment: router
                            .told
                            .clone()
                            .map(|(id, tally)| ExperimentStats { id, tally }),
                        ..RouterStats::default()
                    }),
                })
                .collect(),
            fresh_key: "ab".repeat(32),
        };
        seen
    }

    /// The operator looks, and is killed before it writes the status.
    fn look_and_die(&mut self) -> (Course, Option<ExperimentStatus>) {
        let object = self.object.clone();
        let seen = self.seen(&object);
        let mut plan = plan(&object, &seen, &settings(), self.at);
        let desired = desired::desired(&object, &plan, &settings());
        if desired.forgotten.is_some() {
            self.kept = None;
        }
        if let Some(map) = desired.experiment.clone() {
            self.kept = Some(map);
            self.kept_writes += 1;
        }
        self.table = serde_json::from_str(&desired.routes.data.as_ref().unwrap()["routes.json"]).unwrap();
        for router in &mut self.routers {
            let told = self.table.experiment.as_ref().map(|told| told.id.clone());
            if router.told.as_ref().map(|(id, _)| id) != told.as_ref() {
                let arms = self.table.variants.iter().map(|arm| arm.name.clone());
                router.told = told.map(|id| (id, Tally::new(arms)));
            }
        }
        let (status, _) = status::status(&object, &seen, &plan, &desired, None, self.at);
        (std::mem::take(&mut plan.experiment), status.experiment)
    }

    /// The operator looks.
    fn look(&mut self) -> Course {
        let object = self.object.clone();
        let seen = self.seen(&object);
        let plan = plan(&object, &seen, &settings(), self.at);
        let desired = desired::desired(&object, &plan, &settings());
        let (mut status, _) = status::status(&object, &seen, &plan, &desired, None, self.at);
        // As an apiserver gives it back.
        status = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
        let (course, _) = self.look_and_die();
        let before = self.experiment().cloned();
        if before != status.experiment {
            self.status_writes += 1;
        }
        self.events
            .extend(course.events.iter().map(|event| event.reason.clone()));
        self.object.status = Some(status);
        course
    }

    /// Looks after some time.
    fn look_after(&mut self, seconds: i64) -> Course {
        self.at += SignedDuration::from_secs(seconds);
        self.look()
    }

    fn experiment(&self) -> Option<&ExperimentStatus> {
        self.object.status.as_ref()?.experiment.as_ref()
    }

    fn says(&self) -> &ExperimentStatus {
        self.experiment().unwrap()
    }

    fn id(&self) -> String {
        self.says().id.clone().unwrap()
    }

    /// The requests that the status counts.
    fn requests(&self) -> u64 {
        self.says().arms.iter().map(|arm| arm.requests).sum()
    }

    /// `n` requests through a router, every other one to each arm, of which so many in ten score 1.
    fn serve(&mut self, router: usize, n: usize, ones: [usize; 2]) {
        let split = Split::new(&[50, 50]).unwrap();
        let (_, tally) = self.routers[router].told.as_mut().unwrap();
        for request in 0..n {
            let arm = request % 2;
            let routed = tally.route(&split, arm, None, request as u64).unwrap();
            let one = (request / 2) % 10 < ones[arm];
            tally.score(routed, if one { 1.0 } else { 0.0 }).unwrap();
        }
    }

    /// Clearly more for the second arm.
    fn decide(&mut self) {
        self.serve(0, 2000, [3, 6]);
        self.look_after(10);
        assert_eq!(self.says().verdict, Some(Decision::Winner));
    }

    fn weights(&self) -> Vec<u32> {
        self.table.variants.iter().map(|arm| arm.weight).collect()
    }

    /// The version that routers are held to is that of the table that was written.
    fn routers_are_held_to_the_table(&self) {
        let object = self.object.clone();
        let seen = self.seen(&object);
        assert_eq!(routes::version(&object, &seen), self.table.version);
    }
}
