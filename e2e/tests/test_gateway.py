"""Rollouts behind a real Gateway, Envoy Gateway: the same as through the routers, and what only a Gateway can do wrong."""

import contextlib
import json
import math
import time
import uuid

import node
import pytest
from faults import KIND, NOT_A_NUMBER, Web, analysis, each_step, gate, gated, no_failure, push_decoders
from harness import CACHE, ROOT, apply, condition, get, helm, kubectl, listing, port_forward, request
from test_fine_tune import eventually
# The scenarios of the routers, here with the `way` below.
from test_rollout import (  # noqa: F401
    Router, serving, test_a_good_revision_passes_its_gate_its_analysis_and_a_person,
    test_a_revision_that_fails_its_gate_never_answers_anyone, test_crash_abort_edit_and_missing_template)

pytestmark = [pytest.mark.gateway, pytest.mark.alone]

BUILT = CACHE / "gateway"
SYSTEM = "envoy-gateway-system"
EDGE = "edge"
ROUTE = "httproutes.gateway.networking.k8s.io"


def listener(name: str, port: int, allowed: str) -> dict:
    return {"name": name, "port": port, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": allowed}}}


def gateway(name: str, *listeners: dict) -> None:
    apply(json.dumps({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name, "namespace": EDGE},
                      "spec": {"gatewayClassName": "envoy", "listeners": list(listeners)}}))


def proxy() -> str:
    """The Service of the proxies of Gateway `public`."""
    selector = f"gateway.envoyproxy.io/owning-gateway-name=public,gateway.envoyproxy.io/owning-gateway-namespace={EDGE}"
    return listing("services", SYSTEM, selector)[0]["metadata"]["name"]


def parent(**more: str) -> dict:
    return {"name": "public", "namespace": EDGE, "sectionName": "http", **more}


class Behind(Router):
    """How requests come: through a listener of the Gateway, told apart by their host."""

    def traffic(self, namespace: str) -> dict:
        return {"gateway": {"parentRefs": [parent()], "hostnames": [f"{namespace}.example.com"]}}

    def headers(self, namespace: str) -> dict:
        return {"host": f"{namespace}.example.com"}

    @contextlib.contextmanager
    def open(self, namespace: str):
        with port_forward(SYSTEM, f"service/{proxy()}", 80) as url:
            # The controller says that it took a route before its proxies have it.
            eventually("the proxy to follow", lambda: request(f"{url}/v1/models", headers=self.headers(namespace))[0] == 200, 30)
            yield url


class GatedWeb(Web):
    """A ModelDeployment of decoders behind the Gateway."""

    def __init__(self, namespace: str, **more):
        self.spec = {"traffic": Behind().traffic(namespace)}
        super().__init__(namespace, **more)

    def arrange(self, traffic: dict) -> None:
        """Changes how requests come, and nothing else."""
        self.spec = {"traffic": traffic}
        kubectl("patch", KIND, "web", "-n", self.namespace, "--type=json", "-p",
                json.dumps([{"op": "add", "path": "/spec/traffic", "value": traffic}]))

    def by(self, **more: str) -> dict:
        """The traffic that names this Gateway, or listener, instead."""
        return {"gateway": {**Behind().traffic(self.namespace)["gateway"], "parentRefs": [parent(**more)]}}

    def outside(self, *options: str) -> node.Load:
        """Load through the Gateway."""
        host = Behind().headers(self.namespace)["host"]
        return node.Load(SYSTEM, proxy(), "--tokens", "100", "--host", host, "--fresh", "12", "--kept", "6", "--stream", "0.5", *options)

    def said(self, reason: str, *words: str, timeout: float = 60) -> None:
        """Waits until the object says why it is not ready, with these words."""
        last = {}

        def check():
            last.update(condition(get(KIND, "web", self.namespace), "Ready"))
            return last.get("reason") == reason and all(word in last["message"] for word in words)

        try:
            eventually(reason, check, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}") from None

    def answers(self) -> None:
        """Waits until requests through the Gateway are answered."""
        with Behind().open(self.namespace):
            pass


@pytest.fixture(scope="module")
def installed(operator):
    if not (BUILT / "envoy.ref").exists():
        pytest.skip("Envoy Gateway is not built: run make test-gateway")
    if not node.is_embedded():
        pytest.skip("load runs inside the node of the embedded cluster")
    helm("upgrade", "--install", "eg", BUILT / "chart", "-n", SYSTEM, "--create-namespace", "-f", ROOT / "e2e/gateway/values.yaml",
         "--set-string", f"global.images.envoyProxy.image={(BUILT / 'envoy.ref').read_text().strip()}")
    kubectl("rollout", "status", "deployment/envoy-gateway", "-n", SYSTEM, "--timeout=180s")
    apply(json.dumps({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "envoy"},
                      "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"}}))
    apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": EDGE}}))
    gateway("public", listener("http", 80, "All"), listener("private", 8081, "Same"))
    kubectl("wait", "gateway/public", "-n", EDGE, "--for=condition=Accepted", "--timeout=60s")
    selector = "gateway.envoyproxy.io/owning-gateway-name=public"
    eventually("the proxy", lambda: listing("deployments", SYSTEM, selector), 60)
    kubectl("rollout", "status", "deployment", "-l", selector, "-n", SYSTEM, "--timeout=180s")


