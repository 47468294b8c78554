"""Metrics of numbers, of rankings and of likelihoods against scikit-learn, scipy, sentence-transformers and torchmetrics."""

import math
import random
import warnings

import pytest
from metric_program import agree, ask

metrics = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")


def numbers():
    yield [3.0, -0.5, 2.0, 7.0], [2.5, 0.0, 2.0, 8.0]
    yield [1.0], [2.0]
    yield [], []
    yield [1.0, 2.0], [1.0]
    yield [1.0, 2.0], [4.0, 3.0]
    yield [0.1] * 10, list(range(10))
    yield list(range(10)), [0.1] * 10
    yield [5.0, 5.0], [5.0, 5.0]
    yield [1e200, 2e200, 4e200], [1.0, 2.0, 3.0]
    yield [1e-200, 2e-200, 4e-200], [3.0, 2.0, 3.0]
    yield [1e9 + 1, 1e9 + 2, 1e9 + 3], [1.0, 3.0, 2.0]
    yield [0.0, -0.0, 1.0], [1.0, 2.0, 3.0]
    draw = random.Random(5)
    for size in (2, 3, 8, 100, 5000):
        for digits in (0, 1, 12):  # few digits tie
            truth = [round(draw.gauss(0, 3), digits) for _ in range(size)]
            yield truth, [round(0.5 * value + draw.gauss(0, 1), digits) for value in truth]


def test_figures_are_those_of_scikit_learn_and_scipy():
    given = list(numbers())
    references = {
        "mse": metrics.mean_squared_error,
        "rmse": metrics.root_mean_squared_error,
        "mae": metrics.mean_absolute_error,
        "r2": metrics.r2_score,
        "pearson": lambda truth, found: stats.pearsonr(truth, found).statistic,
        "spearman": lambda truth, found: stats.spearmanr(truth, found).statistic,
    }
    for (truth, found), ours in zip(given, ask([{"kind": "numbers", "truth": t, "found": f} for t, f in given])):
        for name, reference in references.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # constants, and single examples
                if max(map(abs, truth), default=0) > 1e150 and name in ("mse", "rmse", "r2"):
                    assert "too large" in ours[name]["refused"]  # theirs is infinite
                    continue
                agree(ours[name], lambda: reference(truth, found), (name, truth[:9], found[:9]))


def test_numbers_that_are_none_are_refused():
    cases = [{"kind": "numbers", "truth": [1.0, None], "found": [1.0, 2.0]}]
    with pytest.raises(AssertionError, match="invalid type: null"):
        ask(cases)


def rankings():
    draw = random.Random(3)
    for queries in (1, 4, 30):
        for documents in (1, 5, 60):
            for k in (1, 3, 10, 100):
                found = [draw.sample(range(documents), documents) for _ in range(queries)]
                relevant = [draw.sample(range(documents), draw.randint(0, min(documents, 6))) for _ in range(queries)]
                yield {"found": found, "relevant": relevant, "k": k}
    yield {"found": [[0, 1]], "relevant": [[]], "k": 1}
    yield {"found": [], "relevant": [], "k": 1}


def test_retrieval_is_measured_as_by_sentence_transformers():
    evaluation = pytest.importorskip("sentence_transformers.evaluation")
    given = list(rankings())
    for case, ours in zip(given, ask([{"kind": "retrieval", **case} for case in given])):
        k = case["k"]
        relevant = {str(query): set(map(str, documents)) for query, documents in enumerate(case["relevant"]) if documents}
        documents = {str(number): "text" for number in range(max(map(len, case["found"]), default=0))}

        def reference(name):
            judge = evaluation.InformationRetrievalEvaluator(
                {query: "text" for query in relevant}, documents, relevant,
                mrr_at_k=[k], ndcg_at_k=[k], accuracy_at_k=[k], precision_recall_at_k=[k], map_at_k=[k],
            )
            results = [
                [{"corpus_id": str(document), "score": -rank} for rank, document in enumerate(case["found"][int(query)])]
                for query in judge.queries_ids
            ]
            return judge.compute_metrics(results)[name][k] if results else math.nan

        for name, theirs in (("recall", "recall@k"), ("ndcg", "ndcg@k"), ("mrr", "mrr@k")):
            agree(ours[name], lambda: reference(theirs), case)


def test_perplexity_is_that_of_torchmetrics():
    torch = pytest.importorskip("torch")
    text = pytest.importorskip("torchmetrics.functional.text")
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 7, 11, generator=generator, dtype=torch.float64)
    truth = torch.randint(11, (3, 7), generator=generator)
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="sum").item()
    ours, nothing = ask([
        {"kind": "likelihoods", "nats": nats, "tokens": 21, "bytes": 80},
        {"kind": "likelihoods", "nats": 0.0, "tokens": 0, "bytes": 0},
    ])
    agree(ours["perplexity"], lambda: text.perplexity(logits, truth), "perplexity")
    harness = pytest.importorskip("lm_eval.api.metrics")
    agree(ours["bits_per_byte"], lambda: harness.bits_per_byte([(-nats, 80)]), "bits per byte")
    assert nothing["perplexity"]["refused"] and nothing["bits_per_byte"]["refused"]
