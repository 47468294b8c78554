"""EvalRun on the cluster: figures with intervals, verdicts, baselines, and the record in the card."""

import json

import pytest
from harness import apply, condition, get, is_true, request, wait
from manifests import eval_run, fine_tune_job
from test_fine_tune import eventually

KIND = "evalrun.slipway.dev"
TUNE = "finetunejob.slipway.dev"


def test_measured_compared_recorded_and_idempotent(namespace, hub):
    apply(json.dumps(fine_tune_job("tune", namespace, hyperparameters={"maxSteps": 40}, dataset={"maxExamples": None})))
    apply(json.dumps(fine_tune_job("base", namespace, hyperparameters={"maxSteps": 1})))
    repo = f"acme/{namespace}-tune"
    # Applied before its target is ready, it waits.
    spec = dict(baseline={"model": {"fineTuneJob": {"name": "base"}}, "metric": "accuracy"},
                thresholds=[{"metric": "accuracy", "min": 0.05}], record={"modelCard": {"repo": repo}},
                dataset={"maxExamples": None})
    apply(json.dumps(eval_run("score", namespace, **spec)))
    wait(TUNE, "tune", namespace, "Complete", 300)
    wait(TUNE, "base", namespace, "Complete", 300)
    status = wait(KIND, "score", namespace, "Complete", 300)["status"]
    assert status["verdict"] in ("Passed", "Failed", "Inconclusive")
    accuracy = next(result for result in status["results"] if result["metric"] == "accuracy")
    assert accuracy["examples"] > 500
    assert accuracy["confidenceInterval"]["low"] <= accuracy["value"] <= accuracy["confidenceInterval"]["high"]
    comparison = status["comparison"]
    assert abs(comparison["difference"] - (accuracy["value"] - comparison["baselineValue"])) < 1e-9
    assert comparison["baseline"]["repo"] == f"acme/{namespace}-base"

    _, _, info = request(f"{hub}/api/models/{repo}")
    assert info["sha"] == status["record"]["commit"]
    results = info["cardData"]["model-index"][0]["results"]
    values = {metric["type"]: metric["value"] for result in results for metric in result["metrics"]}
    assert abs(values["accuracy"] - accuracy["value"]) < 1e-6
    assert any(entry["rfilename"].startswith(".eval_results/") for entry in info["siblings"])

    # The same run again changes nothing on the Hub.
    apply(json.dumps(eval_run("again", namespace, **spec)))
    wait(KIND, "again", namespace, "Complete", 300)
    assert request(f"{hub}/api/models/{repo}")[2]["sha"] == info["sha"]


@pytest.mark.parametrize(("minimum", "verdict"), [(0.0, "Passed"), (1.0, "Failed")])
def test_a_threshold_decides_the_verdict(namespace, minimum, verdict):
    apply(json.dumps(fine_tune_job("tune", namespace)))
    apply(json.dumps(eval_run("score", namespace, thresholds=[{"metric": "accuracy", "min": minimum}])))
    status = wait(KIND, "score", namespace, "Complete", 400)["status"]
    assert status["verdict"] == verdict, status["findings"]


def test_labels_that_differ_are_named(namespace):
    from harness import kubectl

    rows = "text,label\n" + "good,yes\nbad,no\n" * 10
    kubectl("create", "configmap", "rows", "-n", namespace, f"--from-literal=rows.csv={rows}")
    apply(json.dumps(fine_tune_job("tune", namespace)))
    apply(json.dumps(eval_run("score", namespace, dataset={
        "hub": None, "configMap": {"name": "rows", "key": "rows.csv"}, "columns": {"text": "text", "label": "label"}, "split": None})))
    eventually("failure", lambda: is_true(get(KIND, "score", namespace), "Failed"), 300)
    text = condition(get(KIND, "score", namespace), "Failed")["message"]
    assert "yes" in text and "neutral" in text


def test_a_target_that_is_not_there_is_waited_for_and_named(namespace):
    apply(json.dumps(eval_run("score", namespace)))
    eventually("a message", lambda: "tune" in condition(get(KIND, "score", namespace), "Ready").get("message", ""), 60)