@pytest.fixture
def way(installed):
    return Behind()


@pytest.fixture(scope="module")
def web(installed):
    push_decoders()
    web = GatedWeb(f"gateway-{uuid.uuid4().hex[:6]}")
    web.answers()
    yield web
    web.delete()


def within(part: int, whole: int, share: float) -> bool:
    """Whether a share drawn at random may come to this: 5 standard deviations, which chance misses once in a million."""
    return abs(part - whole * share) <= 5 * math.sqrt(whole * share * (1 - share))


def test_a_rollout_under_load_shifts_as_told_and_loses_nothing(web):
    gate(web.namespace, "lenient", 1e9)
    old = web.stable_revision()
    with web.outside() as load:
        arm = web.roll(gated("lenient"), {"setWeight": 30}, analysis(8), {"pause": {}}, {"setWeight": 60}, {"pause": {"duration": "2s"}})
        at = web.until("WaitingForPromotion", 180)
        assert any("analysis passed: errorRate is 0" in found for found in at["history"]), at["history"]
        new = at["revision"]
        with web.outside("--stream", "0") as counted:
            time.sleep(25)
        each_step(web, lambda *_: None)
        web.ready()
        web.arm = arm
    no_failure(load.report)
    no_failure(counted.report)
    met = {name: sum(counted.report[kind]["revisions"].get(name, 0) for kind in ("fresh", "kept")) for name in (old, new)}
    sent = sum(counted.report[kind]["sent"] for kind in ("fresh", "kept"))
    assert sum(met.values()) == sent > 200 and within(met[new], sent, 0.3), met
    assert web.stable_revision() == new


def test_a_revision_that_fails_is_rolled_back_by_what_its_servers_say(web):
    with web.outside("--stream", "0") as load:
        web.roll({"setWeight": 30}, analysis(60), {"setWeight": 100}, arm=web.changed(NOT_A_NUMBER))
        at = web.until("AnalysisFailed", 120)
        assert at["phase"] == "RolledBack" and "errorRate is 1, above max 0.05" in at["message"], at
        eventually("its pods to go", lambda: not listing("deployments", web.namespace, "slipway.dev/track=canary"), 60)
    counts = [load.report[kind] for kind in ("fresh", "kept")]
    # Nobody stands in for a revision behind a Gateway: its share met the error, and only that.
    assert all(set(count["first"]) == {"200", "500"} for count in counts), counts
    assert {failure["revision"] for count in counts for failure in count["failures"]} == {at["revision"]}
    web.back()


def test_what_keeps_a_gateway_from_answering_is_told_and_mended(web):
    with web.load() as inside:
        inside.stage("absent")
        web.arrange(web.by(name="late"))
        web.said("GatewayMissing", f"there is no Gateway late in namespace {EDGE}", "create it")
        gateway("late", listener("http", 80, "All"))
        web.ready()
        inside.stage("no such listener")
        web.arrange(web.by(sectionName="nobody"))
        web.said("GatewayRefused", "NoMatchingParent", "correct traffic.gateway.parentRefs")
        inside.stage("not allowed")
        web.arrange(web.by(sectionName="private"))
        web.said("GatewayRefused", "NotAllowedByListeners", "allow the route in the Gateway's listeners")
        gateway("public", listener("http", 80, "All"), listener("private", 8081, "All"))
        web.ready()
        inside.stage("gone")
        web.arrange(web.by(name="late"))
        web.ready()
        kubectl("delete", "gateway", "late", "-n", EDGE)
        # What is well is looked at once a minute.
        web.said("GatewayMissing", "there is no Gateway late", timeout=120)
        inside.stage("well")
        web.arrange(web.by())
        web.ready()
    gateway("public", listener("http", 80, "All"), listener("private", 8081, "Same"))
    no_failure(inside.report)
    web.answers()


def test_from_a_gateway_to_none_and_back_in_the_middle_of_a_rollout(web):
    with web.load() as inside:
        arm = web.roll({"setWeight": 40}, {"pause": {}}, {"setWeight": 80}, {"pause": {"duration": "2s"}})
        with web.outside() as before:
            web.until("WaitingForPromotion", 120)
            time.sleep(5)
        web.arrange({})
        eventually("the route to go", lambda: not listing(ROUTE, web.namespace), 30)
        eventually("its Services to go", lambda: not [name for name in services(web.namespace) if "--" in name], 30)
        assert web.rollout()["weight"] == 40
        web.arrange(web.by())
        web.answers()
        with web.outside() as after:
            each_step(web, lambda *_: None)
            web.ready()
        web.arm = arm
    for load in (inside, before, after):
        no_failure(load.report)


def services(namespace: str) -> list[str]:
    return [service["metadata"]["name"] for service in listing("services", namespace)]


def test_deletion_leaves_nothing_behind(web):
    kubectl("delete", KIND, "web", "-n", web.namespace)
    eventually("the route to go", lambda: not listing(ROUTE, web.namespace), 60)
    eventually("its Services to go", lambda: not services(web.namespace), 60)
