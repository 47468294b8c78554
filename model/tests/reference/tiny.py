"""Tiny random models of every architecture, with settings that differ from the defaults where those could hide a mistake."""

import torch
import transformers as tf

DECODER = dict(
    vocab_size=97, hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)
ENCODER = dict(
    vocab_size=97, hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
    max_position_embeddings=80, pad_token_id=0,
)
CONFIGS = {
    "llama": lambda **k: tf.LlamaConfig(**DECODER, rms_norm_eps=1e-5, rope_theta=50_000.0, **k),
    "llama-tied": lambda **k: tf.LlamaConfig(**DECODER, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, **k),
    "llama-head-dim": lambda **k: tf.LlamaConfig(**DECODER, head_dim=16, **k),
    "llama-linear": lambda **k: tf.LlamaConfig(
        **DECODER, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}, **k),
    "llama3": lambda **k: tf.LlamaConfig(
        **DECODER, rope_parameters={
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32, "rope_theta": 10_000.0}, **k),
    "mistral": lambda **k: tf.MistralConfig(**DECODER, sliding_window=7, **k),
    "qwen2": lambda **k: tf.Qwen2Config(**DECODER, **k),
    "qwen2-sliding": lambda **k: tf.Qwen2Config(
        **DECODER, use_sliding_window=True, sliding_window=6, max_window_layers=0, **k),
    "bert": lambda **k: tf.BertConfig(**ENCODER, **k),
    "roberta": lambda **k: tf.RobertaConfig(**{**ENCODER, "pad_token_id": 1}, type_vocab_size=1, layer_norm_eps=1e-5, **k),
    "distilbert": lambda **k: tf.DistilBertConfig(
        vocab_size=97, dim=32, hidden_dim=56, n_layers=3, n_heads=4, max_position_embeddings=80, **k),
}
DECODERS = [name for name in CONFIGS if name.startswith(("llama", "mistral", "qwen2"))]
ENCODERS = ["bert", "roberta", "distilbert"]
IDS = [[5, 17, 3, 88, 42, 9, 23, 61, 4, 11, 30, 71, 8], [7, 19, 33, 2, 90], [12]]


def save(name, kind, directory, **settings):
    """Writes a random model of class `kind` and returns it, in evaluation mode with eager attention."""
    torch.manual_seed(hash_of(name))
    config = CONFIGS[name](**settings)
    model = getattr(tf, kind).from_config(config, attn_implementation="eager")
    with torch.no_grad():
        # Norms start at one and biases at zero: only other values show that they are used.
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.eval().save_pretrained(directory)
    return model


def hash_of(name):
    return sum(ord(letter) * (index + 1) for index, letter in enumerate(name))


def padded(ids):
    """Ids and attention mask as rectangles."""
    width = max(map(len, ids))
    rows = torch.tensor([row + [0] * (width - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
    return rows, mask
