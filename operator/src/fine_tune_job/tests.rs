//! From YAML as a person writes it to children and status.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use serde_json::{Value, json};
use slipway_contract::{TrainConfig, parse};

use super::{
    desired::{Desired, desired},
    inputs::{Inputs, Sources},
    status,
};
use crate::{
    conditions::{Standing, Summary},
    crd::{FineTuneJob, FineTuneJobStatus, ResolvedSource},
    settings::Settings,
};

const MINIMAL: &str = "
metadata: {name: tune, namespace: models, uid: '1', generation: 3}
spec:
  model: {hub: {repo: acme/minilm}}
  dataset: {hub: {repo: acme/tweets}}
  task: SequenceClassification
";

const FULL: &str = "
metadata: {name: tune, namespace: models, uid: '1', generation: 3}
spec:
  model: {claim: {name: weights, path: llama}}
  dataset: {configMap: {name: rows, key: train.jsonl}, maxExamples: 10}
  method: {lora: {rank: 4}}
  hyperparameters: {maxSteps: 7, learningRate: 0.0003}
  workers: 2
  backoffLimit: 1
  resources: {limits: {nvidia.com/gpu: 2, memory: 2Gi}}
  nodeSelector: {gpu: h200}
  queueName: team-a
  hub: {endpoint: 'http://hub:8090', tokenSecretRef: {name: hub-token}}
  output: {hub: {repo: acme/out, private: true}}
";

fn object(yaml: &str) -> FineTuneJob {
    serde_saphyr::from_str(yaml).unwrap()
}

fn settings() -> Settings {
    Settings {
        hub_endpoint: "https://huggingface.co".into(),
        trainer_image: "trainer:1".into(),
        server_image: "server:1".into(),
        image_pull_policy: "IfNotPresent".into(),
        namespace: None,
    }
}

fn pinned() -> Sources {
    let at = |repo: &str, commit: &str| ResolvedSource {
        repo: Some(repo.into()),
        commit: Some(commit.into()),
        ..ResolvedSource::default()
    };
    Sources {
        model: at("acme/minilm", "aaaa"),
        dataset: at("acme/tweets", "bbbb"),
    }
}

