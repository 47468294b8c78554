//! What reaches a Gateway, and what its controller's answers come to.

use serde_json::{Value, json};

use super::*;
use crate::{
    conditions::Standing,
    model_deployment::{
        inputs::Inputs,
        plan::plan,
        tests::{desired as all, inputs, object, settings},
    },
};

const GATEWAY: &str = "
metadata: {name: web, namespace: models, uid: u, generation: 3}
spec:
  variants:
  - {name: control, model: {hub: {repo: a/old}}, trafficPercent: 70}
  - {name: candidate, model: {hub: {repo: a/new}}, trafficPercent: 30}
  - {name: dark, model: {hub: {repo: a/dark}}, trafficPercent: 0}
  traffic: {gateway: {parentRefs: [{name: public, namespace: edge, sectionName: https}], hostnames: [chat.example.com]}}
";

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn pod(revision: &str) -> k8s_openapi::api::core::v1::Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "labels": {"slipway.dev/revision": revision}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .unwrap()
}

fn ready<'a>(object: &'a ModelDeployment, revisions: &[(&str, &str)]) -> Inputs<'a> {
    let mut found = inputs(object);
    for variant in &mut found.variants {
        let of = revisions.iter().filter(|(name, _)| *name == variant.spec.name);
        variant.pods = of.map(|(_, revision)| pod(revision)).collect();
    }
    found
}

fn route(object: &ModelDeployment, inputs: &Inputs<'_>) -> HttpRoute {
    all(object, inputs).gateway.unwrap().route
}

/// `header=value: service×weight …`, one line a rule.
fn lines(rules: &[Rule]) -> Vec<String> {
    let line = |rule: &Rule| {
        let asked = rule.matches.first().map_or_else(
            || "*".to_owned(),
            |found| format!("{}={}", found.headers[0].name, found.headers[0].value),
        );
        let backends: Vec<String> = rule
            .backend_refs
            .iter()
            .map(|backend| format!("{}×{}", backend.name, backend.weight))
            .collect();
        format!("{asked}: {}", backends.join(" "))
    };
    rules.iter().map(line).collect()
}

#[test]
fn the_route_has_the_shares_and_an_arm_answers_who_asks_for_it() {
    let object = object(GATEWAY);
    let inputs = ready(&object, &[("control", "r1"), ("candidate", "r2"), ("dark", "r3")]);
    let desired = all(&object, &inputs);
    let version = desired.version.clone();
    let gateway = desired.gateway.unwrap();
    assert_eq!(
        lines(&gateway.route.spec.rules),
        [
            "x-slipway-revision=r1: web--control×1",
            "x-slipway-revision=r2: web--candidate×1",
            "x-slipway-revision=r3: web--dark×1",
            "x-slipway-variant=control: web--control×100",
            "x-slipway-variant=candidate: web--candidate×100",
            "x-slipway-variant=dark: web--dark×100",
            "*: web--control×7000 web--candidate×3000 web--dark×0",
        ]
    );
    let manifest = serde_json::to_value(&gateway.route).unwrap();
    assert_eq!(
        manifest["spec"]["parentRefs"],
        json!([{"name": "public", "namespace": "edge", "sectionName": "https"}])
    );
    assert_eq!(manifest["spec"]["hostnames"], json!(["chat.example.com"]));
    let rules = manifest["spec"]["rules"].as_array().unwrap();
    assert!(
        rules
            .iter()
            .all(|rule| rule["timeouts"] == json!({"request": "0s"}))
    );
    assert_eq!(manifest["apiVersion"], "gateway.networking.k8s.io/v1");
    assert_eq!(manifest["kind"], "HTTPRoute");
    assert_eq!(manifest["metadata"]["annotations"]["slipway.dev/routes"], version);
    let service = &gateway.services[0];
    let spec = service.spec.as_ref().unwrap();
    assert_eq!(
        (service.name_any().as_str(), spec.cluster_ip.as_deref()),
        ("web--control", None)
    );
    assert_eq!(spec.selector.as_ref().unwrap()["slipway.dev/variant"], "control");
}

#[test]
fn an_arm_without_a_ready_pod_gets_nothing_unless_none_has_one() {
    let object = object(GATEWAY);
    let split = |revisions: &[(&str, &str)]| {
        let inputs = ready(&object, revisions);
        lines(&route(&object, &inputs).spec.rules).pop().unwrap()
    };
    assert_eq!(
        split(&[("candidate", "r2"), ("dark", "r3")]),
        "*: web--control×0 web--candidate×3000 web--dark×0"
    );
    assert_eq!(split(&[]), "*: web--control×7000 web--candidate×3000 web--dark×0");
}

