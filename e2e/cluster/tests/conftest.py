"""Clusters for the tests: the program is built when it is not there, and each cluster is ended whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
BIN = Path(os.environ.get("SLIPWAY_CACHE", Path.home() / ".cache" / "slipway")) / "bin"
PROGRAM = BIN / "slipway-cluster"


def run(*args: str | Path, check: bool = True, timeout: float = 240, **kwargs) -> subprocess.CompletedProcess:
    done = subprocess.run([str(a) for a in args], text=True, capture_output=True, timeout=timeout, **kwargs)
    if check and done.returncode:
        raise AssertionError(f"{args} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def eventually(check: Callable[[], object], seconds: float = 60, what: str = "the condition") -> object:
    """Repeats check until it returns something true; an AssertionError in it counts as not yet."""
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            if result := check():
                return result
        except AssertionError as error:
            last = error
        time.sleep(0.3)
    raise AssertionError(f"{what} did not come about within {seconds} s; last: {last}")


@dataclass
class Cluster:
    name: str
    state: Path

    def command(self, *args: str | Path, **kwargs) -> subprocess.CompletedProcess:
        return run(PROGRAM, "--name", self.name, "--state", self.state, *args, **kwargs)

    def kubectl(self, *args: str, **kwargs) -> str:
        return self.command("kubectl", *args, **kwargs).stdout

    def apply(self, manifest: str) -> None:
        self.kubectl("apply", "-f", "-", input=manifest)

    def get(self, *args: str) -> dict:
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def logs(self, *args: str) -> str:
        return self.kubectl("logs", *args)


@pytest.fixture(scope="session")
def program() -> Path:
    run(ROOT / "e2e/cluster/build.sh", timeout=3000)
    return PROGRAM


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    context = tmp_path_factory.mktemp("busybox")
    shutil.copy("/bin/busybox", context)
    archive = context / "busybox.tar"
    run(ROOT / "e2e/images/build.sh", "slipway.dev/busybox:test", ROOT / "e2e/images/busybox/Containerfile", context, archive)
    return archive


@pytest.fixture(scope="session")
def make_cluster(program: Path) -> Iterator[Callable[[str], Cluster]]:
    base = Path(tempfile.mkdtemp(prefix="slipway-cluster-test-"))
    made: list[Cluster] = []

    def make(name: str) -> Cluster:
        cluster = Cluster(name, base / name)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.command("down", check=False)
    shutil.rmtree(base, ignore_errors=True)