fn config(built: &Desired) -> TrainConfig {
    let text = &built.config.data.as_ref().unwrap()["config.yaml"];
    let file = std::env::temp_dir().join(format!(
        "slipway-{}-{:?}.yaml",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&file, text).unwrap();
    let config = parse(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    config
}

#[test]
fn the_trainer_reads_the_configuration_that_was_meant() {
    let built = desired(&object(MINIMAL), &pinned(), &settings());
    let config = serde_json::to_value(config(&built)).unwrap();
    assert_eq!(
        config["model"],
        json!({"hub": {"repo": "acme/minilm", "revision": "aaaa"}})
    );
    assert_eq!(
        config["dataset"]["source"],
        json!({"hub": {"repo": "acme/tweets", "revision": "bbbb"}})
    );
    assert_eq!(config["task"], "SequenceClassification");
    assert_eq!(config["checkpoint"]["directory"], "/slipway/work/checkpoints");
    assert_eq!(config["hub"]["endpoint"], "https://huggingface.co");
    assert_eq!(
        config["provenance"],
        json!({"kind": "FineTuneJob", "name": "models/tune", "uid": "1"})
    );
    assert!(built.service.is_none());
}

#[test]
fn every_field_of_the_spec_arrives() {
    let sources = Sources {
        model: ResolvedSource {
            claim: Some("weights".into()),
            path: Some("llama".into()),
            ..ResolvedSource::default()
        },
        dataset: ResolvedSource::default(),
    };
    let built = desired(&object(FULL), &sources, &settings());
    let config = serde_json::to_value(config(&built)).unwrap();
    assert_eq!(config["model"], json!({"path": "/slipway/sources/model/llama"}));
    assert_eq!(
        config["dataset"]["source"],
        json!({"path": "/slipway/sources/dataset/train.jsonl"})
    );
    assert_eq!(config["dataset"]["maxExamples"], 10);
    assert_eq!(config["hyperparameters"]["maxSteps"], 7);
    assert_eq!(config["hyperparameters"]["learningRate"], 0.0003);
    assert_eq!(config["method"]["lora"]["rank"], 4);
    assert_eq!(
        config["hub"],
        json!({"endpoint": "http://hub:8090", "tokenFile": "/slipway/token/token"})
    );
    assert_eq!(
        config["workers"],
        json!({"count": 2, "coordinator": "tune-train-0.tune-train:29500"})
    );
    assert_eq!(
        config["output"]["hub"],
        json!({"repo": "acme/out", "private": true, "pullRequest": false})
    );

    let job = serde_json::to_value(&built.job).unwrap();
    assert_eq!(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "team-a");
    assert_eq!(job["spec"]["suspend"], true);
    assert_eq!(
        (&job["spec"]["completions"], &job["spec"]["parallelism"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(job["spec"]["backoffLimit"], 2);
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"], json!({"gpu": "h200"}));
    assert_eq!(pod["subdomain"], "tune-train");
    assert_eq!(
        pod["containers"][0]["resources"]["limits"],
        json!({"memory": "2Gi", "nvidia.com/gpu": "2"})
    );
    let service = serde_json::to_value(built.service.unwrap()).unwrap();
    assert_eq!(service["metadata"]["name"], "tune-train");
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
}

#[test]
fn pods_pass_pod_security_restricted_and_carry_no_token() {
    let job = serde_json::to_value(desired(&object(FULL), &pinned(), &settings()).job).unwrap();
    let pod = &job["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(
        container["securityContext"]["capabilities"]["drop"],
        json!(["ALL"])
    );
    let names: Vec<&Value> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| &variable["name"])
        .collect();
    assert_eq!(names, ["SLIPWAY_CACHE_DIR", "HOME"]);
    for mount in container["volumeMounts"].as_array().unwrap() {
        let writable = ["tmp", "cache", "work"].contains(&mount["name"].as_str().unwrap());
        assert_eq!(mount.get("readOnly").is_none(), writable, "{mount}");
    }
}

#[test]
fn children_go_with_their_owner() {
    let Desired {
        config,
        claim,
        service,
        job,
    } = desired(&object(FULL), &pinned(), &settings());
    for meta in [
        config.metadata,
        claim.metadata,
        service.unwrap().metadata,
        job.metadata,
    ] {
        let owner = &meta.owner_references.unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
            ("FineTuneJob", "1", Some(true))
        );
        assert_eq!(meta.labels.unwrap()["slipway.dev/fine-tune-job"], "tune");
    }
}

#[test]
fn only_wrong_input_ends_a_job_at_once() {
    let job = serde_json::to_value(desired(&object(MINIMAL), &pinned(), &settings()).job).unwrap();
    let rules = &job["spec"]["podFailurePolicy"]["rules"];
    assert_eq!(rules[0]["action"], "Ignore");
    assert_eq!(
        rules[1]["onExitCodes"],
        json!({"containerName": "trainer", "operator": "In", "values": [2, 3]})
    );
}

fn at(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn job(status: &Value) -> Job {
    serde_json::from_value(
        json!({"metadata": {"name": "tune-train", "uid": "j"}, "spec": {"template": {}}, "status": status}),
    )
    .unwrap()
}

fn pod(phase: &str, state: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "tune-train-0-x"},
        "status": {"phase": phase, "podIP": "10.0.0.1", "containerStatuses": [{
            "name": "trainer", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state}]},
    }))
    .unwrap()
}

fn seen(job: Job, pods: Vec<Pod>) -> Inputs {
    Inputs {
        job: Some(job),
        all_pods: pods.clone(),
        pods,
        ..Inputs::default()
    }
}

fn running() -> Inputs {
    Inputs {
        progress: serde_json::from_value(json!({
            "phase": "Training", "step": 30, "totalSteps": 100, "percentage": 30, "loss": 0.5,
            "estimatedRemainingSeconds": 70, "lastCheckpoint": {"step": 25, "time": "2026-01-01T00:00:05Z"}}))
        .ok(),
        ..seen(
            job(&json!({})),
            vec![pod(
                "Running",
                &json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
            )],
        )
    }
}

fn with(mut object: FineTuneJob, status: FineTuneJobStatus) -> FineTuneJob {
    object.status = Some(status);
    object
}

fn truths(status: &FineTuneJobStatus) -> Vec<&str> {
    status
        .conditions
        .iter()
        .filter(|c| c.status == "True")
        .map(|c| c.type_.as_str())
        .collect()
}

#[test]
fn a_running_job_tells_how_far_it_is() {
    let (told, summary) = status::derive(&object(MINIMAL), &running(), at(9));
    assert_eq!(told.summary.as_deref(), Some("30% 1m10s left"));
    assert_eq!(told.last_checkpoint.as_ref().unwrap().step, 25);
    assert_eq!(
        (
            told.start_time.as_ref().unwrap().0,
            told.running_since.as_ref().unwrap().0
        ),
        (at(0), at(0))
    );
    assert_eq!(summary.message, "training: step 30 of 100 1m10s left");
    assert_eq!(
        (told.observed_generation, truths(&told)),
        (Some(3), vec!["Reconciling"])
    );
}

