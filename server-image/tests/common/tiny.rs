//! Models of a few thousand weights, drawn at random, in the layouts of transformers and PEFT.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

const HIDDEN: usize = 32;
const INNER: usize = 64;
const LAYERS: usize = 2;
const CONTEXT: usize = 4096;
/// `<eos>`, `<user>`, `<assistant>` after 256 bytes.
const VOCABULARY: usize = 259;
pub const EOS: u32 = 256;

/// Random tensors by name.
struct Weights {
    random: ChaCha8Rng,
    tensors: HashMap<String, Tensor>,
}

impl Weights {
    fn new(seed: u64) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            tensors: HashMap::new(),
        }
    }

    /// Uniform in ±`scale` around `center`.
    fn add(&mut self, name: impl Into<String>, shape: &[usize], center: f32, scale: f32) {
        let count = shape.iter().product();
        let numbers: Vec<f32> = (0..count)
            .map(|_| center + scale * (self.random.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0))
            .collect();
        self.tensors.insert(
            name.into(),
            Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap(),
        );
    }

    fn linear(&mut self, name: &str, out: usize, into: usize) {
        self.add(format!("{name}.weight"), &[out, into], 0.0, 0.35);
        self.add(format!("{name}.bias"), &[out], 0.0, 0.1);
    }

    fn norm(&mut self, name: &str) {
        self.add(format!("{name}.weight"), &[HIDDEN], 1.0, 0.1);
        self.add(format!("{name}.bias"), &[HIDDEN], 0.0, 0.1);
    }

    fn save(self, path: &Path) {
        candle_core::safetensors::save(&self.tensors, path).unwrap();
    }
}

fn write(path: &Path, value: &Value) {
    std::fs::write(path, value.to_string()).unwrap();
}

