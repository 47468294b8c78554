"""One cluster, one Hub and one operator for all tests; a namespace of its own for each test that asks for one."""

import os
import pathlib
import sys
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import harness  # noqa: E402


@pytest.fixture(scope="session")
def cluster():
    os.environ["KUBECONFIG"] = harness.cluster_up()
    return os.environ["KUBECONFIG"]


@pytest.fixture(scope="session")
def hub(cluster):
    """The test Hub in the cluster, seeded; its address from here."""
    harness.deploy_hub()
    with harness.port_forward("hub", "service/hub", 80) as url:
        harness.seed_hub(url)
        yield url


@pytest.fixture(scope="session")
def operator(cluster, hub):
    harness.install_operator()


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


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        item.failed = True
