"""A slipway-server on a real model, and where the models come from."""

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
sys.path.insert(0, str(ROOT / "e2e" / "data"))

sys.path.insert(0, str(ROOT / "e2e" / "lib"))
import seed  # noqa: E402
from programs import programs  # noqa: E402


@pytest.fixture(scope="session")
def binary():
    """Path of the server: SLIPWAY_SERVER, or built from the sources as they are."""
    if given := os.environ.get("SLIPWAY_SERVER"):
        return given
    return programs()["slipway-server"]


@pytest.fixture(scope="session")
def models():
    """Folder of all-MiniLM-L6-v2 and SmolLM2-135M-Instruct-GGUF, made from their packages."""
    seed.into("all-MiniLM-L6-v2", seed.minilm)
    seed.into("SmolLM2-135M-Instruct-GGUF", seed.smollm_gguf)
    return seed.SEED


@pytest.fixture(scope="session")
def serve(binary):
    """Starts servers: `serve(model, *arguments)` gives the address of one that is ready."""
    processes = []

    def start(model, *arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        command = [binary, "--model", str(model), "--listen", address, *arguments]
        process = subprocess.Popen(command, env={**os.environ, "SLIPWAY_TERMINATION_LOG": "/dev/null"})
        processes.append(process)
        url = f"http://{address}"
        for _ in range(600):
            assert process.poll() is None, f"{command} ended with {process.returncode}"
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5)
                return url
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise TimeoutError(f"{command} did not become ready")

    yield start
    for process in processes:
        process.terminate()
    for process in processes:
        assert process.wait(timeout=30) == 0
