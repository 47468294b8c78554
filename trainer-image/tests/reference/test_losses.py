"""The losses of ten steps are those of PyTorch, transformers and PEFT: same weights, same rows, no dropout."""

import json

import peft
import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = "good great fine strong gain bad poor weak loss fall the stock is today very looks again market price says".split()
VOCABULARY = ["[PAD]", "[UNK]", "[EOS]", "[CLS]", "[SEP]", *WORDS]
SIZES = dict(
    vocab_size=len(VOCABULARY), hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64, pad_token_id=0, initializer_range=0.2,
)
STEPS, WARMUP, RATE, DECAY = 10, 3, 0.02, 0.05
HYPER = {
    "maxSteps": STEPS, "batchSize": 4, "gradientAccumulationSteps": 2, "learningRate": RATE, "scheduler": "Cosine",
    "warmupSteps": WARMUP, "weightDecay": DECAY, "maxGradientNorm": 0.5, "maxSequenceLength": 32,
}


def tokenizer(special):
    tok = Tokenizer(models.WordLevel({word: id for id, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        tok.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 3), ("[SEP]", 4)])
    return tok


def write_model(directory, kind):
    torch.manual_seed(3)
    if kind == "llama":
        model = tf.LlamaForCausalLM(tf.LlamaConfig(**SIZES, num_key_value_heads=2, bos_token_id=None, eos_token_id=2))
    else:
        model = tf.BertModel(tf.BertConfig(**SIZES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    model.save_pretrained(directory)
    tokenizer(kind == "bert").save(str(directory / "tokenizer.json"))


def rows(kind):
    """Eight examples: with two batches of four a step, each step sees all of them, whatever their order."""
    pick = lambda n, k: WORDS[(n * 7 + k * 3) % len(WORDS)]
    if kind == "llama":
        return [{"prompt": " ".join(pick(n, k) for k in range(2 + n % 3)),
                 "completion": " ".join(pick(n, k + 9) for k in range(1 + n % 4))} for n in range(8)]
    return [{"text": " ".join(pick(n, k) for k in range(2 + n % 5)), "label": ["down", "same", "up"][n % 3]} for n in range(8)]


def encoded(kind):
    tok = tokenizer(kind == "bert")
    for row in rows(kind):
        if kind == "bert":
            yield tok.encode(row["text"]).ids, ["down", "same", "up"].index(row["label"])
        else:
            prompt, answer = tok.encode(row["prompt"]).ids, tok.encode(row["completion"]).ids + [2]
            yield prompt + answer, [-100] * len(prompt) + answer


def torch_losses(model, kind):
    """Ten steps of AdamW as the Trainer of transformers does them: loss over all tokens of a step, clipped gradient."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}], lr=RATE)
    schedule = tf.get_cosine_schedule_with_warmup(optimizer, WARMUP, STEPS)
    losses = []
    model.train()
    for _ in range(STEPS):
        total, count = 0.0, 0
        for ids, target in encoded(kind):
            logits = model(torch.tensor([ids])).logits[0]
            if kind == "llama":
                logits, targets = logits[:-1], torch.tensor(target[1:])
            else:
                targets = torch.tensor([target])
                logits = logits[None]
            total = total + torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
            count += int((targets != -100).sum())
        loss = total / count
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*decayed, *plain], HYPER["maxGradientNorm"])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def load(kind, directory, adapter):
    """What the trainer wrote, as PyTorch trains it."""
    auto = tf.AutoModelForCausalLM if kind == "llama" else tf.AutoModelForSequenceClassification
    if not adapter:
        return auto.from_pretrained(directory)
    settings = {} if kind == "llama" else {"num_labels": 3}
    base = auto.from_pretrained(json.loads((directory / "adapter_config.json").read_text())["base_model_name_or_path"], **settings)
    model = peft.PeftModel.from_pretrained(base, directory, is_trainable=True)
    result = model.load_adapter(directory, adapter_name="again")
    assert not result.unexpected_keys
    assert not [key for key in result.missing_keys if "again" in key]
    model.delete_adapter("again")
    return model


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_ten_losses(kind, method, tmp_path, train):
    write_model(tmp_path / "base", kind)
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(kind)))
    lora = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targetModules": ["all-linear"] if kind == "llama" else []}
    config = {
        "model": {"path": str(tmp_path / "base")},
        "task": "CausalLM" if kind == "llama" else "SequenceClassification",
        "dataset": {"source": {"path": str(data)}},
        "method": {"lora": lora} if method == "lora" else {"full": {}},
    }
    # A step at rate 0 writes down the weights that training starts from.
    start, _ = train({**config, "hyperparameters": {**HYPER, "maxSteps": 1, "learningRate": 0.0}}, tmp_path / "start")
    _, ours = train({**config, "hyperparameters": HYPER}, tmp_path / "run")
    theirs = torch_losses(load(kind, start, method == "lora"), kind)
    assert len(ours) == STEPS
    assert theirs[-1] < 0.97 * theirs[0], "nothing was learned"
    assert ours == pytest.approx(theirs, rel=2e-4)
