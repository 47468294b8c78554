//! Arms that change while others serve.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use slipway_contract::RouteTable;

use super::*;
use crate::{
    crd::EvalRun,
    model_deployment::{
        desired::Desired,
        rollout::EVALUATING,
        server::revision_of,
        tests::{TWO, desired, inputs, now, object, settings, settle, status},
    },
    names::{REVISION_LABEL, TRACK_LABEL},
};

const STEPS: &str = "
  strategy: {canary: {steps: [{eval: {templateRef: {name: gate}}}, {setWeight: 50}, {pause: {}}]}}
";

/// Two arms that serve, of which `changed` are asked to serve something else.
fn changing(changed: &[usize]) -> ModelDeployment {
    let mut object = object(&format!("{TWO}{STEPS}"));
    let before = object.clone();
    let mut settled = inputs(&before);
    let children = desired(&before, &settled);
    settle(&mut settled, &children);
    object.status = Some(status(&before, &settled, &children).0);
    for &index in changed {
        object.spec.variants[index].resources = serde_saphyr::from_str("limits: {memory: 3Gi}").unwrap();
    }
    object
}

/// What there is while the servers of `before` run.
fn seen<'a>(object: &'a ModelDeployment, before: &ModelDeployment) -> Inputs<'a> {
    let mut seen = inputs(object);
    let children = desired(before, &inputs(before));
    settle(&mut seen, &children);
    seen
}

fn unchanged() -> ModelDeployment {
    object(&format!("{TWO}{STEPS}"))
}

fn table(desired: &Desired) -> RouteTable {
    serde_json::from_str(&desired.routes.data.as_ref().unwrap()["routes.json"]).unwrap()
}

fn names(servers: &[Deployment]) -> Vec<String> {
    servers.iter().map(ResourceExt::name_any).collect()
}

#[test]
fn a_changed_arm_keeps_its_servers_and_gets_others_beside_them() {
    let object = changing(&[0]);
    let seen = seen(&object, &unchanged());
    let desired = desired(&object, &seen);
    assert_eq!(names(&desired.servers), ["web-candidate"]);
    assert_eq!(desired.held, [("web-control".to_owned(), 2)]);
    let canary = &desired.canaries[0];
    let revision = revision_of(canary);
    assert_eq!(canary.name_any(), format!("web-control-{}", &revision[..8]));
    let selector = canary
        .spec
        .as_ref()
        .unwrap()
        .selector
        .match_labels
        .clone()
        .unwrap();
    assert_eq!(
        (selector[TRACK_LABEL].as_str(), &selector[REVISION_LABEL]),
        ("canary", &revision)
    );
    let route = table(&desired).variants[0].clone();
    let beside = route.canary.unwrap();
    assert_eq!((route.weight, beside.percent, beside.mirror_percent), (20, 0, 0));
    assert_eq!(
        beside.url,
        format!("http://{}.models.svc:8080", canary.name_any())
    );
    assert_ne!(beside.revision, route.revision);
    assert!(desired.evaluations.is_empty(), "nobody would answer it yet");
}

#[test]
fn arms_that_change_together_are_rolled_one_after_the_other() {
    let object = changing(&[0, 1]);
    let seen = seen(&object, &unchanged());
    let desired = desired(&object, &seen);
    assert_eq!((desired.canaries.len(), desired.held.len()), (1, 2));
    let (told, _) = status(&object, &seen, &desired);
    assert_eq!(
        told.variants[1].message,
        "variant candidate waits for the rollout of variant control"
    );
    assert!(told.variants[1].rollout.is_none() && told.variants[0].rollout.is_some());
}

#[test]
fn an_arm_that_never_served_has_nothing_to_fall_back_on() {
    let mut object = changing(&[0]);
    object.status.as_mut().unwrap().variants[0].revision.clear();
    let seen = seen(&object, &unchanged());
    let desired = desired(&object, &seen);
    assert!(desired.canaries.is_empty() && desired.held.is_empty());
    assert_eq!(names(&desired.servers), ["web-control", "web-candidate"]);
}

