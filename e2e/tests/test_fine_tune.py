"""FineTuneJob on the cluster: the whole way, interruptions, and what a user can get wrong."""

import json
import time

import pytest
from harness import HUB_IN_CLUSTER, apply, condition, get, is_true, kubectl, listing, request, wait
from manifests import fine_tune_job

KIND = "finetunejob.slipway.dev"


def create(manifest: dict) -> None:
    apply(json.dumps(manifest))


def eventually(what, check, timeout: float = 90):
    end = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not happen in {timeout:.0f} s"
        time.sleep(0.5)


def message(name: str, namespace: str, kind: str) -> str:
    return condition(get(KIND, name, namespace), kind).get("message", "")


def pods(namespace: str) -> list[dict]:
    return listing("pods", namespace, "slipway.dev/fine-tune-job")


def test_the_whole_way(namespace, hub):
    create(fine_tune_job("tune", namespace))
    job = wait(KIND, "tune", namespace, "Complete", 240)
    status = job["status"]
    assert len(status["model"]["commit"]) == 40 and len(status["dataset"]["commit"]) == 40
    assert status["progress"]["step"] == status["progress"]["totalSteps"] == 10
    assert is_true(job, "Ready") and not is_true(job, "Reconciling") and not is_true(job, "Stalled")
    assert {metric["name"] for metric in status["metrics"]} >= {"loss"}

    repo, commit = status["output"]["repo"], status["output"]["commit"]
    _, _, info = request(f"{hub}/api/models/{repo}")
    assert info["sha"] == commit
    files = {entry["rfilename"] for entry in info["siblings"]}
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md", "tokenizer.json"} <= files
    assert info["cardData"]["base_model"] == "acme/minilm"

    for pod in pods(namespace):
        spec, container = pod["spec"], pod["spec"]["containers"][0]
        assert spec["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert "hf_owner" not in json.dumps(pod)

    events = [event["reason"] for event in listing("events", namespace)
              if event["involvedObject"]["kind"] == "FineTuneJob"]
    assert events.count("Complete") == 1, events

    # A settled object costs no writes: its resourceVersion stands still.
    before = get(KIND, "tune", namespace)["metadata"]["resourceVersion"]
    time.sleep(12)
    assert get(KIND, "tune", namespace)["metadata"]["resourceVersion"] == before


def test_a_finished_job_does_not_run_again_when_its_children_are_gone(namespace):
    create(fine_tune_job("tune", namespace, ttlSecondsAfterFinished=0))
    wait(KIND, "tune", namespace, "Complete", 240)
    eventually("the Job's removal", lambda: not listing("jobs", namespace), 60)
    time.sleep(8)
    assert not listing("jobs", namespace)
    assert is_true(get(KIND, "tune", namespace), "Complete")


def test_suspend_resume_and_a_killed_pod(namespace):
    """Suspended and resumed, killed and retried, it ends with every step taken once."""
    create(fine_tune_job("tune", namespace, hyperparameters={"maxSteps": 240}, checkpoint={"everySteps": 10}))
    eventually("a checkpoint", lambda: get(KIND, "tune", namespace).get("status", {}).get("lastCheckpoint", {}).get("step", 0) >= 10, 180)
    kubectl("patch", KIND, "tune", "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    eventually("suspension", lambda: is_true(get(KIND, "tune", namespace), "Suspended"), 90)
    eventually("the end of its pods", lambda: not [pod for pod in pods(namespace) if pod["status"]["phase"] == "Running"], 90)
    step = get(KIND, "tune", namespace)["status"]["lastCheckpoint"]["step"]
    kubectl("patch", KIND, "tune", "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":false}}')
    eventually("a running pod", lambda: [pod for pod in pods(namespace) if pod["status"]["phase"] == "Running"], 120)
    job = wait(KIND, "tune", namespace, "Complete", 600)
    assert job["status"]["progress"]["step"] == 240
    assert step >= 10
    assert not is_true(job, "Suspended")


def test_the_operator_may_be_killed_at_any_moment(namespace):
    create(fine_tune_job("tune", namespace, hyperparameters={"maxSteps": 30}))
    for delay in (0.3, 2, 5):
        time.sleep(delay)
        kubectl("delete", "pod", "-n", "slipway-system", "-l", "app.kubernetes.io/component=operator", "--grace-period=0", "--force")
    job = wait(KIND, "tune", namespace, "Complete", 300)
    assert len(listing("jobs", namespace)) == 1
    assert job["status"]["progress"]["step"] == 30


def test_deletion_in_mid_training_leaves_nothing(namespace):
    create(fine_tune_job("tune", namespace, hyperparameters={"maxSteps": 500}))
    eventually("a running pod", lambda: [pod for pod in pods(namespace) if pod["status"]["phase"] == "Running"], 120)
    kubectl("delete", KIND, "tune", "-n", namespace, "--timeout=60s")
    for kind in ("jobs", "pods", "configmaps", "persistentvolumeclaims"):
        eventually(f"no {kind}", lambda kind=kind: not listing(kind, namespace, "slipway.dev/fine-tune-job"), 120)


STALLED = {
    "a repo that is not there": ({"model": {"hub": {"repo": "acme/nothing"}}}, "acme/nothing"),
    "a revision that is not there": ({"model": {"hub": {"repo": "acme/minilm", "revision": "v9"}}}, "v9"),
    "a dataset that is not there": ({"dataset": {"hub": {"repo": "acme/no-data"}}}, "acme/no-data"),
    "a Secret that is not there": ({"hub": {"tokenSecretRef": {"name": "no-secret", "key": "token"}}}, "no-secret"),
    "a claim that is not there": ({"model": {"hub": None, "claim": {"name": "no-claim", "path": "m"}}}, "no-claim"),
}


@pytest.mark.parametrize("case", STALLED)
def test_something_that_is_not_there_is_named(case, namespace):
    changes, words = STALLED[case]
    create(fine_tune_job("tune", namespace, **changes))
    eventually("a message", lambda: words in message("tune", namespace, "Ready"), 60)
    assert not is_true(get(KIND, "tune", namespace), "Ready")
    assert not listing("jobs", namespace)


def test_a_private_repository_without_a_token(namespace, hub):
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub, token="hf_owner")
    api.create_repo("acme/private-model", private=True, exist_ok=True)
    create(fine_tune_job("tune", namespace, model={"hub": {"repo": "acme/private-model"}}, hub={"tokenSecretRef": None},
                         output={"hub": None}))
    eventually("a message", lambda: "token" in message("tune", namespace, "Ready"), 60)


