//! `config.json` and `generation_config.json` from GGUF metadata.

use candle_core::Device;
use serde_json::{Map, Value as Json, json};

use super::Gguf;
use super::header::Value;
use super::rope;
use crate::ModelError;

/// Architectures whose tensors we know how to name.
pub(super) const ARCHITECTURES: [&str; 2] = ["llama", "qwen2"];

impl Gguf {
    /// `general.architecture`.
    pub fn architecture(&self) -> Result<&str, ModelError> {
        let name = self.text("general.architecture")?;
        if ARCHITECTURES.contains(&name) {
            return Ok(name);
        }
        Err(ModelError::UnsupportedArchitecture {
            found: format!("{name} (of a GGUF file)"),
            known: ARCHITECTURES.to_vec(),
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(key)
    }

    pub(super) fn missing(&self, key: &str, kind: &str) -> ModelError {
        self.damaged(match self.get(key) {
            Some(_) => format!("its metadata {key} is not {kind}"),
            None => format!("its metadata has no {key}"),
        })
    }

    pub(super) fn text(&self, key: &str) -> Result<&str, ModelError> {
        self.find_text(key).ok_or_else(|| self.missing(key, "a text"))
    }

    pub(super) fn find_text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn find_unsigned(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Unsigned(value) => Some(*value),
            Value::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    pub(super) fn find_float(&self, key: &str) -> Option<f64> {
        match self.get(key) {
            Some(Value::Float(value)) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn find_bool(&self, key: &str) -> Option<bool> {
        match self.get(key) {
            Some(Value::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// A count of the architecture's own, for instance `block_count`: at least 1.
    pub(super) fn count(&self, key: &str) -> Result<usize, ModelError> {
        let key = format!("{}.{key}", self.architecture()?);
        self.find_unsigned(&key)
            .filter(|&count| (1..=1 << 31).contains(&count))
            .map(|count| count as usize)
            .ok_or_else(|| self.missing(&key, "a number from 1 to 2147483648"))
    }

    /// Query heads, key/value heads and the size of a head.
    pub(super) fn heads(&self) -> Result<(usize, usize, usize), ModelError> {
        let architecture = self.architecture()?;
        let heads = self.count("attention.head_count")?;
        let kv_key = format!("{architecture}.attention.head_count_kv");
        let kv_heads = match self.get(&kv_key) {
            None => heads,
            Some(_) => self.count("attention.head_count_kv")?,
        };
        let hidden = self.count("embedding_length")?;
        let size = match self.find_unsigned(&format!("{architecture}.attention.key_length")) {
            Some(size) => size as usize,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                return Err(self.damaged(format!(
                    "its {heads} attention heads do not divide its embedding length of {hidden}"
                )));
            }
        };
        if !heads.is_multiple_of(kv_heads) || !size.is_multiple_of(2) || size == 0 {
            return Err(self.damaged(format!(
                "it has {heads} query heads, {kv_heads} key heads and {size} values a head, which do not fit together"
            )));
        }
        Ok((heads, kv_heads, size))
    }

    /// The content of `config.json`, in the terms of `transformers`.
    pub fn config(&self) -> Result<Json, ModelError> {
        let architecture = self.architecture()?;
        let key = |name: &str| format!("{architecture}.{name}");
        if self
            .find_unsigned(&key("expert_count"))
            .is_some_and(|count| count > 0)
        {
            return Err(Self::unsupported("a mixture of experts", "a dense model"));
        }
        let (heads, kv_heads, head_dim) = self.heads()?;
        if let Some(rotary) = self.find_unsigned(&key("rope.dimension_count"))
            && rotary as usize != head_dim
        {
            return Err(Self::unsupported(
                format!("a rotary embedding of {rotary} of {head_dim} values a head"),
                "one over all of them",
            ));
        }
        let epsilon = key("attention.layer_norm_rms_epsilon");
        let embedding = self.info("token_embd.weight")?;
        let mut config = Map::new();
        let mut set = |name: &str, value: Json| config.insert(name.to_owned(), value);
        let (class, model_type) = match architecture {
            "qwen2" => ("Qwen2ForCausalLM", "qwen2"),
            _ => ("LlamaForCausalLM", "llama"),
        };
        set("architectures", json!([class]));
        set("model_type", json!(model_type));
        set("hidden_act", json!("silu"));
        set("hidden_size", json!(self.count("embedding_length")?));
        set("intermediate_size", json!(self.count("feed_forward_length")?));
        set("num_hidden_layers", json!(self.count("block_count")?));
        set("num_attention_heads", json!(heads));
        set("num_key_value_heads", json!(kv_heads));
        set("head_dim", json!(head_dim));
        set("max_position_embeddings", json!(self.count("context_length")?));
        set(
            "rms_norm_eps",
            json!(
                self.find_float(&epsilon)
                    .ok_or_else(|| self.missing(&epsilon, "a number"))?
            ),
        );
        set(
            "rope_theta",
            json!(self.find_float(&key("rope.freq_base")).unwrap_or(10_000.0)),
        );
        set("rope_scaling", self.rope_scaling(architecture, head_dim)?);
        set("vocab_size", json!(embedding.shape.first()));
        set(
            "tie_word_embeddings",
            json!(!self.header.tensors.contains_key("output.weight")),
        );
        if model_type == "llama" {
            let biased = self.header.tensors.contains_key("blk.0.attn_q.bias");
            set("attention_bias", json!(biased));
            set(
                "mlp_bias",
                json!(self.header.tensors.contains_key("blk.0.ffn_gate.bias")),
            );
        }
        for (name, value) in self.special_ids() {
            set(name, value);
        }
        Ok(Json::Object(config))
    }

    /// The content of `generation_config.json`.
    pub fn generation_config(&self) -> Json {
        let mut config: Map<String, Json> = self
            .special_ids()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        if let (Some(end), Some(turn)) = (
            self.find_unsigned("tokenizer.ggml.eos_token_id"),
            self.find_unsigned("tokenizer.ggml.eot_token_id"),
        ) && end != turn
        {
            config.insert("eos_token_id".into(), json!([end, turn]));
        }
        Json::Object(config)
    }

    fn special_ids(&self) -> impl Iterator<Item = (&'static str, Json)> {
        [
            ("bos_token_id", "tokenizer.ggml.bos_token_id"),
            ("eos_token_id", "tokenizer.ggml.eos_token_id"),
            ("pad_token_id", "tokenizer.ggml.padding_token_id"),
        ]
        .into_iter()
        .filter_map(|(name, key)| Some((name, json!(self.find_unsigned(key)?))))
    }

    fn rope_scaling(&self, architecture: &str, head_dim: usize) -> Result<Json, ModelError> {
        let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
        if self.header.tensors.contains_key(rope::FACTORS) {
            let factors = self
                .dequantize(rope::FACTORS, &Device::Cpu)?
                .flatten_all()
                .and_then(|tensor| tensor.to_vec1::<f32>())
                .map_err(|error| self.damaged(format!("{}: {error}", rope::FACTORS)))?;
            let base = self
                .find_float(&format!("{architecture}.rope.freq_base"))
                .unwrap_or(10_000.0);
            let original = self
                .find_unsigned(&key("original_context_length"))
                .unwrap_or(8192);
            return rope::llama3(&factors, base, head_dim, original as f64).ok_or_else(|| {
                Self::unsupported(format!("the content of {}", rope::FACTORS), "that of Llama 3")
            });
        }
        match self.find_text(&key("type")) {
            None | Some("none") => Ok(Json::Null),
            Some("linear") => {
                let factor = self
                    .find_float(&key("factor"))
                    .ok_or_else(|| self.missing(&key("factor"), "a number"))?;
                Ok(json!({"rope_type": "linear", "factor": factor}))
            }
            Some(other) => Err(Self::unsupported(
                format!("the rope scaling {other}"),
                "linear and that of Llama 3",
            )),
        }
    }
}
