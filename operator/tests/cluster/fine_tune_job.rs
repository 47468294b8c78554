//! The FineTuneJob controller against a real apiserver, from apply to deletion. Runs against the cluster of
//! KUBECONFIG. The trainer's image is never there, so pods start and wait.

use std::time::Duration;

use super::support::{Cluster, at_rest, eventually};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret},
    events::v1::Event,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use slipway_operator::{
    conditions::{self, kind},
    crd::{EvalRun, FineTuneJob, Kind},
};

fn object(spec: Value) -> FineTuneJob {
    let mut full = json!({
        "apiVersion": "slipway.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "tune"},
        "spec": {"model": {"claim": {"name": "weights"}}, "dataset": {"configMap": {"name": "rows", "key": "train.csv"}}},
    });
    if let Value::Object(changes) = spec {
        for (key, value) in changes {
            full["spec"][key] = value;
        }
    }
    serde_json::from_value(full).unwrap()
}

/// A claim with weights and a ConfigMap with rows: sources that need no Hub.
async fn sources(cluster: &Cluster) {
    let claim = json!({"metadata": {"name": "weights"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}}}});
    let rows = json!({"metadata": {"name": "rows"}, "data": {"train.csv": "text,label\na,0\nb,1\n"}});
    let made = PostParams::default();
    cluster
        .api::<PersistentVolumeClaim>()
        .create(&made, &serde_json::from_value(claim).unwrap())
        .await
        .unwrap();
    cluster
        .api::<ConfigMap>()
        .create(&made, &serde_json::from_value(rows).unwrap())
        .await
        .unwrap();
}

fn reason(object: &impl Kind) -> &str {
    conditions::reason(object.conditions(), kind::READY).unwrap_or_default()
}

fn message(object: &impl Kind) -> &str {
    conditions::message(object.conditions(), kind::READY).unwrap_or_default()
}

async fn apply(api: &Api<FineTuneJob>, change: Value) {
    api.patch("tune", &PatchParams::default(), &Patch::Merge(&change))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_missing_is_named_and_taken_up_when_it_comes() {
    let Some(cluster) = Cluster::connect("missing").await else {
        return;
    };
    let operator = cluster.operator("http://127.0.0.1:9");
    let jobs = cluster.api::<FineTuneJob>();
    let spec = json!({"hub": {"tokenSecretRef": {"name": "hub-token"}}});
    jobs.create(&PostParams::default(), &object(spec)).await.unwrap();
    let stalled = eventually(&jobs, "tune", "SecretNotFound", |job| {
        reason(job) == "SecretNotFound"
    })
    .await;
    assert!(conditions::is_true(stalled.conditions(), kind::STALLED));
    assert!(
        message(&stalled).contains("create it with the Hub token under key token"),
        "{}",
        message(&stalled)
    );

    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "hub-token"}, "stringData": {"token": "hf_x"}}))
            .unwrap();
    cluster
        .api::<Secret>()
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    eventually(&jobs, "tune", "ClaimNotFound", |job| {
        reason(job) == "ClaimNotFound"
    })
    .await;
    sources(&cluster).await;
    eventually(&cluster.api::<Job>(), "tune-train", "its Job", |_| true).await;
    let events = cluster.api::<Event>().list(&ListParams::default()).await.unwrap();
    let reasons: Vec<String> = events
        .iter()
        .filter(|event| {
            event
                .regarding
                .as_ref()
                .is_some_and(|regarding| regarding.kind.as_deref() == Some("FineTuneJob"))
        })
        .filter_map(|event| event.reason.clone())
        .collect();
    for once in ["SecretNotFound", "ClaimNotFound"] {
        assert_eq!(
            reasons.iter().filter(|reason| *reason == once).count(),
            1,
            "{reasons:?}"
        );
    }
    let log = serde_json::to_string(&events.items).unwrap();
    assert!(!log.contains("hf_x"));
    operator.stop().await;
    cluster.end().await;
}

#[tokio::test]
async fn a_hub_that_is_down_is_waited_for() {
    let Some(cluster) = Cluster::connect("hub-down").await else {
        return;
    };
    let operator = cluster.operator("http://127.0.0.1:9");
    let jobs = cluster.api::<FineTuneJob>();
    jobs.create(
        &PostParams::default(),
        &object(json!({"model": {"hub": {"repo": "acme/minilm"}}})),
    )
    .await
    .unwrap();
    let waiting = eventually(&jobs, "tune", "HubUnavailable", |job| {
        reason(job) == "HubUnavailable"
    })
    .await;
    assert!(conditions::is_true(waiting.conditions(), kind::RECONCILING));
    operator.stop().await;
    cluster.end().await;
}