#[test]
fn the_evaluation_is_made_once_the_revision_can_be_asked() {
    let mut object = changing(&[0]);
    let copy = object.clone();
    let serving = seen(&copy, &unchanged());
    let first = plan(&copy, &serving, &settings(), now()).arms[0]
        .rollout
        .clone()
        .unwrap();
    let mut ready = first.clone();
    ready.reason = EVALUATING.into();
    object.status.as_mut().unwrap().variants[0].rollout = Some(ready.clone());
    let mut seen = seen(&object, &unchanged());
    let template: EvalRun = serde_saphyr::from_str(
        "metadata: {name: gate}\n\
         spec: {task: SequenceClassification, dataset: {hub: {repo: a/b}}, metrics: [{name: accuracy}], \
         thresholds: [{metric: accuracy, min: 0.7}]}",
    )
    .unwrap();
    seen.variants[0].template = Some(template);
    // The new revision's pod is there, and the routers follow.
    let mut pod = seen.variants[0].pods[0].clone();
    pod.labels_mut()
        .insert(REVISION_LABEL.into(), ready.revision.clone());
    seen.variants[0].canary_pods = vec![pod];
    seen.stats = vec![Some(RouterStats {
        version: routes::version(&object, &seen),
        ..RouterStats::default()
    })];
    let desired = desired(&object, &seen);
    let [run] = desired.evaluations.as_slice() else {
        panic!("one evaluation: {:?}", desired.evaluations);
    };
    let target = serde_json::to_value(&run.spec.target).unwrap();
    let asked =
        serde_json::json!({"deployment": {"name": "web", "variant": "control", "revision": ready.revision}});
    assert_eq!(target, asked);
}

#[test]
fn a_command_is_remembered_before_it_is_removed_and_carried_out_once() {
    let mut object = changing(&[0]);
    let copy = object.clone();
    let serving = seen(&copy, &unchanged());
    let mut paused = plan(&copy, &serving, &settings(), now()).arms[0]
        .rollout
        .clone()
        .unwrap();
    (paused.phase, paused.step, paused.reason) = (RolloutPhase::Paused, 2, "WaitingForPromotion".into());
    object.status.as_mut().unwrap().variants[0].rollout = Some(paused);
    object
        .annotations_mut()
        .insert("slipway.dev/promote".into(), "now".into());
    let before = object.clone();
    let at_first = seen(&before, &unchanged());
    let carried_out = plan(&before, &at_first, &settings(), now());
    let on = carried_out.arms[0].rollout.as_ref().unwrap();
    assert_eq!((on.phase, on.step), (RolloutPhase::Progressing, 3));
    assert_eq!(
        (carried_out.handled.as_deref(), carried_out.consumed),
        (Some("slipway.dev/promote=now"), None)
    );
    // The operator comes back, and finds what it did in the status: the annotation is all that is left to do.
    object.status.as_mut().unwrap().handled_command = carried_out.handled.clone();
    let again = plan(&object, &at_first, &settings(), now());
    assert_eq!(again.consumed, Some("slipway.dev/promote"));
    assert_eq!(
        again.arms[0].rollout.as_ref().unwrap().phase,
        RolloutPhase::Paused
    );
}

