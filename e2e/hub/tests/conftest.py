"""A Hub for the tests: the real binary on a free port, with a data folder of its own."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

HUB_DIR = Path(__file__).resolve().parent.parent


@dataclass
class Hub:
    """A running Hub and its switches for tests."""

    endpoint: str
    data: Path
    process: subprocess.Popen

    def ask(self, method, path, body=None, token=None, headers=None):
        """Send one request; return (status, headers, body) without raising for errors."""
        request = urllib.request.Request(self.endpoint + path, method=method)
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, data=body, timeout=60) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def inject(self, **fault):
        status, _, body = self.ask("POST", "/_faults", fault)
        assert status == 200, body

    def pending_faults(self):
        return json.loads(self.ask("GET", "/_faults")[2])

    def count(self, prefix):
        """How many requests began with this "METHOD /path"."""
        return json.loads(self.ask("GET", f"/_requests?prefix={quote(prefix)}")[2])["total"]


@pytest.fixture(scope="session")
def hub_binary():
    return subprocess.run([HUB_DIR / "build.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.fixture(scope="session")
def start_hub(hub_binary):
    """Start Hubs on a data folder; those still running at the end are stopped, and must stop cleanly."""
    started = []

    def start(data, *flags):
        process = subprocess.Popen(
            [hub_binary, "--listen", "127.0.0.1:0", "--data", str(data), *flags], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        ready = process.stdout.readline()
        assert " is ready at " in ready, f"the Hub said {ready!r}"
        return Hub(ready.split(" is ready at ")[1].split(",")[0], Path(data), process)

    yield start
    for process in started:
        process.terminate()
    assert [process.wait(timeout=20) for process in started] == [0] * len(started)


@pytest.fixture(scope="session")
def hub(start_hub, tmp_path_factory):
    return start_hub(tmp_path_factory.mktemp("hub"), "--faults")


@pytest.fixture(scope="session")
def hf(hub, tmp_path_factory):
    """A huggingface_hub of our own, imported with the settings for this Hub in the environment.

    It reads them once, at import, so an import by other tests of the same run is set aside.
    """

    def take_modules():
        names = [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]
        return {name: sys.modules.pop(name) for name in names}

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        patch.setenv("HF_HUB_DISABLE_XET", "1")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf-home")))
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        patch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        patch.delenv("HF_TOKEN", raising=False)
        others = take_modules()
        import huggingface_hub

        yield huggingface_hub
        take_modules()
        sys.modules.update(others)


@pytest.fixture(scope="session")
def owner(hf):
    return hf.HfApi(token="hf_owner")


@pytest.fixture(scope="session")
def other(hf):
    return hf.HfApi(token="hf_other")


@pytest.fixture(scope="session")
def anonymous(hf):
    return hf.HfApi(token=False)


@pytest.fixture
def repo(owner, request):
    """A fresh model repository of the organisation acme."""
    name = request.node.name.removeprefix("test_").replace("[", "-").replace("]", "")[:80].strip("-_")
    repo_id = f"acme/{name}"
    owner.create_repo(repo_id)
    yield repo_id
    owner.delete_repo(repo_id, missing_ok=True)


@pytest.fixture(autouse=True)
def no_faults_left(hub):
    yield
    hub.ask("DELETE", "/_faults")
