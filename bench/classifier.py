"""A MiniLM classifier with three labels and a random head, for measuring speed."""

import json
import pathlib
import shutil

from common import SEED


def make(folder: pathlib.Path) -> pathlib.Path:
    if (folder / "model.safetensors").exists():
        return folder
    import torch
    from safetensors.torch import load_file, save_file

    source = SEED / "all-MiniLM-L6-v2"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(source / name, folder / name)
    config = json.loads((source / "config.json").read_text())
    labels = ["negative", "neutral", "positive"]
    config |= {"architectures": ["BertForSequenceClassification"], "id2label": dict(enumerate(labels)),
               "label2id": {label: index for index, label in enumerate(labels)}, "num_labels": 3}
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    weights = {f"bert.{name.removeprefix('bert.')}": tensor for name, tensor in load_file(source / "model.safetensors").items()}
    weights["classifier.weight"] = torch.randn(3, config["hidden_size"]) * 0.02
    weights["classifier.bias"] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder
