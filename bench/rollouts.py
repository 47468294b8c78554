"""A hundred rollouts at once on the embedded cluster, beside as many plain Deployments: time, and writes to the API. The pods
are those of a fake node: what is measured is the operator and Kubernetes, not the loading of models."""

import itertools
import json
import re
import statistics
import sys
import time
import uuid

from cluster import prepare
from common import interleaved, verdict
from fake_node import SELECTOR, TOLERATIONS, fake_node

KIND = "modeldeployments.slipway.dev"
METRIC = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
WRITES = ("APPLY", "DELETE", "DELETECOLLECTION", "PATCH", "POST", "PUT")
#: What only the operator writes here, by resource, subresource and verb: Kubernetes' own controllers and the fake node use others.
OPERATORS = {("modeldeployments", "status"): WRITES, ("deployments", ""): ("APPLY", "PATCH", "POST", "DELETE"), ("services", ""): WRITES,
             ("configmaps", ""): ("APPLY",), ("pods", ""): ("PATCH",)}


def ours(name: str, namespace: str, turn: int) -> dict:
    """A ModelDeployment that goes by two steps to a new revision when `turn` changes."""
    variant = {"name": "main", "model": {"hub": {"repo": "acme/minilm"}}, "trafficPercent": 100,
               "resources": {"requests": {"cpu": "10m", "memory": f"{64 + turn}Mi"}}}
    return {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": name, "namespace": namespace},
            "spec": {"task": "Embedding", "variants": [variant], "nodeSelector": SELECTOR, "tolerations": TOLERATIONS,
                     "strategy": {"canary": {"steps": [{"setWeight": 20}, {"setWeight": 100}]}}}}


def plain(name: str, namespace: str, image: str, turn: int) -> dict:
    """A Deployment of the same server, replaced by Kubernetes' own rolling update."""
    container = {"name": "server", "image": image, "resources": {"requests": {"cpu": "10m", "memory": f"{64 + turn}Mi"}},
                 "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    pod = {"securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
           "containers": [container], "nodeSelector": SELECTOR, "tolerations": TOLERATIONS}
    labels = {"app": name}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}}


def is_rolled(deployment: dict) -> bool:
    status = deployment.get("status", {})
    return (status.get("observedGeneration") == deployment["metadata"]["generation"] and status.get("replicas") == 1
            and status.get("updatedReplicas") == 1 and status.get("availableReplicas") == 1)


def writes(harness) -> dict[tuple[str, str, str], float]:
    """Requests that change something and were not refused, since the apiserver started, by resource, subresource and verb."""
    counts: dict[tuple[str, str, str], float] = {}
    for labels, value in METRIC.findall(harness.kubectl("get", "--raw", "/metrics")):
        label = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if label["verb"] in WRITES and label["code"].startswith("2") and label["resource"] not in ("leases", "events"):
            key = (label["resource"], label["subresource"], label["verb"])
            counts[key] = counts.get(key, 0) + float(value)
    return counts


def since(before: dict, after: dict) -> dict:
    return {key: count - before.get(key, 0) for key, count in after.items()}


def operators(counts: dict) -> float:
    return sum(count for (resource, sub, verb), count in counts.items() if verb in OPERATORS.get((resource, sub), ()))


def weight(deployment: dict) -> int:
    """The share that the revision being rolled in answers."""
    return (deployment["status"]["variants"][0].get("rollout") or {}).get("weight", 0)


def revision(deployment: dict) -> str:
    return (deployment.get("status", {}).get("variants") or [{}])[0].get("revision", "")


