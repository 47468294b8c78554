"""Metrics of classification against scikit-learn and scipy: every average, with classes that never occur and classes
never found; ROC AUC with ties and without a class."""

import random
import warnings

import pytest
from metric_program import TOLERANCE, agree, ask

metrics = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


def cases():
    """Cases a person can check, then random ones of every size."""
    yield {"classes": 3, "truth": [0, 0, 0, 1, 1, 2], "found": [0, 0, 1, 1, 2, 2]}
    yield {"classes": 2, "truth": [1, 1, 1], "found": [1, 1, 1]}
    yield {"classes": 2, "truth": [0, 0, 0], "found": [1, 1, 1]}
    yield {"classes": 2, "truth": [0, 0, 0], "found": [0, 0, 0]}
    yield {"classes": 5, "truth": [4], "found": [0]}
    yield {"classes": 3, "truth": [], "found": []}
    yield {"classes": 3, "truth": [0, 1], "found": [0]}
    draw = random.Random(7)
    for size in (2, 3, 10, 57, 400, 50_000):
        for classes in (2, 3, 7):
            skew = [draw.random() ** 3 + 0.01 for _ in range(classes)]
            truth = draw.choices(range(classes), skew, k=size)
            found = [t if draw.random() < 0.6 else draw.randrange(classes) for t in truth]
            yield {"classes": classes, "truth": truth, "found": found}


@pytest.fixture(scope="module")
def answers():
    return ask([{"kind": "classes", **case} for case in cases()])


def test_every_average_is_that_of_scikit_learn(answers):
    for case, ours in zip(cases(), answers):
        truth, found = case["truth"], case["found"]
        agree(ours["accuracy"], lambda: metrics.accuracy_score(truth, found), case)
        if len(truth) != len(found):
            continue
        agree(ours["matthews"], lambda: metrics.matthews_corrcoef(truth, found), case)
        for name in ("precision", "recall", "f1"):
            score = getattr(metrics, f"{name}_score")
            for average in ("macro", "micro", "weighted"):
                agree(ours[f"{name}_{average}"], lambda: score(truth, found, average=average, zero_division=0), (case, average))


def test_the_binary_average_is_that_of_the_second_class(answers):
    for case, ours in zip(cases(), answers):
        for name in ("precision", "recall", "f1"):
            if case["classes"] == 2:
                score = getattr(metrics, f"{name}_score")
                agree(ours[f"{name}_binary"], lambda: score(case["truth"], case["found"], zero_division=0), case)
            elif len(case["truth"]) == len(case["found"]):
                assert ours[f"{name}_binary"]["refused"], case


def test_intervals_are_wilsons_as_scipy_computes_them(answers):
    for case, ours in zip(cases(), answers):
        if not isinstance(ours["accuracy"], float):
            continue
        right = sum(t == f for t, f in zip(case["truth"], case["found"], strict=True))
        interval = stats.binomtest(right, len(case["truth"])).proportion_ci(0.95, method="wilson")
        assert ours["wilson"] == pytest.approx([interval.low, interval.high], abs=TOLERANCE), case


def scored():
    draw = random.Random(11)
    for size in (1, 2, 3, 9, 40, 500):
        for classes in (2, 3, 5):
            truth = [draw.randrange(classes) for _ in range(size)]
            rows = []
            for label in truth:
                # 64 shares: coarse enough to tie, and exact in JSON.
                row = [0] * classes
                for _ in range(64):
                    row[label if draw.random() < 0.2 else draw.randrange(classes)] += 1
                rows.append([share / 64 for share in row])
            yield truth, rows
    yield [1, 1, 1], [[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]
    yield [0, 0, 0], [[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]
    yield [0, 1, 0, 1], [[0.5, 0.5]] * 4
    yield [0, 1], [[0.0, 1.0], [1.0, 0.0]]
    yield [], []
    yield [0, 1, 1], [[0.5, 0.5]]


def test_the_area_under_the_curve_is_that_of_scikit_learn():
    given = list(scored())
    for (truth, rows), ours in zip(given, ask([{"kind": "scores", "truth": t, "scores": r} for t, r in given])):

        def reference():
            if len(rows[0]) == 2:
                return metrics.roc_auc_score(truth, [row[1] for row in rows])
            return metrics.roc_auc_score(truth, rows, multi_class="ovr", labels=range(len(rows[0])))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one class only
            agree(ours["roc_auc"], reference, truth)
