"""Faults under traffic: what is killed, withheld, wrong, edited or deleted costs no request that the revision before
would have answered. Requests come at a fixed rate, streams among them; every answer is counted."""

import json
import time

import node
import pytest
from faults import (KIND, NOT_A_NUMBER, SLOW, Web, a_hub_with, analysis, decisions, each_step, gate, gate_runs, gated, is_ready,
                    no_failure, once, operator_pod, recorded_once)
from harness import apply, get, is_true, kubectl, listing
from test_fine_tune import eventually

pytestmark = pytest.mark.alone


EVERY_STEP = [gated("lenient"), {"mirror": {"percent": 50}}, {"setWeight": 30}, analysis(), {"pause": {"duration": "2s"}},
              {"setWeight": 60}, {"pause": {}}]


def process_alone(report: dict) -> None:
    """Only what a killed router held, or would have been given before the cluster knew, went without an answer at the
    first attempt; of that only cut streams stayed without one."""
    for kind in ("fresh", "kept", "stream"):
        counts = report[kind]
        assert set(counts["first"]) <= {"200", "refused", "reset", "cut"}, counts
        assert counts["failed"][2] == counts["first"].get("cut", 0), counts


def operator_alone(web: Web, step: int) -> None:
    node.signal(operator_pod())


def operator_and_router(web: Web, step: int) -> None:
    operator_alone(web, step)
    # One that has a fellow: two routers killed at once are no fault that anything could answer.
    eventually("both routers", lambda: sum(map(is_ready, web.pods("router"))) == 2, 30)
    web.kill("router", step)


#: What is killed, and what that may cost.
KILLED = {"the operator and a router": (operator_and_router, process_alone), "the operator alone": (operator_alone, no_failure)}


@pytest.mark.parametrize("victims", ["the operator and a router", pytest.param("the operator alone", marks=pytest.mark.slow)])
def test_killed_in_every_step(victims, web, keep):
    kill, costs = KILLED[victims]
    gate(web.namespace, "lenient", 1e9)
    before, runs = decisions(web), gate_runs(web)
    with web.load() as load:
        web.arm = web.roll(*EVERY_STEP)
        seen = each_step(web, lambda step, at: (load.stage(f"step {step}"), kill(web, step)))
        web.ready()
    keep(load)
    assert seen == list(range(len(EVERY_STEP) + 1))
    costs(load.report)
    recorded_once(web, before, runs)


@pytest.mark.slow
def test_servers_and_the_evaluation_are_killed_in_every_step(web, keep):
    gate(web.namespace, "lenient", 1e9)
    before, runs, killed = decisions(web), gate_runs(web), []

    def evaluator(revision: str) -> list[dict]:
        made = listing("evalruns.slipway.dev", web.namespace, f"slipway.dev/revision={revision}")
        name = made[0]["metadata"]["name"] if made else "none"
        return [pod for pod in listing("pods", web.namespace, f"slipway.dev/eval-run={name}") if node.signal(pod)]

    def kill(step: int, at: dict) -> None:
        load.stage(f"step {step}")
        if all(map(is_ready, web.pods("server", track="stable"))):
            # The kubelet finds one that is back before the routers do, which ask each once a second.
            time.sleep(3 if killed else 0)
            killed.append(("stable", web.kill("server", step, track="stable")))
        if step == 0:
            killed.append(("evaluation", bool(eventually("the evaluation's process", lambda: evaluator(at["revision"]), 60))))
        # Killed three times, a new revision is given up as one that crashes.
        canaries = [pod for pod in web.pods("server", track="canary") if is_ready(pod)]
        if step in (1, 3, 4) and canaries and killed.count(("canary", True)) < 2:
            killed.append(("canary", node.signal(canaries[0]) > 0))

    with web.load() as load:
        web.arm = web.roll(*EVERY_STEP)
        seen = each_step(web, kill)
        web.ready()
    keep(load)
    # A step that takes one look may pass while a kill waits for its victim.
    assert set(seen) >= {0, 3, 4, 6}, seen
    assert {name for name, done in killed if done} == {"stable", "evaluation", "canary"}, killed
    recorded_once(web, before, runs)
    # Another server answers for the one that ended. Only a stream that had begun there is lost with it.
    for kind, outcomes in (("fresh", {"200"}), ("kept", {"200"}), ("stream", {"200", "cut"})):
        assert set(load.report[kind]["first"]) <= outcomes, load.report[kind]


BAD = {
    "crashes": ({"memory": "20Mi"}, None, [{"setWeight": 30}], {}, "RevisionFailed"),
    "never becomes ready": ({"cpu": "1m"}, None, [{"setWeight": 30}], {"progressDeadline": "8s"}, "ProgressDeadlineExceeded"),
    "answers 500": ({}, NOT_A_NUMBER, [{"setWeight": 50}, analysis(20)], {}, "AnalysisFailed"),
    "answers slowly": ({"memory": "3Gi"}, SLOW, [{"setWeight": 10}, analysis(6, name="latencyP50Seconds", maxRatioToStable=3)],
                       {"onFailure": "Pause"}, "AnalysisFailed"),
    "is wrong": ({}, None, [gated("strict"), {"setWeight": 50}], {}, "EvalFailed"),
}


# A gate that fails, and an analysis that does, are in test_rollout.py too.
LONG = ("answers slowly", "is wrong")


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow) if case in LONG else case for case in BAD])
def test_a_new_revision_that(case, web, keep):
    limits, repo, steps, strategy, reason = BAD[case]
    gate(web.namespace, "strict", 10)
    arm = web.changed(**({"repo": repo} if repo else {}), **limits)
    stable = web.stable_revision()
    with web.load() as load:
        web.roll(*steps, arm=arm, **strategy)
        at = web.until(reason, 90)
        load.stage("after")
        if strategy.get("onFailure") == "Pause":
            assert at["phase"] == "Paused" and at["weight"] == 10, at
            web.annotate("abort")
            at = web.until("Aborted", 20)
        assert at["phase"] == "RolledBack" and at["weight"] == 0, at
        if case == "is wrong":
            # Asked once more, it fails once more.
            web.annotate("retry")
            eventually("another try", lambda: web.rollout().get("phase") == "Progressing", 20)
            again = web.until(reason, 60)
            assert again["started"] > at["started"] and "misses max 10" in again["message"], again
        web.back()
    keep(load)
    assert web.stable_revision() == stable
    no_failure(load.report)


def test_a_new_revision_that_hangs(web, keep):
    """It is stopped in the middle of its share: it holds what it has, and answers nothing."""
    with web.load() as load:
        web.roll({"setWeight": 30}, {"pause": {}})
        web.until("WaitingForPromotion")
        load.stage("hangs")
        for pod in web.pods("server", track="canary"):
            node.signal(pod, "STOP")
        time.sleep(12)
        load.stage("after")
        web.annotate("abort")
        web.until("Aborted", 20)
        for pod in web.pods("server", track="canary"):
            node.signal(pod, "CONT")
        web.back()
    keep(load)
    no_failure(load.report)


FAULTS = {
    "is away": ({"status": 503}, 0),
    "answers garbage": ({"status": 200, "body": "<html>It works!</html>"}, 0),
    "limits the rate": ({"status": 429, "headers": {"Retry-After": "1"}}, 20),
    "is away for five minutes": ({"status": 503}, 300),
}
QUICK = "is away"


@pytest.mark.parametrize("case", [QUICK, *(pytest.param(case, marks=pytest.mark.slow) for case in FAULTS if case != QUICK)])
def test_a_hub_that(case, web, keep):
    """Serving needs no Hub; a rollout waits for it, says so, and goes on when it is back."""
    fault, seconds = FAULTS[case]
    with web.load() as load:
        with a_hub_with({"match": "/api/|/resolve/|/raw/", "times": 100_000, **fault}):
            began = time.monotonic()
            arm = web.roll({"setWeight": 50})
            if fault["status"] == 429:
                # Servers do as they are told, and try again for a while before they complain.
                web.until("WaitingForPods", 30)
            else:
                eventually("what the Hub says", lambda: "hub.hub.svc" in web.rollout().get("message", ""), 90)
            assert not is_true(get(KIND, "web", web.namespace), "Ready")
            time.sleep(max(0.0, began + seconds - time.monotonic()))
            assert web.rollout()["phase"] == "Progressing", web.rollout()
        load.stage("back")
        web.ready(180)
        web.arm = arm
    keep(load)
    no_failure(load.report)


def test_edits_deletion_and_a_namesake(web, keep):
    """Two edits within a second, and a ModelDeployment of the same name elsewhere that goes in mid-rollout."""
    other = Web(f"{web.namespace}-b", replicas=1)
    try:
        mine, theirs = web.stable_revision(), other.stable_revision()
        with web.load() as load, other.load("--fresh", "5", "--kept", "0") as elsewhere:
            other.roll({"setWeight": 50}, {"pause": {}})
            web.roll({"setWeight": 50}, {"pause": {}})
            first = web.changed()
            second = web.changed()
            web.roll({"setWeight": 40}, {"pause": {}}, arm=first)
            web.roll({"setWeight": 20}, {"pause": {"duration": "3s"}}, analysis(3), {"pause": {}}, arm=second)
            at = web.until("WaitingForPromotion", 90)
            assert at["weight"] == 20 and at["from"] == mine, at
            assert "paused for 3s" in at["history"][1], at
            canaries = {pod["metadata"]["labels"]["slipway.dev/revision"] for pod in web.pods("server", track="canary")}
            assert canaries == {at["revision"]}
            other.until("WaitingForPromotion", 90)
            elsewhere.__exit__(None)
            load.stage("the other goes")
            kubectl("delete", KIND, "web", "-n", other.namespace, "--timeout=60s")
            for kind in ("deployments", "services", "configmaps"):
                eventually(f"no {kind}", lambda kind=kind: not listing(kind, other.namespace, "slipway.dev/model-deployment"), 60)
            # Held by the spec, and let go again.
            load.stage("paused")
            web.apply(second, {"setWeight": 20}, {"pause": {"duration": "3s"}}, analysis(3), {"setWeight": 30}, paused=True)
            web.annotate("promote")
            time.sleep(3)
            assert web.rollout()["step"] == 3
            web.apply(second, {"setWeight": 20}, {"pause": {"duration": "3s"}}, analysis(3), {"setWeight": 30})
            web.annotate("promote")
            web.ready()
            web.arm = second
        assert theirs not in load.report["fresh"]["revisions"] or theirs == mine
    finally:
        other.delete()
    keep(load)
    no_failure(load.report)
    no_failure(elsewhere.report)