#[tokio::test]
async fn children_come_once_survive_a_restart_and_go_with_their_owner() {
    let Some(cluster) = Cluster::connect("children").await else {
        return;
    };
    sources(&cluster).await;
    let operator = cluster.operator("http://127.0.0.1:9");
    let jobs = cluster.api::<FineTuneJob>();
    let children = cluster.api::<Job>();
    jobs.create(&PostParams::default(), &object(json!({"workers": 2})))
        .await
        .unwrap();
    let first = eventually(&children, "tune-train", "its Job", |_| true).await;
    let told = eventually(&jobs, "tune", "a pod that waits", |job| {
        ["ImagePullFailed", "Unschedulable"].contains(&reason(job))
    })
    .await;
    assert!(!message(&told).is_empty());

    operator.kill();
    let operator = cluster.operator("http://127.0.0.1:9");
    let settled = eventually(&jobs, "tune", "the missing image", |job| {
        reason(job) == "ImagePullFailed"
    })
    .await;
    assert!(
        message(&settled).contains("ErrImageNeverPull"),
        "{}",
        message(&settled)
    );
    // Settled, if waiting for an image is: nothing is written while nothing changes.
    let child = children.get("tune-train").await.unwrap();
    assert_eq!(child.uid(), first.uid(), "a restart creates no second Job");
    at_rest(&jobs, "tune", Duration::from_secs(20)).await;
    assert_eq!(
        children.get("tune-train").await.unwrap().metadata.generation,
        child.metadata.generation
    );
    assert_eq!(
        children.list(&ListParams::default()).await.unwrap().items.len(),
        1
    );

    // A Job that somebody deletes comes again, once its pods are gone.
    children
        .delete("tune-train", &DeleteParams::background())
        .await
        .unwrap();
    eventually(&children, "tune-train", "another Job", |job| {
        job.uid() != first.uid()
    })
    .await;

    jobs.delete("tune", &DeleteParams::background()).await.unwrap();
    let gone = async {
        while !children
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
            || cluster
                .api::<PersistentVolumeClaim>()
                .get_opt("tune-checkpoints")
                .await
                .unwrap()
                .is_some()
            || !cluster
                .api::<Pod>()
                .list(&ListParams::default())
                .await
                .unwrap()
                .items
                .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(2), gone)
        .await
        .expect("children go with their owner");
    operator.stop().await;
    cluster.end().await;
}

#[tokio::test]
async fn suspend_stops_the_pods_and_resume_may_change_resources() {
    let Some(cluster) = Cluster::connect("suspend").await else {
        return;
    };
    sources(&cluster).await;
    let operator = cluster.operator("http://127.0.0.1:9");
    let jobs = cluster.api::<FineTuneJob>();
    let children = cluster.api::<Job>();
    jobs.create(
        &PostParams::default(),
        &object(json!({"resources": {"limits": {"slipway.test/gpu": 1}}})),
    )
    .await
    .unwrap();
    let short = eventually(&jobs, "tune", "Unschedulable", |job| {
        reason(job) == "Unschedulable"
    })
    .await;
    assert!(
        message(&short).contains("Insufficient slipway.test/gpu"),
        "{}",
        message(&short)
    );
    let first = children.get("tune-train").await.unwrap();

    apply(&jobs, json!({"spec": {"suspend": true}})).await;
    let paused = eventually(&jobs, "tune", "Suspended", |job| {
        conditions::is_true(job.conditions(), kind::SUSPENDED)
    })
    .await;
    assert!(
        message(&paused).contains("set suspend to false"),
        "{}",
        message(&paused)
    );
    assert_eq!(
        children.get("tune-train").await.unwrap().spec.unwrap().suspend,
        Some(true)
    );

    apply(
        &jobs,
        json!({"spec": {"suspend": false, "resources": {"limits": {"slipway.test/gpu": null}}}}),
    )
    .await;
    let second = eventually(&children, "tune-train", "a Job with the new resources", |job| {
        job.uid() != first.uid()
    })
    .await;
    let container = &second.spec.unwrap().template.spec.unwrap().containers[0];
    assert!(
        container
            .resources
            .as_ref()
            .is_none_or(|resources| resources.limits.is_none())
    );
    eventually(&jobs, "tune", "the missing image", |job| {
        reason(job) == "ImagePullFailed"
    })
    .await;
    operator.stop().await;
    cluster.end().await;
}

