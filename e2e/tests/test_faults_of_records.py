"""Faults while something is written to the Hub: it is written once, whoever is killed and whatever the Hub makes of it."""

import json

import node
import pytest
from faults import (a_hub_with, commits, decisions, gate, gate_runs, gated, no_failure, operator_pod, push_decoder,
                    recorded_once)
from harness import apply, kubectl, listing, request, wait
from manifests import fine_tune_job
from test_fine_tune import eventually

pytestmark = pytest.mark.alone

COMMIT = "^POST .*/commit/"
LIMITED = {"status": 429, "headers": {"Retry-After": "2"}}
HELD = {"match": COMMIT, "delayMs": 8000}
#: The commit is made, and nobody learns of it.
UNTOLD = {"match": COMMIT, "dropAfterBytes": 0, "times": 1000}


class Repo:
    """A model's repository on the Hub while something is recorded there."""

    def __init__(self, hub: str, name: str):
        self.hub, self.name, self.before = hub, name, len(commits(hub, name))

    def made(self) -> list[dict]:
        """The commits since then, the newest first."""
        every = commits(self.hub, self.name)
        return every[:len(every) - self.before]

    def asked(self) -> int:
        """How often a commit was asked for, by whomever, since the Hub started."""
        return request(f"{self.hub}/_requests?prefix=POST%20/api/models/{self.name}/commit/")[2]["total"]


def killed(pods) -> None:
    """Kills what runs of these pods, once some of it does."""
    eventually("a process to kill", lambda: any([node.signal(pod) for pod in pods() if pod["status"]["phase"] == "Running"]), 60)


def operator(namespace: str) -> list[dict]:
    return [operator_pod()]


def evaluation(namespace: str) -> list[dict]:
    return listing("pods", namespace, "slipway.dev/eval-run")


def trainer(namespace: str) -> list[dict]:
    return listing("pods", namespace, "slipway.dev/fine-tune-job=tune")


#: The Hub's faults while a gate's evaluation is recorded; who is killed, and whether that is once the commit is made.
RECORDING = {
    "limits the rate": ([{"match": COMMIT, "times": 3, **LIMITED}, {"match": "^GET .*-limited/(revision|resolve|raw|tree)", "times": 12, **LIMITED}], None, False),
    "loses the answer to the commit": ([{**UNTOLD, "times": 2}], None, False),
    "holds the commit while the operator is killed": ([HELD], operator, False),
    "made the commit when the evaluation is killed": ([UNTOLD], evaluation, True),
}


@pytest.mark.parametrize("case", [case if case == "limits the rate" else pytest.param(case, marks=pytest.mark.slow) for case in RECORDING])
def test_a_gate_records_on_a_hub_that(case, web, keep):
    """The revision's model is of that Hub too, and its evaluation stands in that model's own card."""
    faults, victim, after = RECORDING[case]
    gate_name = f"recorded-{list(RECORDING).index(case)}"
    name = f"acme/{web.namespace}-{gate_name}-limited"
    push_decoder(name)
    gate(web.namespace, gate_name, 1e9, record={"modelCard": {"repo": name}})
    before, runs = decisions(web), gate_runs(web)
    with web.load() as load:
        with a_hub_with(*faults) as hub:
            repo = Repo(hub, name)
            web.roll(gated(gate_name), {"setWeight": 50}, arm=(arm := web.changed(repo=name)))
            if victim:
                eventually("the commit", repo.made if after else repo.asked, 120)
                load.stage("kill")
                killed(lambda: victim(web.namespace))
            else:
                eventually("the record", repo.made, 180)
                eventually("every fault", lambda: not request(f"{hub}/_faults")[2], 60)
        web.ready(180)
        with a_hub_with() as hub:
            repo.hub = hub
            recorded = repo.made()
    web.arm = arm
    keep(load)
    no_failure(load.report)
    assert len(recorded) == 1, recorded
    recorded_once(web, before, runs)
    made = max(listing("evalruns.slipway.dev", web.namespace, "slipway.dev/variant=main"),
               key=lambda run: run["metadata"]["creationTimestamp"])
    assert made["status"]["record"]["commit"] == recorded[0]["id"], (made["status"], recorded)


def phase(namespace: str) -> dict:
    """What the trainer says of itself now; {} while there is none."""
    for pod in trainer(namespace):
        path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}:8080/proxy/progress"
        if pod["status"]["phase"] == "Running" and (told := kubectl("get", "--raw", path, check=False)):
            return json.loads(told)
    return {}


#: When the process is killed, by what the trainer says of itself and what the Hub has seen, and the Hub's faults meanwhile.
KILLED = {
    "downloads": ([{"match": "^GET .*minilm.*safetensors", "delayMs": 8000}], trainer, lambda at, repo: at.get("phase") == "Downloading"),
    "trains": ([], trainer, lambda at, repo: at.get("step", 0) >= 20),
    "evaluates": ([], trainer, lambda at, repo: at.get("phase") == "Evaluating"),
    "waits for its commit": ([HELD], trainer, lambda at, repo: repo.asked()),
    "has made its commit": ([UNTOLD], trainer, lambda at, repo: repo.made()),
    "is without an operator": ([HELD], operator, lambda at, repo: repo.asked()),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", KILLED)
def test_a_trainer_is_killed_that(case, namespace):
    """It begins again where it was, and publishes once: the card that the status tells of."""
    if not node.is_embedded():
        pytest.skip("faults are made inside the node of the embedded cluster")
    faults, victim, when = KILLED[case]
    tune = "finetunejob.slipway.dev"
    with a_hub_with(*faults) as hub:
        repo = Repo(hub, f"acme/{namespace}-tune")
        apply(json.dumps(fine_tune_job("tune", namespace, hyperparameters={"maxSteps": 40}, checkpoint={"everySteps": 10},
                                       dataset={"maxExamples": 800, "validation": {"fraction": 0.5}})))
        eventually(case, lambda: when(phase(namespace), repo), 120)
        killed(lambda: victim(namespace))
    status = wait(tune, "tune", namespace, "Complete", 300)["status"]
    with a_hub_with() as hub:
        repo.hub = hub
        recorded, (_, _, info) = repo.made(), request(f"{hub}/api/models/{repo.name}")
    assert len(recorded) == 1, recorded
    assert status["output"]["commit"] == info["sha"] == recorded[0]["id"]
    assert info["cardData"]["base_model"] == "acme/minilm" and status["progress"]["step"] == 40
    ended = [event for event in listing("events", namespace) if event["involvedObject"]["name"] == "tune"]
    assert [event["reason"] for event in ended].count("Complete") == 1
    pods = len(trainer(namespace))
    assert pods == (1 if victim is operator else 2), "the kill met nobody"