fn rolling(weight: u32) -> ModelDeployment {
    let mut object = object(GATEWAY);
    object.spec.strategy =
        serde_json::from_value(json!({"canary": {"steps": [{"setWeight": weight}, {"pause": {}}]}})).unwrap();
    let status = json!({"variants": [{"name": "control", "revision": "old", "rollout": {
        "revision": "newnewnewnew", "from": "old", "phase": "Progressing", "step": 1, "weight": weight, "target": weight,
        "stepStarted": "2026-01-01T00:00:00Z", "started": "2026-01-01T00:00:00Z",
        "sources": {"asked": "x", "model": {}}}}], "conditions": []});
    object.status = Some(serde_json::from_value(status).unwrap());
    object
}

/// The route while `control` is at `weight`, with or without a pod of the new revision that is ready.
fn rolled(weight: u32, canary: bool) -> Vec<String> {
    let object = rolling(weight);
    let mut inputs = ready(
        &object,
        &[("control", "old"), ("candidate", "r2"), ("dark", "r3")],
    );
    inputs.variants[0].server =
        Some(serde_json::from_value(json!({"metadata": {"name": "web-control"}})).unwrap());
    if canary {
        inputs.variants[0].canary_pods = vec![pod("newnewnewnew")];
    }
    let mut plan = plan(&object, &inputs, &settings(), now());
    // What the plan would do next is not of interest here: only what this state comes to.
    let status = object.status.as_ref().unwrap().variants[0].rollout.clone();
    plan.arms[0].intent = super::super::rollout::intent(status.as_ref(), 1);
    plan.arms[0].rollout = status;
    lines(&desired(&object, &plan, "v").unwrap().route.spec.rules)
}

#[test]
fn a_canary_has_its_part_of_the_share_of_its_arm() {
    let rules = rolled(10, true);
    assert_eq!(
        rules[0],
        "x-slipway-revision=newnewnewnew: web--control-newnewne×1"
    );
    assert_eq!(rules[1], "x-slipway-revision=old: web--control×1");
    assert!(
        rules.contains(&"x-slipway-variant=control: web--control×90 web--control-newnewne×10".to_owned())
    );
    assert_eq!(
        rules.last().unwrap(),
        "*: web--control×6300 web--control-newnewne×700 web--candidate×3000 web--dark×0"
    );
    let rules = rolled(10, false);
    assert_eq!(
        rules.last().unwrap(),
        "*: web--control×7000 web--candidate×3000 web--dark×0",
        "no share before there is a pod"
    );
}