@pytest.mark.parametrize(("repo", "card", "gated", "words", "accepted"), [
    ("no-changes", "license: cc-by-nd-4.0", False, "forbids passing on changed copies", "cc-by-nd-4.0"),
    ("agreed-to", "license: apache-2.0", "auto", "is gated", "apache-2.0"),
])
def test_weights_that_may_not_be_passed_on_wait_for_a_persons_word(repo, card, gated, words, accepted, namespace, hub):
    from huggingface_hub import HfApi

    repo = f"acme/{namespace}-{repo}"
    api = HfApi(endpoint=hub, token="hf_owner")
    api.create_repo(repo, exist_ok=True)
    api.upload_file(repo_id=repo, path_in_repo="README.md", path_or_fileobj=f"---\n{card}\n---\n# Base\n".encode())
    api.update_repo_settings(repo, gated=gated)
    base = {"model": {"hub": {"repo": repo}}}
    create(fine_tune_job("tune", namespace, **base, output={"merge": True}))
    eventually("the stall", lambda: words in message("tune", namespace, "Ready"), 60)
    job = get(KIND, "tune", namespace)
    assert is_true(job, "Stalled") and condition(job, "Ready")["reason"] == "LicenseNotAccepted"
    assert f"output.acceptLicense: {accepted}" in message("tune", namespace, "Ready")
    assert not listing("jobs", namespace), "nothing runs"
    # An adapter has none of the base's weights.
    create(fine_tune_job("adapter", namespace, **base))
    # The same output, once a person has read the terms.
    kubectl("delete", KIND, "tune", "-n", namespace)
    create(fine_tune_job("tune", namespace, **base, output={"merge": True, "acceptLicense": accepted}))
    for name in ("adapter", "tune"):
        eventually(f"{name}'s base", lambda name=name: get(KIND, name, namespace).get("status", {}).get("model", {}).get("commit"), 60)


FAILED = {
    "a column that is not there": ({"dataset": {"columns": {"text": "txet"}}}, "tweet"),
    "a sequence longer than the model": ({"hyperparameters": {"maxSequenceLength": 4096}}, "512"),
    "targets that match nothing": ({"method": {"lora": {"targetModules": ["q_projection"]}}}, "query"),
}


