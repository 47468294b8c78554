"""A node of the embedded cluster with no kubelet behind it: its pods are ready as soon as they are bound to it and gone as
soon as they are deleted, so that hundreds of them cost nothing. Its routers read their split and find their servers as real
ones do, and answer the operator by `fake_routers.py`."""

import collections
import concurrent.futures
import contextlib
import datetime
import itertools
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

from common import CACHE, ROOT, WORK, debian, process

LABEL = "slipway.dev/bench"
SELECTOR = {LABEL: "true"}
TOLERATIONS = [{"key": LABEL, "operator": "Exists"}]
#: Set aside for measurements between networks (RFC 2544): nobody else's.
NETWORK = "198.18.0.0/16"
#: Where a router says which split it follows, and the annotation by which the operator told it.
METRICS_PORT = 9090
ROUTES = "slipway.dev/routes"
DEPLOYMENT, VARIANT, TRACK = (f"slipway.dev/{name}" for name in ("model-deployment", "variant", "track"))


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class FakeNode:
    """Speaks to the apiserver at `api`, a `kubectl proxy`. What its routers say is put into the file `said`."""

    def __init__(self, api: str, said: pathlib.Path):
        self.api, self.said = api, said
        self.name = f"bench-{uuid.uuid4().hex[:6]}"
        self.addresses = (f"198.18.{high}.{low}" for high, low in itertools.product(range(256), range(1, 255)))
        #: Versions that the routers were told of, by address; splits, by (namespace, name) and version; servers, by the
        #: pods' uid.
        self.routers: dict[str, tuple[tuple[str, str], str]] = {}
        self.splits: dict[tuple[tuple[str, str], str], dict] = {}
        self.servers: dict[str, tuple[tuple[str, str], str, str]] = {}
        self.changed, self.lock = threading.Event(), threading.Lock()
        self.started: set[str] = set()
        self.ended = threading.Event()
        self.hands = concurrent.futures.ThreadPoolExecutor(8)

    def call(self, method: str, path: str, body=None, kind="application/json", timeout: float | None = 30):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.api + path, data, {"content-type": kind}, method=method)
        return urllib.request.urlopen(request, timeout=timeout)

    def __enter__(self):
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": SELECTOR},
                "spec": {"taints": [{"key": LABEL, "value": "true", "effect": "NoSchedule"}]}}
        self.call("POST", "/api/v1/nodes", node).close()
        room = {"cpu": "1000", "memory": "4Ti", "ephemeral-storage": "4Ti", "pods": "5000"}
        ready = [{"type": "Ready", "status": "True", "reason": "Bench", "message": "nothing runs here",
                  "lastHeartbeatTime": now()[:19] + "Z", "lastTransitionTime": now()[:19] + "Z"}]
        self.call("PATCH", f"/api/v1/nodes/{self.name}/status", {"status": {"capacity": room, "allocatable": room, "conditions": ready}},
                  "application/strategic-merge-patch+json").close()
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self.name},
                 "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": now()}}
        self.call("POST", LEASES, lease).close()
        for work in (self.beat, self.watch, self.tell):
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for path in (f"/api/v1/nodes/{self.name}", f"{LEASES}/{self.name}"):
            with contextlib.suppress(OSError):
                self.call("DELETE", path).close()

    def beat(self) -> None:
        while not self.ended.wait(10):
            with contextlib.suppress(OSError):
                self.call("PATCH", f"{LEASES}/{self.name}", {"spec": {"renewTime": now()}}, "application/merge-patch+json").close()

    def watch(self) -> None:
        path = f"/api/v1/pods?watch=1&timeoutSeconds=300&fieldSelector=spec.nodeName%3D{self.name}"
        while not self.ended.is_set():
            # A watch without a version begins with every pod that is there.
            with contextlib.suppress(OSError, ValueError), self.call("GET", path, timeout=330) as events:
                for line in events:
                    event = json.loads(line)
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self.see(event["object"])
            time.sleep(0.1)

    def see(self, pod: dict) -> None:
        """Called for one pod after the other; what it asks of the apiserver goes on meanwhile."""
        meta, address, labels = pod["metadata"], pod.get("status", {}).get("podIP"), pod["metadata"].get("labels", {})
        version, of = meta.get("annotations", {}).get(ROUTES), (meta["namespace"], labels.get(DEPLOYMENT, ""))
        if "deletionTimestamp" in meta:
            self.forget(meta["uid"], address)
            self.hands.submit(self.keep, pod, self.end)
        elif meta["uid"] not in self.started:
            self.started.add(meta["uid"])
            self.hands.submit(self.keep, pod, self.start, next(self.addresses))
        elif address and VARIANT in labels:
            self.servers[meta["uid"]] = (of, labels[VARIANT], labels.get(TRACK, "stable"))
            self.changed.set()
        elif version and address and self.routers.get(address) != (of, version):
            self.hands.submit(self.keep, pod, self.follow, address, of)

    def forget(self, uid: str, address: str | None) -> None:
        self.servers.pop(uid, None)
        self.routers.pop(address, None)
        self.changed.set()

    def follow(self, pod: dict, address: str, of: tuple[str, str]) -> None:
        """A router reads its split where the operator put it."""
        namespace, name = of
        path = f"/api/v1/namespaces/{namespace}/configmaps/{name}-routes"
        with self.call("GET", path) as answer:
            split = json.loads(json.load(answer)["data"]["routes.json"])
        with self.lock:
            self.splits[of, split["version"]] = split
            self.routers[address] = (of, split["version"])
        self.changed.set()

    def keep(self, pod: dict, work, *arguments) -> None:
        try:
            work(pod, *arguments)
        except urllib.error.HTTPError as error:
            # It is gone, or another of its name is there.
            if error.code not in (404, 409):
                print(f"  the node cannot keep {pod['metadata']['name']}: {error}", file=sys.stderr)
        except OSError as error:
            print(f"  the node cannot keep {pod['metadata']['name']}: {error}", file=sys.stderr)

    def end(self, pod: dict) -> None:
        self.call("DELETE", path_of(pod), {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}).close()

    def start(self, pod: dict, address: str) -> None:
        second = now()[:19] + "Z"
        conditions = [{"type": kind, "status": "True", "lastTransitionTime": second}
                      for kind in ("PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")]
        containers = [{"name": container["name"], "image": container["image"], "imageID": "", "ready": True, "started": True,
                       "restartCount": 0, "state": {"running": {"startedAt": second}}} for container in pod["spec"]["containers"]]
        change = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": second, "conditions": conditions,
            "containerStatuses": containers}}
        self.call("PATCH", f"{path_of(pod)}/status", change, "application/strategic-merge-patch+json").close()

    def tell(self) -> None:
        """Puts what the routers say where `fake_routers.py` reads it, whenever that is something else."""
        while not self.ended.is_set():
            if self.changed.wait(1):
                self.changed.clear()
                fresh = self.said.with_suffix(".new")
                fresh.write_text(json.dumps(self.answers()))
                os.replace(fresh, self.said)
                # What changes at once is told at once, and a hundred rollouts not a hundred times.
                time.sleep(0.05)

    def answers(self) -> dict[str, dict]:
        """By address, what a router has to say: the split it follows, and how many servers it finds for each revision."""
        found = collections.Counter(list(self.servers.values()))
        with self.lock:
            routers, splits = dict(self.routers), dict(self.splits)
        return {address: {"version": version, "window": splits[of, version].get("window", ""),
                          "series": list(series(splits[of, version], of, found))}
                for address, (of, version) in routers.items()}


