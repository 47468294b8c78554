"""Metrics against scikit-learn and scipy: every average, with classes that never occur and classes never found."""

import json
import pathlib
import random
import subprocess
import warnings

import pytest
from programs import programs

metrics = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")

ROOT = pathlib.Path(__file__).resolve().parents[3]
TOLERANCE = 1e-9


def cases():
    """Cases a person can check, then random ones of every size."""
    yield {"classes": 3, "truth": [0, 0, 0, 1, 1, 2], "found": [0, 0, 1, 1, 2, 2]}
    yield {"classes": 2, "truth": [1, 1, 1], "found": [1, 1, 1]}
    yield {"classes": 2, "truth": [0, 0, 0], "found": [1, 1, 1]}
    yield {"classes": 5, "truth": [4], "found": [0]}
    draw = random.Random(7)
    for size in (2, 3, 10, 57, 400):
        for classes in (2, 3, 7):
            skew = [draw.random() ** 3 + 0.01 for _ in range(classes)]
            truth = draw.choices(range(classes), skew, k=size)
            found = [t if draw.random() < 0.6 else draw.randrange(classes) for t in truth]
            yield {"classes": classes, "truth": truth, "found": found}


@pytest.fixture(scope="module")
def answers():
    asked = [*cases(), {"classes": 3, "truth": [], "found": []}]
    done = subprocess.run([programs()["metrics"]], cwd=ROOT, input=json.dumps(asked), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_average_is_that_of_scikit_learn(answers):
    for case, ours in zip(cases(), answers):
        truth, found = case["truth"], case["found"]
        assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(truth, found), abs=TOLERANCE)
        for average in ("macro", "micro", "weighted"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scikit-learn warns of classes that are never found
                precision, recall, f1, _ = metrics.precision_recall_fscore_support(
                    truth, found, average=average, zero_division=0
                )
            assert ours[f"precision_{average}"] == pytest.approx(precision, abs=TOLERANCE), (case, average)
            assert ours[f"recall_{average}"] == pytest.approx(recall, abs=TOLERANCE), (case, average)
            assert ours[f"f1_{average}"] == pytest.approx(f1, abs=TOLERANCE), (case, average)


def test_intervals_are_wilsons_as_scipy_computes_them(answers):
    for case, ours in zip(cases(), answers):
        right = sum(t == f for t, f in zip(case["truth"], case["found"], strict=True))
        interval = stats.binomtest(right, len(case["truth"])).proportion_ci(0.95, method="wilson")
        assert ours["wilson"] == pytest.approx([interval.low, interval.high], abs=TOLERANCE), case


def test_no_examples_have_no_score(answers):
    assert set(answers[-1].values()) == {None}
