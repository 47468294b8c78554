//! The split as a Gateway carries it: an HTTPRoute over Services of the arms. Pure: no client.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kube::ResourceExt;

use super::{
    ROUTES_ANNOTATION,
    desired::{HTTP_PORT, child_name, metadata, object_name, service_port},
    inputs::Inputs,
    plan::{Plan, Planned},
    server::{self, Track},
    status::{is_ready, revision_label},
};
use crate::{
    conditions::Summary,
    crd::ModelDeployment,
    gateway_api::{
        BackendRef, HeaderMatch, HttpRoute, HttpRouteSpec, Match, ParentRef, RouteParent, Rule, Timeouts,
    },
    names::MODEL_DEPLOYMENT_MANAGER,
};

/// How long a Gateway's controller may take before its silence is told as an error.
const SILENCE: SignedDuration = SignedDuration::from_secs(60);
/// How long proxies may go on by the route before, after their controller has accepted the new one.
const PROXIES: SignedDuration = SignedDuration::from_secs(10);
/// By what a request asks for one revision, and for one arm; the router understands the same.
const REVISION_HEADER: &str = "x-slipway-revision";
const VARIANT_HEADER: &str = "x-slipway-variant";

/// What a Gateway needs beside the rest.
#[derive(Clone, Debug)]
pub struct Desired {
    /// One for each arm and each revision that is being rolled in.
    pub services: Vec<Service>,
    /// The split.
    pub route: HttpRoute,
}

/// Builds it; none where the spec names no Gateway. `version` is the router's split, which this one says too.
pub fn desired(object: &ModelDeployment, plan: &Plan<'_>, version: &str) -> Option<Desired> {
    let gateway = object.spec.traffic.gateway.as_ref()?;
    let arms: Vec<Arm<'_>> = plan.arms.iter().map(|arm| Arm::of(object, arm)).collect();
    let mut route = HttpRoute::new(
        object_name(object),
        HttpRouteSpec {
            parent_refs: parents(object),
            hostnames: gateway.hostnames.clone(),
            rules: rules(&arms),
        },
    );
    route.metadata = metadata(object, object_name(object), "route", None);
    route
        .annotations_mut()
        .insert(ROUTES_ANNOTATION.into(), version.into());
    let services = arms.iter().flat_map(|arm| {
        std::iter::once(&arm.stable)
            .chain(arm.canary.as_ref())
            .map(|backend| service(object, arm.name, backend))
    });
    Some(Desired {
        services: services.collect(),
        route,
    })
}

fn parents(object: &ModelDeployment) -> Vec<ParentRef> {
    let gateway = object.spec.traffic.gateway.iter();
    gateway
        .flat_map(|gateway| &gateway.parent_refs)
        .map(|parent| ParentRef {
            name: parent.name.clone(),
            namespace: parent.namespace.clone(),
            section_name: parent.section_name.clone(),
        })
        .collect()
}

/// One arm, and who may answer for it.
struct Arm<'a> {
    name: &'a str,
    percent: u32,
    stable: Backend,
    canary: Option<Backend>,
    /// Share of the arm that the canary answers.
    canary_percent: u32,
}

struct Backend {
    service: String,
    revision: String,
    selector: BTreeMap<String, String>,
    ready: bool,
}

/// Name of the Service beside the one called `child`: two dashes, which no variant's own Service has there.
pub fn twin(object: &ModelDeployment, child: &str) -> String {
    let prefix = format!("{}-", object_name(object));
    child_name(
        object,
        &format!("-{}", child.strip_prefix(&prefix).unwrap_or(child)),
    )
}

impl<'a> Arm<'a> {
    fn of(object: &ModelDeployment, arm: &Planned<'a>) -> Self {
        let name = &arm.input.spec.name;
        let backend = |track, revision: &str, ready| Backend {
            service: twin(object, &server::name(object, name, track, revision)),
            revision: revision.to_owned(),
            selector: server::selector(object, name, track, revision),
            ready,
        };
        let rollout = arm.under_way().filter(|_| arm.intent.canary_replicas > 0);
        let serving = rollout.map_or_else(|| arm.input.serving_revision(), |rollout| rollout.from.clone());
        Self {
            name,
            percent: arm.input.spec.traffic_percent,
            stable: backend(Track::Stable, &serving, arm.input.pods.iter().any(is_ready)),
            canary: rollout.map(|rollout| {
                let ready = |pod: &&_| is_ready(pod) && revision_label(pod) == rollout.revision;
                let ready = arm.input.canary_pods.iter().any(|pod| ready(&pod));
                backend(Track::Canary, &rollout.revision, ready)
            }),
            canary_percent: rollout.map_or(0, |rollout| rollout.weight),
        }
    }

