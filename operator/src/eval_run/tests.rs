//! From YAML as a person writes it to children and status.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use serde_json::{Value, json};
use slipway_contract::{EvalConfig, Verdict, parse};

use super::{
    desired::desired,
    inputs::{Asked, Inputs, Sources, measured, serving},
    status,
};
use crate::{
    conditions::Standing,
    crd::{EvalRun, ModelDeployment, ResolvedSource},
    settings::Settings,
};

const MODEL: &str = "
metadata: {name: gate, namespace: models, uid: '1', generation: 1}
spec:
  target: {model: {fineTuneJob: {name: tune}}}
  task: SequenceClassification
  dataset: {hub: {repo: acme/tweets}, split: test}
  metrics: [{name: accuracy}, {name: f1, average: macro}]
  thresholds: [{metric: accuracy, min: 0.7}]
  baseline: {evalRun: {name: base}, metric: accuracy, minDifference: 0.01}
  hub: {tokenSecretRef: {name: hub-token}}
  record: {modelCard: {repo: acme/out}}
";

const DEPLOYMENT: &str = "
metadata: {name: live, namespace: models, uid: '2'}
spec:
  target: {deployment: {name: sentiment, variant: candidate}}
  task: SequenceClassification
  dataset: {url: 'https://host/test.csv'}
  metrics: [{name: accuracy}]
";

fn object(yaml: &str) -> EvalRun {
    serde_saphyr::from_str(yaml).unwrap()
}

fn source(repo: &str, commit: &str) -> ResolvedSource {
    ResolvedSource {
        repo: Some(repo.into()),
        commit: Some(commit.into()),
        ..ResolvedSource::default()
    }
}

