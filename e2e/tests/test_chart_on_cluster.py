"""The chart on a real cluster: upgrade and uninstall keep what people own, and the operator may do no more than it needs."""

import json

import pytest
from harness import SYSTEM, apply, get, helm, install_operator, kubectl
from manifests import fine_tune_job


def may(verb: str, resource: str) -> bool:
    account = f"system:serviceaccount:{SYSTEM}:slipway"
    return kubectl("auth", "can-i", verb, resource, "-A", f"--as={account}", check=False).strip() == "yes"


def test_the_operator_may_do_what_it_does_and_no_more(operator):
    assert may("get", "secrets")
    assert not any(may(verb, "secrets") for verb in ("list", "watch", "create", "update", "patch", "delete"))
    assert not any(may(verb, "pods") for verb in ("create", "delete"))
    assert not may("create", "pods/exec") and not may("*", "*") and not may("create", "clusterrolebindings")


@pytest.mark.alone
def test_uninstall_keeps_the_objects_and_install_finds_them_again(namespace):
    apply(json.dumps(fine_tune_job("kept", namespace, suspend=True)))
    helm("uninstall", "slipway", "-n", SYSTEM, "--wait")
    assert get("finetunejob.slipway.dev", "kept", namespace)
    assert not get("clusterrole", "slipway", SYSTEM)
    install_operator("--set", "networkPolicy.enabled=true", "--set", "podDisruptionBudget.enabled=true",
                     "--set", "dashboard.enabled=true")
    assert get("networkpolicy", "slipway", SYSTEM) and get("poddisruptionbudget", "slipway", SYSTEM)
    install_operator()
    assert not get("networkpolicy", "slipway", SYSTEM)
    assert get("finetunejob.slipway.dev", "kept", namespace)