#[tokio::test]
async fn a_deadline_ends_the_job_and_its_time_to_live_does_not_run_it_again() {
    let Some(cluster) = Cluster::connect("deadline").await else {
        return;
    };
    sources(&cluster).await;
    let operator = cluster.operator("http://127.0.0.1:9");
    let jobs = cluster.api::<FineTuneJob>();
    let children = cluster.api::<Job>();
    let spec = json!({"activeDeadlineSeconds": 5, "ttlSecondsAfterFinished": 2});
    jobs.create(&PostParams::default(), &object(spec)).await.unwrap();
    let ended = eventually(&jobs, "tune", "Failed", |job| {
        conditions::is_true(job.conditions(), kind::FAILED)
    })
    .await;
    assert_eq!(reason(&ended), "DeadlineExceeded");
    assert!(
        message(&ended).contains("activeDeadlineSeconds (5 s)"),
        "{}",
        message(&ended)
    );
    let removed = async {
        while children.get_opt("tune-train").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), removed)
        .await
        .expect("the Job's time to live ends");
    // Both a running operator and a restarted one leave it at that, even when the object is touched.
    apply(
        &jobs,
        json!({"metadata": {"labels": {"touched": "yes"}}, "spec": {"activeDeadlineSeconds": 500}}),
    )
    .await;
    eventually(&jobs, "tune", "the new generation is read", |job| {
        job.status
            .as_ref()
            .is_some_and(|status| status.observed_generation == job.metadata.generation)
    })
    .await;
    operator.stop().await;
    let operator = cluster.operator("http://127.0.0.1:9");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(children.get_opt("tune-train").await.unwrap().is_none());
    operator.stop().await;
    cluster.end().await;
}

#[tokio::test]
async fn a_job_of_another_owner_is_left_alone_and_named() {
    let Some(cluster) = Cluster::connect("foreign").await else {
        return;
    };
    sources(&cluster).await;
    let foreign = json!({"metadata": {"name": "tune-train"}, "data": {"a": "b"}});
    let maps = cluster.api::<ConfigMap>();
    maps.create(&PostParams::default(), &serde_json::from_value(foreign).unwrap())
        .await
        .unwrap();
    let operator = cluster.operator("http://127.0.0.1:9");
    let jobs = cluster.api::<FineTuneJob>();
    jobs.create(&PostParams::default(), &object(json!({})))
        .await
        .unwrap();
    let stalled = eventually(&jobs, "tune", "Refused", |job| reason(job) == "Refused").await;
    assert!(
        message(&stalled).contains("ConfigMap tune-train exists already"),
        "{}",
        message(&stalled)
    );
    assert_eq!(maps.get("tune-train").await.unwrap().data.unwrap()["a"], "b");
    operator.stop().await;
    cluster.end().await;
}

#[tokio::test]
async fn an_evaluation_waits_for_the_job_it_measures() {
    let Some(cluster) = Cluster::connect("eval").await else {
        return;
    };
    sources(&cluster).await;
    let operator = cluster.operator("http://127.0.0.1:9");
    let run: EvalRun = serde_json::from_value(json!({
        "apiVersion": "slipway.dev/v1alpha1", "kind": "EvalRun", "metadata": {"name": "gate"},
        "spec": {"target": {"model": {"fineTuneJob": {"name": "tune"}}}, "task": "SequenceClassification",
            "dataset": {"configMap": {"name": "rows", "key": "train.csv"}}, "metrics": [{"name": "accuracy"}]}}))
    .unwrap();
    let runs = cluster.api::<EvalRun>();
    runs.create(&PostParams::default(), &run).await.unwrap();
    eventually(&runs, "gate", "FineTuneJobNotFound", |run| {
        reason(run) == "FineTuneJobNotFound"
    })
    .await;
    let jobs = cluster.api::<FineTuneJob>();
    jobs.create(&PostParams::default(), &object(json!({})))
        .await
        .unwrap();
    let waiting = eventually(&runs, "gate", "WaitingForFineTuneJob", |run| {
        reason(run) == "WaitingForFineTuneJob"
    })
    .await;
    assert!(conditions::is_true(waiting.conditions(), kind::RECONCILING));
    assert!(cluster.api::<Job>().get_opt("gate-eval").await.unwrap().is_none());
    operator.stop().await;
    cluster.end().await;
}