def rollouts_100(count: int = 100, rounds: int = 3) -> None:
    harness = prepare()
    namespace = f"bench-{uuid.uuid4().hex[:6]}"
    harness.make_namespace(namespace)
    turns = itertools.count()
    names = [f"web-{number}" for number in range(count)]
    counts: dict[str, list[dict]] = {"ours": [], "peer": []}
    first: list[float] = []

    def until(what: str, look, seconds: float = 1800, pause: float = 0.5) -> None:
        end = time.monotonic() + seconds
        while not look():
            if time.monotonic() > end:
                raise TimeoutError(f"{what} took longer than {seconds:.0f} s")
            time.sleep(pause)

    def settled() -> bool:
        every = harness.listing(KIND, namespace)
        return len(every) == count and all(harness.is_true(one, "Ready") for one in every)

    def calm() -> bool:
        return settled() and not harness.listing("deployments", namespace, "slipway.dev/track=canary")

    def apply(items: list[dict]) -> None:
        harness.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def roll_ours() -> float:
        turn, before = next(turns), writes(harness)
        old = {one["metadata"]["name"]: revision(one) for one in harness.listing(KIND, namespace)}
        seen: dict[str, float] = {}
        begin = time.monotonic()
        apply([ours(name, namespace, turn) for name in names])

        def done() -> bool:
            every = harness.listing(KIND, namespace)
            moved = {one["metadata"]["name"]: revision(one) not in ("", old[one["metadata"]["name"]]) for one in every}
            for one in every:
                if weight(one) > 0 or moved[one["metadata"]["name"]]:
                    seen.setdefault(one["metadata"]["name"], time.monotonic() - begin)
            return all(moved.values()) and all(harness.is_true(one, "Ready") for one in every)

        until("the rollouts", done)
        seconds = time.monotonic() - begin
        until("the rollouts' pods to go", calm)
        counts["ours"].append(since(before, writes(harness)))
        first.append(statistics.median(seen.values()))
        return seconds

    def apply_peer() -> None:
        turn = next(turns)
        apply([plain(f"plain-{name}", namespace, harness.image("server"), turn) for name in names])

    def is_peer_rolled() -> bool:
        every = [one for one in harness.listing("deployments", namespace) if one["metadata"]["name"].startswith("plain-")]
        return len(every) == count and all(is_rolled(one) for one in every)

    def roll_peer() -> float:
        before = writes(harness)
        begin = time.monotonic()
        apply_peer()
        until("the Deployments", is_peer_rolled)
        seconds = time.monotonic() - begin
        counts["peer"].append(since(before, writes(harness)))
        return seconds

    def roll_one() -> float:
        """One rollout while nothing else happens: apply to the first weight."""
        old = revision(harness.get(KIND, names[0], namespace))
        begin = time.monotonic()
        apply([ours(names[0], namespace, next(turns))])

        def moved() -> bool:
            one = harness.get(KIND, names[0], namespace)
            return weight(one) > 0 or revision(one) != old

        until("the first weight", moved, pause=0.02)
        seconds = time.monotonic() - begin
        until("the rollout", calm)
        return seconds

    with fake_node(harness):
        turn = next(turns)
        apply([ours(name, namespace, turn) for name in names])
        apply_peer()
        until("the first revisions", lambda: settled() and is_peer_rolled(), pause=2)
        alone = statistics.median(roll_one() for _ in range(rounds))
        mine, theirs = interleaved(roll_ours, roll_peer, rounds)
        harness.kubectl("delete", "namespace", namespace, "--wait=true", "--timeout=600s", timeout=660)

    def each(side: str, total) -> float:
        """Writes for each rollout, the median of the rounds."""
        return statistics.median(total(entry) for entry in counts[side]) / count

    def everything(entry: dict) -> float:
        return sum(entry.values())

    for side in counts:
        every = {key for entry in counts[side] for key in entry}
        kinds = {" ".join(filter(None, key)): each(side, lambda entry, key=key: entry.get(key, 0)) for key in every}
        many = sorted(((number, kind) for kind, number in kinds.items() if number >= 0.5), reverse=True)
        print(f"  writes a rollout, {side}: " + ", ".join(f"{kind} {number:.1f}" for number, kind in many), file=sys.stderr, flush=True)

    verdict("rollouts-100", mine, theirs, "as many Deployments by Kubernetes alone", "s", more_is_better=False,
            extra=f"{count} rollouts of two steps; operator's writes a rollout {each('ours', operators):.1f}, all writes a rollout "
                  f"{each('ours', everything):.1f} and {each('peer', everything):.1f}; apply to the first weight {statistics.median(first):.1f} s "
                  f"among them, {alone:.2f} s alone")


CASES = {"rollouts-100": rollouts_100}
