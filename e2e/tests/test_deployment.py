"""ModelDeployment on the cluster: the split, changes under traffic, a bad model, and the OpenAI API."""

import json
import time

import pytest
from harness import apply, condition, get, is_true, kubectl, listing, port_forward, request, wait
from manifests import fine_tune_job, model_deployment, variant
from test_fine_tune import eventually
from traffic import Traffic

KIND = "modeldeployment.slipway.dev"
TUNE = "finetunejob.slipway.dev"


def two_tuned(namespace: str) -> None:
    for name in ("one", "two"):
        apply(json.dumps(fine_tune_job(name, namespace, hyperparameters={"seed": len(name)})))
    for name in ("one", "two"):
        wait(TUNE, name, namespace, "Complete", 300)


def tuned(name: str) -> dict:
    return {"fineTuneJob": {"name": name}}


def test_split_change_bad_model_and_removal_under_traffic(namespace):
    two_tuned(namespace)
    arms = [variant("control", 50, tuned("one")), variant("candidate", 50, tuned("two"))]
    sticky = {"sticky": {"header": "x-user-id"}}
    apply(json.dumps(model_deployment("web", namespace, arms, traffic=sticky)))
    status = wait(KIND, "web", namespace, "Ready", 180, failed=None)["status"]
    assert status["url"] == f"http://web.{namespace}.svc"
    routers = {pod["metadata"]["name"] for pod in listing("pods", namespace, "app.kubernetes.io/component=router")}

    with port_forward(namespace, "service/web", 80) as url, Traffic(url) as traffic:
        eventually("200 answers", lambda: sum(traffic.codes.values()) >= 200, 60)
        shares = dict(traffic.variants)
        total = sum(shares.values())
        assert abs(shares["control"] / total - 0.5) < 0.13, shares

        # The same user always meets the same variant.
        for user in ("ann", "bob", "eve"):
            met = {request(f"{url}/predict", {"inputs": "x"}, {"x-user-id": user})[1]["x-slipway-variant"] for _ in range(5)}
            assert len(met) == 1

        traffic.stage = "new weights"
        arms[0]["trafficPercent"], arms[1]["trafficPercent"] = 0, 100
        apply(json.dumps(model_deployment("web", namespace, arms, traffic=sticky)))
        wait(KIND, "web", namespace, "Ready", 60, failed=None)

        def only_candidate():
            traffic.variants.clear()
            time.sleep(1)
            return set(traffic.variants) == {"candidate"}

        eventually("the new weights", only_candidate, 30)
        assert {pod["metadata"]["name"] for pod in listing("pods", namespace, "app.kubernetes.io/component=router")} == routers

        # A dark arm answers those who ask for it by name.
        assert request(f"{url}/predict", {"inputs": "x"}, {"x-slipway-variant": "control"})[1]["x-slipway-variant"] == "control"

        traffic.stage = "a model that cannot be served"
        arms[1]["model"] = {"hub": {"repo": "acme/smollm2-135m-instruct"}}
        apply(json.dumps(model_deployment("web", namespace, arms, traffic=sticky)))
        eventually("the reason", lambda: "lassif" in json.dumps(get(KIND, "web", namespace)["status"]), 120)
        assert not is_true(get(KIND, "web", namespace), "Ready")
        assert request(f"{url}/predict", {"inputs": "x"})[0] == 200

        traffic.stage = "back to a good model"
        arms[1]["model"] = tuned("one")
        apply(json.dumps(model_deployment("web", namespace, arms, traffic=sticky)))
        wait(KIND, "web", namespace, "Ready", 120, failed=None)

        traffic.stage = "an arm that goes"
        arms = [variant("candidate", 100, tuned("one"))]
        apply(json.dumps(model_deployment("web", namespace, arms, traffic=sticky)))
        wait(KIND, "web", namespace, "Ready", 60, failed=None)
        eventually("the old arm's end", lambda: not listing("deployments", namespace, "slipway.dev/variant=control"), 60)
        time.sleep(2)
    assert set(traffic.codes) == {200}, (traffic.codes, traffic.failures[:5], traffic.failures[-5:])

    # A settled object costs no writes.
    before = get(KIND, "web", namespace)["metadata"]["resourceVersion"]
    time.sleep(12)
    assert get(KIND, "web", namespace)["metadata"]["resourceVersion"] == before
    kubectl("delete", KIND, "web", "-n", namespace, "--timeout=60s")
    for kind in ("deployments", "services", "pods", "configmaps"):
        eventually(f"no {kind}", lambda kind=kind: not listing(kind, namespace, "slipway.dev/model-deployment"), 120)


def test_a_model_that_is_not_there_is_named(namespace):
    apply(json.dumps(model_deployment("web", namespace, [variant("only", 100, {"hub": {"repo": "acme/nothing"}})])))
    eventually("a message", lambda: "acme/nothing" in condition(get(KIND, "web", namespace), "Ready").get("message", ""), 60)


def test_chat_with_an_adapter_through_the_openai_client(namespace):
    openai = pytest.importorskip("openai")
    job = fine_tune_job(
        "poet", namespace, model={"hub": {"repo": "acme/smollm2-135m-instruct"}}, task="CausalLM",
        dataset={"hub": {"repo": "acme/alpaca-slice"}, "maxExamples": 8,
                 "columns": {"text": None, "label": None, "prompt": "instruction", "input": "input", "completion": "output"}},
        method={"lora": {"targetModules": ["q_proj", "v_proj"]}},
        hyperparameters={"maxSteps": 2, "batchSize": 1, "maxSequenceLength": 64},
        resources={"limits": {"memory": "6Gi"}})
    apply(json.dumps(job))
    wait(TUNE, "poet", namespace, "Complete", 400)
    arm = variant("main", 100, {"hub": {"repo": "acme/smollm2-135m-instruct"}},
                  adapters=[{"name": "poet", "model": tuned("poet")}])
    arm["resources"]["limits"]["memory"] = "3Gi"
    apply(json.dumps(model_deployment("chat", namespace, [arm], task="CausalLM")))
    wait(KIND, "chat", namespace, "Ready", 240, failed=None)
    with port_forward(namespace, "service/chat", 80) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=120)
        names = {model.id for model in client.models.list()}
        assert {"chat", "poet"} <= names
        for name in ("chat", "poet"):
            stream = client.chat.completions.create(
                model=name, max_tokens=12, temperature=0, stream=True,
                messages=[{"role": "user", "content": "What is the capital of France?"}])
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
            assert len(pieces) > 2 and "".join(pieces).strip()
        with pytest.raises(openai.NotFoundError, match="poet"):
            client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "x"}])
