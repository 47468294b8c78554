"""The command itself: wrong flags say what to do, and a signal lets running requests finish."""

import os
import socket
import subprocess
import threading
import time

import pytest

pytestmark = pytest.mark.timeout(60)


def run(binary, *flags, **environment):
    return subprocess.run(
        [binary, *flags], capture_output=True, text=True, timeout=20, env={**os.environ, **environment}
    )


def test_unexpected_argument(hub_binary):
    result = run(hub_binary, "serve")
    assert result.returncode == 2 and "--help" in result.stderr


def test_data_folder_that_cannot_be_made(hub_binary, tmp_path):
    (tmp_path / "file").write_text("")
    result = run(hub_binary, "--listen", "127.0.0.1:0", "--data", str(tmp_path / "file" / "data"))
    assert result.returncode == 1 and "--data" in result.stderr


def test_address_in_use(hub_binary, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        result = run(hub_binary, "--listen", address, "--data", str(tmp_path))
    assert result.returncode == 1 and "--listen" in result.stderr


def test_without_git(hub_binary, tmp_path):
    result = run(hub_binary, "--data", str(tmp_path), PATH="/nonexistent")
    assert result.returncode == 1 and "install git" in result.stderr


def test_faults_are_off_unless_asked_for(start_hub, tmp_path):
    hub = start_hub(tmp_path)
    assert hub.ask("POST", "/_faults", {"match": "x", "status": 500})[0] == 404
    assert hub.ask("GET", "/_requests")[0] == 404


def test_public_url_is_used_in_answers(start_hub, tmp_path):
    hub = start_hub(tmp_path, "--public-url", "https://hub.example/")
    answer = hub.ask("POST", "/api/repos/create", {"name": "m"}, token="hf_owner")[2]
    assert b'"https://hub.example/owner/m"' in answer


def test_stop_lets_a_request_finish(start_hub, tmp_path):
    hub = start_hub(tmp_path, "--faults")
    hub.inject(match="whoami", delayMs=1500)
    statuses = []
    asking = threading.Thread(target=lambda: statuses.append(hub.ask("GET", "/api/whoami-v2", token="hf_owner")[0]))
    asking.start()
    time.sleep(0.5)
    hub.process.terminate()
    asking.join()
    assert statuses == [200]
    assert hub.process.wait(timeout=20) == 0
