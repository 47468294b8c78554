//! Tiny models with random weights, written as files and read back like any other.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use slipway_model::{Head, LoadOptions, Mode, ModelFiles, Network};
use tempfile::TempDir;

const VOCABULARY: usize = 61;
const HIDDEN: usize = 16;
const INNER: usize = 24;

pub fn decoder_config(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    })
}

pub fn encoder_config(model_type: &str) -> Value {
    match model_type {
        "distilbert" => json!({
            "model_type": model_type, "vocab_size": VOCABULARY, "dim": HIDDEN, "hidden_dim": INNER, "n_layers": 2,
            "n_heads": 4, "max_position_embeddings": 40, "dropout": 0.1, "attention_dropout": 0.1,
        }),
        _ => json!({
            "model_type": model_type, "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": INNER,
            "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 40, "type_vocab_size": 2,
            "pad_token_id": 1,
        }),
    }
}

/// Names and shapes of the weights of `config`, heads left out.
fn shapes(config: &Value) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Vec::new();
    let mut add = |name: String, shape: &[usize]| shapes.push((name, shape.to_vec()));
    let kind = config["model_type"].as_str().unwrap();
    let linear = |add: &mut dyn FnMut(String, &[usize]), name: String, inputs, outputs, bias: bool| {
        add(format!("{name}.weight"), &[outputs, inputs]);
        if bias {
            add(format!("{name}.bias"), &[outputs]);
        }
    };
    if matches!(kind, "llama" | "mistral" | "qwen2") {
        add("model.embed_tokens.weight".into(), &[VOCABULARY, HIDDEN]);
        add("model.norm.weight".into(), &[HIDDEN]);
        if config["tie_word_embeddings"] != true {
            add("lm_head.weight".into(), &[VOCABULARY, HIDDEN]);
        }
        for layer in 0..2 {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let bias = kind == "qwen2";
            linear(&mut add, name("self_attn.q_proj"), HIDDEN, HIDDEN, bias);
            linear(&mut add, name("self_attn.k_proj"), HIDDEN, HIDDEN / 2, bias);
            linear(&mut add, name("self_attn.v_proj"), HIDDEN, HIDDEN / 2, bias);
            linear(&mut add, name("self_attn.o_proj"), HIDDEN, HIDDEN, false);
            linear(&mut add, name("mlp.gate_proj"), HIDDEN, INNER, false);
            linear(&mut add, name("mlp.up_proj"), HIDDEN, INNER, false);
            linear(&mut add, name("mlp.down_proj"), INNER, HIDDEN, false);
            add(name("input_layernorm.weight"), &[HIDDEN]);
            add(name("post_attention_layernorm.weight"), &[HIDDEN]);
        }
        return shapes;
    }
    let distil = kind == "distilbert";
    let embeddings = format!("{kind}.embeddings");
    add(
        format!("{embeddings}.word_embeddings.weight"),
        &[VOCABULARY, HIDDEN],
    );
    add(format!("{embeddings}.position_embeddings.weight"), &[40, HIDDEN]);
    if !distil {
        add(format!("{embeddings}.token_type_embeddings.weight"), &[2, HIDDEN]);
    }
    linear(&mut add, format!("{embeddings}.LayerNorm"), 0, HIDDEN, true);
    for layer in 0..2 {
        let stem = if distil { "transformer" } else { "encoder" };
        let name = |part: &str| format!("{kind}.{stem}.layer.{layer}.{part}");
        let parts: [(&str, usize, usize); 8] = if distil {
            [
                ("attention.q_lin", HIDDEN, HIDDEN),
                ("attention.k_lin", HIDDEN, HIDDEN),
                ("attention.v_lin", HIDDEN, HIDDEN),
                ("attention.out_lin", HIDDEN, HIDDEN),
                ("sa_layer_norm", 0, HIDDEN),
                ("ffn.lin1", HIDDEN, INNER),
                ("ffn.lin2", INNER, HIDDEN),
                ("output_layer_norm", 0, HIDDEN),
            ]
        } else {
            [
                ("attention.self.query", HIDDEN, HIDDEN),
                ("attention.self.key", HIDDEN, HIDDEN),
                ("attention.self.value", HIDDEN, HIDDEN),
                ("attention.output.dense", HIDDEN, HIDDEN),
                ("attention.output.LayerNorm", 0, HIDDEN),
                ("intermediate.dense", HIDDEN, INNER),
                ("output.dense", INNER, HIDDEN),
                ("output.LayerNorm", 0, HIDDEN),
            ]
        };
        for (part, inputs, outputs) in parts {
            linear(&mut add, name(part), inputs, outputs, true);
        }
    }
    // A norm's weight has one dimension.
    for (_, shape) in &mut shapes {
        shape.retain(|size| *size > 0);
    }
    shapes
}

/// Uniform in ±0.5, the same for the same seed; norms are near one.
pub fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|_| random.next_u32() as f32 / u32::MAX as f32 - 0.5)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub fn write(directory: &Path, config: &Value) {
    let mut tensors = HashMap::new();
    for (seed, (name, shape)) in shapes(config).into_iter().enumerate() {
        let mut tensor = random(&shape, seed as u64);
        if name.to_lowercase().contains("norm") && name.ends_with("weight") {
            tensor = (tensor + 1.0).unwrap();
        }
        tensors.insert(name, tensor);
    }
    candle_core::safetensors::save(&tensors, directory.join("model.safetensors")).unwrap();
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
}

/// A directory with a tiny model.
pub fn directory(config: &Value) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), config);
    directory
}

pub fn options(mode: Mode) -> LoadOptions {
    LoadOptions {
        device: Device::Cpu,
        dtype: DType::F32,
        mode,
        seed: 3,
        head_from_adapter: false,
    }
}

pub fn classes() -> Head {
    Head::SequenceClassification {
        labels: ["negative", "neutral", "positive"].map(String::from).to_vec(),
    }
}

pub fn load(path: &Path, head: Head, mode: Mode) -> Network {
    Network::load(&ModelFiles::open(path).unwrap(), head, options(mode)).unwrap()
}

/// A tiny network from `config`.
pub fn network(config: &Value, head: Head, mode: Mode) -> Network {
    load(directory(config).path(), head, mode)
}

/// `length` token ids.
pub fn ids(length: usize, seed: u32) -> Vec<u32> {
    (0..length as u32)
        .map(|index| (index * 7 + seed * 13 + 3) % VOCABULARY as u32)
        .collect()
}

pub fn assert_close(left: &Tensor, right: &Tensor, tolerance: f32) {
    assert_eq!(left.dims(), right.dims());
    let difference = (left - right).unwrap().abs().unwrap().flatten_all().unwrap();
    let largest = difference.max(0).unwrap().to_scalar::<f32>().unwrap();
    assert!(largest <= tolerance, "differ by {largest}");
}
