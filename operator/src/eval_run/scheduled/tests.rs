//! An operator that is cut off at any of its writes, before or after it took effect: no run is lost, none is made
//! twice. The apiserver is a table of objects here; what it would refuse is tried on a real one elsewhere.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    names::{EVAL_RUN_MANAGER, RUN_NOW_ANNOTATION},
    pods,
    settings::Settings,
    telemetry::Metrics,
};

const RUN: &str = "/apis/slipway.dev/v1alpha1/namespaces/models/evalruns/watch";
const JOBS: &str = "/apis/batch/v1/namespaces/models/jobs";
const PODS: &str = "/api/v1/namespaces/models/pods";

/// Which write goes wrong: the how-manieth, and whether it takes effect all the same.
type Cut = Option<(usize, bool)>;

#[derive(Default)]
struct World {
    objects: BTreeMap<String, Value>,
    /// Jobs that were created, in order.
    created: Vec<String>,
    events: Vec<String>,
    writes: usize,
    cut: Cut,
}

type Shared = Arc<Mutex<World>>;

fn status(code: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason,
        "code": code.as_u16()});
    (code, Json(body)).into_response()
}

fn merge(into: &mut Value, change: &Value) {
    let (Value::Object(into), Value::Object(change)) = (&mut *into, change) else {
        into.clone_from(change);
        return;
    };
    for (key, value) in change {
        if value.is_null() {
            into.remove(key);
        } else {
            merge(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

async fn answer(State(world): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
    let path = uri.path().to_owned();
    if method == Method::GET {
        let collection = ["jobs", "pods", "configmaps"]
            .iter()
            .any(|kind| path.ends_with(kind));
        if collection {
            let inside = format!("{path}/");
            let items: Vec<&Value> = world
                .objects
                .iter()
                .filter(|(key, _)| key.starts_with(&inside))
                .map(|(_, object)| object)
                .collect();
            return Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
                .into_response();
        }
        return world.objects.get(&path).map_or_else(
            || status(StatusCode::NOT_FOUND, "NotFound"),
            |found| Json(found.clone()).into_response(),
        );
    }
    world.writes += 1;
    let cut = world.cut.filter(|(at, _)| *at == world.writes);
    if cut.is_some_and(|(_, effect)| !effect) {
        return status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
    }
    let change: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer = write(&mut world, &method, &path, change);
    if cut.is_some() {
        return status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
    }
    answer
}

fn write(world: &mut World, method: &Method, path: &str, change: Value) -> Response {
    if path.contains("/events") {
        world
            .events
            .push(change["reason"].as_str().unwrap_or_default().into());
        return Json(change).into_response();
    }
    if *method == Method::DELETE {
        let gone = world.objects.remove(path);
        return gone.map_or_else(
            || status(StatusCode::NOT_FOUND, "NotFound"),
            |_| Json(json!({"kind": "Status", "status": "Success"})).into_response(),
        );
    }
    let (key, whole) = if *method == Method::POST {
        (
            format!("{path}/{}", change["metadata"]["name"].as_str().unwrap()),
            true,
        )
    } else {
        (path.trim_end_matches("/status").to_owned(), false)
    };
    if whole && world.objects.contains_key(&key) {
        return status(StatusCode::CONFLICT, "AlreadyExists");
    }
    if key.starts_with(JOBS) && !world.objects.contains_key(&key) {
        world
            .created
            .push(change["metadata"]["name"].as_str().unwrap().into());
    }
    let object = world.objects.entry(key).or_insert_with(|| json!({}));
    if path.ends_with("/status") {
        // Server-side apply by the only manager of a status: what is no longer said is gone.
        object["status"] = change["status"].clone();
    } else {
        merge(object, &change);
        object["metadata"]["uid"] = json!(object["metadata"]["name"]);
    }
    Json(object.clone()).into_response()
}

fn world(cut: Cut) -> Shared {
    let run = json!({"apiVersion": "slipway.dev/v1alpha1", "kind": "EvalRun",
        "metadata": {"name": "watch", "namespace": "models", "uid": "watch", "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:30Z"},
        "spec": {"target": {"deployment": {"name": "sentiment"}}, "task": "SequenceClassification",
            "dataset": {"url": "https://host/test.csv"}, "metrics": [{"name": "accuracy"}],
            "schedule": {"cron": "0 * * * *", "historyLimit": 2}}});
    let serving = json!({"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelDeployment",
        "metadata": {"name": "sentiment", "namespace": "models"},
        "spec": {"variants": [{"name": "main", "model": {"hub": {"repo": "a/b"}}}]},
        "status": {"variants": [{"name": "main", "revision": "r1"}], "conditions": [{"type": "Ready", "status": "True",
            "reason": "Serving", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let deployment = "/apis/slipway.dev/v1alpha1/namespaces/models/modeldeployments/sentiment";
    Arc::new(Mutex::new(World {
        objects: BTreeMap::from([(RUN.into(), run), (deployment.into(), serving)]),
        cut,
        ..World::default()
    }))
}

fn context(world: &Shared) -> Arc<Context> {
    let service = Router::new().fallback(answer).with_state(world.clone());
    let settings = Settings {
        hub_endpoint: "http://hub".into(),
        trainer_image: "trainer:1".into(),
        server_image: "server:1".into(),
        image_pull_policy: "IfNotPresent".into(),
        namespace: None,
    };
    let client = kube::Client::new(service, "models");
    Arc::new(Context::new(client, settings, Arc::new(Metrics::default()), None).unwrap())
}

/// A look that knows nothing but what the apiserver says.
async fn operator(world: &Shared, context: &Arc<Context>, now: Timestamp) -> Result<Action, Error> {
    let object: EvalRun = serde_json::from_value(world.lock().unwrap().objects[RUN].clone()).unwrap();
    let owner = pods::owner_reference(&object).unwrap();
    let applier = Applier::new(&context.client, "models", EVAL_RUN_MANAGER, owner);
    let schedule = object.spec.schedule.clone().unwrap();
    Box::pin(reconcile(context, &applier, Arc::new(object), &schedule, now)).await
}

/// Runs each Job that has not run, to a report of `accuracy`.
fn kubelet(world: &Shared, accuracy: f64) {
    let mut world = world.lock().unwrap();
    let waiting: Vec<String> = world
        .objects
        .iter()
        .filter(|(key, job)| key.starts_with(JOBS) && job.get("status").is_none())
        .map(|(_, job)| job["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    let report = json!({"outcome": {"verdict": "Passed", "findings": [], "results": [{"metric": "accuracy",
        "value": accuracy, "confidenceInterval": {"low": accuracy - 0.01, "high": accuracy + 0.01}, "examples": 800}]}});
    for name in waiting {
        world.objects.get_mut(&format!("{JOBS}/{name}")).unwrap()["status"] =
            json!({"conditions": [{"type": "Complete", "status": "True"}]});
        let pod = json!({"metadata": {"name": name, "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job",
                "name": name, "uid": name}]},
            "status": {"phase": "Succeeded", "containerStatuses": [{"name": "trainer", "image": "", "imageID": "",
                "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0,
                    "finishedAt": "2026-01-01T01:00:30Z", "message": report.to_string()}}}]}});
        world.objects.insert(format!("{PODS}/{name}"), pod);
    }
}

/// Looks until a look changes nothing. Nothing is remembered from one look to the next but what was written.
async fn settle(world: &Shared, context: &Arc<Context>, accuracy: f64, now: &str) {
    for _ in 0..12 {
        let before = world.lock().unwrap().writes;
        let result = operator(world, context, now.parse().unwrap()).await;
        kubelet(world, accuracy);
        if result.is_ok() && world.lock().unwrap().writes == before {
            return;
        }
    }
    panic!("it does not come to rest");
}

/// Two runs by the clock, then one that was asked for; which Jobs, and the status.
async fn three_runs(cut: Cut) -> (Vec<String>, Value, Shared) {
    let world = world(cut);
    let context = context(&world);
    settle(&world, &context, 0.8, "2026-01-01T00:59:00Z").await;
    settle(&world, &context, 0.8, "2026-01-01T01:00:00Z").await;
    settle(&world, &context, 0.6, "2026-01-01T02:00:00Z").await;
    world.lock().unwrap().objects.get_mut(RUN).unwrap()["metadata"]["annotations"] =
        json!({RUN_NOW_ANNOTATION: ""});
    settle(&world, &context, 0.6, "2026-01-01T02:30:00Z").await;
    let seen = world.lock().unwrap();
    let (created, object) = (seen.created.clone(), seen.objects[RUN].clone());
    drop(seen);
    assert!(
        object["metadata"]["annotations"]
            .get(RUN_NOW_ANNOTATION)
            .is_none(),
        "the request is done with"
    );
    (created, object["status"].clone(), world)
}

#[tokio::test]
async fn runs_follow_the_schedule_and_their_children_the_history() {
    let (created, told, world) = three_runs(None).await;
    assert_eq!(created, ["watch-29453820", "watch-29453880", "watch-1767234600"]);
    let history: Vec<&str> = told["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["job"].as_str().unwrap())
        .collect();
    assert_eq!(history, ["watch-1767234600", "watch-29453880"]);
    assert_eq!(told["history"][0]["answering"][0]["revision"], "r1");
    assert_eq!(told["reference"]["job"], "watch-29453820");
    assert_eq!(told["nextScheduledTime"], "2026-01-01T03:00:00Z");
    assert_eq!(told["lastScheduledTime"], "2026-01-01T02:00:00Z");
    let drifted = told["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "Drifted")
        .unwrap();
    assert_eq!(drifted["status"], "True");
    let world = world.lock().unwrap();
    let left = |prefix: &str| world.objects.keys().filter(|key| key.starts_with(prefix)).count();
    assert_eq!(
        (left(JOBS), left("/api/v1/namespaces/models/configmaps/")),
        (2, 2)
    );
    assert_eq!(
        world.events.iter().filter(|reason| *reason == "Drifted").count(),
        1
    );
}

#[tokio::test]
async fn an_operator_cut_off_at_any_write_makes_each_run_once() {
    let (created, told, world) = three_runs(None).await;
    let writes = world.lock().unwrap().writes;
    assert!(writes > 15, "{writes}");
    for at in 1..=writes {
        for effect in [false, true] {
            let (again, after, _) = three_runs(Some((at, effect))).await;
            assert_eq!(again, created, "write {at}, {effect}");
            assert_eq!(after["history"], told["history"], "write {at}, {effect}");
            assert_eq!(after["reference"], told["reference"], "write {at}, {effect}");
        }
    }
}
