"""Rollouts on the cluster, with requests running all the while: gates, shares, and the ways back."""

import json
import time

import pytest
from faults import decoder, push_decoders
from harness import CACHE, SYSTEM, apply, get, is_true, kubectl, listing, port_forward, request, run, wait
from manifests import eval_run, fine_tune_job, model_deployment, variant
from test_fine_tune import eventually
from traffic import Traffic

KIND = "modeldeployment.slipway.dev"
TUNE = "finetunejob.slipway.dev"
STICKY = {"sticky": {"header": "x-user-id"}}


def canary(*steps: dict, **more) -> dict:
    return {"canary": {"steps": list(steps)}, **more}


class Router:
    """How requests come: through the routers."""

    def traffic(self, namespace: str) -> dict:
        return STICKY

    def headers(self, namespace: str) -> dict:
        return {}

    def open(self, namespace: str):
        return port_forward(namespace, "service/web", 80)


def deployment(namespace: str, tune: str, strategy: dict, traffic: dict = STICKY, **more) -> dict:
    arm = variant("main", 100, {"fineTuneJob": {"name": tune}})
    return model_deployment("web", namespace, [arm], traffic=traffic, strategy=strategy, **more)


def status(namespace: str) -> dict:
    return get(KIND, "web", namespace).get("status", {})


def rollout(namespace: str) -> dict:
    return status(namespace)["variants"][0].get("rollout") or {}


def annotate(namespace: str, command: str) -> None:
    kubectl("annotate", KIND, "web", "-n", namespace, f"slipway.dev/{command}=now", "--overwrite")


def gate(namespace: str, minimum: float) -> None:
    run = eval_run("gate", namespace, target=None, dataset={"maxExamples": 60},
                   thresholds=[{"metric": "accuracy", "min": minimum}])
    apply(json.dumps(run))


@pytest.fixture
def way():
    """How requests come to a deployment; the same tests run behind a Gateway."""
    return Router()


@pytest.fixture
def serving(namespace, way):
    """A namespace with two tuned models, the first of which is served."""
    for name in ("one", "two"):
        apply(json.dumps(fine_tune_job(name, namespace, hyperparameters={"seed": len(name) + (name == "two")})))
    for name in ("one", "two"):
        wait(TUNE, name, namespace, "Complete", 300)
    apply(json.dumps(deployment(namespace, "one", canary({"setWeight": 100}), way.traffic(namespace))))
    wait(KIND, "web", namespace, "Ready", 180, failed=None)
    return namespace


def roll(namespace: str, *steps: dict, tune: str = "two", traffic: dict = STICKY, **more) -> None:
    apply(json.dumps(deployment(namespace, tune, canary(*steps, **more), traffic)))


