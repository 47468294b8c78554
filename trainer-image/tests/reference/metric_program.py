"""The metrics of the trainer, asked through its example program, and how they are held against a reference."""

import json
import math
import pathlib
import subprocess

import pytest
from programs import programs

ROOT = pathlib.Path(__file__).resolve().parents[3]
# What the reference implementations themselves are apart from exact arithmetic is far less.
TOLERANCE = 1e-6


def ask(cases):
    """The answer to each case, see examples/metrics.rs."""
    program = programs()["metrics"]
    done = subprocess.run([program], cwd=ROOT, input=json.dumps(cases), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def agree(ours, reference, what):
    """Ours is the reference's figure; where it raises or answers NaN, ours is a refusal with a sentence."""
    try:
        theirs = float(reference())
    except (ValueError, ZeroDivisionError, IndexError):
        theirs = math.nan
    if math.isnan(theirs):
        assert isinstance(ours, dict), (what, ours)
        assert len(ours["refused"].split()) > 5, (what, ours)
    else:
        assert ours == pytest.approx(theirs, rel=TOLERANCE, abs=TOLERANCE), what
