"""What the apiserver refuses by itself, with a sentence that says what to do; no webhook is involved."""

import json

import pytest
from harness import kubectl, run, kubectl_path
from manifests import eval_run, fine_tune_job, model_deployment, variant

HUB_MODEL = {"hub": {"repo": "acme/minilm"}}


def refusal(manifest: dict) -> str:
    import subprocess

    done = subprocess.run([kubectl_path(), "apply", "-f", "-"], input=json.dumps(manifest), text=True, capture_output=True)
    assert done.returncode != 0, f"accepted: {done.stdout}"
    return done.stderr


def scaled(name: str, scaling: dict) -> dict:
    arm = variant(name, 100, HUB_MODEL, scaling=scaling)
    del arm["replicas"]
    return arm


WRONG = {
    "two model sources": (
        lambda ns: fine_tune_job("x", ns, model={"hub": {"repo": "a/b"}, "claim": {"name": "c", "path": "p"}}),
        "exactly one of"),
    "no model source": (lambda ns: fine_tune_job("x", ns, model={"hub": None}), "exactly one of"),
    "two dataset sources": (
        lambda ns: fine_tune_job("x", ns, dataset={"url": "https://example.org/x.csv"}), "exactly one of"),
    "two methods": (lambda ns: fine_tune_job("x", ns, method={"full": {}}), "exactly one of"),
    "rank zero": (lambda ns: fine_tune_job("x", ns, method={"lora": {"rank": 0}}), "rank"),
    "a repo that is none": (lambda ns: fine_tune_job("x", ns, model={"hub": {"repo": "minilm"}}), "repo"),
    "an unknown field": (lambda ns: fine_tune_job("x", ns, hyperparameters={"learnigRate": 1}), "learnigRate"),
    "weights over 100": (
        lambda ns: model_deployment("x", ns, [variant("a", 60, HUB_MODEL), variant("b", 60, HUB_MODEL)]), "add up to 100"),
    "weights under 100": (
        lambda ns: model_deployment("x", ns, [variant("a", 10, HUB_MODEL), variant("b", 10, HUB_MODEL)]), "add up to 100"),
    "one name twice": (
        lambda ns: model_deployment("x", ns, [variant("a", 50, HUB_MODEL), variant("a", 50, HUB_MODEL)]), "uplicate"),
    "replicas and scaling": (
        lambda ns: model_deployment("x", ns, [variant("a", 100, HUB_MODEL, scaling={})]), "not both"),
    "fewer pods at most than at least": (
        lambda ns: model_deployment("x", ns, [scaled("a", {"minReplicas": 2})]), "set maxReplicas to minReplicas or more"),
    "a hold of a day": (
        lambda ns: model_deployment("x", ns, [scaled("a", {"holdTimeout": "24h"})]), "from 1s to 1h"),
    "replicas of two variants": (
        lambda ns: model_deployment("x", ns, [variant("a", 50, HUB_MODEL), variant("b", 50, HUB_MODEL)], replicas=2),
        "set replicas or scaling of its variants instead"),
    "copies for nobody": (
        lambda ns: model_deployment("x", ns, [variant("a", 50, HUB_MODEL), variant("b", 50, HUB_MODEL)],
                                    traffic={"mirror": {"variant": "c", "percent": 5}}), "must be one of several variants"),
    "no variant": (lambda ns: model_deployment("x", ns, []), "variants"),
    "sticky by two things": (
        lambda ns: model_deployment("x", ns, [variant("a", 100, HUB_MODEL)],
                                    traffic={"sticky": {"header": "x", "cookie": "y"}}), "exactly one of"),
    "perplexity of a classifier": (lambda ns: eval_run("x", ns, metrics=[{"name": "perplexity"}]), "fit the task"),
    "a metric of another task, with those that fit": (
        lambda ns: eval_run("x", ns, task="Regression"), "Regression has mse, rmse, mae, r2, pearson, spearman"),
    "multiple choice without a benchmark": (
        lambda ns: eval_run("x", ns, task="MultipleChoice", metrics=[{"name": "acc"}], thresholds=None, baseline=None),
        "set benchmark"),
    "a benchmark that nobody ships": (
        lambda ns: eval_run("x", ns, task="MultipleChoice", benchmark={"name": "mmlu_redux"}), "arc_easy"),
    "no metric at all": (lambda ns: eval_run("x", ns, metrics=[], thresholds=None), "list one metric or more"),
    "predictions in a file that is no Parquet": (
        lambda ns: eval_run("x", ns, predictions={"claim": {"name": "c", "path": "a.csv"}}), "end predictions.claim.path in .parquet"),
    "a rollout step that is two": (
        lambda ns: model_deployment("x", ns, [variant("a", 100, HUB_MODEL)],
                                    strategy={"canary": {"steps": [{"setWeight": 5, "pause": {}}]}}), "exactly one of"),
    "an analysis longer than its deadline": (
        lambda ns: model_deployment("x", ns, [variant("a", 100, HUB_MODEL)], strategy={
            "progressDeadline": "1m", "canary": {"steps": [
                {"analysis": {"duration": "2m", "metrics": [{"name": "errorRate", "max": 0.1}]}}]}}),
        "longer than progressDeadline"),
    "a threshold without a bound": (
        lambda ns: eval_run("x", ns, thresholds=[{"metric": "accuracy"}]), "min, max or both"),
    "a threshold on what is not measured": (
        lambda ns: eval_run("x", ns, thresholds=[{"metric": "recall", "min": 0.5}]), "metrics"),
    "record without a token": (
        lambda ns: eval_run("x", ns, record={"modelCard": {"repo": "acme/x"}}, hub={"tokenSecretRef": None}),
        "tokenSecretRef"),
}


@pytest.mark.parametrize("case", WRONG)
def test_refused_with_a_sentence(case, namespace):
    manifest, words = WRONG[case]
    assert words in refusal(manifest(namespace))


def test_what_cannot_change_is_refused(namespace):
    manifest = fine_tune_job("x", namespace, suspend=True)
    run(kubectl_path(), "apply", "-f", "-", stdin=json.dumps(manifest))
    manifest["spec"]["method"]["lora"]["rank"] = 8
    text = refusal(manifest)
    assert "method" in text and "cannot change" in text


def test_explain_reads_well(operator):
    text = kubectl("explain", "finetunejobs.slipway.dev.spec.method.lora.rank")
    assert "Rank r" in text
    for kind in ("finetunejobs", "evalruns", "modeldeployments"):
        # Every field has a description: `explain --recursive` has no field without one in the schema itself.
        schema = json.loads(kubectl("get", "crd", f"{kind}.slipway.dev", "-o", "json"))
        missing = list(undescribed(schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], kind))
        assert not missing


def undescribed(schema: dict, path: str):
    for name, inner in schema.get("properties", {}).items():
        if "description" not in inner and "tolerations" not in path:
            yield f"{path}.{name}"
        yield from undescribed(inner, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from undescribed(schema["items"], f"{path}[]")


def test_short_names_and_category(operator):
    assert kubectl("get", "ftj,evr,mdep", "-A") is not None
    assert kubectl("get", "slipway", "-A") is not None
