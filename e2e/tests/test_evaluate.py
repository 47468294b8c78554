"""EvalRun on the cluster: figures with intervals, verdicts, baselines, and the record in the card."""

import json

import pytest
from harness import apply, condition, get, is_true, kubectl, listing, request, wait
from manifests import eval_run, fine_tune_job, model_deployment, variant
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


def run_now(namespace: str, value: str = "") -> dict:
    """Asks for a run, waits for its end, and gives the status."""
    def newest() -> str:
        history = get(KIND, "watch", namespace).get("status", {}).get("history", [])
        return history[0]["job"] if history else ""

    before = newest()
    kubectl("annotate", KIND, "watch", "-n", namespace, f"slipway.dev/run-now={value}", "--overwrite")
    eventually("a finished run", lambda: newest() != before, 300)
    return get(KIND, "watch", namespace)["status"]


def events(namespace: str, name: str, reason: str) -> list[dict]:
    found = listing("events.events.k8s.io", namespace)
    return [event for event in found if event["regarding"]["name"] == name and event["reason"] == reason]


def test_a_schedule_watches_a_deployment_for_drift(namespace):
    for name, changes in (("one", {"maxSteps": 40}), ("two", {"maxSteps": 1, "learningRate": 0.00001})):
        apply(json.dumps(fine_tune_job(name, namespace, hyperparameters=changes, dataset={"maxExamples": None})))
    for name in ("one", "two"):
        wait(TUNE, name, namespace, "Complete", 300)
    serve = lambda tune: apply(json.dumps(model_deployment(  # noqa: E731
        "web", namespace, [variant("main", 100, {"fineTuneJob": {"name": tune}})])))
    serve("one")
    wait("modeldeployment.slipway.dev", "web", namespace, "Ready", 180, failed=None)
    first = get("modeldeployment.slipway.dev", "web", namespace)["status"]["variants"][0]["revision"]
    # Due once a year: what runs here was asked for.
    apply(json.dumps(eval_run("watch", namespace, target={"model": None, "deployment": {"name": "web"}},
                              dataset={"maxExamples": 400}, metrics=[{"name": "accuracy"}],
                              schedule={"cron": "0 3 29 2 *", "timeZone": "Europe/Berlin", "historyLimit": 2})))
    thing = wait(KIND, "watch", namespace, "Ready", 60, failed=None)
    assert condition(thing, "Ready")["reason"] == "Scheduled"
    assert thing["status"]["nextScheduledTime"].endswith("-02-29T02:00:00Z")

    status = run_now(namespace)
    assert status["reference"]["results"] == status["results"] == status["history"][0]["results"]
    assert status["history"][0]["answering"][0]["revision"] == first
    assert "active" not in status and not condition(get(KIND, "watch", namespace), "Complete")
    status = run_now(namespace)
    assert status["results"] == status["reference"]["results"], "the same model on the same examples"
    assert condition(get(KIND, "watch", namespace), "Drifted")["status"] == "False"

    serve("two")
    eventually("the other revision", lambda: (lambda arm: arm["revision"] != first and not arm.get("nextRevision"))(
        get("modeldeployment.slipway.dev", "web", namespace)["status"]["variants"][0]), 180)
    wait("modeldeployment.slipway.dev", "web", namespace, "Ready", 180, failed=None)
    status = run_now(namespace)
    drifted = condition(get(KIND, "watch", namespace), "Drifted")
    assert drifted["status"] == "True" and "accuracy fell to" in drifted["message"], status
    assert f"from revision {first} to" in drifted["message"]
    eventually("an event", lambda: len(events(namespace, "watch", "Drifted")) == 1, 30)
    # What left the history is gone with its Job, and the reference stays.
    assert len(status["history"]) == 2
    eventually("two Jobs", lambda: sorted(job["metadata"]["name"] for job in listing(
        "jobs.batch", namespace, "slipway.dev/eval-run=watch")) == sorted(run["job"] for run in status["history"]), 60)

    status = run_now(namespace, "reference")
    assert status["reference"] == status["history"][0]
    assert condition(get(KIND, "watch", namespace), "Drifted")["status"] == "False"
    eventually("an event", lambda: len(events(namespace, "watch", "DriftCleared")) == 1, 30)


def test_a_run_that_cannot_measure_is_on_record_and_a_wrong_schedule_is_told(namespace):
    spec = dict(target={"model": None, "deployment": {"name": "absent"}}, metrics=[{"name": "accuracy"}])
    apply(json.dumps(eval_run("watch", namespace, schedule={"cron": "* * * * *", "startingDeadlineSeconds": 10}, **spec)))
    apply(json.dumps(eval_run("never", namespace, schedule={"cron": "0 0 31 2 *"}, **spec)))
    eventually("a reason", lambda: condition(get(KIND, "never", namespace), "Stalled").get("reason") == "InvalidSchedule", 30)
    eventually("two runs", lambda: len(get(KIND, "watch", namespace).get("status", {}).get("history", [])) >= 2, 240)
    history = get(KIND, "watch", namespace)["status"]["history"]
    assert all(run["failure"]["reason"] == "ModelDeploymentNotFound" for run in history)
    assert len({run["scheduledTime"] for run in history}) == len(history)
