"""Tiny models made by transformers, and our own programs to run on them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "e2e" / "lib"))

from programs import programs  # noqa: E402


@pytest.fixture(scope="session")
def examples():
    """A function that runs one of the example programs."""
    def run(name, *arguments, stdin=""):
        done = subprocess.run(
            [programs()[name], *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=300,
            env={**os.environ, "RUST_BACKTRACE": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def ours(examples):
    """Our results for sequences of token ids: `ours(model, task, ids, adapter=None)`."""

    def run(model, task, ids, adapter=None):
        arguments = [model, task] + ([adapter] if adapter else [])
        return json.loads(examples("logits", *arguments, stdin=json.dumps(ids)))

    return run
