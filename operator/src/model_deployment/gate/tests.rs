//! Which templates are gates, how their verdicts are read, and which way each evaluation asks.

use serde_json::{Value, json};

use super::super::tests::{TWO, inputs, object};
use super::*;

/// The target of the EvalRun that a step makes from a template of `task`.
fn target_of(task: &str, metric: &str) -> Value {
    let yaml = TWO.replace(
        "  hub:",
        "  strategy: {canary: {steps: [{eval: {templateRef: {name: gate}}}]}}\n  hub:",
    );
    let web = object(&yaml);
    let mut known = inputs(&web);
    let template = json!({"metadata": {"name": "gate"}, "spec": {"task": task, "metrics": [{"name": metric}],
        "thresholds": [{"metric": metric, "min": 0.5}],
        "benchmark": (task == "MultipleChoice").then(|| json!({"name": "arc_easy"})),
        "dataset": {"configMap": {"name": "rows", "key": "rows.csv"}}}});
    known.variants[0].template = Some(serde_json::from_value(template).unwrap());
    let rollout = json!({"revision": "web-2", "phase": "Progressing", "step": 0, "reason": rollout::EVALUATING,
        "from": "web-1", "started": "2026-01-01T00:00:00Z", "stepStarted": "2026-01-01T00:00:00Z",
        "sources": {"asked": "a", "model": {"repo": "a/new", "commit": "c0ffee"}}});
    let rollout: RolloutStatus = serde_json::from_value(rollout).unwrap();
    let made = desired(&web, &known.variants[0], &rollout).unwrap();
    assert_eq!(made.metadata.labels.unwrap()[REVISION_LABEL], "web-2");
    serde_json::to_value(made.spec.target).unwrap()
}

#[test]
fn what_can_be_asked_over_http_is_asked_of_the_new_revision() {
    let served = json!({"deployment": {"name": "web", "variant": "control", "revision": "web-2"}});
    let loaded = json!({"model": {"hub": {"repo": "a/new", "revision": "c0ffee"}}});
    for (task, metric, expected) in [
        ("SequenceClassification", "accuracy", &served),
        ("MultipleChoice", "accNorm", &served),
        ("CausalLM", "rougeL", &served),
        ("CausalLM", "perplexity", &served),
        ("CausalLM", "bitsPerByte", &served),
        ("Regression", "mse", &loaded),
        ("Retrieval", "mrrAt10", &loaded),
    ] {
        assert_eq!(target_of(task, metric), *expected, "{task} {metric}");
    }
}

fn run(name: &str, more: &Value) -> EvalRun {
    let mut run = json!({"metadata": {"name": name}, "spec": {"task": "SequenceClassification",
        "metrics": [{"name": "accuracy"}], "dataset": {"configMap": {"name": "rows", "key": "rows.csv"}}}});
    for (key, value) in more.as_object().unwrap() {
        run["spec"][key] = value.clone();
    }
    serde_json::from_value(run).unwrap()
}

fn bound() -> Value {
    json!([{"metric": "accuracy", "min": 0.7}])
}

#[test]
fn a_template_that_is_no_gate_is_told_with_cause_and_fix() {
    let own = run(
        "gate",
        &json!({"thresholds": bound(), "target": {"model": {"hub": {"repo": "a/b"}}}}),
    );
    let open = run("gate", &json!({}));
    for (template, said) in [
        (
            None,
            "there is no EvalRun gate to make the evaluation from; create one",
        ),
        (
            Some(&own),
            "EvalRun gate has a target of its own; name one without",
        ),
        (
            Some(&open),
            "has no bound, so that every revision would pass; give it thresholds or a baseline",
        ),
    ] {
        match evaluation("gate", template, None) {
            Some(Evaluation::Unusable(why)) => assert!(why.contains(said), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let fine = run("gate", &json!({"thresholds": bound()}));
    assert_eq!(evaluation("gate", Some(&fine), None), None);
}

#[test]
fn a_verdict_is_read_with_its_figures_whatever_became_of_the_template() {
    let ended = |status: Value| EvalRun {
        status: Some(serde_json::from_value(status).unwrap()),
        ..run("web-main-1", &json!({"thresholds": bound()}))
    };
    let failed = json!([{"type": "Failed", "status": "True", "reason": "", "message": "", "lastTransitionTime":
        "2026-11-23T00:00:00Z"}, {"type": "Ready", "status": "False", "reason": "", "message": "the data is gone",
        "lastTransitionTime": "2026-11-23T00:00:00Z"}]);
    for (status, read) in [
        (
            json!({"verdict": "Failed", "findings": ["accuracy 0.4 misses min 0.7"], "conditions": []}),
            Evaluation::Failed("EvalRun web-main-1: accuracy 0.4 misses min 0.7".into()),
        ),
        (
            json!({"verdict": "Inconclusive", "findings": ["accuracy straddles"], "conditions": []}),
            Evaluation::Inconclusive("EvalRun web-main-1: accuracy straddles".into()),
        ),
        (
            json!({"conditions": failed}),
            Evaluation::Inconclusive("EvalRun web-main-1 did not come to its end: the data is gone".into()),
        ),
    ] {
        assert_eq!(evaluation("gone", None, Some(&ended(status))), Some(read));
    }
}
