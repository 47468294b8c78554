"""Adapters we write are loaded by PEFT without a missing or unexpected key, and compute the same; and the other way round."""

import warnings

import peft
import pytest
import torch
import transformers as tf
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from test_logits import close
from tiny import IDS, padded, save

KINDS = {"causal": "AutoModelForCausalLM", "classify": "AutoModelForSequenceClassification", "embed": "AutoModel"}
CASES = [
    ("llama", "causal", ""), ("llama", "causal", "all-linear"), ("mistral", "causal", "q_proj,k_proj"),
    ("qwen2", "causal", ""), ("llama", "classify", ""), ("bert", "classify", ""), ("bert", "classify", "query,value,dense"),
    ("roberta", "classify", ""), ("distilbert", "classify", ""), ("bert", "embed", ""),
]


@pytest.mark.parametrize("name,task,targets", CASES)
def test_peft_loads_ours(name, task, targets, tmp_path, examples, ours):
    settings = {"num_labels": 3} if task == "classify" else {}
    save(name, KINDS[task], tmp_path / "base", **settings)
    examples("adapter", tmp_path / "base", task, tmp_path / "adapter", *([targets] if targets else []))

    base = getattr(tf, KINDS[task]).from_pretrained(tmp_path / "base", attn_implementation="eager")
    wrapped = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    result = wrapped.load_adapter(tmp_path / "adapter", adapter_name="again")
    assert not result.unexpected_keys
    missing = [key for key in result.missing_keys if "again" in key]
    assert not missing, missing
    written = load_file(tmp_path / "adapter/adapter_model.safetensors")
    assert written.keys() == peft.get_peft_model_state_dict(wrapped).keys()

    wrapped.eval()
    rows, mask = padded(IDS)
    with torch.no_grad():
        if task == "classify" and name in ("bert", "roberta", "distilbert"):
            close(ours(tmp_path / "base", task, IDS, tmp_path / "adapter"), wrapped(rows, attention_mask=mask).logits)
        elif task == "classify":
            theirs = torch.cat([wrapped(torch.tensor([row])).logits for row in IDS])
            close(ours(tmp_path / "base", task, IDS, tmp_path / "adapter"), theirs)
        elif task == "causal":
            for ids, row in zip(IDS, ours(tmp_path / "base", task, IDS, tmp_path / "adapter")):
                close(row, wrapped(torch.tensor([ids])).logits[0])
        else:
            for ids, row in zip(IDS, ours(tmp_path / "base", task, IDS, tmp_path / "adapter")):
                mean = wrapped(torch.tensor([ids])).last_hidden_state[0].mean(0)
                close(row, mean / mean.norm())


@pytest.mark.parametrize("name,task,settings", [
    ("llama", "causal", {}), ("llama", "causal", {"use_rslora": True, "target_modules": "all-linear"}),
    ("llama", "causal", {"rank_pattern": {"q_proj": 2}}), ("bert", "classify", {}), ("roberta", "classify", {}),
])
def test_we_load_pefts(name, task, settings, tmp_path, ours):
    model = save(name, KINDS[task], tmp_path / "base", **({"num_labels": 3} if task == "classify" else {}))
    kind = {"causal": "CAUSAL_LM", "classify": "SEQ_CLS"}[task]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = get_peft_model(model, LoraConfig(r=4, lora_alpha=12, task_type=kind, init_lora_weights=False, **settings))
    wrapped.eval().save_pretrained(tmp_path / "adapter")
    rows, mask = padded(IDS)
    results = ours(tmp_path / "base", task, IDS, tmp_path / "adapter")
    with torch.no_grad():
        if task == "classify":
            close(results, wrapped(rows, attention_mask=mask).logits)
        else:
            for ids, row in zip(IDS, results):
                close(row, wrapped(torch.tensor([ids])).logits[0])
