//! What an apiserver says to right and wrong objects. Runs against the cluster of KUBECONFIG.

use super::support::Cluster;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use serde_json::{Value, json};

const FINE_TUNE_JOB: &str = "
apiVersion: slipway.dev/v1alpha1
kind: FineTuneJob
metadata: {name: tune}
spec:
  model: {hub: {repo: acme/minilm}}
  dataset: {hub: {repo: acme/tweets}}
";

const EVAL_RUN: &str = "
apiVersion: slipway.dev/v1alpha1
kind: EvalRun
metadata: {name: gate}
spec:
  target: {model: {fineTuneJob: {name: tune}}}
  task: SequenceClassification
  dataset: {hub: {repo: acme/tweets}, split: test}
  metrics: [{name: accuracy}, {name: f1, average: macro}]
";

const MODEL_DEPLOYMENT: &str = "
apiVersion: slipway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: serve}
spec:
  variants:
  - {name: control, model: {hub: {repo: acme/base}}, trafficPercent: 60}
  - {name: candidate, model: {fineTuneJob: {name: tune}}, trafficPercent: 40}
";

/// A rollout of one step.
fn canary(step: &Value) -> Value {
    spec(json!({"strategy": {"canary": {"steps": [step]}}}))
}

/// A rollout of one analysis, by `metric`.
fn analysed(metric: &Value) -> Value {
    canary(&json!({"analysis": {"duration": "1m", "metrics": [metric]}}))
}

/// `yaml` with `change` merged into its spec.
fn changed(yaml: &str, change: Value) -> Value {
    fn merge(into: &mut Value, change: Value) {
        match (into, change) {
            (Value::Object(into), Value::Object(change)) => {
                for (key, value) in change {
                    if value.is_null() {
                        into.remove(&key);
                    } else {
                        merge(into.entry(key).or_insert(Value::Null), value);
                    }
                }
            }
            (into, change) => *into = change,
        }
    }
    let mut object: Value = serde_saphyr::from_str(yaml).unwrap();
    merge(&mut object, change);
    object
}

fn spec(change: Value) -> Value {
    Value::Object([("spec".to_owned(), change)].into_iter().collect())
}

/// What the apiserver says to creating `object`; nothing is stored.
async fn create(api: &Api<DynamicObject>, object: &Value) -> Result<(), String> {
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    refusal(api.create(&params, &object).await)
}

