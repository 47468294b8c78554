"""What people rely on the cluster for, on clusters of its own."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from conftest import PROGRAM, Cluster, eventually

RESTRICTED = "{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}"
POD_SECURITY = "{runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001, seccompProfile: {type: RuntimeDefault}}"


@pytest.fixture(scope="module")
def pair(make_cluster: Callable[[str], Cluster], busybox: Path) -> Iterator[tuple[Cluster, Cluster]]:
    """Two clusters that start at the same time."""
    clusters = make_cluster("left"), make_cluster("right")
    starts = [threading.Thread(target=cluster.command, args=("up",)) for cluster in clusters]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    for cluster in clusters:
        cluster.command("load", busybox)
        cluster.kubectl("create", "namespace", "strict")
        cluster.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    yield clusters


@pytest.fixture
def cluster(pair: tuple[Cluster, Cluster]) -> Cluster:
    return pair[0]


def job(name: str, script: str, *, extra: str = "", pod: str = "", mounts: str = "[]") -> str:
    return f"""
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}, namespace: strict}}
spec:
  backoffLimit: 0
  {extra}
  template:
    spec:
      restartPolicy: Never
      securityContext: {POD_SECURITY}
      {pod}
      containers:
      - name: main
        image: slipway.dev/busybox:test
        imagePullPolicy: IfNotPresent
        securityContext: {RESTRICTED}
        volumeMounts: {mounts}
        command: [sh, -ec, {json.dumps(script)}]
"""


def complete(cluster: Cluster, name: str) -> None:
    try:
        cluster.kubectl("wait", "-n", "strict", f"job/{name}", "--for=condition=Complete", "--timeout=90s")
    except AssertionError as error:
        described = cluster.kubectl("describe", "pods,pvc", "-n", "strict", check=False)
        logs = cluster.kubectl("logs", "-n", "strict", f"job/{name}", check=False)
        raise AssertionError(f"{error}\n{logs}\n{described}") from None


def test_two_clusters_have_their_own_objects_addresses_and_processes(pair: tuple[Cluster, Cluster]) -> None:
    left, right = pair
    left.kubectl("create", "configmap", "only-left")
    assert "only-left" not in right.kubectl("get", "configmaps")
    servers = {re.search(r"server: (\S+)", (c.state / "kubeconfig").read_text()).group(1) for c in pair}
    assert len(servers) == 2 and all(s.startswith("https://127.0.0.1:") for s in servers)
    assert [c.get("nodes")["items"][0]["metadata"]["name"] for c in pair] == ["left", "right"]


def test_up_again_changes_nothing(cluster: Cluster) -> None:
    before = cluster.command("status").stdout.splitlines()[0]
    again = cluster.command("up")
    assert "is up" in again.stdout and "waiting" not in again.stderr
    assert cluster.command("status").stdout.splitlines()[0] == before


def test_load_again_imports_nothing(cluster: Cluster, busybox: Path) -> None:
    assert "is loaded already" in cluster.command("load", busybox).stderr


def test_a_deployment_is_reached_by_its_services_name(cluster: Cluster) -> None:
    cluster.apply(f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: strict}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      securityContext: {POD_SECURITY}
      volumes: [{{name: www, emptyDir: {{}}}}]
      containers:
      - name: main
        image: slipway.dev/busybox:test
        securityContext: {RESTRICTED}
        volumeMounts: [{{name: www, mountPath: /www}}]
        command: [sh, -ec, "hostname > /www/index.html; exec httpd -f -p 8080 -h /www"]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: strict}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
""")
    cluster.kubectl("rollout", "status", "-n", "strict", "deployment/web", "--timeout=90s")
    cluster.apply(job("ask", "for i in $(seq 40); do wget -qO- http://web.strict.svc.cluster.local; done; nslookup kubernetes.default.svc.cluster.local"))
    complete(cluster, "ask")
    answers = cluster.logs("-n", "strict", "job/ask")
    assert len(set(re.findall(r"^web-\S+$", answers, re.M))) == 2, answers
    assert "10.96.0.1" in answers


def test_services_are_reached_from_this_machine_by_port_forward(cluster: Cluster) -> None:
    with subprocess.Popen(
        [str(cluster.state / "bin" / "kubectl"), "--kubeconfig", str(cluster.state / "kubeconfig"), "-n", "strict", "port-forward", "service/web", ":80"],
        stdout=subprocess.PIPE, text=True,
    ) as forward:
        try:
            port = re.search(r"127.0.0.1:(\d+)", forward.stdout.readline()).group(1)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert answer.read().startswith(b"web-")
        finally:
            forward.terminate()


def test_names_outside_the_cluster_do_not_exist(cluster: Cluster) -> None:
    cluster.apply(job("outside", "nslookup example.com. 2>&1 && exit 1; true"))
    complete(cluster, "outside")
    assert "NXDOMAIN" in cluster.logs("-n", "strict", "job/outside")


def test_a_non_root_pod_writes_to_its_volume_and_the_next_one_reads_it(cluster: Cluster) -> None:
    cluster.apply("""
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: strict}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
""")
    volume = "volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]"
    mounts = "[{name: data, mountPath: /data}]"
    cluster.apply(job("write", "id -u; echo kept > /data/file", pod=volume, mounts=mounts))
    complete(cluster, "write")
    cluster.apply(job("read", "cat /data/file", pod=volume, mounts=mounts))
    complete(cluster, "read")
    assert cluster.logs("-n", "strict", "job/read").strip() == "kept"
    folders = cluster.state / "volumes"
    assert len(list(folders.iterdir())) == 1
    cluster.kubectl("delete", "-n", "strict", "job/write", "job/read", "pvc/data", "--wait")
    eventually(lambda: not list(folders.iterdir()), what="the removal of the volume's folder")


