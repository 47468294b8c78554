//! Tiny models and datasets, and the trainer as a process.
#![allow(dead_code)] // Each test binary uses a part.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const WORDS: &[&str] = &[
    "good", "great", "fine", "strong", "gain", "bad", "poor", "weak", "loss", "fall", "the", "stock", "is",
    "today", "very", "looks", "again", "market", "price", "says",
];

/// A directory with models and data, gone with the value.
pub struct Bench {
    pub directory: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let bench = Self { directory };
        bench.bert();
        bench.llama();
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// BERT with 2 layers of 32, 64 positions.
    fn bert(&self) {
        let (h, i, v) = (32, 64, vocabulary().len());
        let mut shapes: Vec<(String, Vec<usize>)> = vec![
            ("embeddings.word_embeddings.weight".into(), vec![v, h]),
            ("embeddings.position_embeddings.weight".into(), vec![64, h]),
            ("embeddings.token_type_embeddings.weight".into(), vec![2, h]),
            ("embeddings.LayerNorm.weight".into(), vec![h]),
            ("embeddings.LayerNorm.bias".into(), vec![h]),
            ("pooler.dense.weight".into(), vec![h, h]),
            ("pooler.dense.bias".into(), vec![h]),
        ];
        for layer in 0..2 {
            for (name, out, input) in [
                ("attention.self.query", h, h),
                ("attention.self.key", h, h),
                ("attention.self.value", h, h),
                ("attention.output.dense", h, h),
                ("intermediate.dense", i, h),
                ("output.dense", h, i),
            ] {
                shapes.push((format!("encoder.layer.{layer}.{name}.weight"), vec![out, input]));
                shapes.push((format!("encoder.layer.{layer}.{name}.bias"), vec![out]));
            }
            for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
                shapes.push((format!("encoder.layer.{layer}.{name}.weight"), vec![h]));
                shapes.push((format!("encoder.layer.{layer}.{name}.bias"), vec![h]));
            }
        }
        let config = json!({
            "architectures": ["BertModel"], "model_type": "bert", "vocab_size": v, "hidden_size": h,
            "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": i, "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 64,
            "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        });
        self.model("bert", &config, &shapes, false);
    }

    /// Llama with 2 layers of 32, 64 positions, tied embeddings and a chat template.
    fn llama(&self) {
        let (h, i, v) = (32, 64, vocabulary().len());
        let mut shapes: Vec<(String, Vec<usize>)> = vec![
            ("model.embed_tokens.weight".into(), vec![v, h]),
            ("model.norm.weight".into(), vec![h]),
        ];
        for layer in 0..2 {
            for (name, shape) in [
                ("self_attn.q_proj", vec![h, h]),
                ("self_attn.k_proj", vec![h / 2, h]),
                ("self_attn.v_proj", vec![h / 2, h]),
                ("self_attn.o_proj", vec![h, h]),
                ("mlp.gate_proj", vec![i, h]),
                ("mlp.up_proj", vec![i, h]),
                ("mlp.down_proj", vec![h, i]),
                ("input_layernorm", vec![h]),
                ("post_attention_layernorm", vec![h]),
            ] {
                shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
            }
        }
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": v, "hidden_size": h,
            "intermediate_size": i, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "tie_word_embeddings": true, "bos_token_id": 2, "eos_token_id": 3,
        });
        self.model("llama", &config, &shapes, true);
    }

    fn model(&self, name: &str, config: &Value, shapes: &[(String, Vec<usize>)], chat: bool) {
        let directory = self.path(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("config.json"), config.to_string()).unwrap();
        let mut random = 7u64;
        let data: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
            .iter()
            .map(|(name, shape)| {
                let norm = name.to_lowercase().contains("norm") && name.ends_with("weight");
                let numbers = (0..shape.iter().product()).map(|_| {
                    random = random
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    let uniform = (random >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
                    if norm { 1.0 } else { 0.2 * uniform }
                });
                (
                    name.clone(),
                    shape.clone(),
                    numbers.flat_map(f32::to_le_bytes).collect(),
                )
            })
            .collect();
        let views = data
            .iter()
            .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        fs::write(
            directory.join("model.safetensors"),
            safetensors::serialize(views, None).unwrap(),
        )
        .unwrap();
        fs::write(directory.join("tokenizer.json"), tokenizer(!chat).to_string()).unwrap();
        let mut tokenizer_config =
            json!({ "pad_token": "[PAD]", "bos_token": "[BOS]", "eos_token": "[EOS]" });
        if chat {
            tokenizer_config["chat_template"] = json!(
                "{% for message in messages %}[BOS] {{ message['role'] }} {{ message['content'] }} [EOS] {% endfor %}{% if add_generation_prompt %}[BOS] assistant {% endif %}"
            );
        }
        fs::write(
            directory.join("tokenizer_config.json"),
            tokenizer_config.to_string(),
        )
        .unwrap();
    }

    /// `count` sentences with the label that their first word decides.
    pub fn sentiment(&self, name: &str, count: usize) {
        let lines: String = (0..count)
            .map(|n| {
                let label = if n % 2 == 0 { "positive" } else { "negative" };
                let word = WORDS[(n % 2) * 5 + (n / 2) % 5];
                let filler = |k: usize| WORDS[10 + (n * 7 + k * 3) % 10];
                let text = format!("{word} {} {} {}", filler(0), filler(1), filler(n % 5));
                json!({ "text": text, "label": label }).to_string() + "\n"
            })
            .collect();
        self.file(name, &lines);
    }

    /// `count` prompts with their answers.
    pub fn instructions(&self, name: &str, count: usize) {
        let lines: String = (0..count)
            .map(|n| {
                let word = |k: usize| WORDS[(n * 3 + k * 5) % WORDS.len()];
                json!({ "prompt": format!("{} {}", word(0), word(1)), "completion": format!("{} {} {}", word(1), word(2), word(3 + n % 2)) })
                    .to_string()
                    + "\n"
            })
            .collect();
        self.file(name, &lines);
    }

    pub fn file(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A configuration for `model` and `data`; checkpoints and output go to `<run>-checkpoints` and `<run>`.
    pub fn config(&self, run: &str, model: &str, data: &str) -> Value {
        let task = if model == "bert" {
            "SequenceClassification"
        } else {
            "CausalLM"
        };
        json!({
            "model": { "path": self.path(model) },
            "task": task,
            "dataset": { "source": { "path": self.path(data) } },
            "method": { "lora": { "rank": 4, "alpha": 8.0, "dropout": 0.1 } },
            "hyperparameters": { "maxSteps": 12, "batchSize": 4, "learningRate": 0.01, "maxSequenceLength": 32 },
            "checkpoint": { "directory": self.path(&format!("{run}-checkpoints")), "everySteps": 4 },
            "output": { "directory": self.path(run) },
        })
    }

    /// `slipway-trainer train` with `config`, not started yet.
    pub fn trainer(&self, run: &str, config: &Value) -> Command {
        self.run("train", run, config)
    }

    /// A subcommand of the trainer with `config`, not started yet.
    pub fn run(&self, subcommand: &str, run: &str, config: &Value) -> Command {
        let path = self.path(&format!("{run}.json"));
        fs::write(&path, config.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipway-trainer"));
        command
            .args([subcommand, "--config"])
            .arg(path)
            .arg("--report")
            .arg(self.path(&format!("{run}-report.json")));
        command
            .env_remove("JOB_COMPLETION_INDEX")
            .env("RAYON_NUM_THREADS", "2");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn train(&self, run: &str, config: &Value) -> Output {
        self.trainer(run, config).output().unwrap()
    }

    pub fn spawn(&self, run: &str, config: &Value) -> Child {
        self.trainer(run, config).spawn().unwrap()
    }

    /// Trains, and demands success.
    pub fn trained(&self, run: &str, config: &Value) -> Value {
        let output = self.train(run, config);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.report(run)["outcome"].clone()
    }

    /// Trains, demands the exit code and the reason, and returns the message.
    pub fn refused(&self, run: &str, config: &Value, code: i32, reason: &str) -> String {
        let output = self.train(run, config);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        let failure = &self.report(run)["failure"];
        assert_eq!(failure["reason"], reason, "{failure}");
        failure["message"].as_str().unwrap().to_owned()
    }

    pub fn report(&self, run: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(&format!("{run}-report.json"))).unwrap()).unwrap()
    }

    /// Losses of `training_log.jsonl`.
    pub fn losses(&self, run: &str) -> Vec<f64> {
        let text = fs::read_to_string(self.path(run).join("training_log.jsonl")).unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| line["loss"].as_f64()).collect()
    }

    /// Tensors of a safetensors file in the output, as bytes.
    pub fn tensors(&self, run: &str, file: &str) -> BTreeMap<String, Vec<u8>> {
        let bytes = fs::read(self.path(run).join(file)).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        tensors
            .tensors()
            .into_iter()
            .map(|(name, view)| (name, view.data().to_vec()))
            .collect()
    }
}

pub fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|four| f32::from_le_bytes(*four))
        .collect()
}

fn vocabulary() -> Vec<&'static str> {
    let mut vocabulary = vec![
        "[PAD]",
        "[UNK]",
        "[BOS]",
        "[EOS]",
        "[CLS]",
        "[SEP]",
        "user",
        "assistant",
    ];
    vocabulary.extend(WORDS);
    vocabulary
}

/// One token a word.
fn tokenizer(encoder: bool) -> Value {
    let ids: BTreeMap<&str, usize> = vocabulary().into_iter().zip(0..).collect();
    let special = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[CLS]", "[SEP]"].map(|token| {
        json!({ "id": ids[token], "content": token, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false })
    });
    let post = json!({
        "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "[SEP]", "type_id": 0 } }],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
        "special_tokens": {
            "[CLS]": { "id": "[CLS]", "ids": [ids["[CLS]"]], "tokens": ["[CLS]"] },
            "[SEP]": { "id": "[SEP]", "ids": [ids["[SEP]"]], "tokens": ["[SEP]"] },
        },
    });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": special, "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": if encoder { post } else { Value::Null },
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": ids, "unk_token": "[UNK]" },
    })
}
