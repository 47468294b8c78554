"""A server answers an evaluation as its files do: classes, and how likely texts, answers and conversations are.

Choices and free answers over HTTP are in test_benchmarks.py.
"""

import json
import random

import pyarrow.parquet as pq
import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

WORDS = ("the stock is up again today and very strong ; Größe über naïve café 水は冷たい 🦀 e\u0301 loss fall weak price 1 2 3 "
         "good bad\n\n who says\tso ?").split(" ")
CHAT = ("{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}")
SPECIAL = ["<s>", "</s>", "<pad>", "<|user|>", "<|assistant|>", "<|end|>"]
LIMIT = 160
EXAMPLES = 16


def texts(seed, low, high):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(low, high))) for _ in range(EXAMPLES)]


def write(folder, rows):
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def tokenizer(begins):
    """Byte-level BPE, so small that a character of another script takes several tokens."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    if begins:
        tok.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tok


def decoder(directory, begins, chat):
    end = "<|end|>" if chat else "</s>"
    fast = tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer(begins), bos_token="<s>", eos_token=end, pad_token="<pad>",
                                      additional_special_tokens=SPECIAL[3:])
    if chat:
        fast.chat_template = CHAT
    fast.save_pretrained(directory)
    torch.manual_seed(7)
    config = tf.LlamaConfig(
        vocab_size=len(fast), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=LIMIT, bos_token_id=0, eos_token_id=fast.eos_token_id, initializer_range=0.5,
    )
    model = tf.LlamaForCausalLM(config)
    # Two tokens end an answer, as in chat models; texts end with the one of the lower id.
    model.generation_config.eos_token_id = [1, fast.eos_token_id] if chat else 1
    model.save_pretrained(directory)


def data(folder):
    """Texts, the longest too long for the model; prompts with answers; conversations."""
    prompts, answers, more = texts("p", 2, 9), texts("a", 1, 8), texts("m", 1, 6)
    write(folder / "texts", [{"text": text} for text in texts("t", 1, 150)] + [{"text": "水"}])
    write(folder / "answers", [{"prompt": p, "completion": a} for p, a in zip(prompts, answers, strict=True)])
    write(folder / "turns", [
        {"messages": [{"role": role, "content": content} for role, content in
                      [("user", p), ("assistant", m), ("user", m), ("assistant", " " + a)]]}
        for p, a, m in zip(prompts, answers, more, strict=True)])
    return folder


def reference(model, row, begins):
    """What transformers says of a text or of an answer: negative log-likelihood, tokens and bytes; no bytes where it is cut."""
    tok, network = tf.AutoTokenizer.from_pretrained(model), tf.AutoModelForCausalLM.from_pretrained(model).eval()
    prompt, own = ("", row["text"]) if "text" in row else (row["prompt"] + "\n", row["completion"])
    before = tok(prompt).input_ids if prompt else [0] * begins
    ids = (before + tok(own, add_special_tokens=False).input_ids + [tok.eos_token_id])[:LIMIT]
    first = max(len(before), 1)
    with torch.no_grad():
        scores = network(torch.tensor([ids])).logits[0, first - 1 : -1].double().log_softmax(-1)
    nats = -scores.gather(1, torch.tensor(ids)[first:, None]).sum().item()
    # A text's first token is predicted from nothing, and whole characters begin with the token that completes them.
    lost = 0 if before else len(tok.decode(ids[:1]).rstrip("\ufffd").encode())
    return nats, len(ids) - first, len(own.encode()) - lost if ids[-1] == tok.eos_token_id else None


@pytest.mark.parametrize(("begins", "chat"), [(False, False), (True, False), (True, True)])
def test_a_served_model_is_as_perplexed_as_its_files(begins, chat, evaluate, serve, tmp_path):
    """The wire carries each token's log-probability as the shortest decimal of its 32 bits, so what is left of a difference
    is what 32-bit arithmetic makes of two ways to add: 1e-6 of the figure."""
    model, folder = tmp_path / "model", data(tmp_path / "data")
    decoder(model, begins, chat)
    with serve(model) as url:
        targets = {"files": {"model": {"path": str(model)}}, "served": {"endpoint": {"url": url}}}
        for kind in ["texts", "answers", *(["turns"] if chat else [])]:
            found = {}
            for name, target in targets.items():
                predictions = tmp_path / f"{name}-{kind}.parquet"
                outcome = evaluate({
                    "target": target, "dataset": {"source": {"path": str(folder / kind)}}, "predictions": str(predictions),
                    "metrics": [{"name": "perplexity"}, {"name": "bitsPerByte"}, {"name": "chrf"}][: 2 + (kind != "texts")],
                    "maxNewTokens": 3, "batchSize": 5,
                }, tmp_path / f"{name}-{kind}")
                found[name] = outcome["results"], pq.read_table(predictions).to_pylist()
            for ours, served in zip(found["files"][1], found["served"][1], strict=True):
                assert (served["tokens"], served["bytes"]) == (ours["tokens"], ours["bytes"]), (kind, ours["text"])
                assert served["negativeLogLikelihood"] == pytest.approx(ours["negativeLogLikelihood"], rel=1e-6, abs=1e-5)
                assert served.get("prediction") == ours.get("prediction")
            for ours, served in zip(found["files"][0], found["served"][0], strict=True):
                assert served["value"] == pytest.approx(ours["value"], rel=1e-6), kind
                assert served["examples"] == ours["examples"]
            for row, ours in zip((folder / kind / "test.jsonl").read_text().splitlines(), found["files"][1], strict=True):
                if not chat:
                    nats, tokens, size = reference(model, json.loads(row), begins)
                    assert ours["negativeLogLikelihood"] == pytest.approx(nats, rel=1e-4, abs=1e-4)
                    assert (ours["tokens"], ours["bytes"]) == (tokens, size or ours["bytes"]), row
            if kind == "texts":
                assert max(row["tokens"] for row in found["served"][1]) == LIMIT - 1, "some text is too long"


def test_a_served_classifier_finds_what_its_files_find(evaluate, serve, tmp_path):
    labels = ["bad", "fine", "good"]
    fast = tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer(True), bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.save_pretrained(tmp_path / "model")
    torch.manual_seed(3)
    config = tf.LlamaConfig(
        vocab_size=len(fast), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=1024, pad_token_id=2, initializer_range=0.3, num_labels=3,
        id2label=dict(enumerate(labels)), label2id={label: index for index, label in enumerate(labels)},
    )
    tf.LlamaForSequenceClassification(config).save_pretrained(tmp_path / "model")
    rows = [{"text": text, "label": labels[index % 3]} for index, text in enumerate(texts("c", 1, 30))]
    write(tmp_path / "data", rows)
    found = {}
    with serve(tmp_path / "model") as url:
        for name, target in {"files": {"model": {"path": str(tmp_path / "model")}}, "served": {"endpoint": {"url": url}}}.items():
            predictions = tmp_path / f"{name}.parquet"
            outcome = evaluate({
                "target": target, "task": "SequenceClassification", "dataset": {"source": {"path": str(tmp_path / "data")}},
                "metrics": [{"name": metric} for metric in ("accuracy", "f1", "matthewsCorrelation", "rocAuc")],
                "predictions": str(predictions),
            }, tmp_path / name)
            found[name] = outcome["results"], pq.read_table(predictions).to_pylist()
    assert found["served"][0] == found["files"][0]
    assert len({row["prediction"] for row in found["files"][1]}) > 1
    for ours, served in zip(found["files"][1], found["served"][1], strict=True):
        assert served["prediction"] == ours["prediction"]
        scores = [dict(row["scores"]) for row in (ours, served)]
        assert scores[1] == pytest.approx(scores[0], abs=1e-6)
