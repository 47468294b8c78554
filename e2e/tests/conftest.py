"""One cluster, one Hub and one operator for all tests; a namespace of its own for each test that asks for one.

Tests run side by side (`-n 2`), but for those marked `alone`, which take something away from all others.
"""

import fcntl
import os
import pathlib
import sys
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import harness  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: takes away what every test needs, and so runs after the others")
    config.addinivalue_line("markers", "slow: takes minutes, and so runs only when asked for")
    config.addinivalue_line("markers", "gateway: needs Envoy Gateway, and so runs only when asked for")


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Runs a piece of set-up in the first process that comes to it; the others wait for that and go on."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def run(name, make):
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = shared / f"{name}.done"
            if not done.exists():
                make()
                done.touch()

    return run


@pytest.fixture(scope="session")
def cluster(once):
    once("cluster", harness.cluster_up)
    os.environ["KUBECONFIG"] = harness.kubeconfig()
    return os.environ["KUBECONFIG"]


@pytest.fixture(scope="session")
def hub(cluster, once):
    """The test Hub in the cluster, seeded; its address from here."""
    once("hub", harness.deploy_hub)
    with harness.port_forward("hub", "service/hub", 80) as url:
        once("seed", lambda: harness.seed_hub(url))
        yield url


@pytest.fixture(scope="session")
def operator(cluster, hub, once):
    once("operator", harness.install_operator)


@pytest.fixture
def namespace(operator, request):
    name = f"t-{uuid.uuid4().hex[:8]}"
    harness.make_namespace(name)
    yield name
    if getattr(request.node, "failed", False):
        print(harness.kubectl("get", "slipway,pods,jobs,pvc", "-n", name, "-o", "wide", check=False))
        print(harness.kubectl("get", "slipway", "-n", name, "-o", "yaml", check=False))
        print(harness.kubectl("logs", "-n", harness.SYSTEM, "deployment/slipway", "--tail=60", check=False))
    harness.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def web(operator):
    """What faults happen to."""
    import faults
    import node

    if not node.is_embedded():
        pytest.skip("faults are made inside the node of the embedded cluster")
    faults.push_decoders()
    web = faults.Web(f"faults-{uuid.uuid4().hex[:6]}")
    yield web
    web.delete()


@pytest.fixture
def keep(request):
    """Keeps a load's report for the table in the documentation."""
    import faults

    return lambda load, name=None: load.line(name or request.node.name, faults.REPORT)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        item.failed = True


def pytest_collection_modifyitems(config, items):
    """What takes minutes, or minutes to build, runs only when it is asked for by `-m slow` or `-m gateway`."""
    unasked = {mark for mark in ("slow", "gateway") if mark not in config.option.markexpr}
    left = [item for item in items if unasked & {mark.name for mark in item.iter_markers()}]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]
