"""What the demo and the end-to-end tests share: kubectl, helm, port-forwards, the test Hub, and progress lines."""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("SLIPWAY_CACHE", pathlib.Path.home() / ".cache" / "slipway"))
EXAMPLES = ROOT / "examples"
SYSTEM = "slipway-system"
HUB_IN_CLUSTER = "http://hub.hub.svc"


def log_to() -> pathlib.Path:
    folder = CACHE / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "commands.log"


def run(*command: str, stdin: str | None = None, check: bool = True, timeout: float = 600, env=None) -> str:
    """Runs a command and returns what it printed; a failure raises with the command's own words."""
    command = tuple(map(str, command))
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, cwd=ROOT, env=env)
    with open(log_to(), "a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}")
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}): {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def kubectl_path() -> str:
    """The kubectl that was built with the cluster; one on the PATH may be of another age."""
    built = CACHE / "bin" / "kubectl"
    return str(built) if built.exists() else "kubectl"


def kubectl(*arguments: str, **options) -> str:
    return run(kubectl_path(), *arguments, **options)


def helm(*arguments: str, **options) -> str:
    return run(CACHE / "bin" / "helm", *arguments, **options)


def get(kind: str, name: str, namespace: str) -> dict:
    """An object as the apiserver has it now; {} when it is not there."""
    text = kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
    return json.loads(text) if text.strip() else {}


def listing(kind: str, namespace: str, selector: str = "") -> list[dict]:
    arguments = ["get", kind, "-n", namespace, "-o", "json"] + (["-l", selector] if selector else [])
    return json.loads(kubectl(*arguments))["items"]


def condition(thing: dict, kind: str) -> dict:
    for entry in thing.get("status", {}).get("conditions", []):
        if entry["type"] == kind:
            return entry
    return {}


def is_true(thing: dict, kind: str) -> bool:
    """Whether the condition holds for the object's newest generation."""
    entry = condition(thing, kind)
    current = entry.get("observedGeneration", thing["metadata"]["generation"]) == thing["metadata"]["generation"]
    return entry.get("status") == "True" and current


def apply(path_or_text) -> str:
    if isinstance(path_or_text, pathlib.Path):
        return kubectl("apply", "-f", str(path_or_text))
    return kubectl("apply", "-f", "-", stdin=path_or_text)


class Lines:
    """One line a step: rewritten with the elapsed time on a terminal, repeated now and then in a pipe."""

    def __init__(self, name: str):
        self.name, self.start, self.shown, self.last = name, time.monotonic(), 0.0, ""
        self.terminal = sys.stdout.isatty()
        if not self.terminal:
            print(f"   {name} …", flush=True)

    def clock(self) -> str:
        seconds = int(time.monotonic() - self.start)
        return f"{seconds // 60}:{seconds % 60:02}"

    def say(self, text: str) -> None:
        now = time.monotonic()
        if self.terminal:
            print(f"\r\033[K   {self.clock()}  {self.name}  {text}"[:160], end="", flush=True)
        elif text != self.last and now - self.shown > 10:
            print(f"   {self.clock()}  {self.name}: {text}", flush=True)
            self.shown, self.last = now, text

    def done(self, text: str = "", mark: str = "✓") -> None:
        start = "\r\033[K" if self.terminal else ""
        print(f"{start}{mark}  {self.clock()}  {self.name}{'  ' + text if text else ''}", flush=True)


@contextlib.contextmanager
def step(name: str):
    lines = Lines(name)
    try:
        yield lines
    except BaseException:
        lines.done(mark="✗")
        raise
    lines.done(lines.last if lines.terminal else "")


def wait(kind: str, name: str, namespace: str, until: str, timeout: float, lines: Lines | None = None, failed="Failed"):
    """Polls the object until the condition is true; raises with its own message when it failed or time is up."""
    end = time.monotonic() + timeout
    while True:
        thing = get(kind, name, namespace)
        if thing and is_true(thing, until):
            return thing
        if thing and failed and is_true(thing, failed):
            raise RuntimeError(f"{kind} {name} failed: {condition(thing, failed).get('message')}")
        if lines:
            lines.say(describe(thing))
        if time.monotonic() > end:
            raise TimeoutError(f"{kind} {name} was not {until} in {timeout:.0f} s: {json.dumps(thing.get('status', {}))}")
        time.sleep(1)


def describe(thing: dict) -> str:
    """What a person wants to know of an object that is on its way."""
    status = thing.get("status", {})
    progress = status.get("progress") or {}
    if progress.get("totalSteps"):
        parts = [f"{progress.get('phase', '')} step {progress.get('step', 0)}/{progress['totalSteps']}"]
        for key, label, form in (("loss", "loss", ".4f"), ("evalLoss", "eval loss", ".4f"), ("tokensPerSecond", "tok/s", ".0f")):
            if progress.get(key) is not None:
                parts.append(f"{label} {progress[key]:{form}}")
        if progress.get("estimatedRemainingSeconds") is not None:
            parts.append(f"{progress['estimatedRemainingSeconds']} s left")
        return ", ".join(parts)
    for kind in ("Reconciling", "Stalled", "Ready"):
        entry = condition(thing, kind) if thing else {}
        if entry.get("message"):
            return entry["message"]
    return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def port_forward(namespace: str, target: str, port: int):
    """http://127.0.0.1:PORT for a Service or Pod of the cluster."""
    local = free_port()
    command = [kubectl_path(), "port-forward", "-n", namespace, target, f"{local}:{port}"]
    with open(log_to(), "a") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while True:
            if child.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended at once; see {log_to()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", local), timeout=1):
                break
            if time.monotonic() > end:
                raise TimeoutError(f"{' '.join(command)} did not listen in 30 s")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{local}"
    finally:
        child.terminate()
        child.wait(10)


def request(url: str, body=None, headers=None, timeout: float = 60):
    """(status, headers, parsed body) of one HTTP request; JSON in and out where it is JSON."""
    data = json.dumps(body).encode() if body is not None else None
    call = urllib.request.Request(url, data=data, headers={"content-type": "application/json", **(headers or {})})
    try:
        answer = urllib.request.urlopen(call, timeout=timeout)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        text = answer.read()
        with contextlib.suppress(ValueError):
            text = json.loads(text)
        return answer.status, answer.headers, text


def image(name: str) -> str:
    """The newest reference of an image that was built."""
    return (CACHE / "images" / f"{name}.ref").read_text().strip()


def cluster_up() -> str:
    """Starts (or finds) the cluster with the images loaded; returns the kubeconfig's path."""
    run("e2e/lib/cluster.sh", "up", timeout=900)
    run("e2e/lib/cluster.sh", "load", timeout=900)
    return kubeconfig()


def kubeconfig() -> str:
    """The path of the cluster's kubeconfig."""
    return run("e2e/lib/cluster.sh", "kubeconfig").strip()


def deploy_hub() -> None:
    text = (ROOT / "e2e" / "hub" / "deploy.yaml").read_text()
    apply(re.sub(r"image: *slipway\.dev/hub:\S+", f"image: {image('hub')}", text))
    kubectl("rollout", "status", "deployment/hub", "-n", "hub", "--timeout=180s")


def seed_hub(endpoint: str) -> None:
    run(sys.executable, "e2e/data/seed.py", "push", "--endpoint", endpoint, timeout=600)


def install_operator(*extra: str) -> None:
    settings = [f"hub.endpoint={HUB_IN_CLUSTER}"]
    for name in ("operator", "trainer", "server"):
        repository, tag = image(name).rsplit(":", 1)
        settings += [f"image.{name}.repository={repository}", f"image.{name}.tag={tag}"]
    sets = [part for setting in settings for part in ("--set-string", setting)]
    helm("upgrade", "--install", "slipway", "charts/slipway", "-n", SYSTEM, "--create-namespace", *sets, *extra)
    kubectl("rollout", "status", "deployment/slipway", "-n", SYSTEM, "--timeout=120s")


def make_namespace(name: str, token: str = "hf_owner") -> None:
    """A namespace under Pod Security "restricted" with the Hub token's Secret."""
    apply(
        f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n"
        "  labels: {pod-security.kubernetes.io/enforce: restricted}\n"
    )
    secret = kubectl("create", "secret", "generic", "hub-token", f"--from-literal=token={token}", "-n", name,
                     "--dry-run=client", "-o", "yaml")
    apply(secret)
