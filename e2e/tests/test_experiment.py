"""An experiment on the cluster: scores posted by clients, routers and the operator that go away, a winner in status and card."""

import json
import urllib.request

from harness import SYSTEM, apply, get, kubectl, listing, port_forward, request, wait
from manifests import fine_tune_job, model_deployment, variant
from test_fine_tune import eventually

KIND = "modeldeployment.slipway.dev"
TUNE = "finetunejob.slipway.dev"


def experiment(namespace: str) -> dict:
    return get(KIND, "web", namespace).get("status", {}).get("experiment") or {}


def requests(namespace: str) -> int:
    return sum(arm["requests"] for arm in experiment(namespace).get("arms", []))


def routers(namespace: str) -> list[str]:
    pods = listing("pods", namespace, "app.kubernetes.io/component=router")
    return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def ask(url: str, user: int) -> tuple[str, str | None]:
    """The arm that answers a user, and the id of its answer where it can be scored."""
    status, headers, _ = request(f"{url}/predict", {"inputs": "good"}, {"x-user-id": f"user-{user}"})
    assert status == 200
    return headers["x-slipway-variant"], headers["x-slipway-id"]


def post(url: str, answer: str, score: float) -> int:
    return request(f"{url}/v1/feedback", {"id": answer, "score": score})[0]


def score(url: str, users: range) -> None:
    """Each user asks once and judges: nine of ten like the candidate, two of ten the control."""
    for user in users:
        arm, answer = ask(url, user)
        if answer is None:  # The winner was promoted meanwhile: nothing is compared any more.
            return
        likes = user % 10 < (9 if arm == "candidate" else 2)
        assert post(url, answer, 1.0 if likes else 0.0) == 204


def test_a_winner_over_restarts_in_status_and_card(namespace, hub):
    for name in ("one", "two"):
        apply(json.dumps(fine_tune_job(name, namespace, hyperparameters={"seed": len(name) + (name == "two")})))
    for name in ("one", "two"):
        wait(TUNE, name, namespace, "Complete", 300)
    repo = f"acme/{namespace}-two"
    arms = [variant("control", 50, {"fineTuneJob": {"name": "one"}}), variant("candidate", 50, {"fineTuneJob": {"name": "two"}})]
    compared = {"metric": "feedbackScore", "minRequests": 100, "autoPromote": True, "record": {"modelCard": {"repo": repo}}}
    apply(json.dumps(model_deployment("web", namespace, arms, traffic={"sticky": {"header": "x-user-id"}}, experiment=compared)))
    wait(KIND, "web", namespace, "Ready", 180, failed=None)
    eventually("the experiment to begin", lambda: experiment(namespace).get("id"), 120)
    wait(KIND, "web", namespace, "Ready", 60, failed=None)
    begun = experiment(namespace)
    assert begun["verdict"] == "NoDifferenceYet" and "too early" in begun["message"], begun

    first, second = routers(namespace)
    with port_forward(namespace, f"pod/{first}", 8080) as url:
        score(url, range(120))
        _, late = ask(url, 1000)
        assert post(url, "AAEAAz_pmZmZmZmaG0", 1.0) == 404
        assert post(url, late, 2.0) == 422
    # A router ends, and takes nothing with it; its answers can be scored at another.
    kubectl("delete", "pod", first, "-n", namespace)
    eventually("its counts in the status", lambda: requests(namespace) >= 121, 90)
    # So does the operator.
    kubectl("delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/name=slipway")
    kubectl("rollout", "status", "deployment/slipway", "-n", SYSTEM, "--timeout=120s")
    with port_forward(namespace, f"pod/{second}", 8080) as url:
        assert post(url, late, 1.0) == 204
        assert post(url, late, 1.0) == 409
        score(url, range(120, 300))
        eventually("a winner", lambda: experiment(namespace).get("winner"), 120)
        found = experiment(namespace)
        assert found["id"] == begun["id"] and found["winner"] == "candidate" and found["verdict"] == "Winner", found
        # More than the second router met: what the first one counted is among them.
        for figure in ("requests", "scores"):
            assert 200 <= sum(arm[figure] for arm in found["arms"]) <= 301, found
        difference = found["differences"][0]
        assert (difference["arm"], difference["than"]) == ("candidate", "control")
        assert 0 < difference["confidenceInterval"]["low"] < 0.7 < difference["confidenceInterval"]["high"], difference
        assert not found["sampleRatio"]["mismatch"], found

        # The winner gets all requests, and the spec stays as it was.
        assert found["promoted"] and "to make it last" in found["message"], found
        eventually("the whole share", lambda: {ask(url, user)[0] for user in range(2000, 2020)} == {"candidate"}, 90)
    deployment = get(KIND, "web", namespace)
    assert [arm["trafficPercent"] for arm in deployment["spec"]["variants"]] == [50, 50]
    assert [arm["trafficPercent"] for arm in deployment["status"]["variants"]] == [0, 100]

    # The card says so, once.
    eventually("the record", lambda: experiment(namespace).get("recorded"), 120)
    recorded = experiment(namespace)["recorded"]
    info = request(f"{hub}/api/models/{repo}")[2]
    assert info["sha"] == recorded["commit"], (info["sha"], recorded)
    with urllib.request.urlopen(f"{hub}/{repo}/resolve/main/README.md") as answer:
        card = answer.read().decode()
    assert card.count("## A/B test of web") == 1 and "**candidate is better than control.**" in card, card
    assert any(entry["rfilename"] == f"experiments/{namespace}.web.{begun['id']}.yaml" for entry in info["siblings"])
    kubectl("delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/name=slipway")
    kubectl("rollout", "status", "deployment/slipway", "-n", SYSTEM, "--timeout=120s")
    wait(KIND, "web", namespace, "Ready", 60, failed=None)
    assert experiment(namespace)["recorded"] == recorded
    assert request(f"{hub}/api/models/{repo}")[2]["sha"] == info["sha"]
    events = json.loads(kubectl("get", "events", "-n", namespace, "-o", "json"))["items"]
    for reason in ("ExperimentStarted", "ExperimentDecided", "ExperimentRecorded"):
        told = [event for event in events if event["reason"] == reason]
        assert len(told) == 1 and (told[0].get("count") or 1) == 1, (reason, told)

    # Without an experiment, what was kept of it goes.
    apply(json.dumps(model_deployment("web", namespace, arms, traffic={"sticky": {"header": "x-user-id"}})))
    eventually("nothing kept", lambda: not get("configmap", "web-experiment", namespace), 60)
    assert not experiment(namespace)