def test_a_disk_that_fills_says_so_and_a_pod_that_takes_too_much_memory_is_killed_for_it(cluster: Cluster) -> None:
    cluster.apply("""
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: small, namespace: strict}
spec: {storageClassName: memory, accessModes: [ReadWriteOnce], resources: {requests: {storage: 5Mi}}}
""")
    cluster.apply(job(
        "fill", "! dd if=/dev/zero of=/data/file bs=1M count=10",
        pod="volumes: [{name: data, persistentVolumeClaim: {claimName: small}}]", mounts="[{name: data, mountPath: /data}]",
    ))
    complete(cluster, "fill")
    assert "No space left on device" in cluster.logs("-n", "strict", "job/fill")
    cluster.kubectl("delete", "-n", "strict", "job/fill", "pvc/small", "--wait")
    cluster.kubectl("run", "greedy", "--image=slipway.dev/busybox:test", "--restart=Never", "--overrides", json.dumps({
        "spec": {"containers": [{"name": "greedy", "image": "slipway.dev/busybox:test", "command": ["tail", "/dev/zero"],
                                 "resources": {"limits": {"memory": "30Mi"}}}]}}))
    cluster.kubectl("wait", "pod/greedy", "--for=jsonpath={.status.containerStatuses[0].state.terminated.reason}=OOMKilled", "--timeout=60s")


def test_the_workers_of_a_job_find_each_other_by_name(cluster: Cluster) -> None:
    cluster.apply("""
apiVersion: v1
kind: Service
metadata: {name: ring, namespace: strict}
spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {job-name: ring}, ports: [{port: 9000}]}
""")
    # Every worker waits for word from the one before it.
    script = """
next=$(( (JOB_COMPLETION_INDEX + 1) % 3 ))
nc -l -p 9000 > /tmp/word & listener=$!
until echo "from $JOB_COMPLETION_INDEX" | nc -w 2 ring-$next.ring 9000 2>/dev/null; do sleep 0.2; done
wait $listener
cat /tmp/word
"""
    cluster.apply(job(
        "ring", script, extra="completionMode: Indexed\n  completions: 3\n  parallelism: 3",
        pod="subdomain: ring\n      volumes: [{name: tmp, emptyDir: {}}]", mounts="[{name: tmp, mountPath: /tmp}]",
    ))
    complete(cluster, "ring")
    said = cluster.logs("-n", "strict", "-l", "job-name=ring")
    assert sorted(said.split("\n")[:-1]) == ["from 0", "from 1", "from 2"]


def gpu_pod(name: str, gpus: int) -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: strict}}
spec:
  securityContext: {POD_SECURITY}
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: slipway.dev/busybox:test
    securityContext: {RESTRICTED}
    command: [sleep, "1000"]
    resources: {{limits: {{nvidia.com/gpu: {gpus}}}}}
"""


def test_gpus_are_offered_used_up_kept_over_a_restart_and_withdrawn(cluster: Cluster) -> None:
    def offered() -> str | None:
        return cluster.get("node", cluster.name)["status"]["allocatable"].get("nvidia.com/gpu")

    cluster.command("gpu", "2")
    assert offered() == "2"
    cluster.apply(gpu_pod("fits", 2))
    cluster.kubectl("wait", "-n", "strict", "pod/fits", "--for=condition=Ready", "--timeout=60s")
    cluster.apply(gpu_pod("waits", 1))
    cluster.kubectl("wait", "-n", "strict", "pod/waits", "--for=jsonpath={.status.conditions[?(@.type=='PodScheduled')].reason}=Unschedulable", "--timeout=30s")
    cluster.command("restart", "kubelet")
    cluster.kubectl("delete", "-n", "strict", "pod/fits", "--wait")
    cluster.kubectl("wait", "-n", "strict", "pod/waits", "--for=condition=Ready", "--timeout=90s")
    assert offered() == "2"
    cluster.kubectl("delete", "-n", "strict", "pod/waits", "--wait")
    cluster.command("gpu", "0")
    assert offered() in (None, "0")


def test_pods_that_are_not_restricted_are_refused(cluster: Cluster) -> None:
    refused = cluster.command("kubectl", "run", "-n", "strict", "root", "--image=slipway.dev/busybox:test", check=False)
    assert refused.returncode == 1 and 'violates PodSecurity "restricted' in refused.stderr


def test_connections_are_carried_into_the_node_and_back(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        port = server.getsockname()[1]
        with subprocess.Popen(
            [str(PROGRAM), "--name", cluster.name, "--state", str(cluster.state), "forward", "--reverse", "10.99.0.1:0", f"127.0.0.1:{port}"],
            stdout=subprocess.PIPE, text=True,
        ) as forward:
            try:
                inside = forward.stdout.readline().split(" ")[0]
                host, inside_port = inside.rsplit(":", 1)
                cluster.apply(job("call", f"echo hello | nc {host} {inside_port}"))
                connection, _ = server.accept()
                with connection:
                    assert connection.recv(100) == b"hello\n"
                complete(cluster, "call")
            finally:
                forward.terminate()


def test_exec_runs_inside_and_passes_on_the_exit_code(cluster: Cluster) -> None:
    assert cluster.command("exec", "--", "hostname").stdout.strip() == cluster.name
    assert cluster.command("exec", "--", "sh", "-c", "exit 7", check=False).returncode == 7