@pytest.mark.slow
def test_a_cluster_without_room(web, keep):
    """Every GPU is taken by the old revision: the rollout says so, and takes the place of an old pod where it may."""
    node.offer_gpus(2)
    crowded = Web(f"{web.namespace}-c", gpus=2)
    try:
        with crowded.load("--stream", "0") as load:
            crowded.roll({"setWeight": 50}, {"pause": {}})
            at = crowded.until("NoCapacity", 60)
            assert "Replace" in at["message"] and "nvidia.com/gpu" in at["message"], at
            load.stage("Replace")
            arm = crowded.changed()
            crowded.roll({"setWeight": 50}, {"pause": {}}, arm=arm, whenNoCapacity="Replace")
            at = crowded.until("WaitingForPromotion", 120)
            assert at["replacing"] and at["weight"] == 50, at
            assert len(crowded.pods("server", track="stable")) == 1
            crowded.annotate("promote")
            crowded.ready(120)
        keep(load)
        no_failure(load.report)
    finally:
        crowded.delete()
        node.offer_gpus(0)


@pytest.mark.slow
def test_an_only_pod_gives_its_place(web, keep):
    """One pod, one GPU: while the new revision takes the pod's place, and while the old one takes it back from a revision
    that crashes, requests are held, and every one is answered."""
    node.offer_gpus(1)
    lone = Web(f"{web.namespace}-l", gpus=1, replicas=1)
    try:
        # A router holds a hundred, and a pod that crashes is given up after a minute.
        with lone.load("--fresh", "1", "--kept", "0", "--stream", "0", "--timeout", "150") as load:
            old = lone.stable_revision()
            arm = lone.roll({"setWeight": 100}, whenNoCapacity="Replace")
            eventually("the place to be given", lambda: lone.rollout().get("vacated"), 60)
            lone.ready(120)
            lone.arm, new = arm, lone.stable_revision()
            assert new != old
            load.stage("crashes")
            lone.roll({"setWeight": 30}, arm=lone.changed(memory="20Mi"), whenNoCapacity="Replace")
            eventually("the place to be given again", lambda: lone.rollout().get("vacated"), 60)
            lone.until("RevisionFailed", 120)
            # Only Replace holds requests until it is back.
            eventually("the old pod", lambda: any(map(is_ready, lone.pods("server", track="stable"))), 90)
            load.stage("back")
            time.sleep(5)
        assert lone.stable_revision() == new
        keep(load)
        no_failure(load.report)
    finally:
        lone.delete()
        node.offer_gpus(0)


@pytest.mark.slow
def test_a_node_that_goes_away_and_returns(web, keep):
    """Its kubelet is silent until the cluster takes the node for lost, and with it every pod of this cluster: a Service
    over the servers alone is as dark, and Slipway is back when that is."""
    selector = {"slipway.dev/model-deployment": "web", "app.kubernetes.io/component": "server"}
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    apply(json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "lone", "namespace": web.namespace},
                      "spec": {"selector": selector, "ports": ports}}))
    kubelet = node.execute("pgrep", "-f", "^kubelet ").split()[0]
    options = ("--fresh", "5", "--kept", "0", "--stream", "0.2")
    before = decisions(web)
    with web.load(*options) as load, node.Load(web.namespace, "lone", "--tokens", "100", *options) as lone:
        arm = web.roll({"setWeight": 50}, {"pause": {}})
        web.until("WaitingForPromotion")
        node.execute("kill", "-STOP", kubelet)
        try:
            eventually("the node's loss", lambda: "True" not in node_ready(), 120)
            load.stage("away"), lone.stage("away")
            time.sleep(15)
        finally:
            node.execute("kill", "-CONT", kubelet)
        eventually("the node's return", lambda: "True" in node_ready(), 60)
        eventually("every pod", lambda: all(map(is_ready, web.pods("router") + web.pods("server"))), 60)
        load.stage("back"), lone.stage("back")
        web.annotate("promote")
        web.ready(120)
        web.arm = arm
    keep(load)
    keep(lone, "the same, without Slipway")
    once(web, before)
    failed, lost = ([failure for kind in ("fresh", "stream") for failure in part.report[kind]["failures"]] for part in (load, lone))
    assert not [failure for failure in failed if failure["stage"] == "back"], failed[-5:]
    assert len(failed) <= 1.1 * len(lost) + 5, (len(failed), len(lost), failed[:5])


def node_ready() -> str:
    return kubectl("get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}")
