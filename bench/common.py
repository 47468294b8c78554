"""What every case shares: processes, interleaved rounds, and the line that a case ends with."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
CACHE = pathlib.Path(os.environ.get("SLIPWAY_CACHE", pathlib.Path.home() / ".cache" / "slipway"))
BIN = CACHE / "images"
SEED = CACHE / "seed"
WORK = CACHE / "bench"
THREADS = 2
#: Both sides of a comparison get the same number of threads.
ENVIRONMENT = {**os.environ, "RAYON_NUM_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS),
               "MKL_NUM_THREADS": str(THREADS), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def log(name: str):
    WORK.mkdir(parents=True, exist_ok=True)
    return open(WORK / f"{name}.log", "ab")


@contextlib.contextmanager
def process(name: str, *command, ready: str | None = None, timeout: float = 120, env=None):
    """Runs a server for the length of the block; `ready` is an address that answers 2xx once it serves."""
    with log(name) as out:
        child = subprocess.Popen([str(part) for part in command], stdout=out, stderr=out, env=env or ENVIRONMENT)
    try:
        end = time.monotonic() + timeout
        while ready:
            if child.poll() is not None:
                raise RuntimeError(f"{name} ended with {child.returncode}; see {WORK / name}.log")
            with contextlib.suppress(OSError), urllib.request.urlopen(ready, timeout=2) as answer:
                if answer.status < 300:
                    break
            if time.monotonic() > end:
                raise TimeoutError(f"{name} was not ready in {timeout} s; see {WORK / name}.log")
            time.sleep(0.02)
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def rss_mib(pid: int, peak: bool = False) -> float:
    """Resident memory of a process now, or its peak so far."""
    key = "VmHWM" if peak else "VmRSS"
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {key} for {pid}")


def finish(name: str, *command, timeout: float = 900, env=None) -> tuple[str, float, float]:
    """Runs a command to its end: (what it printed, seconds, peak MiB)."""
    start = time.monotonic()
    with log(name) as err:
        child = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=err, env=env or ENVIRONMENT)
        out = child.stdout.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - start
    if status:
        raise RuntimeError(f"{name} ended with {os.waitstatus_to_exitcode(status)}; see {WORK / name}.log\n{out[-500:]}")
    return out, seconds, usage.ru_maxrss / 1024


def interleaved(ours, peer, rounds: int = 3) -> tuple[list, list]:
    """Runs both in turn, `rounds` times, so that a machine that drifts drifts for both."""
    results = ([], [])
    for turn in range(rounds):
        for side, run in zip(results, (ours, peer)):
            side.append(run())
            print(f"  round {turn + 1}/{rounds}: {'ours' if side is results[0] else 'peer'} {side[-1]}", file=sys.stderr, flush=True)
    return results


def verdict(name: str, ours: list[float], peer: list[float], peer_name: str, unit: str, more_is_better: bool = True,
            extra: str = "") -> None:
    """The line a case ends with: how many times better ours is, the median of the rounds' ratios."""
    ratios = [a / b if more_is_better else b / a for a, b in zip(ours, peer)]
    line = (f"{name} {statistics.median(ratios):.2f} (ours {statistics.median(ours):.4g} {unit}, "
            f"{peer_name} {statistics.median(peer):.4g} {unit}, runs {len(ours)}{'; ' + extra if extra else ''})")
    print(line, flush=True)
    with open(WORK / "results.jsonl", "a", encoding="utf-8") as results:
        results.write(json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "line": line,
                                  "ours": ours, "peer": peer, "load": os.getloadavg()[0]}) + "\n")


def pip(*requirements: str) -> str:
    """A Python with these packages, in an environment of the benchmark's own on top of the tests' one."""
    base = CACHE / "venv"
    folder = CACHE / "bench-venv"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        site = next((folder / "lib").glob("python*")) / "site-packages"
        (site / "base.pth").write_text(str(next((base / "lib").glob("python*")) / "site-packages") + "\n")
    mark = folder / ("have-" + "-".join(requirements).replace("=", "").replace("[", "").replace("]", ""))
    if requirements and not mark.exists():
        print(f"  installing {' '.join(requirements)}", file=sys.stderr, flush=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *requirements], check=True)
        mark.touch()
    return str(python)


def debian(*packages: str) -> None:
    """Installs Debian packages that are missing, without starting any service."""
    missing = [package for package in packages
               if subprocess.run(["dpkg-query", "-W", package], capture_output=True).returncode]
    if not missing:
        return
    print(f"  installing {' '.join(missing)}", file=sys.stderr, flush=True)
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    made = not policy.exists()
    if made:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        subprocess.run(["apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], check=True, stdout=subprocess.DEVNULL)
    finally:
        if made:
            policy.unlink()