#[test]
fn the_rollout_is_not_over_before_every_router_finds_the_arm_s_own_pods() {
    let mut object = changing(&[0]);
    let copy = object.clone();
    let serving = seen(&copy, &unchanged());
    let mut promoting = plan(&copy, &serving, &settings(), now()).arms[0]
        .rollout
        .clone()
        .unwrap();
    (promoting.phase, promoting.step, promoting.weight) = (RolloutPhase::Promoting, 3, 50);
    let from = promoting.from.clone();
    object.status.as_mut().unwrap().variants[0].rollout = Some(promoting);
    // Every pod is of the new revision, and ready.
    let mut wanted = unchanged();
    wanted.spec.variants[0].resources = object.spec.variants[0].resources.clone();
    let mut seen = seen(&object, &wanted);
    let router = |servers| {
        Some(RouterStats {
            series: vec![slipway_contract::RevisionStats {
                variant: "control".into(),
                revision: from.clone(),
                ready_servers: servers,
                ..slipway_contract::RevisionStats::default()
            }],
            ..RouterStats::default()
        })
    };
    for (routers, over) in [
        (vec![router(2), router(1)], false),
        (vec![router(2), None], false),
        (vec![router(2), router(2)], true),
    ] {
        seen.stats = routers;
        let plan = plan(&object, &seen, &settings(), now());
        assert_eq!(plan.arms[0].rollout.is_none(), over);
    }
}

#[test]
fn a_command_for_another_variant_is_not_for_this_one() {
    let mut object = changing(&[0]);
    object
        .annotations_mut()
        .insert("slipway.dev/abort".into(), "candidate".into());
    let seen = seen(&object, &unchanged());
    let plan = plan(&object, &seen, &settings(), now());
    assert_eq!(
        plan.arms[0].rollout.as_ref().unwrap().phase,
        RolloutPhase::Progressing
    );
}

#[test]
fn what_was_rolled_back_is_forgotten_once_the_spec_asks_for_what_serves() {
    let mut object = changing(&[0]);
    let copy = object.clone();
    let serving = seen(&copy, &unchanged());
    let first = plan(&copy, &serving, &settings(), now());
    let mut given_up = first.arms[0].rollout.clone().unwrap();
    (given_up.phase, given_up.reason) = (RolloutPhase::RolledBack, "EvalFailed".into());
    object.status.as_mut().unwrap().variants[0].rollout = Some(given_up);
    let still = desired(&object, &seen(&object, &unchanged()));
    assert_eq!(
        (still.canaries.len(), still.held.len()),
        (0, 1),
        "it is not tried again by itself"
    );
    object.spec.variants = unchanged().spec.variants;
    let seen = seen(&object, &unchanged());
    let back = desired(&object, &seen);
    assert_eq!(back.held, []);
    let (told, _) = status(&object, &seen, &back);
    assert_eq!(told.variants[0].rollout, None);
}

const SCORED: &str = "
  strategy: {canary: {steps: [{setWeight: 50}, {analysis: {duration: 1m, metrics: [{name: feedbackScore, min: 0.5}]}}]}}
";

#[test]
fn an_analysis_by_feedback_has_the_routers_take_scores_under_a_key_that_stays() {
    let mut web = object(&format!("{TWO}{SCORED}"));
    let told = |web: &ModelDeployment, key: Option<&str>| {
        let mut seen = inputs(web);
        seen.feedback_key = key.map(str::to_owned);
        desired(web, &seen).routes
    };
    let map = told(&web, Some("00ff"));
    assert_eq!(routes::feedback_key(&map).as_deref(), Some("00ff"));
    assert_eq!(
        routes::feedback_key(&told(&web, None)),
        None,
        "only where it is asked for"
    );
    // Before a revision is rolled in, an experiment's scores come first.
    web.spec.experiment = Some(serde_saphyr::from_str("metric: feedbackScore").unwrap());
    let mut seen = inputs(&web);
    let children = desired(&web, &seen);
    settle(&mut seen, &children);
    seen.feedback_key = Some("00ff".into());
    seen.experiment.fresh_key = "11".repeat(32);
    let table = table(&desired(&web, &seen));
    assert!(
        table.experiment.is_some() && table.feedback.is_none(),
        "{table:?}"
    );
}

#[test]
fn only_strategies_with_an_analysis_by_feedback_ask_for_it() {
    let asks = |yaml: &str| object(&format!("{TWO}{yaml}")).spec.strategy.asks_for_feedback();
    assert_eq!((asks(SCORED), asks(STEPS)), (true, false));
}
