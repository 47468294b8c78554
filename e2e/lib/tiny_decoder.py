"""A Llama small enough that serving it costs a test next to nothing: random weights under a real tokenizer and template.

`nan=True` spoils its last norm, as a training that diverged leaves it: it loads, and no token can be sampled.
"""

import json
import pathlib
import shutil
import struct

import numpy

LAYERS, HIDDEN, INNER, HEADS, KEYS, HEAD = 2, 128, 256, 4, 2, 32


def shapes(vocabulary: int):
    """Name to shape of every tensor."""
    yield "model.embed_tokens.weight", (vocabulary, HIDDEN)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        for name, rows in (("q", HEADS * HEAD), ("k", KEYS * HEAD), ("v", KEYS * HEAD)):
            yield f"{at}.self_attn.{name}_proj.weight", (rows, HIDDEN)
        yield f"{at}.self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD)
        for name in ("gate", "up"):
            yield f"{at}.mlp.{name}_proj.weight", (INNER, HIDDEN)
        yield f"{at}.mlp.down_proj.weight", (HIDDEN, INNER)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{at}.{name}.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)


def write(folder: pathlib.Path, like: pathlib.Path, nan: bool = False) -> None:
    """Fills `folder` with config, weights and the tokenizer of the decoder in `like`."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in like.iterdir():
        if path.name.startswith(("tokenizer", "generation_config")):
            shutil.copy(path, folder)
    config = json.loads((like / "config.json").read_text())
    config |= {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "head_dim": HEAD,
               "num_attention_heads": HEADS, "num_key_value_heads": KEYS, "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps(config))
    draws, header, tensors, at = numpy.random.default_rng(1), {}, [], 0
    for name, shape in shapes(config["vocab_size"]):
        tensor = numpy.ones(shape, "<f4") if len(shape) == 1 else draws.normal(0, 0.05, shape).astype("<f4")
        if nan and name == "model.norm.weight":
            tensor[:] = numpy.nan
        tensors.append(tensor.tobytes())
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at := at + len(tensors[-1])]}
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(tensors)
