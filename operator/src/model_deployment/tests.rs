//! The pure steps, from minimal YAML.

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::ResourceExt;
use slipway_contract::RouterStats;

use super::{
    ROUTES_ANNOTATION,
    desired::{Desired, child_name},
    inputs::{Inputs, Resolved, VariantInput},
    plan::plan,
    server::{asked, revision_of},
};
use crate::{
    conditions::{self, Summary, kind},
    crd::{ModelDeployment, ModelDeploymentStatus, ResolvedSource, RevisionSources, VariantPhase},
    names::{REVISION_LABEL, VARIANT_LABEL},
    settings::Settings,
    sources::Missing,
};

pub(super) const TWO: &str = "
metadata: {name: web, namespace: models, uid: u, generation: 3}
spec:
  task: SequenceClassification
  variants:
  - {name: control, model: {hub: {repo: a/old}}, trafficPercent: 20, replicas: 2}
  - {name: candidate, model: {claim: {name: weights, path: best}}, trafficPercent: 80}
  traffic: {sticky: {header: x-user-id}}
  hub: {tokenSecretRef: {name: hub-token}}
";

pub(super) fn object(yaml: &str) -> ModelDeployment {
    serde_saphyr::from_str(yaml).unwrap()
}

pub(super) fn settings() -> Settings {
    Settings {
        hub_endpoint: "http://hub".into(),
        trainer_image: "trainer:1".into(),
        server_image: "server:1".into(),
        image_pull_policy: "IfNotPresent".into(),
        namespace: None,
    }
}

/// Every variant resolved: repositories to a commit, claims to themselves.
pub(super) fn inputs(object: &ModelDeployment) -> Inputs<'_> {
    let variants = object.spec.variants.iter().map(|spec| {
        let model = match spec.name.as_str() {
            "candidate" => ResolvedSource {
                claim: Some("weights".into()),
                path: Some("best".into()),
                ..ResolvedSource::default()
            },
            _ => ResolvedSource {
                repo: Some("a/old".into()),
                commit: Some("c".repeat(40)),
                ..ResolvedSource::default()
            },
        };
        let sources = RevisionSources {
            asked: asked(object, spec),
            model,
            adapters: Vec::new(),
        };
        VariantInput {
            spec,
            resolved: Resolved::Known(sources),
            server: None,
            pods: Vec::new(),
            canary_pods: Vec::new(),
            template: None,
            evaluation: None,
            answers: Vec::new(),
            served: super::served::Served::default(),
        }
    });
    Inputs {
        variants: variants.collect(),
        orphans: Vec::new(),
        canaries: Vec::new(),
        router_pods: Vec::new(),
        stats: Vec::new(),
        experiment: crate::model_deployment::experiment::Seen::default(),
        route: None,
        feedback_key: None,
        absent_gateways: Vec::new(),
    }
}

pub(super) fn desired(object: &ModelDeployment, inputs: &Inputs<'_>) -> Desired {
    let settings = settings();
    super::desired::desired(object, &plan(object, inputs, &settings, now()), &settings)
}

fn status_at(
    object: &ModelDeployment,
    inputs: &Inputs<'_>,
    desired: &Desired,
    now: Timestamp,
) -> (ModelDeploymentStatus, Summary) {
    let plan = plan(object, inputs, &settings(), now);
    super::status::status(object, inputs, &plan, desired, None, now)
}

pub(super) fn status(
    object: &ModelDeployment,
    inputs: &Inputs<'_>,
    desired: &Desired,
) -> (ModelDeploymentStatus, Summary) {
    status_at(object, inputs, desired, now())
}

fn args(server: &Deployment) -> Vec<String> {
    server
        .spec
        .as_ref()
        .unwrap()
        .template
        .spec
        .as_ref()
        .unwrap()
        .containers[0]
        .args
        .clone()
        .unwrap()
}

/// The Deployment as a cluster that has brought up every pod would show it.
fn running(server: &Deployment) -> Deployment {
    let mut live = server.clone();
    let replicas = live.spec.as_ref().unwrap().replicas.unwrap();
    live.metadata.generation = Some(1);
    live.status = Some(
        serde_json::from_value(serde_json::json!({
            "observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas,
            "readyReplicas": replicas, "availableReplicas": replicas,
        }))
        .unwrap(),
    );
    live
}

fn pod(labels: &[(&str, &str)], ready: bool, container: &serde_json::Value) -> Pod {
    let labels: serde_json::Map<_, _> = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect();
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "p", "labels": labels},
        "status": {
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            "containerStatuses": [container],
        },
    }))
    .unwrap()
}

