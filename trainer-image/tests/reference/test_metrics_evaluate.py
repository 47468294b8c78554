"""`slipway-trainer evaluate` against transformers: the same answers and the same scores of classes, and figures of them as
the reference implementations compute them."""

import json
import subprocess

import pytest
import torch
import transformers as tf
from metric_program import TOLERANCE
from programs import programs
from test_losses import WORDS, tokenizer, write_model

metrics = pytest.importorskip("sklearn.metrics")
sacrebleu = pytest.importorskip("sacrebleu")
scorer = pytest.importorskip("rouge_score.rouge_scorer")

EOS = 2
# Says what comes before an answer and what ends it, as templates of real models do.
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}[CLS] {{ m.content }} [EOS] {% else %}{{ m.content }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[CLS] {% endif %}"
)


def evaluate(directory, config):
    """What came of it, and the predictions."""
    config = {**config, "predictions": str(directory / "predictions.jsonl")}
    (directory / "config.json").write_text(json.dumps(config))
    command = [programs()["slipway-trainer"], "evaluate", "--config", directory / "config.json", "--report", directory / "report.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    outcome = json.loads((directory / "report.json").read_text())["outcome"]
    return outcome, [json.loads(line) for line in (directory / "predictions.jsonl").read_text().splitlines()]


def values(outcome):
    return {result["metric"] + ("/" + result["average"] if "average" in result else ""): result["value"] for result in outcome["results"]}


def write_rows(directory, rows):
    directory.mkdir()
    (directory / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"source": {"path": str(directory)}}


@pytest.mark.parametrize(("batch", "shape"), [(1, "plain"), (4, "plain"), (4, "template"), (4, "messages")])
def test_answers_and_their_figures(tmp_path, batch, shape):
    write_model(tmp_path / "llama", "llama")
    if shape != "plain":
        (tmp_path / "llama/tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE, "eos_token": "[EOS]"}))
    begin = "" if shape == "plain" else " [CLS]"
    model = tf.AutoModelForCausalLM.from_pretrained(tmp_path / "llama").eval()
    tok = tokenizer(special=False)
    rows, expected = [], []
    for n in range(9):
        prompt = " ".join(WORDS[(n * 7 + k * 3) % len(WORDS)] for k in range(1 + n % 4))
        ids = torch.tensor([tok.encode(prompt + begin).ids])
        out = model.generate(ids, max_new_tokens=10, do_sample=False, eos_token_id=EOS, pad_token_id=0, attention_mask=torch.ones_like(ids))
        answer = [id for id in out[0, ids.shape[1] :].tolist() if id != EOS]
        expected.append(tok.decode(answer, skip_special_tokens=True))
        words = expected[-1].split()
        # References that the model meets, nearly meets and misses.
        reference = [words, words[:3] + ["today"] + words[4:], words[5:] + words[:5]][n % 3] or ["today"]
        rows.append({"prompt": prompt, "completion": " ".join(reference)})
    turns = [[{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}] for row in rows]
    names = ["exactMatch", "squadF1", "bleu", "sacrebleu", "chrf", "ter", "rouge1", "rouge2", "rougeL", "rougeLsum", "perplexity", "bitsPerByte"]
    outcome, predictions = evaluate(tmp_path, {
        "target": {"model": {"path": str(tmp_path / "llama")}},
        "task": "CausalLM",
        "dataset": write_rows(tmp_path / "data", [{"messages": turn} for turn in turns] if shape == "messages" else rows),
        "metrics": [{"name": name} for name in names],
        "thresholds": [{"metric": "chrf", "min": 1.0}, {"metric": "ter", "max": 500.0}],
        "maxNewTokens": 10,
        "batchSize": batch,
    })
    found = [line["prediction"] for line in predictions]
    truth = [row["completion"] for row in rows]
    assert found == expected
    assert [line["reference"] for line in predictions] == truth
    assert outcome["verdict"] == "Passed"

    ours = values(outcome)
    rouge = [scorer.RougeScorer(names[6:10]).score(t, f) for f, t in zip(found, truth)]
    theirs = {
        "exactMatch": sum(map(str.__eq__, found, truth)) / len(truth),
        "bleu": sacrebleu.corpus_bleu(found, [truth], smooth_method="none").score / 100,
        "sacrebleu": sacrebleu.corpus_bleu(found, [truth]).score,
        "chrf": sacrebleu.corpus_chrf(found, [truth]).score,
        "ter": sacrebleu.corpus_ter(found, [truth]).score,
        **{name: sum(one[name].fmeasure for one in rouge) / len(rouge) for name in names[6:10]},
    }
    assert 0 < theirs["exactMatch"] < 1 and 0 < theirs["sacrebleu"] < 100
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE), name

    # Each reference with the token that ends it; only its own text counts as bytes.
    nats = tokens = size = 0
    for row in rows:
        prompt, answer = tok.encode(row["prompt"] + begin).ids, tok.encode(row["completion"]).ids
        ids = torch.tensor([prompt + answer + [EOS]])
        with torch.no_grad():
            scores = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        nats -= scores.gather(1, ids[0, len(prompt) :, None]).sum().item()
        tokens += len(answer) + 1
        size += len(tok.decode(ids[0].tolist())) - len(tok.decode(prompt))
    assert ours["perplexity"] == pytest.approx(torch.tensor(nats / tokens).exp().item(), rel=1e-4)
    assert ours["bitsPerByte"] == pytest.approx(nats / size / torch.tensor(2.0).log().item(), rel=1e-4)


@pytest.mark.parametrize("labels", [["down", "up"], ["down", "same", "up"]])
def test_classes_and_their_figures(tmp_path, labels):
    write_model(tmp_path / "bert", "bert")
    torch.manual_seed(11)
    config = tf.AutoConfig.from_pretrained(tmp_path / "bert", num_labels=len(labels))
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: id for id, label in enumerate(labels)}
    model = tf.BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "classifier")
    tokenizer(special=True).save(str(tmp_path / "classifier/tokenizer.json"))
    rows = [{"text": " ".join(WORDS[(n * 5 + k * 7) % len(WORDS)] for k in range(2 + n % 5)), "label": labels[(n * n + n // 3) % len(labels)]}
            for n in range(60)]
    scores = []
    for row in rows:
        with torch.no_grad():
            scores.append(model(torch.tensor([tokenizer(special=True).encode(row["text"]).ids])).logits[0].softmax(-1).tolist())
    found = [max(range(len(labels)), key=row.__getitem__) for row in scores]
    truth = [labels.index(row["label"]) for row in rows]

    averages = ["macro", "micro", "weighted"] + (["binary"] if len(labels) == 2 else [])
    asked = [{"name": name} for name in ("accuracy", "matthewsCorrelation", "rocAuc")]
    asked += [{"name": name, "average": average} for name in ("precision", "recall", "f1") for average in averages]
    outcome, predictions = evaluate(tmp_path, {
        "target": {"model": {"path": str(tmp_path / "classifier")}},
        "task": "SequenceClassification",
        "dataset": write_rows(tmp_path / "data", rows),
        "metrics": asked,
    })
    assert [line["prediction"] for line in predictions] == [labels[id] for id in found]
    for line, row in zip(predictions, scores):
        assert list(line["scores"].values()) == pytest.approx(row, abs=1e-5)
    ours = values(outcome)
    # The areas are those of our own scores: two that are nearly equal may be the other way round in theirs.
    own = [list(line["scores"].values()) for line in predictions]
    area = metrics.roc_auc_score(truth, [row[1] for row in own]) if len(labels) == 2 else metrics.roc_auc_score(truth, own, multi_class="ovr")
    assert ours["rocAuc"] == pytest.approx(area, abs=TOLERANCE)
    assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(truth, found), abs=TOLERANCE)
    assert ours["matthewsCorrelation"] == pytest.approx(metrics.matthews_corrcoef(truth, found), abs=TOLERANCE)
    for name in ("precision", "recall", "f1"):
        score = getattr(metrics, f"{name}_score")
        for average in averages:
            assert ours[f"{name}/{average}"] == pytest.approx(score(truth, found, average=average, zero_division=0), abs=TOLERANCE)