def test_a_good_revision_passes_its_gate_its_analysis_and_a_person(serving, way):
    gate(serving, 0.0)
    old = status(serving)["variants"][0]["revision"]
    with way.open(serving) as url, Traffic(url, way.headers(serving)) as traffic:
        roll(serving, {"eval": {"templateRef": {"name": "gate"}}}, {"setWeight": 30},
             {"analysis": {"duration": "12s", "minRequests": 5, "metrics": [{"name": "errorRate", "max": 0.01}]}},
             {"pause": {}}, {"setWeight": 100}, traffic=way.traffic(serving))
        eventually("the evaluation", lambda: listing("evalruns.slipway.dev", serving, "slipway.dev/variant=main"), 120)
        assert set(traffic.revisions) <= {old, None}, "no traffic before the gate"
        # The operator goes away in the middle, and goes on where it was.
        kubectl("delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/name=slipway", "--wait=false")
        eventually("the pause", lambda: rollout(serving).get("reason") == "WaitingForPromotion", 300)
        at = rollout(serving)
        assert at["weight"] == 30 and at["from"] == old
        assert "evaluation passed" in at["history"][0] and "accuracy" in at["history"][0]
        assert "analysis passed: errorRate is 0" in at["history"][2], at["history"]
        new = at["revision"]
        traffic.revisions.clear()
        time.sleep(6)
        share = traffic.revisions[new] / sum(traffic.revisions.values())
        assert 0.12 < share < 0.5, traffic.revisions
        # A user meets one revision only, and a tester the one that he asks for.
        for user in ("ann", "bob", "eve") if way.traffic(serving) == STICKY else ():
            met = {request(f"{url}/predict", {"inputs": "x"}, {"x-user-id": user})[1]["x-slipway-revision"] for _ in range(5)}
            assert len(met) == 1
        asked = request(f"{url}/predict", {"inputs": "x"}, {"x-slipway-revision": new, **way.headers(serving)})
        assert asked[1]["x-slipway-revision"] == new
        annotate(serving, "promote")
        wait(KIND, "web", serving, "Ready", 180, failed=None)
        assert status(serving)["variants"][0]["revision"] == new
        # One command tells of a running pod what it was made from, and what judged it.
        pod = listing("pods", serving, f"slipway.dev/revision={new},app.kubernetes.io/component=server")[0]
        told = run(CACHE / "images" / "slipway-operator", "lineage", f"pod/{pod['metadata']['name']}", "-n", serving)
        for words in ("ModelDeployment web", f"Revision main/{new}", f"Model acme/{serving}-two@", "FineTuneJob two",
                      "Model acme/minilm@", "Dataset acme/finance-tweets@", "EvalRun web-main-"):
            assert words in told, told
        eventually("the rollout's pods to go", lambda: not listing("deployments", serving, "slipway.dev/track=canary"), 60)
        traffic.revisions.clear()
        time.sleep(2)
        assert set(traffic.revisions) == {new}
    assert set(traffic.codes) == {200}, (traffic.codes, traffic.failures[:5])
    assert "slipway.dev/promote" not in get(KIND, "web", serving)["metadata"].get("annotations", {})
    events = kubectl("get", "events", "-n", serving, "-o", "json")
    reasons = {event["reason"] for event in json.loads(events)["items"]}
    assert {"RolloutStarted", "EvalPassed", "TrafficShifted", "AnalysisPassed", "Promoted", "RolloutComplete"} <= reasons, reasons


def test_a_revision_that_fails_its_gate_never_answers_anyone(serving, way):
    gate(serving, 1.0)
    old = status(serving)["variants"][0]["revision"]
    with way.open(serving) as url, Traffic(url, way.headers(serving)) as traffic:
        roll(serving, {"eval": {"templateRef": {"name": "gate"}}}, {"setWeight": 50}, traffic=way.traffic(serving))
        eventually("the way back", lambda: rollout(serving).get("phase") == "RolledBack", 300)
        at = rollout(serving)
        assert at["reason"] == "EvalFailed" and "misses min 1" in at["message"], at
        assert is_true(get(KIND, "web", serving), "RolledBack") and is_true(get(KIND, "web", serving), "Stalled")
        eventually("the rollout's pods to go", lambda: not listing("deployments", serving, "slipway.dev/track=canary"), 60)
        # The revision before is what the spec asks for again: all is well.
        roll(serving, {"setWeight": 100}, tune="one", traffic=way.traffic(serving))
        wait(KIND, "web", serving, "Ready", 60, failed=None)
    assert set(traffic.codes) == {200}, (traffic.codes, traffic.failures[:5])
    assert set(traffic.revisions) <= {old}, traffic.revisions


