"""Pods by how many requests there are: none, the first, a second, and by kubectl scale."""

import concurrent.futures
import json
import time

import pytest
from harness import apply, get, is_true, kubectl, listing, port_forward, request, wait
from manifests import fine_tune_job, model_deployment, variant
from test_fine_tune import eventually
from test_refused_at_apply import refusal
from test_rollout import KIND, TUNE, canary, gate, rollout, status

SHORT = {"minReplicas": 0, "maxReplicas": 2, "targetRequests": 4, "scaleDownDelay": "5s", "holdTimeout": "2m"}


def scaled(namespace: str, **more) -> dict:
    arm = variant("main", 100, {"fineTuneJob": {"name": "one"}}, **more)
    del arm["replicas"]
    return model_deployment("web", namespace, [arm])


def pods(namespace: str) -> list[dict]:
    servers = listing("pods", namespace, "slipway.dev/variant=main")
    return [pod for pod in servers if "deletionTimestamp" not in pod["metadata"]]


@pytest.fixture
def tuned(namespace):
    """A namespace with a tuned model."""
    apply(json.dumps(fine_tune_job("one", namespace)))
    wait(TUNE, "one", namespace, "Complete", 300)
    return namespace


def test_to_zero_and_back_and_to_two(tuned):
    apply(json.dumps(scaled(tuned, scaling=SHORT)))
    wait(KIND, "web", tuned, "Ready", 180, failed=None)
    eventually("no pods", lambda: not pods(tuned), 90)
    eventually("a settled object", lambda: is_true(get(KIND, "web", tuned), "Ready"), 60)
    at = status(tuned)["variants"][0]
    assert at["scaling"] == {"desiredReplicas": 0}, at
    assert "held until one is ready" in at["message"], at
    settled = get(KIND, "web", tuned)["metadata"]["resourceVersion"]
    time.sleep(5)
    assert get(KIND, "web", tuned)["metadata"]["resourceVersion"] == settled, "written while nothing changed"

    with port_forward(tuned, "service/web", 80) as url:
        begun = time.monotonic()
        code, headers, _ = request(f"{url}/predict", {"inputs": "good"}, {}, 150)
        print(f"from zero to the first answer: {time.monotonic() - begun:.1f} s")
        assert code == 200
        assert headers["x-slipway-revision"] == status(tuned)["variants"][0]["revision"]

        # One pod is there for 4 requests at a time; 30 callers want more than the 2 pods that there may be.
        stop, pods_seen = time.monotonic() + 60, set()

        def ask(_: int) -> set[int]:
            codes = set()
            while time.monotonic() < stop and len(pods_seen) < 2:
                codes.add(request(f"{url}/predict", {"inputs": "good " * 200}, {}, 60)[0])
            return codes

        with concurrent.futures.ThreadPoolExecutor(30) as pool:
            asked = [pool.submit(ask, number) for number in range(30)]
            while len(pods_seen) < 2 and time.monotonic() < stop:
                pods_seen |= {pod["metadata"]["name"] for pod in pods(tuned)}
                time.sleep(0.2)
        assert set.union(*(answers.result() for answers in asked)) <= {200}
        assert len(pods_seen) == 2, pods_seen
        assert len(pods(tuned)) <= 2
    eventually("no pods", lambda: not pods(tuned), 90)


def test_a_revision_passes_its_gate_while_the_arm_has_no_pods(tuned):
    """Only its own pods come up for that, and go again: the arm stays at zero."""
    gate(tuned, 0.0)
    web = scaled(tuned, scaling=SHORT)
    web["spec"]["strategy"] = canary({"eval": {"templateRef": {"name": "gate"}}}, {"setWeight": 100})
    apply(json.dumps(web))
    wait(KIND, "web", tuned, "Ready", 180, failed=None)
    eventually("no pods", lambda: not pods(tuned), 90)
    old = status(tuned)["variants"][0]["revision"]
    web["spec"]["variants"][0]["resources"]["limits"]["memory"] = "900Mi"
    apply(json.dumps(web))
    eventually("the evaluation", lambda: listing("evalruns.slipway.dev", tuned, "slipway.dev/variant=main"), 120)
    seen = set()

    def promoted() -> bool:
        seen.update((pod["metadata"]["labels"]["slipway.dev/revision"], rollout(tuned).get("step")) for pod in pods(tuned))
        return status(tuned)["variants"][0]["revision"] != old

    eventually("the new revision", promoted, 240)
    assert not [revision for revision, step in seen if step == 0 and revision == old], seen
    run = listing("evalruns.slipway.dev", tuned, "slipway.dev/variant=main")
    assert [one["status"]["verdict"] for one in run] == ["Passed"], run
    eventually("no pods again", lambda: not pods(tuned), 90)


def test_kubectl_scale_sets_the_pods_of_a_single_variant(tuned):
    apply(json.dumps(scaled(tuned)))
    wait(KIND, "web", tuned, "Ready", 180, failed=None)
    kubectl("scale", KIND, "web", "-n", tuned, "--replicas=2")
    eventually("two pods", lambda: status(tuned)["variants"][0]["readyReplicas"] == 2, 120)
    scale = json.loads(kubectl("get", "--raw", f"/apis/slipway.dev/v1alpha1/namespaces/{tuned}/modeldeployments/web/scale"))
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (2, 2), scale
    selected = listing("pods", tuned, scale["status"]["selector"])
    assert {pod["metadata"]["name"] for pod in selected} == {pod["metadata"]["name"] for pod in pods(tuned)}

    own = scaled(tuned)
    own["spec"]["variants"][0]["replicas"] = 1
    own["spec"]["replicas"] = 2
    assert "set replicas or scaling of its variants instead" in refusal(own)
