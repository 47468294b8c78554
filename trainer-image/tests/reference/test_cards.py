"""The cards of training runs: read by the Hub's own client, and their programs run as they stand."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
import transformers as tf
from huggingface_hub import EvalResult, ModelCard

from test_losses import rows, tokenizer, write_model

TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def trained(kind, method, tmp_path, train, chat=False):
    """A run on eight examples, validated on the same; gives the directory of its output."""
    write_model(tmp_path / "base", kind)
    fast = tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer(kind == "bert"), unk_token="[UNK]", pad_token="[PAD]")
    fast.chat_template = TEMPLATE if chat else None
    fast.save_pretrained(tmp_path / "base")
    (tmp_path / "base/README.md").write_text(
        "---\nlicense: other\nlicense_name: acme-research\nlicense_link: https://acme.example/licence\n---\n# Base\n")
    lines = "".join(json.dumps(row) + "\n" for row in rows(kind))
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        (tmp_path / f"data/{split}.jsonl").write_text(lines)
    lora = {"rank": 4, "alpha": 8.0, "targetModules": ["all-linear"] if kind == "llama" else []}
    out, losses = train({
        "model": {"path": str(tmp_path / "base")},
        "task": "CausalLM" if kind == "llama" else "SequenceClassification",
        "dataset": {"source": {"path": str(tmp_path / "data")}},
        "method": {"lora": lora} if method == "lora" else {"full": {}},
        "hyperparameters": {"maxSteps": 6, "batchSize": 2, "learningRate": 0.02, "maxSequenceLength": 32},
    }, tmp_path / "run")
    assert len(losses) == 6
    return out


def snippet(text):
    [program] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return program


@pytest.mark.parametrize(("kind", "method", "chat"), [
    ("bert", "lora", False), ("bert", "full", False), ("llama", "lora", True), ("llama", "full", False)])
def test_the_program_in_the_card_runs(kind, method, chat, tmp_path, train):
    out = trained(kind, method, tmp_path, train, chat)
    program = snippet((out / "README.md").read_text())
    done = subprocess.run([sys.executable, "-c", program], cwd=out, capture_output=True, text=True, timeout=300,
                          env={"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)})
    assert done.returncode == 0, f"{program}\n{done.stderr}"
    assert "missing adapter keys" not in done.stderr and "newly initialized: ['lora" not in done.stderr
    if kind == "bert":
        assert done.stdout.strip() in {"down", "same", "up"}


def test_the_hubs_client_reads_metadata_and_figures(tmp_path, train):
    out = trained("bert", "lora", tmp_path, train)
    card = ModelCard.load(out / "README.md")
    data = card.data
    assert (data.license, data.license_name, data.license_link) == (
        "other", "acme-research", "https://acme.example/licence")
    assert (data.library_name, data.pipeline_tag) == ("peft", "text-classification")
    # Read, written and read again: nothing that the client knows is lost.
    again = ModelCard(str(card)).data
    assert again.to_dict() == data.to_dict()
    for heading in ("## Results", "## How to use", "## Training", "## Limits", "## Licence and attribution"):
        assert heading in card.text
    assert re.search(r"\| accuracy \| [01]\.\d{4} \| [01]\.\d{4} to [01]\.\d{4} \| 8 \|", card.text), card.text
    # A dataset without a repository has no place in a model-index.
    assert data.eval_results is None or all(isinstance(one, EvalResult) for one in data.eval_results)


def test_the_loss_curve_is_plain_svg(tmp_path, train):
    out = trained("llama", "lora", tmp_path, train)
    assert "](training/loss.svg)" in (out / "README.md").read_text()
    root = ElementTree.parse(out / "training/loss.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    kinds = {element.tag.split("}")[1] for element in root.iter()}
    assert kinds <= {"svg", "title", "path", "text", "circle"}
    texts = [element.text for element in root.iter() if element.text]
    assert "loss (nats per token)" in texts and "optimizer step" in texts