    /// Its backends with their shares of the whole, in hundredths of a percent of `percent`. Whoever has no pod that is
    /// ready gives its share to the other.
    fn shares(&self, percent: u32) -> Vec<BackendRef> {
        let Some(canary) = &self.canary else {
            return vec![self.stable.with(percent * 100)];
        };
        let canary_percent = match (self.stable.ready, canary.ready) {
            (_, false) => 0,
            (false, true) if self.canary_percent > 0 => 100,
            _ => self.canary_percent,
        };
        let mut shares = vec![self.stable.with(percent * (100 - canary_percent))];
        if canary_percent > 0 {
            shares.push(canary.with(percent * canary_percent));
        }
        shares
    }

    fn ready(&self) -> bool {
        let canary = self.canary.as_ref().filter(|_| self.canary_percent > 0);
        self.stable.ready || canary.is_some_and(|canary| canary.ready)
    }
}

impl Backend {
    fn with(&self, weight: u32) -> BackendRef {
        BackendRef {
            name: self.service.clone(),
            port: HTTP_PORT,
            weight,
        }
    }
}

/// Those who ask for a revision, those who ask for an arm, and everybody else.
fn rules(arms: &[Arm<'_>]) -> Vec<Rule> {
    let asking = |header: &str, value: &str, backend_refs| Rule {
        matches: vec![Match {
            headers: vec![HeaderMatch {
                name: header.into(),
                value: value.into(),
            }],
        }],
        backend_refs,
        timeouts: Some(unlimited()),
    };
    let mut rules = Vec::new();
    let mut known: Vec<&str> = Vec::new();
    for backend in arms.iter().flat_map(|arm| arm.canary.iter().chain([&arm.stable])) {
        // Arms may serve the same revision: the first one answers for it.
        if !backend.revision.is_empty() && !known.contains(&backend.revision.as_str()) {
            known.push(&backend.revision);
            rules.push(asking(REVISION_HEADER, &backend.revision, vec![backend.with(1)]));
        }
    }
    for arm in arms {
        rules.push(asking(VARIANT_HEADER, arm.name, arm.shares(1)));
    }
    // A Gateway answers 5xx for the share of a Service without pods; the router gives it to the arms that have some.
    let shared = |arm: &&Arm<'_>| arm.percent > 0 && arm.ready();
    let ready = arms.iter().any(|arm| shared(&arm));
    rules.push(Rule {
        matches: Vec::new(),
        backend_refs: arms
            .iter()
            .flat_map(|arm| {
                let share = !ready || shared(&arm);
                arm.shares(if share { arm.percent } else { 0 })
            })
            .collect(),
        timeouts: Some(unlimited()),
    });
    rules
}

/// A stream lasts as long as its tokens take; a Gateway's own limit would cut it.
fn unlimited() -> Timeouts {
    Timeouts { request: "0s".into() }
}

/// With an address of its own, since not every Gateway takes headless ones.
fn service(object: &ModelDeployment, variant: &str, backend: &Backend) -> Service {
    Service {
        metadata: metadata(object, &backend.service, "route", Some(variant)),
        spec: Some(ServiceSpec {
            selector: Some(backend.selector.clone()),
            ports: Some(vec![service_port("http", HTTP_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Whether every Gateway follows this version of the split.
pub fn follows(object: &ModelDeployment, live: Option<&HttpRoute>, version: &str) -> bool {
    if object.spec.traffic.gateway.is_none() {
        return true;
    }
    let said = live.and_then(|live| live.annotations().get(ROUTES_ANNOTATION));
    said.is_some_and(|said| said == version)
        && live.is_some_and(|live| {
            parents(object)
                .iter()
                .all(|parent| told(live, parent) == Told::Accepted)
        })
}

/// Whether what the route no longer names may go: a controller accepts a route before its proxies have it, and those
/// answer 5xx for the share of a Service that is gone.
pub fn settled(object: &ModelDeployment, live: Option<&HttpRoute>, now: Timestamp) -> bool {
    let written = live.into_iter().flat_map(ResourceExt::managed_fields);
    let own = written.filter(|entry| entry.manager.as_deref() == Some(MODEL_DEPLOYMENT_MANAGER));
    let last = own
        .filter_map(|entry| entry.time.as_ref())
        .map(|time| time.0)
        .max();
    object.spec.traffic.gateway.is_none() || last.is_none_or(|last| now.duration_since(last) >= PROXIES)
}

/// What is known of one Gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Told {
    /// It follows.
    Accepted,
    /// Its controller has not answered, or not for this generation.
    Nothing,
    /// What its controller has against the route.
    Refused(String),
}

/// What controllers say of one Gateway, or one of its listeners.
fn answers<'a>(live: &'a HttpRoute, parent: &'a ParentRef) -> impl Iterator<Item = &'a RouteParent> {
    let home = live.namespace();
    let place = move |parent: &ParentRef| {
        let namespace = parent.namespace.clone().or_else(|| home.clone());
        (parent.name.clone(), namespace, parent.section_name.clone())
    };
    let all = live.status.iter().flat_map(|status| &status.parents);
    all.filter(move |answer| place(&answer.parent_ref) == place(parent))
}

fn told(live: &HttpRoute, parent: &ParentRef) -> Told {
    let mut told = Told::Nothing;
    for answer in answers(live, parent) {
        let current = |kind: &str| {
            answer.conditions.iter().find(|condition| {
                condition.type_ == kind && condition.observed_generation == live.metadata.generation
            })
        };
        for kind in ["Accepted", "ResolvedRefs"] {
            if let Some(condition) = current(kind).filter(|condition| condition.status == "False") {
                return Told::Refused(format!(
                    "{kind} is False ({}): {}",
                    condition.reason, condition.message
                ));
            }
        }
        if current("Accepted").is_some_and(|condition| condition.status == "True") {
            told = Told::Accepted;
        }
    }
    told
}

/// What keeps requests of a Gateway from coming, with what to do.
pub fn trouble(object: &ModelDeployment, inputs: &Inputs<'_>, now: Timestamp) -> Option<Summary> {
    let gateway = object.spec.traffic.gateway.as_ref()?;
    let home = object.namespace().unwrap_or_default();
    let called = |name: &str, namespace: Option<&String>| {
        format!("Gateway {name} in namespace {}", namespace.unwrap_or(&home))
    };
    let mut absent = inputs.absent_gateways.iter();
    if let Some(missing) = absent.find(|missing| gateway.parent_refs.contains(missing)) {
        let what = format!(
            "there is no {}; create it, or correct traffic.gateway.parentRefs",
            called(&missing.name, missing.namespace.as_ref())
        );
        return Some(Summary::stalled("GatewayMissing", what));
    }
    let Some(live) = &inputs.route else {
        return Some(Summary::reconciling(
            "GatewayPending",
            "the HTTPRoute for traffic.gateway is being written",
        ));
    };
    let route = live.name_any();
    let mut pending = None;
    for parent in parents(object) {
        let name = called(&parent.name, parent.namespace.as_ref());
        match told(live, &parent) {
            Told::Accepted => {}
            Told::Refused(why) => {
                let what = format!(
                    "{name} does not take HTTPRoute {route}: {why}; correct traffic.gateway.parentRefs and hostnames, or \
                     allow the route in the Gateway's listeners"
                );
                return Some(Summary::stalled("GatewayRefused", what));
            }
            // A controller that has answered before does so again; one that never did may not be there.
            Told::Nothing if answers(live, &parent).next().is_none() => pending = Some((name, true)),
            Told::Nothing => pending = pending.or(Some((name, false))),
        }
    }
    let (name, unheard) = pending?;
    let created = live.metadata.creation_timestamp.as_ref();
    if unheard && created.is_some_and(|created| now.duration_since(created.0) > SILENCE) {
        let what = format!(
            "no controller has taken HTTPRoute {route} for {name}; see to it that this Gateway is there and the controller \
             of its GatewayClass runs, or correct traffic.gateway.parentRefs"
        );
        return Some(Summary::stalled("GatewayMissing", what));
    }
    Some(Summary::reconciling(
        "GatewayPending",
        format!("waits for {name} to take HTTPRoute {route}"),
    ))
}

/// What is said where the cluster does not know the kind.
pub fn not_installed() -> Summary {
    Summary::stalled(
        "GatewayApiMissing",
        "this cluster has no gateway.networking.k8s.io/v1 HTTPRoute; install the Gateway API and a Gateway of it, or \
         remove traffic.gateway",
    )
}
