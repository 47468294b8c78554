//! Which way each template's evaluation asks.

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