@pytest.mark.parametrize("case", FAILED)
def test_wrong_input_fails_once_with_its_fix(case, namespace):
    changes, words = FAILED[case]
    create(fine_tune_job("tune", namespace, **changes))
    eventually("failure", lambda: is_true(get(KIND, "tune", namespace), "Failed"), 150)
    assert words in message("tune", namespace, "Failed")
    assert len(pods(namespace)) == 1, "a failure that a retry cannot mend was retried"


def test_a_malformed_row_is_named_and_may_be_allowed(namespace):
    rows = "text,label\ngood day,positive\nbad day\nwhat a day,negative\n" + "fine,positive\nawful,negative\n" * 20
    kubectl("create", "configmap", "rows", "-n", namespace, f"--from-literal=rows.csv={rows}")
    data = {"hub": None, "configMap": {"name": "rows", "key": "rows.csv"}, "columns": {"text": "text", "label": "label"}}
    create(fine_tune_job("strict", namespace, dataset=data))
    create(fine_tune_job("lenient", namespace, dataset={**data, "maxInvalidRows": 1}))
    eventually("failure", lambda: is_true(get(KIND, "strict", namespace), "Failed"), 120)
    assert "line 3" in message("strict", namespace, "Failed")
    wait(KIND, "lenient", namespace, "Complete", 180)


def test_killed_for_memory_says_what_to_change(namespace):
    create(fine_tune_job("tune", namespace, backoffLimit=0, resources={"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}}))
    eventually("failure", lambda: is_true(get(KIND, "tune", namespace), "Failed"), 180)
    text = message("tune", namespace, "Failed")
    assert "memory" in text and "64Mi" in text and "batch size" in text


def test_a_deadline_ends_it(namespace):
    create(fine_tune_job("tune", namespace, activeDeadlineSeconds=15, hyperparameters={"maxSteps": 5000}))
    eventually("failure", lambda: is_true(get(KIND, "tune", namespace), "Failed"), 120)
    assert "activeDeadlineSeconds" in message("tune", namespace, "Failed")


def test_a_gpu_that_nobody_has_is_said(namespace):
    create(fine_tune_job("tune", namespace, resources={"limits": {"nvidia.com/gpu": 1, "memory": "1Gi"}}))
    eventually("a message", lambda: "nvidia.com/gpu" in message("tune", namespace, "Reconciling"), 60)


def test_a_hub_that_is_away_is_waited_for(namespace):
    create(fine_tune_job("tune", namespace, hub={"endpoint": "http://nowhere.hub.svc"}))
    eventually("a message", lambda: "nowhere.hub.svc" in message("tune", namespace, "Ready"), 90)
    assert not is_true(get(KIND, "tune", namespace), "Failed")
    assert HUB_IN_CLUSTER != "http://nowhere.hub.svc"


def test_two_workers_train_together(namespace):
    create(fine_tune_job("pair", namespace, workers=2, hyperparameters={"maxSteps": 6}))
    job = wait(KIND, "pair", namespace, "Complete", 300)
    assert job["status"]["progress"]["step"] == 6
    assert len(pods(namespace)) == 2
    services = listing("services", namespace, "slipway.dev/fine-tune-job=pair")
    assert [service["spec"]["clusterIP"] for service in services] == ["None"]


def test_a_hub_that_limits_fails_and_drops_connections_is_outlasted(namespace, hub):
    """Publishing meets 429, 500 and a connection cut half way, and still makes one commit."""
    faults = [
        {"match": "^POST /api/models/acme/" + namespace, "status": 429, "headers": {"Retry-After": "1"}, "times": 1},
        {"match": "^POST /api/models/acme/" + namespace, "status": 500, "times": 1},
        {"match": "^GET .*all-MiniLM|^GET .*minilm.*safetensors", "dropAfterBytes": 1000000, "times": 1},
    ]
    assert request(f"{hub}/_faults", faults)[0] < 300
    create(fine_tune_job("tune", namespace))
    job = wait(KIND, "tune", namespace, "Complete", 300)
    repo = job["status"]["output"]["repo"]
    commits = request(f"{hub}/api/models/{repo}/commits/main")[2]
    assert len([commit for commit in commits if "initial" not in commit["title"].lower()]) == 1, commits
