"""The ModelDeployment that faults happen to: a small decoder behind two servers and two routers, rolled over and over."""

import contextlib
import copy
import json
import pathlib
import tempfile
import time
import urllib.request

import node
import tiny_decoder
from harness import CACHE, SYSTEM, apply, get, kubectl, listing, make_namespace, port_forward, request, wait
from manifests import API, HUB, model_deployment, variant
from test_fine_tune import eventually

KIND = "modeldeployment.slipway.dev"
REPORT = CACHE / "logs" / "faults.json"
GOOD = "acme/tiny-chat"
NOT_A_NUMBER = "acme/tiny-chat-nan"
SLOW = "acme/smollm2-135m-instruct"
#: How often a rollout makes each decision, where it has a step of every kind.
DECISIONS = {"RolloutStarted": 1, "EvalPassed": 1, "AnalysisPassed": 1, "TrafficShifted": 3, "Promoted": 1, "RolloutComplete": 1}


def push_decoders() -> None:
    for repo, nan in ((GOOD, False), (NOT_A_NUMBER, True)):
        push_decoder(repo, nan)


def push_decoder(repo: str, nan: bool = False) -> None:
    from huggingface_hub import HfApi

    like = CACHE / "seed" / "SmolLM2-135M-Instruct"
    with port_forward("hub", "service/hub", 80) as url, tempfile.TemporaryDirectory() as folder:
        api, path = HfApi(endpoint=url, token="hf_owner"), pathlib.Path(folder)
        tiny_decoder.write(path, like, nan)
        api.create_repo(repo, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=path, commit_message="Add a decoder for tests")


def decoder(**more) -> dict:
    arm = variant("main", 100, {"hub": {"repo": GOOD}}, **{"replicas": 2, **more})
    # So slow that streams last for half a second.
    arm["resources"] = {"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"memory": "512Mi", "cpu": "500m"}}
    return arm


def gated(template: str) -> dict:
    return {"eval": {"templateRef": {"name": template}}}


def gate(namespace: str, name: str, max_perplexity: float, **more) -> None:
    """The template of an evaluation that a random decoder passes below a bound of 1e9 and never below 10."""
    spec = {"task": "CausalLM", "dataset": {"hub": {"repo": "acme/alpaca-slice"}, "split": "train", "maxExamples": 60, "columns":
            {"prompt": "instruction", "input": "input", "completion": "output"}}, "metrics": [{"name": "perplexity"}],
            "thresholds": [{"metric": "perplexity", "max": max_perplexity}], "hub": HUB,
            "resources": {"requests": {"cpu": "20m"}, "limits": {"memory": "1Gi"}}} | more
    apply(json.dumps({"apiVersion": API, "kind": "EvalRun", "metadata": {"name": name, "namespace": namespace}, "spec": spec}))


def analysis(seconds: int = 4, **bound) -> dict:
    metric = {"name": "errorRate", "max": 0.05} if not bound else bound
    return {"analysis": {"duration": f"{seconds}s", "minRequests": 5, "metrics": [metric]}}


class Web:
    """A ModelDeployment `web`: what serves (`arm`), and ways to change it."""

    # What its spec has beside the arm and its strategy.
    spec: dict = {}

    def __init__(self, namespace: str, gpus: int = 0, **more):
        self.namespace, self.arm, self.number = namespace, decoder(**more), 0
        if gpus:
            self.arm["resources"]["limits"]["nvidia.com/gpu"] = 1
        make_namespace(namespace)
        self.apply(self.arm, {"setWeight": 100})
        try:
            wait(KIND, "web", namespace, "Ready", 120, failed=None)
        except TimeoutError:
            # What it holds of the node, other tests need.
            self.delete()
            raise
        # Routers find a pod by the cluster's DNS, which hands out what it knew for five seconds.
        time.sleep(7)

    def apply(self, arm: dict, *steps: dict, paused: bool = False, **strategy) -> None:
        spec = {"task": "CausalLM", "paused": paused, "strategy": {"canary": {"steps": list(steps)}, **strategy}, **self.spec}
        apply(json.dumps(model_deployment("web", self.namespace, [arm], **spec)))

    def changed(self, repo: str = GOOD, **limits) -> dict:
        """An arm whose revision was never seen."""
        self.number += 1
        arm = copy.deepcopy(self.arm)
        arm["model"]["hub"]["repo"] = repo
        arm["resources"]["limits"] |= {"memory": f"{512 + self.number}Mi", **limits}
        return arm

    def roll(self, *steps: dict, arm: dict | None = None, **strategy) -> dict:
        arm = arm or self.changed()
        self.apply(arm, *steps, **strategy)
        return arm

    def back(self) -> None:
        """Asks for the revision that serves, which ends whatever went on."""
        self.apply(self.arm, {"setWeight": 100})
        self.ready()

    def ready(self, timeout: float = 90) -> None:
        wait(KIND, "web", self.namespace, "Ready", timeout, failed=None)

    def stable_revision(self) -> str:
        """The revision that has the arm's share."""
        return get(KIND, "web", self.namespace)["status"]["variants"][0]["revision"]

    def rollout(self) -> dict:
        variants = get(KIND, "web", self.namespace).get("status", {}).get("variants") or [{}]
        return variants[0].get("rollout") or {}

    def until(self, reason: str, timeout: float = 60) -> dict:
        """The rollout once its reason is this one."""
        last = {}

        def check():
            last.clear()
            last.update(self.rollout())
            return last.get("reason") == reason

        try:
            eventually(reason, check, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}") from None
        return last

    def annotate(self, command: str) -> None:
        kubectl("annotate", KIND, "web", "-n", self.namespace, f"slipway.dev/{command}=now", "--overwrite")

    def pods(self, component: str, **labels: str) -> list[dict]:
        """Its pods that are not on their way out."""
        selector = ",".join([f"app.kubernetes.io/component={component}", *(f"slipway.dev/{k}={v}" for k, v in labels.items())])
        return [pod for pod in listing("pods", self.namespace, selector) if "deletionTimestamp" not in pod["metadata"]]

    def kill(self, component: str, turn: int = 0, **labels: str) -> bool:
        """Kills the processes of one pod, another one each turn."""
        pods = sorted(self.pods(component, **labels), key=lambda pod: pod["metadata"]["name"])
        return bool(pods) and node.signal(pods[turn % len(pods)]) > 0

    def events(self) -> dict[str, int]:
        """How often each thing was said about it."""
        counts: dict[str, int] = {}
        for event in listing("events", self.namespace):
            if event["involvedObject"]["kind"] == "ModelDeployment":
                key = f"{event['reason']}: {event.get('message', '')}"
                series = event.get("series") or {}
                counts[key] = counts.get(key, 0) + max(event.get("count") or 1, series.get("count") or 1)
        return counts

    def load(self, *options: str) -> node.Load:
        rates = ("--fresh", "12", "--kept", "6", "--stream", "0.5")
        return node.Load(self.namespace, "web", "--tokens", "100", *rates, *options)

    def delete(self) -> None:
        kubectl("delete", "namespace", self.namespace, "--wait=false")


def is_ready(pod: dict) -> bool:
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in pod["status"].get("conditions", []))