fn refusal(answer: Result<DynamicObject, kube::Error>) -> Result<(), String> {
    match answer {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn wrong_objects_are_refused_with_what_to_do() {
    let Some(cluster) = Cluster::connect("schema").await else {
        return;
    };
    let two = |first: u32, second: u32, names: [&str; 2]| {
        spec(json!({"variants": [
            {"name": names[0], "model": {"hub": {"repo": "a/b"}}, "trafficPercent": first},
            {"name": names[1], "model": {"hub": {"repo": "a/b"}}, "trafficPercent": second}]}))
    };
    let mut dark = two(100, 0, ["a", "b"]);
    dark["spec"]["experiment"] = json!({"metric": "success"});
    let metric = |name: &str| spec(json!({"metrics": [{"name": name}]}));
    let cases = [
        (
            FINE_TUNE_JOB,
            spec(json!({"model": {"claim": {"name": "c"}}})),
            "set exactly one of: hub, fineTuneJob, claim",
        ),
        (
            FINE_TUNE_JOB,
            spec(json!({"model": {"hub": null}})),
            "set exactly one of: hub, fineTuneJob, claim",
        ),
        (
            FINE_TUNE_JOB,
            spec(json!({"dataset": {"url": "https://h/d.csv"}})),
            "set exactly one of: hub, claim, configMap, url",
        ),
        (
            FINE_TUNE_JOB,
            spec(json!({"dataset": {"hub": null, "url": "https://u:secret@h/d.csv"}})),
            "spec.dataset.url",
        ),
        (
            FINE_TUNE_JOB,
            spec(json!({"method": {"full": {}, "lora": {}}})),
            "set exactly one of: full, lora",
        ),
        (
            FINE_TUNE_JOB,
            spec(json!({"hyperparameters": {"epochs": 1, "maxSteps": 5}})),
            "set epochs or maxSteps, not both",
        ),
        (
            FINE_TUNE_JOB,
            spec(json!({"hyperparameters": {"learningRate": 0}})),
            "set learningRate above 0",
        ),
        (
            FINE_TUNE_JOB,
            spec(json!({"task": "Embedding"})),
            "training embeddings is not supported",
        ),
        (
            FINE_TUNE_JOB,
            spec(json!({"task": "SequenceClassification", "objective": {"sft": {"packing": true}}})),
            "only CausalLM examples can be packed",
        ),
        (
            FINE_TUNE_JOB,
            spec(json!({"evaluation": {"earlyStopping": {"metric": "accuracy"}}})),
            "accuracy and f1 exist only for SequenceClassification",
        ),
        (
            FINE_TUNE_JOB,
            spec(json!({"evaluation": {"earlyStopping": {"metric": "bleu"}}})),
            "to loss, accuracy or f1",
        ),
        (
            FINE_TUNE_JOB,
            spec(json!({"method": {"full": {}}, "output": {"merge": true}})),
            "full fine-tuning has no adapter to merge",
        ),
        (
            FINE_TUNE_JOB,
            spec(json!({"output": {"hub": {"repo": "a/b"}}})),
            "set hub.tokenSecretRef",
        ),
        (
            FINE_TUNE_JOB,
            spec(json!({"model": {"hub": null, "claim": {"name": "c", "path": "../etc"}}})),
            "without '..'",
        ),
        (FINE_TUNE_JOB, spec(json!({"workers": 0})), "spec.workers"),
        (
            FINE_TUNE_JOB,
            json!({"metadata": {"name": "a".repeat(51)}}),
            "at most 50",
        ),
        (
            FINE_TUNE_JOB,
            json!({"metadata": {"name": "1.5b"}}),
            "starts with a letter",
        ),
        (EVAL_RUN, metric("perplexity"), "choose metrics that fit the task"),
        (
            EVAL_RUN,
            spec(json!({"task": "CausalLM", "metrics": [{"name": "chrf"}], "fewShot": {"count": 2}})),
            "set benchmark, or remove fewShot",
        ),
        (EVAL_RUN, metric("bleu"), "choose metrics that fit the task"),
        (
            EVAL_RUN,
            spec(json!({"task": "CausalLM", "metrics": [{"name": "meteor"}]})),
            "set lexicon to a claim with nltk's data",
        ),
        (
            EVAL_RUN,
            spec(json!({"target": {"model": null, "deployment": {"name": "d"}},
                "metrics": [{"name": "f1", "average": "binary"}]})),
            "choose average macro, micro or weighted",
        ),
        (EVAL_RUN, spec(json!({"metrics": []})), "list one metric or more"),
        (
            EVAL_RUN,
            spec(json!({"metrics": [{"name": "accuracy", "average": "macro"}]})),
            "only precision, recall and f1 are averaged",
        ),
        (
            EVAL_RUN,
            spec(json!({"thresholds": [{"metric": "recall", "min": 0.5}]})),
            "list each threshold's metric under metrics",
        ),
        (
            EVAL_RUN,
            spec(json!({"thresholds": [{"metric": "accuracy"}]})),
            "a threshold needs min, max or both",
        ),
        (
            EVAL_RUN,
            spec(json!({"baseline": {"metric": "accuracy"}})),
            "set exactly one of: model, evalRun",
        ),
        (
            EVAL_RUN,
            spec(json!({"baseline": {"metric": "recall", "evalRun": {"name": "x"}}})),
            "list baseline.metric under metrics",
        ),
        (
            EVAL_RUN,
            spec(json!({"record": {"modelCard": {"repo": "a/b"}}})),
            "set hub.tokenSecretRef",
        ),
        (
            EVAL_RUN,
            spec(json!({"target": {"deployment": {"name": "d"}}})),
            "set exactly one of: model, deployment",
        ),
        (
            EVAL_RUN,
            spec(json!({"schedule": {"cron": "60 3 * * *"}})),
            "give five fields (minute 0-59",
        ),
        (
            EVAL_RUN,
            spec(json!({"schedule": {"cron": "@every 5m"}})),
            "give five fields (minute 0-59",
        ),
        (
            EVAL_RUN,
            spec(json!({"target": null, "schedule": {"cron": "@daily"}})),
            "set target, or remove schedule",
        ),
        (
            MODEL_DEPLOYMENT,
            two(60, 30, ["a", "b"]),
            "so that they add up to 100",
        ),
        (MODEL_DEPLOYMENT, two(50, 50, ["a", "a"]), "Duplicate value"),
        (
            MODEL_DEPLOYMENT,
            spec(json!({"traffic": {"sticky": {"header": "x", "cookie": "y"}}})),
            "set exactly one of: header, cookie",
        ),
        (
            MODEL_DEPLOYMENT,
            spec(
                json!({"traffic": {"sticky": {"header": "x"}, "gateway": {"parentRefs": [{"name": "public"}]}}}),
            ),
            "remove sticky or gateway",
        ),
        (
            MODEL_DEPLOYMENT,
            spec(
                json!({"traffic": {"gateway": {"parentRefs": [{"name": "public"}]}},
                "strategy": {"canary": {"steps": [{"mirror": {"percent": 10}}]}}}),
            ),
            "remove mirror steps or traffic.gateway",
        ),
        (
            MODEL_DEPLOYMENT,
            spec(
                json!({"traffic": {"gateway": {"parentRefs": [{"name": "public"}]}},
                "strategy": {"canary": {"steps": [{"analysis": {"duration": "1m",
                    "metrics": [{"name": "feedbackScore", "min": 0.5}]}}]}}}),
            ),
            "remove the analysis of feedbackScore",
        ),
        (
            MODEL_DEPLOYMENT,
            spec(json!({"traffic": {"gateway": {"parentRefs": []}}})),
            "spec.traffic.gateway.parentRefs",
        ),
        (MODEL_DEPLOYMENT, spec(json!({"variants": []})), "spec.variants"),
        (
            MODEL_DEPLOYMENT,
            canary(&json!({"setWeight": 10, "pause": {}})),
            "set exactly one of: setWeight, mirror, pause, analysis, eval",
        ),
        (
            MODEL_DEPLOYMENT,
            canary(&json!({"setWeight": 101})),
            "less than or equal to 100",
        ),
        (
            MODEL_DEPLOYMENT,
            canary(&json!({"mirror": {"percent": 101}})),
            "less than or equal to 100",
        ),
        (
            MODEL_DEPLOYMENT,
            canary(&json!({"pause": {"duration": "5 minutes"}})),
            "should match",
        ),
        (
            MODEL_DEPLOYMENT,
            canary(&json!({"analysis": {"duration": "1m", "metrics": [{"name": "errorRate"}]}})),
            "a metric without a bound",
        ),
        (
            MODEL_DEPLOYMENT,
            canary(
                &json!({"analysis": {"duration": "1m", "metrics": [{"name": "errorRate", "max": 0.1,
                "prometheus": {"address": "http://p:9090", "query": "up"}}]}}),
            ),
            "set exactly one of name and prometheus",
        ),
        (
            MODEL_DEPLOYMENT,
            analysed(&json!({"name": "errorRate", "min": 0.1})),
            "is better the lower it is: set max",
        ),
        (
            MODEL_DEPLOYMENT,
            analysed(&json!({"name": "errorRate", "max": -0.1})),
            "is never below 0",
        ),
        (
            MODEL_DEPLOYMENT,
            analysed(&json!({"name": "clicks", "max": 1})),
            "supported values: \"errorRate\"",
        ),
        (
            MODEL_DEPLOYMENT,
            analysed(&json!({"name": "feedbackScore", "min": 0.5, "max": 1})),
            "is better the higher it is: set min or minRatioToStable",
        ),
        (
            MODEL_DEPLOYMENT,
            analysed(&json!({"name": "feedbackScore", "maxRatioToStable": 1})),
            "is better the higher it is: set min or minRatioToStable",
        ),
        (
            MODEL_DEPLOYMENT,
            analysed(&json!({"name": "feedbackScore", "min": 4})),
            "scores are from 0 to 1",
        ),
        (
            MODEL_DEPLOYMENT,
            analysed(&json!({"name": "feedbackScore"})),
            "a metric without a bound",
        ),
        (
            MODEL_DEPLOYMENT,
            analysed(&json!({"name": "latencyP95Seconds", "max": 1, "minRatioToStable": 1})),
            "minRatioToStable and minScores are for the metric feedbackScore",
        ),
        (
            MODEL_DEPLOYMENT,
            analysed(&json!({"name": "errorRate", "max": 1, "minScores": 5})),
            "minRatioToStable and minScores are for the metric feedbackScore",
        ),
        (
            MODEL_DEPLOYMENT,
            analysed(&json!({"name": "feedbackScore", "min": 0.5, "minScores": 0})),
            "minScores",
        ),
        (
            MODEL_DEPLOYMENT,
            canary(
                &json!({"analysis": {"duration": "1m", "metrics": [{"maxRatioToStable": 2,
                "prometheus": {"address": "http://p:9090", "query": "up"}}]}}),
            ),
            "write the comparison into the Prometheus query",
        ),
        (
            MODEL_DEPLOYMENT,
            canary(&json!({"analysis": {"duration": "1m", "metrics": [{"max": 2,
                "prometheus": {"address": "file:///etc/passwd", "query": "up"}}]}})),
            "address",
        ),
        (
            MODEL_DEPLOYMENT,
            canary(&json!({"analysis": {"duration": "1h", "metrics": [{"name": "errorRate", "max": 0.1}]}})),
            "an analysis takes longer than progressDeadline",
        ),
        (
            MODEL_DEPLOYMENT,
            spec(json!({"experiment": {"metric": "latency"}})),
            "set within, for instance 500ms",
        ),
        (
            MODEL_DEPLOYMENT,
            spec(json!({"experiment": {"metric": "success", "within": "1s"}})),
            "set within, for instance 500ms",
        ),
        (
            MODEL_DEPLOYMENT,
            spec(json!({"experiment": {"metric": "latency", "within": "0s"}})),
            "set within to more than 0s",
        ),
        (
            MODEL_DEPLOYMENT,
            spec(json!({"experiment": {"metric": "clicks"}})),
            "supported values: \"feedbackScore\", \"success\", \"latency\", \"timeToFirstToken\"",
        ),
        (
            MODEL_DEPLOYMENT,
            spec(json!({"experiment": {"metric": "success", "confidence": 1}})),
            "set confidence to a probability above 0.5",
        ),
        (
            MODEL_DEPLOYMENT,
            spec(json!({"experiment": {"metric": "success", "record": {"modelCard": {"repo": "a/b"}}}})),
            "experiment.record writes to the Hub",
        ),
        (MODEL_DEPLOYMENT, dark, "an experiment compares all variants"),
    ];
    for (yaml, change, expected) in cases {
        let object = changed(yaml, change.clone());
        let api = cluster.dynamic(object["kind"].as_str().unwrap());
        let refused = create(&api, &object)
            .await
            .expect_err(&format!("{change} should be refused"));
        assert!(refused.contains(expected), "{change}: {refused}");
    }
    cluster.end().await;
}

#[tokio::test]
async fn right_objects_are_taken_and_filled_with_defaults() {
    let Some(cluster) = Cluster::connect("defaults").await else {
        return;
    };
    for yaml in [FINE_TUNE_JOB, EVAL_RUN, MODEL_DEPLOYMENT] {
        let object: Value = serde_saphyr::from_str(yaml).unwrap();
        let api = cluster.dynamic(object["kind"].as_str().unwrap());
        create(&api, &object).await.unwrap();
    }
    let api = cluster.dynamic("FineTuneJob");
    let object = changed(
        FINE_TUNE_JOB,
        spec(json!({"resources": {"limits": {"nvidia.com/gpu": 1, "memory": "2Gi"}}})),
    );
    let made = api
        .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
    let spec = &made.data["spec"];
    assert_eq!(spec["model"]["hub"]["revision"], "main");
    assert_eq!(spec["task"], "CausalLM");
    assert_eq!(spec["method"]["lora"]["rank"], 16);
    assert_eq!(spec["backoffLimit"], 3);
    assert!(
        spec["hyperparameters"].get("epochs").is_none(),
        "its default would forbid maxSteps"
    );
    assert_eq!(
        spec["checkpoint"],
        json!({"everySteps": 50, "keep": 2, "volume": {"size": "10Gi", "accessMode": "ReadWriteOnce"}})
    );
    let typed: slipway_operator::crd::FineTuneJob =
        serde_json::from_value(serde_json::to_value(&made).unwrap()).unwrap();
    assert_eq!(typed.spec.resources.gpus(), 1);
    assert!((typed.spec.hyperparameters.epochs - 3.0).abs() < f64::EPSILON);
    cluster.end().await;
}

#[tokio::test]
async fn what_belongs_to_a_result_cannot_change_and_the_rest_can() {
    let Some(cluster) = Cluster::connect("immutable").await else {
        return;
    };
    let made =
        |yaml: &str| serde_json::from_value::<DynamicObject>(serde_saphyr::from_str(yaml).unwrap()).unwrap();
    let jobs = cluster.dynamic("FineTuneJob");
    jobs.create(&PostParams::default(), &made(FINE_TUNE_JOB))
        .await
        .unwrap();
    let patch = async |change: Value| {
        refusal(
            jobs.patch("tune", &PatchParams::default(), &Patch::Merge(&spec(change)))
                .await,
        )
    };
    for (change, expected) in [
        (
            json!({"model": {"hub": {"revision": "v2"}}}),
            "model cannot change",
        ),
        (
            json!({"hyperparameters": {"seed": 7}}),
            "hyperparameters cannot change",
        ),
        (json!({"queueName": "q"}), "set suspend to true first: queueName"),
        (
            json!({"resources": {"limits": {"memory": "4Gi"}}}),
            "set suspend to true first: resources",
        ),
    ] {
        let refused = patch(change.clone()).await.expect_err(&change.to_string());
        assert!(refused.contains(expected), "{change}: {refused}");
    }
    for change in [
        json!({"activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": 5, "backoffLimit": 1}),
        json!({"suspend": true}),
        json!({"resources": {"limits": {"memory": "4Gi"}}, "suspend": false}),
    ] {
        patch(change.clone())
            .await
            .unwrap_or_else(|refused| panic!("{change}: {refused}"));
    }
    let runs = cluster.dynamic("EvalRun");
    runs.create(&PostParams::default(), &made(EVAL_RUN))
        .await
        .unwrap();
    let thresholds = spec(json!({"thresholds": [{"metric": "accuracy", "min": 0.1}]}));
    let refused = refusal(
        runs.patch("gate", &PatchParams::default(), &Patch::Merge(&thresholds))
            .await,
    )
    .unwrap_err();
    assert!(refused.contains("thresholds cannot change"), "{refused}");
    let scheduled = spec(json!({"schedule": {"cron": "@daily"}}));
    let refused = refusal(
        runs.patch("gate", &PatchParams::default(), &Patch::Merge(&scheduled))
            .await,
    )
    .unwrap_err();
    assert!(
        refused.contains("schedule cannot be added or removed"),
        "{refused}"
    );
    let deployments = cluster.dynamic("ModelDeployment");
    deployments
        .create(&PostParams::default(), &made(MODEL_DEPLOYMENT))
        .await
        .unwrap();
    let moved = changed(
        MODEL_DEPLOYMENT,
        json!({"spec": {"variants": [
        {"name": "control", "model": {"hub": {"repo": "acme/base"}}, "trafficPercent": 20},
        {"name": "candidate", "model": {"fineTuneJob": {"name": "tune2"}}, "trafficPercent": 80}]}}),
    );
    refusal(
        deployments
            .patch(
                "serve",
                &PatchParams::apply("test").force(),
                &Patch::Apply(&moved),
            )
            .await,
    )
    .unwrap();
    deployments
        .delete("serve", &DeleteParams::default())
        .await
        .unwrap();
    cluster.end().await;
}