def test_crash_abort_edit_and_missing_template(serving, way):
    old = status(serving)["variants"][0]["revision"]
    with way.open(serving) as url, Traffic(url, way.headers(serving)) as traffic:
        traffic.stage = "a model that cannot be served"
        broken = deployment(serving, "two", canary({"setWeight": 50}), way.traffic(serving))
        broken["spec"]["variants"][0]["model"] = {"hub": {"repo": "acme/smollm2-135m-instruct"}}
        apply(json.dumps(broken))
        eventually("the way back", lambda: rollout(serving).get("reason") == "RevisionFailed", 180)
        assert "lassif" in rollout(serving)["message"]

        traffic.stage = "an edit in the middle"
        roll(serving, {"setWeight": 50}, {"pause": {}}, traffic=way.traffic(serving))
        eventually("the pause", lambda: rollout(serving).get("reason") == "WaitingForPromotion", 180)
        first = rollout(serving)["revision"]
        edited = deployment(serving, "two", canary({"setWeight": 20}, {"pause": {}}), way.traffic(serving))
        edited["spec"]["variants"][0]["resources"]["limits"]["memory"] = "900Mi"
        apply(json.dumps(edited))
        def paused_again():
            now = rollout(serving)
            return now.get("reason") == "WaitingForPromotion" and now["revision"] != first

        eventually("the second pause", paused_again, 180)
        at = rollout(serving)
        assert at["from"] == old and at["weight"] == 20

        traffic.stage = "abort"
        annotate(serving, "abort")
        eventually("the way back", lambda: rollout(serving).get("reason") == "Aborted", 60)
        eventually("the annotation to go", lambda: "slipway.dev/abort" not in
                   get(KIND, "web", serving)["metadata"].get("annotations", {}), 60)
        time.sleep(3)
        traffic.revisions.clear()
        time.sleep(2)
        assert set(traffic.revisions) == {old}

        traffic.stage = "no template"
        roll(serving, {"eval": {"templateRef": {"name": "nobody"}}}, traffic=way.traffic(serving))
        eventually("the reason", lambda: rollout(serving).get("reason") == "EvalTemplate", 120)
        assert "there is no EvalRun nobody" in rollout(serving)["message"]
    assert set(traffic.codes) == {200}, (traffic.codes, traffic.failures[:5])


ROWS = [{"question": f"What is {n} and {n}?", "choices": [str(2 * n), str(2 * n + 1), "nothing"], "label": 0} for n in range(40)]
ASKED = {
    "choices": ("MultipleChoice", {"choices": "{{choices}}", "target": "label"}, "accNorm", {"min": 0.0}),
    "answers": ("CausalLM", {"target": "{{choices[label]}}", "until": ["\n"]}, "chrf", {"min": 0.0}),
    # The decoder is random: it is worse than an even draw from ten tokens.
    "perplexity": ("CausalLM", None, "perplexity", {"max": 10.0}),
}


def test_a_decoder_is_asked_over_http_for_choices_answers_and_perplexity(namespace):
    """Each way of asking is a gate of its own; the last of them fails, and the revision goes."""
    push_decoders()
    rows = "".join(json.dumps({**row, "text": row["question"]}) + "\n" for row in ROWS)
    data = {"rows.jsonl": rows}
    for name, (_, benchmark, *_) in ASKED.items():
        data[name] = json.dumps({"name": name, "prompt": "Q: {{question}}\nA:", "fewShot": {"count": 2, "split": "test"}, **(benchmark or {})})
    apply(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "questions", "namespace": namespace}, "data": data}))
    for name, (task, benchmark, metric, bound) in ASKED.items():
        asked = {} if benchmark is None else {"benchmark": {"configMap": {"name": "questions", "key": name}}}
        dataset = {"hub": None, "configMap": {"name": "questions", "key": "rows.jsonl"}, "split": None, "maxExamples": None,
                   "columns": {"text": "text", "label": None} if benchmark is None else None}
        template = eval_run(name, namespace, target=None, task=task, dataset=dataset, metrics=[{"name": metric}],
                            thresholds=[{"metric": metric, **bound}], maxNewTokens=4, **asked)
        apply(json.dumps(template))
    arm = {**decoder(), "replicas": 1}
    web = {"task": "CausalLM", "strategy": canary({"setWeight": 100})}
    apply(json.dumps(model_deployment("web", namespace, [arm], **web)))
    wait(KIND, "web", namespace, "Ready", 180, failed=None)
    arm["resources"] = {**arm["resources"], "limits": {**arm["resources"]["limits"], "memory": "513Mi"}}
    web["strategy"] = canary(*({"eval": {"templateRef": {"name": name}}} for name in ASKED), {"setWeight": 100})
    apply(json.dumps(model_deployment("web", namespace, [arm], **web)))
    eventually("the way back", lambda: rollout(namespace).get("phase") == "RolledBack", 400)
    at = rollout(namespace)
    assert at["reason"] == "EvalFailed" and "perplexity" in at["message"], at
    told = " ".join(at["history"])
    assert "accNorm" in told and "chrf" in told, told
    runs = listing("evalruns.slipway.dev", namespace, "slipway.dev/variant=main")
    assert len(runs) == len(ASKED)
    for run in runs:
        target = run["spec"]["target"]["deployment"]
        assert (target["variant"], target["revision"]) == ("main", at["revision"]), target