def operator_pod() -> dict:
    return listing("pods", SYSTEM, "app.kubernetes.io/component=operator")[0]


def each_step(web: Web, act, timeout: float = 150) -> list[int]:
    """Calls `act(step, rollout)` once for each step that the rollout comes to, until it is over; the steps seen.
    A pause without an end is promoted."""
    seen: list[int] = []
    began, end = time.monotonic(), time.monotonic() + timeout
    while True:
        at = web.rollout()
        if not at and (seen or time.monotonic() - began > 20):
            return seen
        stopped = at.get("phase") in ("RolledBack", "Paused") and at["reason"] not in ("Pause", "WaitingForPromotion")
        assert not stopped, at
        assert time.monotonic() < end, (seen, at)
        if at and at["step"] not in seen:
            seen.append(at["step"])
            act(at["step"], at)
        if at.get("reason") == "WaitingForPromotion":
            web.annotate("promote")
        time.sleep(0.2)


def no_failure(report: dict) -> None:
    """Every request was answered, and every stream is whole."""
    for kind in ("fresh", "kept", "stream"):
        counts = report.get(kind, {"first": {"200": 1}, "failures": []})
        assert set(counts["first"]) == {"200"}, (kind, counts["first"], counts["failures"][:5])


def gate_runs(web: Web) -> int:
    return len(listing("evalruns.slipway.dev", web.namespace, "slipway.dev/variant=main"))


def decisions(web: Web) -> dict[str, int]:
    """How often each decision was told, whatever its text."""
    counts = dict.fromkeys(DECISIONS, 0)
    for told, count in web.events().items():
        if (reason := told.split(":")[0]) in counts:
            counts[reason] += count
    return counts


def once(web: Web, before: dict[str, int]) -> None:
    """Since then no decision of one rollout was told more often than it was made."""
    told = {reason: count - before[reason] for reason, count in decisions(web).items()}
    assert all(told[reason] <= made for reason, made in DECISIONS.items()), told


def recorded_once(web: Web, before: dict[str, int], runs: int) -> None:
    """The same, and one evaluation was made."""
    once(web, before)
    assert gate_runs(web) == runs + 1


@contextlib.contextmanager
def a_hub_with(*faults: dict):
    """The Hub's address, while it has these faults."""
    with port_forward("hub", "service/hub", 80) as url:
        try:
            code, _, told = request(f"{url}/_faults", list(faults))
            assert code < 300, told
            yield url
        finally:
            urllib.request.urlopen(urllib.request.Request(f"{url}/_faults", method="DELETE")).close()


def commits(hub: str, repo: str) -> list[dict]:
    """What was committed to a model's repository, without the commit that it began with; the newest first."""
    code, _, every = request(f"{hub}/api/models/{repo}/commits/main")
    # Without a token a repository that is not there is one that is hidden.
    assert code in (200, 401), every
    return [commit for commit in every if "initial" not in commit["title"].lower()] if code == 200 else []
