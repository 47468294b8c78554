"""Inside the embedded cluster's node: processes of pods that are stopped or killed, and load on its network."""

import json
import pathlib
import subprocess
import sys
import time

from harness import CACHE, ROOT, get, log_to, run

CLUSTER = CACHE / "bin" / "slipway-cluster"


def is_embedded() -> bool:
    """Whether the cluster in use is the embedded one, whose node's processes are within reach."""
    mode = run("e2e/lib/cluster.sh", "kubeconfig").strip()
    return CLUSTER.exists() and mode == run(CLUSTER, "kubeconfig", check=False).strip()


def execute(*command: str, check: bool = True) -> str:
    return run(CLUSTER, "exec", "--", *command, check=check)


def signal(pod: dict, name: str = "KILL") -> int:
    """Sends a signal to every process of the pod but its sandbox; how many there were."""
    script = (f"for f in $(grep -ls 'pod{pod['metadata']['uid']}/' /proc/[0-9]*/cgroup); do d=${{f%/cgroup}};"
              f" [ \"$(cat $d/comm)\" = pause ] || {{ kill -{name} ${{d#/proc/}} && echo; }}; done")
    return execute("sh", "-c", script, check=False).count("\n")


class Load:
    """Requests to a Service at a fixed rate from inside the cluster's network, for the length of a `with` block."""

    def __init__(self, namespace: str, service: str, *options: str):
        address = get("service", service, namespace)["spec"]["clusterIP"] + ":80"
        program = ROOT / "e2e" / "tests" / "load.py"
        command = [CLUSTER, "exec", "--", sys.executable, program, address, *options]
        self.command, self.report = [str(part) for part in command], {}

    def __enter__(self) -> "Load":
        with open(log_to(), "a", encoding="utf-8") as log:
            self.child = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        return self

    def stage(self, name: str) -> None:
        """Failures from now on are said to be of this stage."""
        self.child.stdin.write(name + "\n")
        self.child.stdin.flush()

    def __exit__(self, kind, *_) -> None:
        text, _ = self.child.communicate(timeout=120)
        self.report = json.loads(text)
        if kind is not None:
            print(json.dumps(self.report))

    def line(self, name: str, file: pathlib.Path) -> None:
        """Keeps the report under the name of its test, for the table in the documentation."""
        file.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(file.read_text()) if file.exists() else {}
        known[name] = {"date": time.strftime("%Y-%m-%d", time.gmtime()), **self.report}
        file.write_text(json.dumps(known, indent=1))


def offer_gpus(number: int) -> None:
    """The node offers so many `nvidia.com/gpu`, with nothing behind them."""
    run(CLUSTER, "gpu", str(number))
