"""helm lint, refusals by the values' schema, and snapshots of what the chart renders.

UPDATE_SNAPSHOTS=1 writes the snapshots anew.
"""

import os
import pathlib
import re
import subprocess

import pytest
import yaml

CHART = pathlib.Path(__file__).resolve().parents[1]
CACHE = pathlib.Path(os.environ.get("SLIPWAY_CACHE", pathlib.Path.home() / ".cache" / "slipway"))
HELM = str(CACHE / "bin" / "helm")
SNAPSHOTS = CHART / "tests" / "snapshots"
ALL = ["podDisruptionBudget.enabled=true", "networkPolicy.enabled=true", "serviceMonitor.enabled=true",
       "dashboard.enabled=true", "operator.replicas=2", "operator.namespace=models"]


def helm(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([HELM, *arguments], capture_output=True, text=True)


def template(*sets: str) -> list[dict]:
    done = helm("template", "slipway", str(CHART), "-n", "slipway-system", *(part for s in sets for part in ("--set", s)))
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of(documents: list[dict], kind: str) -> list[dict]:
    return [document for document in documents if document["kind"] == kind]


def test_lint():
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("name", "sets"), [("default", []), ("everything", ALL), ("no-crds", ["crds.enabled=false"])])
def test_snapshot(name, sets):
    # The CRDs have a test of their own; here they are left out to keep the snapshots readable.
    documents = [document for document in template(*sets) if document["kind"] != "CustomResourceDefinition"]
    text = yaml.safe_dump_all(documents, sort_keys=True, width=120)
    text = re.sub(r"(slipway\.json: ).*?(?=\n  ?\w|\nkind)", r"\1(a dashboard)", text, flags=re.S)
    path = SNAPSHOTS / f"{name}.yaml"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(text)
    assert text == path.read_text(), f"{path} differs; UPDATE_SNAPSHOTS=1 pytest {__file__} writes it anew"


def test_crds_are_those_of_the_repository():
    rendered = {crd["metadata"]["name"]: crd for crd in of(template(), "CustomResourceDefinition")}
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (CHART.parents[1] / "crds").glob("*.yaml")}
    assert set(rendered) == set(files) == {f"{kind}.slipway.dev" for kind in ("finetunejobs", "evalruns", "modeldeployments")}
    for name, crd in rendered.items():
        assert crd["spec"] == files[name]["spec"]
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not of(template("crds.enabled=false"), "CustomResourceDefinition")
    for crd in of(template("crds.keep=false"), "CustomResourceDefinition"):
        assert "helm.sh/resource-policy" not in (crd["metadata"].get("annotations") or {})


def test_the_operator_is_confined():
    pod = of(template(), "Deployment")[0]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    container = pod["containers"][0]["securityContext"]
    assert container == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def test_secrets_are_only_read():
    for role in of(template(), "ClusterRole") + of(template(), "Role"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["get"] and rule["resources"] == ["secrets"]


def test_watching_one_namespace_needs_no_cluster_wide_rights():
    documents = template("operator.namespace=models")
    assert not of(documents, "ClusterRoleBinding")
    assert {binding["metadata"]["namespace"] for binding in of(documents, "RoleBinding")} == {"models", "slipway-system"}


@pytest.mark.parametrize(("setting", "words"), [
    ("operator.replicas=0", "minimum"),
    ("image.pullPolicy=Sometimes", "pullPolicy"),
    ("hub.endpoint=huggingface.co", "endpoint"),
    ("operater.replicas=1", "operater"),
    ("serviceMonitor.interval=often", "interval"),
])
def test_wrong_values_are_refused(setting, words):
    done = helm("template", "slipway", str(CHART), "--set", setting)
    assert done.returncode != 0 and words in done.stderr, done.stderr
