"""Manifests of the tests: small, but on the real models and data."""

import copy

API = "slipway.dev/v1alpha1"
HUB = {"tokenSecretRef": {"name": "hub-token", "key": "token"}}


def merge(base: dict, changes: dict) -> dict:
    """A copy of `base` with `changes` laid over it; None removes a key."""
    merged = copy.deepcopy(base)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def fine_tune_job(name: str, namespace: str, **spec) -> dict:
    """A LoRA classifier on MiniLM: a few steps, some seconds."""
    base = {
        "model": {"hub": {"repo": "acme/minilm"}},
        "task": "SequenceClassification",
        "dataset": {
            "hub": {"repo": "acme/finance-tweets"},
            "columns": {"text": "tweet", "label": "sentiment"},
            "maxExamples": 160,
        },
        "method": {"lora": {"rank": 4, "alpha": 8, "targetModules": ["query", "value"]}},
        "hyperparameters": {"maxSteps": 10, "learningRate": 0.001, "batchSize": 8, "maxSequenceLength": 32},
        "evaluation": {"everySteps": 1000},
        "checkpoint": {"everySteps": 5, "volume": {"size": "256Mi"}},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "2Gi"}},
        "hub": HUB,
        "output": {"hub": {"repo": f"acme/{namespace}-{name}"}},
    }
    return {"apiVersion": API, "kind": "FineTuneJob", "metadata": {"name": name, "namespace": namespace},
            "spec": merge(base, spec)}


def eval_run(name: str, namespace: str, **spec) -> dict:
    base = {
        "target": {"model": {"fineTuneJob": {"name": "tune"}}},
        "task": "SequenceClassification",
        "dataset": {
            "hub": {"repo": "acme/finance-tweets"},
            "split": "test",
            "columns": {"text": "tweet", "label": "sentiment"},
            "maxExamples": 120,
        },
        "metrics": [{"name": "accuracy"}, {"name": "f1", "average": "macro"}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "2Gi"}},
        "hub": HUB,
    }
    return {"apiVersion": API, "kind": "EvalRun", "metadata": {"name": name, "namespace": namespace},
            "spec": merge(base, spec)}


def variant(name: str, percent: int, model: dict, **more) -> dict:
    return {"name": name, "model": model, "trafficPercent": percent, "replicas": 1,
            "resources": {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}, **more}


def model_deployment(name: str, namespace: str, variants: list[dict], **spec) -> dict:
    base = {"task": "SequenceClassification", "variants": variants, "hub": HUB}
    return {"apiVersion": API, "kind": "ModelDeployment", "metadata": {"name": name, "namespace": namespace},
            "spec": merge(base, spec)}