fn answered(conditions: &Value) -> HttpRoute {
    let mut live = HttpRoute::new("web", HttpRouteSpec::default());
    live.metadata = serde_json::from_value(json!({"name": "web", "namespace": "models", "generation": 4,
        "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {"slipway.dev/routes": "v1"}}))
    .unwrap();
    let parents = json!({"parents": [{"controllerName": "example.com/gateway", "conditions": conditions,
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "edge",
            "sectionName": "https"}}]});
    live.status = Some(serde_json::from_value(parents).unwrap());
    live
}

fn said(kind: &str, status: &str, generation: i64) -> Value {
    json!({"type": kind, "status": status, "reason": "NotAllowedByListeners", "message": "No listeners allow it",
        "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn trouble(object: &ModelDeployment, live: Option<&HttpRoute>, now: Timestamp) -> Option<Summary> {
    let mut found = inputs(object);
    found.route = live.cloned();
    super::trouble(object, &found, now)
}

#[test]
fn a_gateway_that_took_the_route_follows_and_one_that_is_behind_does_not() {
    let object = object(GATEWAY);
    let live = answered(&json!([
        said("Accepted", "True", 4),
        said("ResolvedRefs", "True", 4)
    ]));
    assert!(follows(&object, Some(&live), "v1") && !follows(&object, Some(&live), "v2"));
    assert_eq!(trouble(&object, Some(&live), now()), None);
    let behind = answered(&json!([said("Accepted", "True", 3)]));
    assert!(!follows(&object, Some(&behind), "v1"));
    let told = trouble(&object, Some(&behind), now()).unwrap();
    assert_eq!(
        (told.standing, told.reason.as_str()),
        (Standing::Reconciling, "GatewayPending")
    );
    assert!(!follows(&object, None, "v1"));
    let without = crate::model_deployment::tests::object(crate::model_deployment::tests::TWO);
    assert!(follows(&without, None, "v1") && trouble(&without, None, now()).is_none());
}

#[test]
fn what_the_route_no_longer_names_stays_until_proxies_have_it() {
    let object = object(GATEWAY);
    let mut live = answered(&json!([said("Accepted", "True", 4)]));
    let written = json!([
        {"manager": "slipway-model-deployment", "operation": "Apply", "time": "2026-01-01T00:09:55Z"},
        {"manager": "gateway", "operation": "Update", "subresource": "status", "time": "2026-01-01T00:10:30Z"},
    ]);
    live.metadata.managed_fields = serde_json::from_value(written).unwrap();
    let at = |now: &str| settled(&object, Some(&live), now.parse().unwrap());
    assert!(!at("2026-01-01T00:10:00Z") && at("2026-01-01T00:10:06Z"));
    let without = crate::model_deployment::tests::object(crate::model_deployment::tests::TWO);
    assert!(settled(&without, None, now()));
}

#[test]
fn a_gateway_that_refuses_is_quoted_and_one_that_is_not_there_is_named() {
    let object = object(GATEWAY);
    for kind in ["Accepted", "ResolvedRefs"] {
        let told = trouble(&object, Some(&answered(&json!([said(kind, "False", 4)]))), now()).unwrap();
        assert_eq!(
            (told.standing, told.reason.as_str()),
            (Standing::Stalled, "GatewayRefused")
        );
        assert!(
            told.message.contains(&format!(
                "Gateway public in namespace edge does not take HTTPRoute web: {kind} is False \
                 (NotAllowedByListeners): No listeners allow it"
            )),
            "{}",
            told.message
        );
    }
    let mut silent = answered(&json!([]));
    silent.status = None;
    let told = |now: &str| trouble(&object, Some(&silent), now.parse().unwrap()).unwrap();
    assert_eq!(told("2026-01-01T00:00:30Z").reason, "GatewayPending");
    let late = told("2026-01-01T00:02:00Z");
    assert_eq!(
        (late.standing, late.reason.as_str()),
        (Standing::Stalled, "GatewayMissing")
    );
    assert!(
        late.message.contains("see to it that this Gateway is there"),
        "{}",
        late.message
    );
}

#[test]
fn a_gateway_that_is_not_there_is_told_at_once_and_one_more_that_is_silent_too() {
    let mut object = object(GATEWAY);
    let accepted = answered(&json!([said("Accepted", "True", 4)]));
    let mut found = inputs(&object);
    found.route = Some(accepted.clone());
    let gateway = object.spec.traffic.gateway.clone().unwrap();
    found.absent_gateways.clone_from(&gateway.parent_refs);
    let told = super::trouble(&object, &found, now()).unwrap();
    assert_eq!(
        (told.standing, told.reason.as_str()),
        (Standing::Stalled, "GatewayMissing")
    );
    assert_eq!(
        told.message,
        "there is no Gateway public in namespace edge; create it, or correct traffic.gateway.parentRefs"
    );
    let mut more = gateway;
    more.parent_refs
        .push(serde_json::from_value(json!({"name": "inner"})).unwrap());
    object.spec.traffic.gateway = Some(more);
    let told = trouble(&object, Some(&accepted), now()).unwrap();
    assert!(
        told.message.contains("for Gateway inner in namespace models"),
        "{}",
        told.message
    );
}

#[test]
fn names_fit_and_differ_from_those_of_the_arms() {
    let mut object = object(GATEWAY);
    assert_eq!(twin(&object, "web-control"), "web--control");
    object.metadata.name = Some("a".repeat(50));
    let child = child_name(&object, &"v".repeat(30));
    let name = twin(&object, &child);
    assert!(name.len() <= 63 && name != child, "{name}");
}

#[tokio::test]
async fn a_cluster_without_the_gateway_api_is_told_from_one_that_refuses() {
    use axum::{Router, http::StatusCode};

    use crate::{
        apply::{Applier, ApplyError},
        pods,
    };

    let object = object(GATEWAY);
    let route = route(&object, &inputs(&object));
    let written = async |code: StatusCode, text: &'static str| -> ApplyError {
        let service = Router::new().fallback(move || async move { (code, text) });
        let client = kube::Client::new(service, "models");
        let owner = pods::owner_reference(&object).unwrap();
        let applier = Applier::new(&client, "models", "test", owner);
        applier.ensure::<HttpRoute>(&route).await.unwrap_err()
    };
    // What an apiserver answers for a path that no kind has.
    let unknown = written(StatusCode::NOT_FOUND, "404 page not found").await;
    assert!(
        unknown.unknown_kind::<HttpRoute>() && !unknown.unknown_kind::<Service>(),
        "{unknown}"
    );
    let forbidden = written(StatusCode::FORBIDDEN, "no").await;
    assert!(!forbidden.unknown_kind::<HttpRoute>() && forbidden.refusal().is_some());
    assert!(not_installed().message.contains("install the Gateway API"));
}
