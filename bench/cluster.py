"""On the embedded cluster: from apply to the first answer, and what a thousand settled objects cost."""

import contextlib
import itertools
import json
import os
import sys
import time
import uuid

from common import ROOT, interleaved, verdict

sys.path.insert(0, str(ROOT / "e2e" / "lib"))


def prepare():
    import harness

    os.environ["KUBECONFIG"] = harness.cluster_up()
    harness.deploy_hub()
    with harness.port_forward("hub", "service/hub", 80) as hub:
        harness.seed_hub(hub)
    harness.install_operator()
    return harness


def plain(name: str, namespace: str, image: str, hub: str) -> str:
    """The same server by hand: a Deployment and a Service, nothing else."""
    container = {
        "name": "server", "image": image, "command": ["/slipway-server"],
        "args": [f"--name={name}", "--model=hf://acme/minilm@main", "--listen=0.0.0.0:8080"],
        "env": [{"name": "HF_ENDPOINT", "value": hub}, {"name": "SLIPWAY_CACHE_DIR", "value": "/cache"}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
    }
    pod = {"securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
           "containers": [container], "volumes": [{"name": "cache", "emptyDir": {}}]}
    labels = {"app": name}
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
         "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
         "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}}]})


def apply_to_answer() -> None:
    """A ModelDeployment beside a hand-written Deployment and Service of the same server: what operator, router and
    status add to Kubernetes' own time. The answer counts when a client inside the cluster's network gets it."""
    harness = prepare()
    namespace = f"bench-{uuid.uuid4().hex[:6]}"
    harness.make_namespace(namespace)

    def answered(service: str) -> None:
        end = time.monotonic() + 180
        path = f"/api/v1/namespaces/{namespace}/services/{service}:80/proxy/v1/embeddings"
        while time.monotonic() < end:
            with contextlib.suppress(RuntimeError):
                # A POST through the apiserver's own proxy needs no client pod.
                if "embedding" in harness.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps({"model": service, "input": "hello"})):
                    return
            time.sleep(0.02)
        raise TimeoutError(f"{service} did not answer in 180 s")

    number = itertools.count()

    def run(manifest, kind: str) -> float:
        # A name of its own each time: what is left of the round before must not answer.
        name = f"web-{next(number)}"
        begin = time.monotonic()
        harness.apply(manifest(name))
        answered(name)
        seconds = time.monotonic() - begin
        harness.kubectl("delete", kind, name, "-n", namespace, "--wait=false")
        return seconds

    def ours(name: str) -> str:
        variant = {"name": "main", "model": {"hub": {"repo": "acme/minilm"}}, "trafficPercent": 100}
        return json.dumps({"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelDeployment",
                           "metadata": {"name": name, "namespace": namespace},
                           "spec": {"task": "Embedding", "variants": [variant]}})

    def by_hand(name: str) -> str:
        return plain(name, namespace, harness.image("server"), harness.HUB_IN_CLUSTER)

    mine, theirs = interleaved(lambda: run(ours, "modeldeployment.slipway.dev"), lambda: run(by_hand, "deployment,service"))
    harness.kubectl("delete", "namespace", namespace, "--wait=false")
    verdict("apply-to-answer", mine, theirs, "Deployment and Service by hand", "s", more_is_better=False, extra="MiniLM embeddings")


def operator_1000(count: int = 1000, watch: float = 120) -> None:
    """Memory and API writes with `count` settled objects: suspended FineTuneJobs, whose status says so."""
    harness = prepare()
    namespace = f"bench-{uuid.uuid4().hex[:6]}"
    harness.make_namespace(namespace)
    items = [{
        "apiVersion": "slipway.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": f"job-{number}", "namespace": namespace},
        "spec": {"model": {"hub": {"repo": "acme/minilm"}}, "task": "SequenceClassification", "suspend": True,
                 "dataset": {"hub": {"repo": "acme/finance-tweets"}}, "output": {"hub": {"repo": f"acme/job-{number}"}},
                 "hub": {"tokenSecretRef": {"name": "hub-token"}}}} for number in range(count)]
    begin = time.monotonic()
    harness.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    while True:
        jobs = harness.listing("finetunejobs.slipway.dev", namespace)
        if sum(harness.is_true(job, "Suspended") for job in jobs) == count:
            break
        if time.monotonic() - begin > 1200:
            raise TimeoutError("the objects did not settle in 20 minutes")
        time.sleep(2)
    settled = time.monotonic() - begin
    time.sleep(20)
    pod = harness.listing("pods", harness.SYSTEM, "app.kubernetes.io/component=operator")[0]["metadata"]["name"]

    def versions() -> int:
        return sum(int(job["metadata"]["resourceVersion"]) for job in harness.listing("finetunejobs.slipway.dev", namespace))

    def memory() -> float:
        """The container's working set in MiB, as the kubelet counts it: what a memory limit is held against."""
        text = harness.kubectl("get", "--raw", f"/api/v1/nodes/{node(harness)}/proxy/metrics/resource")
        line = next(line for line in text.splitlines()
                    if line.startswith("container_memory_working_set_bytes") and f'pod="{pod}"' in line)
        return float(line.split()[1]) / 2**20

    before = versions()
    time.sleep(watch)
    changed = versions() - before
    resident = memory()
    harness.kubectl("delete", "namespace", namespace, "--wait=false")
    # Kubeflow Trainer's manager idles at 43 MiB without any object: the named peer's best case.
    verdict("operator-1000", [resident], [43.0], "Kubeflow Trainer's manager, idle and empty", "MiB", more_is_better=False,
            extra=f"{count} settled objects, {'no' if changed == 0 else changed} status writes in {watch:.0f} s, settled in {settled:.0f} s")


def node(harness) -> str:
    return json.loads(harness.kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]


CASES = {"apply-to-answer": apply_to_answer, "operator-1000": operator_1000}
