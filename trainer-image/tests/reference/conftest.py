"""The trainer as a program, and tiny models with a tokenizer of one token a word."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "e2e" / "lib"))

from programs import programs  # noqa: E402


@pytest.fixture(scope="session")
def train():
    """Builds the trainer and gives a function that runs a configuration: `train(config, directory)`."""
    program = programs()["slipway-trainer"]

    def run(config, directory):
        directory.mkdir(parents=True)
        config = {
            **config,
            "checkpoint": {"directory": str(directory / "checkpoints")},
            "output": {"directory": str(directory / "out")},
        }
        path = directory / "config.json"
        path.write_text(json.dumps(config))
        done = subprocess.run([program, "train", "--config", path], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        log = (directory / "out/training_log.jsonl").read_text().splitlines()
        return directory / "out", [json.loads(line)["loss"] for line in log if "loss" in line]

    return run


@pytest.fixture(scope="session")
def evaluate():
    """Builds the trainer and gives a function that runs an evaluation: `evaluate(config, directory)` is its outcome."""
    program = programs()["slipway-trainer"]

    def run(config, directory):
        directory.mkdir(parents=True)
        path, report = directory / "config.json", directory / "report.json"
        path.write_text(json.dumps(config))
        command = [program, "evaluate", "--config", path, "--report", report]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(report.read_text())["outcome"]

    return run


@pytest.fixture(scope="session")
def serve():
    """Builds the server and gives a context that serves a model: `with serve(directory) as url`."""
    program = programs()["slipway-server"]

    @contextlib.contextmanager
    def run(model):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        command = [program, "--model", str(model), "--listen", address]
        process = subprocess.Popen(command, env={**os.environ, "SLIPWAY_TERMINATION_LOG": "/dev/null"})
        try:
            for _ in range(600):
                assert process.poll() is None, "the server ended"
                with contextlib.suppress(urllib.error.URLError):
                    urllib.request.urlopen(f"http://{address}/health", timeout=5)
                    break
                time.sleep(0.1)
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(60)

    return run