fn config(yaml: &str, sources: &Sources) -> EvalConfig {
    let settings = Settings {
        hub_endpoint: "http://hub".into(),
        trainer_image: "trainer:1".into(),
        server_image: "server:1".into(),
        image_pull_policy: "IfNotPresent".into(),
        namespace: None,
    };
    let built = desired(&object(yaml), sources, &settings);
    let args = built.job.spec.unwrap().template.spec.unwrap().containers[0]
        .args
        .clone()
        .unwrap();
    assert_eq!(args, ["evaluate", "--config", "/slipway/config/config.yaml"]);
    let file = std::env::temp_dir().join(format!(
        "slipway-eval-{}-{:?}.yaml",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&file, &built.config.data.unwrap()["config.yaml"]).unwrap();
    let config = parse(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    config
}

#[test]
fn a_model_is_measured_and_compared_at_pinned_commits() {
    let sources = Sources {
        target: Some(source("acme/out", "cccc")),
        baseline: Some(source("acme/base", "dddd")),
        dataset: source("acme/tweets", "eeee"),
    };
    let config = serde_json::to_value(config(MODEL, &sources)).unwrap();
    assert_eq!(
        config["target"],
        json!({"model": {"hub": {"repo": "acme/out", "revision": "cccc"}}})
    );
    assert_eq!(
        config["baseline"]["model"],
        json!({"hub": {"repo": "acme/base", "revision": "dddd"}})
    );
    assert_eq!(config["baseline"]["minDifference"], 0.01);
    assert_eq!(config["dataset"]["split"], "test");
    assert_eq!(config["metrics"][1], json!({"name": "f1", "average": "macro"}));
    assert_eq!(config["thresholds"][0]["min"], 0.7);
    assert_eq!(
        config["record"],
        json!({"modelCard": {"repo": "acme/out", "pullRequest": false}})
    );
    assert_eq!(config["hub"]["tokenFile"], "/slipway/token/token");
}

#[test]
fn a_deployment_is_asked_as_a_client_would() {
    let config = serde_json::to_value(config(DEPLOYMENT, &Sources::default())).unwrap();
    assert_eq!(
        config["target"],
        json!({"endpoint": {"url": "http://sentiment.models.svc", "variant": "candidate"}})
    );
    assert_eq!(
        config["dataset"]["source"],
        json!({"url": "https://host/test.csv"})
    );
}

#[test]
fn a_lexicon_is_mounted_and_answers_are_as_long_as_asked() {
    let yaml = MODEL.replace(
        "  thresholds",
        "  maxNewTokens: 64\n  lexicon: {name: nltk, path: data}\n  thresholds",
    );
    let config = |yaml| serde_json::to_value(config(yaml, &Sources::default())).unwrap();
    let with = config(&yaml);
    assert_eq!(with["lexicon"], "/slipway/sources/lexicon/data");
    assert_eq!(with["maxNewTokens"], 64);
    let without = config(MODEL);
    assert_eq!(without["lexicon"], Value::Null);
    assert_eq!(without["maxNewTokens"], 128);
}

#[test]
fn a_benchmark_is_named_or_mounted() {
    let config = |benchmark: &str| {
        let yaml = DEPLOYMENT
            .replace("SequenceClassification", "MultipleChoice")
            .replace("  metrics: [{name: accuracy}]", benchmark);
        serde_json::to_value(config(&yaml, &Sources::default())).unwrap()
    };
    let shipped = config("  benchmark: {name: arc_easy}");
    assert_eq!(shipped["benchmark"], json!({"name": "arc_easy"}));
    assert_eq!(
        (&shipped["metrics"], &shipped["task"]),
        (&json!([]), &json!("MultipleChoice"))
    );
    let own = config("  benchmark: {configMap: {name: own, key: school.yaml}}");
    assert_eq!(
        own["benchmark"],
        json!({"path": "/slipway/sources/benchmark/school.yaml"})
    );
}

#[test]
fn predictions_are_kept_on_a_claim_or_the_hub() {
    let config = |predictions: &str| {
        let yaml = MODEL.replace(
            "  thresholds",
            &format!("  predictions: {predictions}\n  thresholds"),
        );
        serde_json::to_value(config(&yaml, &Sources::default())).unwrap()
    };
    let claim = config("{claim: {name: results}}");
    assert_eq!(claim["predictions"], "/slipway/sources/predictions/gate.parquet");
    let named = config("{claim: {name: results, path: runs/1.parquet}}");
    assert_eq!(
        named["predictions"],
        "/slipway/sources/predictions/runs/1.parquet"
    );
    let hub = config("{hub: {repo: acme/answers}}");
    assert_eq!(
        hub["predictionsHub"],
        json!({"repo": "acme/answers", "private": true})
    );
    assert_eq!(hub["predictions"], Value::Null);
}

#[test]
fn a_deployment_is_waited_for_and_a_wrong_variant_is_named() {
    let deployment = |ready: &str| -> ModelDeployment {
        serde_saphyr::from_str(&format!(
            "metadata: {{name: sentiment, namespace: models}}\n\
             spec: {{variants: [{{name: control, model: {{hub: {{repo: a/b}}}}}}]}}\n\
             status: {{conditions: [{{type: Ready, status: '{ready}', reason: R, message: loads, \
             lastTransitionTime: '2026-01-01T00:00:00Z'}}]}}"
        ))
        .unwrap()
    };
    let asked = Asked {
        namespace: "models",
        name: "sentiment",
        variant: None,
        revision: None,
    };
    let of = |variant| Asked {
        variant: Some(variant),
        ..asked
    };
    let missing = serving(asked, None).unwrap_err();
    assert_eq!(
        (missing.waits, missing.reason),
        (false, "ModelDeploymentNotFound")
    );
    let missing = serving(of("candidate"), Some(&deployment("True"))).unwrap_err();
    assert!(missing.message.contains("it has: control"), "{missing:?}");
    let missing = serving(asked, Some(&deployment("False"))).unwrap_err();
    assert_eq!((missing.waits, missing.reason), (true, "WaitingForTarget"));
    assert!(missing.message.ends_with("to be ready: loads"), "{missing:?}");
    assert!(serving(of("control"), Some(&deployment("True"))).is_ok());
    let beside = Asked {
        revision: Some("0123456789abcdef"),
        ..of("control")
    };
    assert!(serving(beside, Some(&deployment("False"))).is_ok());
}

#[test]
fn a_baseline_run_gives_the_model_that_it_measured() {
    let mut run = object(MODEL);
    assert!(measured("models", "gate", Some(&run)).unwrap_err().waits);
    run.status = serde_json::from_value(json!({"target": {"repo": "acme/base", "commit": "dddd"}})).unwrap();
    assert_eq!(
        measured("models", "gate", Some(&run)).unwrap(),
        source("acme/base", "dddd")
    );
    assert_eq!(
        measured("models", "live", Some(&object(DEPLOYMENT)))
            .unwrap_err()
            .reason,
        "BaselineIsDeployment"
    );
    assert_eq!(
        measured("models", "x", None).unwrap_err().reason,
        "EvalRunNotFound"
    );
}

fn ended(message: &Value) -> Inputs {
    let job: Job = serde_json::from_value(
        json!({"metadata": {"name": "gate-eval"}, "spec": {"template": {}},
        "status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
    )
    .unwrap();
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"phase": "Succeeded",
        "containerStatuses": [{"name": "trainer", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:01:40Z", "message": message.to_string()}}}]}}))
    .unwrap();
    Inputs {
        job: Some(job),
        pods: vec![pod],
        ..Inputs::default()
    }
}

fn outcome(verdict: &str) -> Value {
    json!({"outcome": {"verdict": verdict, "findings": ["accuracy 0.7421 [0.7100, 0.7720] meets min 0.7"],
        "results": [{"metric": "accuracy", "value": 0.7421, "confidenceInterval": {"low": 0.71, "high": 0.772}, "examples": 800}],
        "comparison": {"metric": "accuracy", "difference": 0.05, "confidenceInterval": {"low": 0.02, "high": 0.08},
            "baselineValue": 0.69, "minDifference": 0.01},
        "record": {"repo": "acme/out", "commit": "ffff", "url": "u"}}})
}

#[test]
fn results_and_verdict_reach_the_status() {
    let mut run = object(MODEL);
    run.status =
        serde_json::from_value(json!({"baseline": {"repo": "acme/base", "commit": "dddd"}})).unwrap();
    let now = jiff::Timestamp::from_second(1_767_225_800).unwrap();
    let (told, summary) = status::derive(&run, &ended(&outcome("Passed")), now);
    assert_eq!(told.summary.as_deref(), Some("accuracy 0.7421 ±0.0310"));
    assert_eq!(told.verdict, Some(Verdict::Passed));
    assert_eq!(told.results[0].examples, 800);
    assert_eq!(
        told.comparison.as_ref().unwrap().baseline.commit.as_deref(),
        Some("dddd")
    );
    assert_eq!(told.record.as_ref().unwrap().commit, "ffff");
    assert_eq!(
        summary.message,
        "verdict Passed: accuracy 0.7421 [0.7100, 0.7720] meets min 0.7"
    );
    let types: Vec<_> = told
        .conditions
        .iter()
        .map(|c| (c.type_.as_str(), c.status.as_str()))
        .collect();
    assert_eq!(
        types,
        [
            ("Ready", "True"),
            ("Reconciling", "False"),
            ("Stalled", "False"),
            ("Complete", "True"),
            ("Failed", "False")
        ]
    );
}

#[test]
fn a_missed_bound_is_a_complete_run_with_a_failed_verdict() {
    let now = jiff::Timestamp::from_second(1_767_225_800).unwrap();
    let (told, summary) = status::derive(&object(MODEL), &ended(&outcome("Failed")), now);
    assert_eq!(
        (summary.standing, summary.reason.as_str()),
        (Standing::Ready, "ThresholdMissed")
    );
    assert_eq!(told.verdict, Some(Verdict::Failed));
}

#[test]
fn a_lost_report_is_never_a_verdict() {
    let now = jiff::Timestamp::from_second(1_767_225_800).unwrap();
    let (told, summary) = status::derive(&object(MODEL), &ended(&json!("cut off")), now);
    assert_eq!(
        (summary.standing, summary.reason.as_str()),
        (Standing::Failed, "ReportLost")
    );
    assert!(told.verdict.is_none() && told.results.is_empty());
}