fn server_of<'a>(desired: &'a Desired, variant: &str) -> &'a Deployment {
    desired
        .servers
        .iter()
        .find(|server| server.labels()[VARIANT_LABEL] == variant)
        .unwrap()
}

pub(super) fn settle(inputs: &mut Inputs<'_>, desired: &Desired) {
    for input in &mut inputs.variants {
        let server = server_of(desired, &input.spec.name);
        input.server = Some(running(server));
        let revision = revision_of(server);
        input.pods = vec![pod(
            &[(REVISION_LABEL, &revision)],
            true,
            &serde_json::json!({"name": "server", "image": "", "imageID": "", "ready": true, "restartCount": 0}),
        )];
    }
    let mut router = pod(
        &[],
        true,
        &serde_json::json!({"name": "router", "image": "", "imageID": "", "ready": true, "restartCount": 0}),
    );
    router
        .annotations_mut()
        .insert(ROUTES_ANNOTATION.into(), desired.version.clone());
    inputs.router_pods = vec![router];
    inputs.stats = vec![Some(RouterStats {
        version: desired.version.clone(),
        ..RouterStats::default()
    })];
}

fn ready(status: &ModelDeploymentStatus) -> bool {
    conditions::is_true(&status.conditions, kind::READY)
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

#[test]
fn each_variant_has_its_server_with_its_pinned_model() {
    let object = object(TWO);
    let desired = desired(&object, &inputs(&object));
    let control = args(server_of(&desired, "control"));
    assert!(
        control.contains(&format!("--model=hf://a/old@{}", "c".repeat(40))),
        "{control:?}"
    );
    assert!(control.contains(&"--hub-endpoint=http://hub".to_owned()));
    assert!(!control.iter().any(|argument| argument.contains("hf_")));
    let candidate = args(server_of(&desired, "candidate"));
    assert!(
        candidate.contains(&"--model=/slipway/sources/model/best".to_owned()),
        "{candidate:?}"
    );
    assert_eq!(
        server_of(&desired, "control").spec.as_ref().unwrap().replicas,
        Some(2)
    );
}

#[test]
fn every_pod_passes_pod_security_restricted() {
    let object = object(TWO);
    let desired = desired(&object, &inputs(&object));
    for deployment in desired.servers.iter().chain([&desired.router]) {
        let pod = deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
        assert_eq!(pod.automount_service_account_token, Some(false));
        assert_eq!(pod.security_context.as_ref().unwrap().run_as_non_root, Some(true));
        let security = pod.containers[0].security_context.as_ref().unwrap();
        assert_eq!(security.read_only_root_filesystem, Some(true));
        assert_eq!(
            security.capabilities.as_ref().unwrap().drop,
            Some(vec!["ALL".to_owned()])
        );
    }
}

#[test]
fn the_split_is_the_spec_and_its_change_touches_no_pod() {
    let before = object(TWO);
    let after = object(
        &TWO.replace("trafficPercent: 20", "trafficPercent: 60")
            .replace("trafficPercent: 80", "trafficPercent: 40"),
    );
    let (one, two) = (
        desired(&before, &inputs(&before)),
        desired(&after, &inputs(&after)),
    );
    let table: slipway_contract::RouteTable =
        serde_json::from_str(&one.routes.data.as_ref().unwrap()["routes.json"]).unwrap();
    assert_eq!(
        table
            .variants
            .iter()
            .map(|variant| variant.weight)
            .collect::<Vec<_>>(),
        [20, 80]
    );
    assert_eq!(table.variants[0].url, "http://web-control.models.svc:8080");
    assert_ne!(one.version, two.version);
    assert_eq!(one.router, two.router);
    for (server, same) in one.servers.iter().zip(&two.servers) {
        assert_eq!(
            server.spec.as_ref().unwrap().template,
            same.spec.as_ref().unwrap().template
        );
    }
}

#[test]
fn another_model_is_another_revision_and_more_replicas_are_not() {
    let object = object(TWO);
    let first = desired(&object, &inputs(&object));
    let mut changed = inputs(&object);
    if let Resolved::Known(sources) = &mut changed.variants[0].resolved {
        sources.model.commit = Some("d".repeat(40));
    }
    let second = desired(&object, &changed);
    assert_ne!(
        revision_of(server_of(&first, "control")),
        revision_of(server_of(&second, "control"))
    );
    let mut more = object.clone();
    more.spec.variants[0].replicas = Some(5);
    let third = desired(&more, &inputs(&more));
    assert_eq!(
        revision_of(server_of(&first, "control")),
        revision_of(server_of(&third, "control"))
    );
}

#[test]
fn the_selector_of_a_server_never_changes_with_its_revision() {
    let object = object(TWO);
    let desired = desired(&object, &inputs(&object));
    let selector = server_of(&desired, "control")
        .spec
        .as_ref()
        .unwrap()
        .selector
        .match_labels
        .clone()
        .unwrap();
    assert!(!selector.contains_key(REVISION_LABEL));
}

#[test]
fn long_names_stay_apart_and_within_a_label() {
    let mut long = object(TWO);
    long.metadata.name = Some("n".repeat(50));
    let names = [
        child_name(&long, &"v".repeat(29)),
        child_name(&long, &format!("{}w", "v".repeat(28))),
    ];
    assert!(names.iter().all(|name| name.len() <= 63), "{names:?}");
    assert_ne!(names[0], names[1]);
}

#[test]
fn ready_means_every_pod_answers_and_the_router_knows_the_split() {
    let object = object(TWO);
    let mut inputs = inputs(&object);
    let desired = desired(&object, &inputs);
    assert!(!ready(&status(&object, &inputs, &desired).0));
    settle(&mut inputs, &desired);
    let (settled, _) = status(&object, &inputs, &desired);
    assert!(ready(&settled), "{:?}", settled.conditions);
    assert_eq!(settled.summary.as_deref(), Some("control=20% candidate=80%"));
    assert_eq!(settled.url.as_deref(), Some("http://web.models.svc"));
    assert!(
        settled
            .variants
            .iter()
            .all(|variant| variant.next_revision.is_none() && variant.model.is_some())
    );
    // One that cannot be asked was told; one that follows another split is not done.
    inputs.stats = vec![None];
    assert!(ready(&status(&object, &inputs, &desired).0));
    inputs.stats = vec![Some(RouterStats::default())];
    assert!(!ready(&status(&object, &inputs, &desired).0));
}

#[test]
fn a_settled_status_is_the_same_when_derived_again() {
    let mut object = object(TWO);
    let copy = object.clone();
    let mut inputs = inputs(&copy);
    let desired = desired(&copy, &inputs);
    settle(&mut inputs, &desired);
    let (first, _) = status(&object, &inputs, &desired);
    object.status = Some(first.clone());
    let later = Timestamp::from_second(1_800_000_600).unwrap();
    assert_eq!(status_at(&object, &inputs, &desired, later).0, first);
}

#[test]
fn a_revision_that_cannot_start_says_why_while_the_old_one_answers() {
    let object = object(TWO);
    let mut inputs = inputs(&object);
    let desired = desired(&object, &inputs);
    settle(&mut inputs, &desired);
    // The live Deployment and its ready pod are of the revision before; the new pod has failed.
    let wanted = revision_of(server_of(&desired, "control"));
    let control = &mut inputs.variants[0];
    let live = control.server.as_mut().unwrap();
    live.labels_mut().insert(REVISION_LABEL.into(), "old".into());
    control.pods[0]
        .labels_mut()
        .insert(REVISION_LABEL.into(), "old".into());
    let report =
        r#"{"failure":{"reason":"UnsupportedArchitecture","message":"the architecture XLNet is not known"}}"#;
    control.pods.push(pod(
        &[(REVISION_LABEL, &wanted)],
        false,
        &serde_json::json!({"name": "server", "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 3, "message": report}},
        }),
    ));
    let (told, summary) = status(&object, &inputs, &desired);
    let variant = &told.variants[0];
    assert_eq!(variant.phase, VariantPhase::Degraded);
    assert!(variant.message.contains("XLNet"), "{}", variant.message);
    assert_eq!(
        (variant.revision.as_str(), variant.next_revision.as_deref()),
        ("old", Some(wanted.as_str()))
    );
    assert!(variant.ready_replicas > 0);
    assert_eq!(summary.reason, "ServerFailed");
}

#[test]
fn a_missing_model_leaves_what_runs_alone_and_is_named() {
    let object = object(TWO);
    let mut inputs = inputs(&object);
    inputs.variants[0].resolved =
        Resolved::Missing(Missing::needs_action("ModelNotFound", "a/old is not on the Hub"));
    let desired = desired(&object, &inputs);
    assert!(
        desired
            .servers
            .iter()
            .all(|server| server.labels()[VARIANT_LABEL] != "control")
    );
    let (told, summary) = status(&object, &inputs, &desired);
    assert_eq!(summary.reason, "ModelNotFound");
    assert!(summary.message.contains("variant control") && summary.message.contains("a/old"));
    assert!(conditions::is_true(&told.conditions, kind::STALLED));
}
