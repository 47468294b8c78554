"""Starting, breaking and ending a cluster: nothing is left behind, and whatever is broken is rebuilt."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PROGRAM, Cluster, eventually, run


def node_pid(cluster: Cluster) -> int:
    return int(cluster.command("status").stdout.split("process ")[1].split(")")[0])


def own_processes(cluster: Cluster) -> set[int]:
    """The processes in any control group of the cluster, found without the program under test."""
    found: set[int] = set()
    for group in control_groups(cluster):
        found |= {int(pid) for pid in (Path(group) / "cgroup.procs").read_text().split()}
    return found


def control_groups(cluster: Cluster) -> set[str]:
    mark = f"slipway-{cluster.name}-"
    return {folder for folder, _, _ in os.walk("/sys/fs/cgroup") if mark in folder}


def mounts_of(cluster: Cluster) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(cluster.state) in line or "overlay-trial" in line]


def interfaces() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def alive(pid: int) -> bool:
    """A killed process that nobody has collected yet is not alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def cluster(make_cluster: Callable[[str], Cluster], request: pytest.FixtureRequest) -> Cluster:
    made = make_cluster("life")
    request.addfinalizer(lambda: made.command("down", check=False))
    return made


def test_down_leaves_no_process_mount_interface_or_control_group(cluster: Cluster, busybox: Path) -> None:
    before = interfaces()
    cluster.command("up")
    cluster.command("load", busybox)
    cluster.apply("""
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: sleeper}
spec:
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}, {name: memory, emptyDir: {medium: Memory}}]
  containers:
  - name: main
    image: slipway.dev/busybox:test
    command: [sleep, "10000"]
    volumeMounts: [{name: data, mountPath: /data}, {name: memory, mountPath: /memory}]
""")
    cluster.kubectl("wait", "pod/sleeper", "--for=condition=Ready", "--timeout=60s")
    processes = own_processes(cluster)
    assert len(processes) > 10 and control_groups(cluster)
    assert any(b"sleep\x0010000" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes)
    # Even while it runs, the host sees none of its mounts and interfaces.
    assert not mounts_of(cluster) and interfaces() == before
    cluster.command("down")
    assert not [pid for pid in processes if alive(pid)]
    assert not control_groups(cluster) and not mounts_of(cluster) and interfaces() == before
    assert not cluster.state.exists() and not Path(f"{cluster.state}.lock").exists()


def test_a_cluster_that_is_not_running_says_so(cluster: Cluster) -> None:
    for command in (["status"], ["kubeconfig"], ["load", "x.tar"], ["gpu", "1"], ["exec", "--", "true"], ["kubectl", "get", "pods"]):
        done = cluster.command(*command, check=False)
        assert done.returncode == 3 and "start it with `slipway-cluster up`" in done.stderr, command
    assert cluster.command("down").stdout == "cluster life is down\n"


def test_a_start_that_was_killed_half_way_is_completed(cluster: Cluster) -> None:
    with subprocess.Popen([str(PROGRAM), "--name", cluster.name, "--state", str(cluster.state), "up"], stderr=subprocess.DEVNULL) as start:
        time.sleep(1.5)
        start.kill()
    assert "is up" in cluster.command("up").stdout
    cluster.kubectl("get", "nodes", cluster.name)


def test_a_node_that_died_as_when_the_machine_is_switched_off_is_rebuilt_at_the_same_address(cluster: Cluster) -> None:
    cluster.command("up")
    address = cluster.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
    pid = node_pid(cluster)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not own_processes(cluster), 10, "the end of the node's processes")
    assert cluster.command("status", check=False).returncode == 3
    cluster.command("up")
    assert node_pid(cluster) != pid
    assert cluster.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}") == address


def test_a_cluster_whose_state_directory_was_removed_is_ended_and_rebuilt(cluster: Cluster) -> None:
    cluster.command("up")
    old = own_processes(cluster)
    shutil.rmtree(cluster.state)
    cluster.command("up")
    assert not [pid for pid in old if alive(pid)]
    cluster.kubectl("get", "nodes", cluster.name)
    shutil.rmtree(cluster.state)
    cluster.command("down")
    assert not own_processes(cluster) and not control_groups(cluster)


def test_components_that_are_killed_come_back(cluster: Cluster) -> None:
    cluster.command("up")
    for component in ("etcd", "kube-apiserver", "containerd"):
        cluster.command("restart", component)
    eventually(lambda: cluster.kubectl("create", "configmap", "after", timeout=20), 60, "an answer of the API")
    refused = cluster.command("restart", "kube-nothing", check=False)
    assert refused.returncode == 1 and "kube-apiserver" in refused.stderr


def test_a_directory_that_is_not_a_clusters_is_left_alone(cluster: Cluster) -> None:
    cluster.state.mkdir(parents=True)
    (cluster.state / "thesis.txt").write_text("mine")
    for command in ("up", "down"):
        done = cluster.command(command, check=False)
        assert done.returncode == 1 and "give --state an empty or new directory" in done.stderr
    assert (cluster.state / "thesis.txt").read_text() == "mine"
    shutil.rmtree(cluster.state)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--name", "No_Name", "up"], "lower-case letters, digits and dashes"),
    (["load"], "usage: slipway-cluster load FILE..."),
    (["gpu", "many"], '"many" is no number of GPUs'),
    (["--nme", "x", "up"], "unknown flag: --nme"),
])
def test_wrong_usage_is_explained(program: Path, arguments: list[str], message: str) -> None:
    done = run(program, *arguments, check=False)
    assert done.returncode == 2 and message in done.stderr


def test_a_file_that_is_no_image_archive_is_refused_by_name(cluster: Cluster, tmp_path: Path, busybox: Path) -> None:
    cluster.command("up")
    text, cut = tmp_path / "text.tar", tmp_path / "cut.tar"
    text.write_text("hello")
    cut.write_bytes(busybox.read_bytes()[:100_000])
    for path in (text, cut, tmp_path / "absent.tar"):
        done = cluster.command("load", path, check=False)
        assert done.returncode == 1 and str(path) in done.stderr