def series(split: dict, of: tuple[str, str], found: collections.Counter):
    for variant in split["variants"]:
        for track, route in (("stable", variant), ("canary", variant.get("canary"))):
            if route:
                yield {"variant": variant["name"], "revision": route.get("revision", ""),
                       "readyServers": found[of, variant["name"], track]}


def path_of(pod: dict) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def answers(program, timeout: float = 20) -> None:
    """Waits until a router answers in the node's network."""
    ask = f"import urllib.request; urllib.request.urlopen('http://198.18.0.1:{METRICS_PORT}/stats', timeout=2)"
    end = time.monotonic() + timeout
    while (done := subprocess.run([program, "exec", "--", sys.executable, "-c", ask], capture_output=True, text=True)).returncode:
        if time.monotonic() > end:
            raise RuntimeError(f"the fake routers do not answer in the node's network; see {WORK}/fake-routers.log: {done.stderr[-300:]}")
        time.sleep(0.5)


@contextlib.contextmanager
def fake_node(harness):
    """A FakeNode on the embedded cluster, its routers' answers included."""
    program = CACHE / "bin" / "slipway-cluster"
    if subprocess.run([program, "status"], capture_output=True).returncode:
        raise RuntimeError("the embedded cluster is not running; this case needs its node's network, unset KUBECONFIG")
    debian("iproute2")
    WORK.mkdir(parents=True, exist_ok=True)
    said = WORK / f"routers-{uuid.uuid4().hex[:6]}.json"
    said.write_text("{}")
    port = harness.free_port()
    # Every address of the network is the node's own: what pods send there reaches the program beside it.
    routers = (f"ip route replace local {NETWORK} dev lo && "
               f"exec {sys.executable} {ROOT}/bench/fake_routers.py {said} {METRICS_PORT}")
    with (process("fake-routers", program, "exec", "--", "sh", "-c", routers),
          process("kubectl-proxy", harness.kubectl_path(), "proxy", f"--port={port}", env=dict(os.environ),
                  ready=f"http://127.0.0.1:{port}/version")):
        try:
            answers(program)
            with FakeNode(f"http://127.0.0.1:{port}", said) as node:
                yield node
        finally:
            # The routers end when it is gone.
            said.unlink()