/// A Llama with a byte-level vocabulary and a chat template.
pub fn decoder(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    let mut weights = Weights::new(1);
    weights.add("model.embed_tokens.weight", &[VOCABULARY, HIDDEN], 0.0, 1.0);
    weights.add("lm_head.weight", &[VOCABULARY, HIDDEN], 0.0, 0.6);
    weights.add("model.norm.weight", &[HIDDEN], 1.0, 0.1);
    for layer in 0..LAYERS {
        let at = |part: &str| format!("model.layers.{layer}.{part}.weight");
        for (part, out, into) in [
            ("self_attn.q_proj", HIDDEN, HIDDEN),
            ("self_attn.k_proj", HIDDEN / 2, HIDDEN),
            ("self_attn.v_proj", HIDDEN / 2, HIDDEN),
            ("self_attn.o_proj", HIDDEN, HIDDEN),
            ("mlp.gate_proj", INNER, HIDDEN),
            ("mlp.up_proj", INNER, HIDDEN),
            ("mlp.down_proj", HIDDEN, INNER),
        ] {
            weights.add(at(part), &[out, into], 0.0, 0.35);
        }
        weights.add(at("input_layernorm"), &[HIDDEN], 1.0, 0.1);
        weights.add(at("post_attention_layernorm"), &[HIDDEN], 1.0, 0.1);
    }
    weights.save(&directory.join("model.safetensors"));
    write(
        &directory.join("config.json"),
        &json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false,
            "eos_token_id": EOS}),
    );
    write(
        &directory.join("tokenizer_config.json"),
        &json!({"eos_token": "<eos>", "chat_template":
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"}),
    );
    write(&directory.join("tokenizer.json"), &tokenizer());
}

/// A LoRA on the queries and values of [`decoder`], strong enough to change every answer.
pub fn decoder_adapter(directory: &Path, seed: u64) {
    std::fs::create_dir_all(directory).unwrap();
    let mut weights = Weights::new(seed);
    for layer in 0..LAYERS {
        for (part, out) in [("q_proj", HIDDEN), ("v_proj", HIDDEN / 2)] {
            let name = format!("base_model.model.model.layers.{layer}.self_attn.{part}");
            weights.add(format!("{name}.lora_A.weight"), &[4, HIDDEN], 0.0, 0.5);
            weights.add(format!("{name}.lora_B.weight"), &[out, 4], 0.0, 0.5);
        }
    }
    weights.save(&directory.join("adapter_model.safetensors"));
    write(
        &directory.join("adapter_config.json"),
        &adapter_config("CAUSAL_LM", &["q_proj", "v_proj"], &Value::Null),
    );
}

fn adapter_config(task: &str, targets: &[&str], modules_to_save: &Value) -> Value {
    json!({"peft_type": "LORA", "task_type": task, "base_model_name_or_path": "base", "r": 4, "lora_alpha": 8,
        "lora_dropout": 0.0, "bias": "none", "use_rslora": false, "use_dora": false, "fan_in_fan_out": false,
        "target_modules": targets, "modules_to_save": modules_to_save, "rank_pattern": {}, "alpha_pattern": {},
        "inference_mode": true})
}

/// A BERT; with `labels`, a classifier.
pub fn encoder(directory: &Path, labels: Option<&[&str]>) {
    std::fs::create_dir_all(directory).unwrap();
    let mut weights = Weights::new(2);
    let prefix = if labels.is_some() { "bert." } else { "" };
    let at = |part: &str| format!("{prefix}{part}");
    for (part, rows) in [("word", VOCABULARY), ("position", 512), ("token_type", 2)] {
        weights.add(
            at(&format!("embeddings.{part}_embeddings.weight")),
            &[rows, HIDDEN],
            0.0,
            0.7,
        );
    }
    weights.norm(&at("embeddings.LayerNorm"));
    for layer in 0..LAYERS {
        let at = |part: &str| at(&format!("encoder.layer.{layer}.{part}"));
        for part in ["query", "key", "value"] {
            weights.linear(&at(&format!("attention.self.{part}")), HIDDEN, HIDDEN);
        }
        weights.linear(&at("attention.output.dense"), HIDDEN, HIDDEN);
        weights.norm(&at("attention.output.LayerNorm"));
        weights.linear(&at("intermediate.dense"), INNER, HIDDEN);
        weights.linear(&at("output.dense"), HIDDEN, INNER);
        weights.norm(&at("output.LayerNorm"));
    }
    let mut config = json!({"model_type": "bert", "architectures": ["BertModel"], "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
        "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
        "pad_token_id": 0});
    weights.linear(&at("pooler.dense"), HIDDEN, HIDDEN);
    if let Some(labels) = labels {
        weights.linear("classifier", labels.len(), HIDDEN);
        config["architectures"] = json!(["BertForSequenceClassification"]);
        config["id2label"] = id2label(labels);
    }
    weights.save(&directory.join("model.safetensors"));
    write(&directory.join("config.json"), &config);
    write(&directory.join("tokenizer_config.json"), &json!({}));
    write(&directory.join("tokenizer.json"), &tokenizer());
}

fn id2label(labels: &[&str]) -> Value {
    let map: Map<String, Value> = labels
        .iter()
        .enumerate()
        .map(|(id, label)| (id.to_string(), json!(label)))
        .collect();
    Value::Object(map)
}

/// A LoRA with a classification head of its own on [`encoder`].
pub fn classifier_adapter(directory: &Path, seed: u64, labels: &[&str]) {
    std::fs::create_dir_all(directory).unwrap();
    let mut weights = Weights::new(seed);
    for layer in 0..LAYERS {
        for part in ["query", "value"] {
            let name = format!("base_model.model.bert.encoder.layer.{layer}.attention.self.{part}");
            weights.add(format!("{name}.lora_A.weight"), &[4, HIDDEN], 0.0, 0.5);
            weights.add(format!("{name}.lora_B.weight"), &[HIDDEN, 4], 0.0, 0.5);
        }
    }
    weights.linear("base_model.model.classifier", labels.len(), HIDDEN);
    weights.save(&directory.join("adapter_model.safetensors"));
    let config = adapter_config("SEQ_CLS", &["query", "value"], &json!(["classifier", "score"]));
    write(&directory.join("adapter_config.json"), &config);
    write(
        &directory.join("config.json"),
        &json!({"model_type": "bert", "id2label": id2label(labels)}),
    );
}

/// One token for each byte, as in GPT-2 without merges, and three special tokens.
fn tokenizer() -> Value {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut vocabulary = Map::new();
    let mut others = 0;
    for byte in 0..256 {
        let code = if printable(byte) {
            byte
        } else {
            others += 1;
            0xff + others
        };
        vocabulary.insert(char::from_u32(code).unwrap().to_string(), json!(byte));
    }
    let specials = ["<eos>", "<user>", "<assistant>"];
    let added: Vec<Value> = specials
        .iter()
        .zip(EOS..)
        .map(|(token, id)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    for (token, id) in specials.iter().zip(EOS..) {
        vocabulary.insert((*token).into(), json!(id));
    }
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
            "merges": []}})
}