#[test]
fn nothing_new_is_nothing_to_write() {
    let (told, _) = status::derive(&object(MINIMAL), &running(), at(9));
    let again = with(object(MINIMAL), told.clone());
    assert_eq!(status::derive(&again, &running(), at(900)).0, told);
}

#[test]
fn completion_takes_the_trainers_report_and_counts_gpu_time() {
    let (told, _) = status::derive(&object(FULL), &running(), at(9));
    let message = json!({"outcome": {"steps": 90, "stoppedEarly": true, "metrics": [{"name": "loss", "value": 0.25}],
        "published": {"repo": "acme/out", "commit": "0123456789abcdef", "url": "http://hub/acme/out"}}});
    let ended = json!({"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:01:40Z", "message": message.to_string()}});
    let inputs = seen(
        job(&json!({"conditions": [{"type": "Complete", "status": "True"}]})),
        vec![pod("Succeeded", &ended)],
    );
    let (told, summary) = status::derive(&with(object(FULL), told), &inputs, at(120));
    assert_eq!(
        summary.message,
        "trained 90 steps, stopped early; published to acme/out at 0123456789ab"
    );
    assert_eq!(truths(&told), ["Ready", "Complete"]);
    assert_eq!(told.output.as_ref().unwrap().url, "http://hub/acme/out");
    assert!((told.metrics[0].value - 0.25).abs() < 1e-12);
    assert_eq!(told.completion_time.as_ref().unwrap().0, at(100));
    assert_eq!(told.gpu_seconds, 100 * 2 * 2, "100 s on two workers of two GPUs");
    assert_eq!(told.running_since, None);
    assert!(status::is_terminal(&with(object(FULL), told)));
}

#[test]
fn a_failure_is_the_trainers_sentence_and_final() {
    let message = json!({"failure": {"reason": "ColumnNotFound", "message": "column label is not there; there are: text, sentiment"}});
    let ended = json!({"terminated": {"exitCode": 3, "finishedAt": "2026-01-01T00:01:40Z", "message": message.to_string()}});
    let failed = json!({"failed": 1, "conditions": [{"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}]});
    let inputs = seen(job(&failed), vec![pod("Failed", &ended)]);
    let (told, summary) = status::derive(&object(MINIMAL), &inputs, at(120));
    assert_eq!(
        summary,
        Summary::new(
            Standing::Failed,
            "ColumnNotFound",
            "column label is not there; there are: text, sentiment"
        )
    );
    assert_eq!(truths(&told), ["Stalled", "Failed"]);
    assert_eq!(told.failed_attempts, 1);
    assert!(status::is_terminal(&with(object(MINIMAL), told)));
}

#[test]
fn suspending_waits_for_the_last_checkpoint() {
    let mut suspended = object(MINIMAL);
    suspended.spec.suspend = true;
    let (told, summary) = status::derive(&suspended, &running(), at(9));
    assert_eq!(
        (summary.reason.as_str(), truths(&told)),
        ("Suspending", vec!["Reconciling"])
    );
    let inputs = seen(job(&json!({})), vec![]);
    let (told, summary) = status::derive(&with(suspended, told), &inputs, at(20));
    assert_eq!(
        summary.message,
        "suspended; set suspend to false, and it resumes from the checkpoint of step 25"
    );
    assert_eq!(truths(&told), ["Suspended"]);
}

#[test]
fn a_retry_says_what_failed_and_where_it_goes_on() {
    let (told, _) = status::derive(&object(MINIMAL), &running(), at(9));
    let ended =
        json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:01:40Z"}});
    let inputs = seen(job(&json!({"failed": 1})), vec![pod("Failed", &ended)]);
    let (told, summary) = status::derive(&with(object(MINIMAL), told), &inputs, at(120));
    assert_eq!(summary.reason, "Retrying");
    assert!(
        summary.message.starts_with("attempt 1 failed (OutOfMemory): "),
        "{}",
        summary.message
    );
    assert!(
        summary
            .message
            .ends_with("resumes from the checkpoint of step 25"),
        "{}",
        summary.message
    );
    assert_eq!(truths(&told), ["Reconciling"]);
}

#[test]
fn an_ended_job_acknowledges_a_new_generation_without_running_again() {
    let mut told = status::unstarted(
        &object(MINIMAL),
        &Summary::new(Standing::Ready, "Complete", "done"),
        at(0),
    );
    let mut later = object(MINIMAL);
    later.metadata.generation = Some(4);
    assert!(status::acknowledged(&with(object(MINIMAL), told.clone())).is_none());
    told = status::acknowledged(&with(later, told)).unwrap();
    assert_eq!(told.observed_generation, Some(4));
    assert!(
        told.conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(4))
    );
}
