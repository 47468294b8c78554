"""Regression and retrieval: what the models find is what transformers and sentence-transformers find in the same files, and so
are the figures."""

import json
import random

import pytest
import scipy.stats
import sklearn.metrics
import torch
import transformers as tf
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from test_losses import SIZES, WORDS, tokenizer


def texts(count, seed):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(2, 12))) for _ in range(count)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def save(model, directory):
    model.save_pretrained(directory)
    tokenizer(True).save(str(directory / "tokenizer.json"))
    tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer(True), pad_token="[PAD]", unk_token="[UNK]").save_pretrained(directory)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_numbers(kind, evaluate, tmp_path):
    torch.manual_seed(11)
    if kind == "bert":
        config = tf.BertConfig(**SIZES, num_labels=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        model = tf.BertForSequenceClassification(config)
    else:
        model = tf.LlamaForSequenceClassification(tf.LlamaConfig(**SIZES, num_labels=1, num_key_value_heads=2))
    model.eval()
    save(model, tmp_path / "model")
    sentences = texts(60, 1)
    with torch.no_grad():
        found = [float(model(torch.tensor([tokenizer(True).encode(text).ids])).logits[0, 0]) for text in sentences]
    rng = random.Random(2)
    truth = [value + rng.gauss(0, 0.3) for value in found]
    write(tmp_path / "test.jsonl", [{"text": text, "label": value} for text, value in zip(sentences, truth, strict=True)])
    references = {
        "mse": sklearn.metrics.mean_squared_error, "rmse": sklearn.metrics.root_mean_squared_error,
        "mae": sklearn.metrics.mean_absolute_error, "r2": sklearn.metrics.r2_score,
        "pearson": lambda a, b: scipy.stats.pearsonr(a, b)[0], "spearman": lambda a, b: scipy.stats.spearmanr(a, b)[0],
    }
    outcome = evaluate({
        "target": {"model": {"path": str(tmp_path / "model")}}, "task": "Regression",
        "dataset": {"source": {"path": str(tmp_path / "test.jsonl")}}, "metrics": [{"name": name} for name in references],
        "predictions": str(tmp_path / "predictions.jsonl"),
    }, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines] == pytest.approx(found, abs=1e-4)
    assert [line["reference"] for line in lines] == pytest.approx(truth, rel=1e-12)
    for result in outcome["results"]:
        reference = references[result["metric"]](truth, [line["prediction"] for line in lines])
        assert result["value"] == pytest.approx(reference, abs=1e-6), result
        assert result["confidenceInterval"]["low"] <= result["value"] <= result["confidenceInterval"]["high"]
        assert result["examples"] == 60


@pytest.mark.parametrize("normalised", [True, False])
def test_rankings(normalised, evaluate, tmp_path):
    torch.manual_seed(12)
    save(tf.BertModel(tf.BertConfig(**SIZES)), tmp_path / "base")
    backbone = Transformer(str(tmp_path / "base"))
    modules = [backbone, Pooling(backbone.get_embedding_dimension(), pooling_mode="mean")]
    encoder = SentenceTransformer(modules=modules + [Normalize()] * normalised, device="cpu")
    encoder.save(str(tmp_path / "model"))
    rng = random.Random(4)
    corpus = {f"d{n}": text for n, text in enumerate(dict.fromkeys(texts(150, 5)))}
    # Queries are parts of what they look for, so that some is found.
    relevant = {f"q{n}": set(rng.sample(sorted(corpus), rng.randint(1, 3))) for n in range(40)}
    queries = {query: " ".join(corpus[sorted(found)[0]].split()[:4]) for query, found in relevant.items()}
    data = tmp_path / "data"
    (data / "queries").mkdir(parents=True)
    write(data / "corpus.jsonl", [{"_id": name, "title": "", "text": text} for name, text in corpus.items()])
    write(data / "queries/part.jsonl", [{"_id": name, "text": text} for name, text in queries.items()])
    judged = [{"query-id": query, "corpus-id": name, "score": 1} for query, found in relevant.items() for name in sorted(found)]
    judged += [{"query-id": "q0", "corpus-id": sorted(set(corpus) - relevant["q0"])[0], "score": 0}]
    write(data / "test.jsonl", judged)
    names = {f"recallAt{k}": f"cosine_recall@{k}" for k in (1, 5, 10, 100)} | {"ndcgAt10": "cosine_ndcg@10", "mrrAt10": "cosine_mrr@10"}
    outcome = evaluate({
        "target": {"model": {"path": str(tmp_path / "model")}}, "task": "Retrieval", "dataset": {"source": {"path": str(data)}},
        "metrics": [{"name": name} for name in names],
    }, tmp_path / "run")
    reference = InformationRetrievalEvaluator(
        queries, corpus, relevant, precision_recall_at_k=[1, 5, 10, 100], show_progress_bar=False)(encoder)
    for result in outcome["results"]:
        assert result["value"] == pytest.approx(reference[names[result["metric"]]], abs=1e-6), result
        assert result["examples"] == 40
    assert 0.1 < outcome["results"][0]["value"] < 1.0
