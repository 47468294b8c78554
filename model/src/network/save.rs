//! Writing adapters and whole models.

use std::path::Path;

use candle_core::{DType, Tensor};
use serde_json::{Value, json};

use super::{Head, Network};
use crate::adapter::{PeftConfig, TaskType};
use crate::{ModelError, weights};

impl Network {
    /// Writes the attached LoRA in PEFT's layout: `adapter_config.json`, `adapter_model.safetensors` and, for a
    /// classifier, `config.json`, the only place where the names of its classes survive.
    pub fn save_adapter(
        &self,
        directory: &Path,
        base_model: &str,
        base_revision: Option<&str>,
    ) -> Result<(), ModelError> {
        let adapter = self.attached.as_ref().ok_or(ModelError::UnknownAdapter)?;
        let lora = adapter.settings.as_ref().ok_or(ModelError::UnknownAdapter)?;
        let task = match self.head {
            Head::CausalLm => TaskType::CausalLm,
            Head::SequenceClassification { .. } | Head::Regression => TaskType::SeqCls,
            Head::Embedding => TaskType::FeatureExtraction,
        };
        let whole = self.classifier.as_ref().map(|_| self.whole_modules());
        let config = PeftConfig::new(
            lora,
            &self.linears(),
            self.architecture.lora_targets(),
            whole,
            (base_model, base_revision),
            task,
        );
        let tensors: Vec<(String, Tensor)> = self
            .trainable()
            .into_iter()
            .map(|(name, var)| (name, var.as_tensor().clone()))
            .collect();
        create(directory)?;
        write_json(&directory.join("adapter_config.json"), &json!(config))?;
        if self.classifier.is_some() {
            write_json(&directory.join("config.json"), &self.configuration())?;
        }
        weights::write(&directory.join("adapter_model.safetensors"), &tensors)
    }

    /// Writes all weights in the layout of transformers: `model.safetensors` and `config.json`. An adapter is not part
    /// of them unless it was merged.
    pub fn save_full(&self, directory: &Path) -> Result<(), ModelError> {
        let mut tensors = Vec::new();
        self.visit(&mut |param| tensors.push((param.name.clone(), param.tensor.clone())));
        create(directory)?;
        write_json(&directory.join("config.json"), &self.configuration())?;
        weights::write(&directory.join("model.safetensors"), &tensors)
    }

    /// `config.json` of the network as it is now, its head included.
    fn configuration(&self) -> Value {
        let mut config = self.config.clone();
        let stem = self.architecture.class_stem();
        let class = match self.head {
            Head::CausalLm => format!("{stem}ForCausalLM"),
            Head::SequenceClassification { .. } | Head::Regression => {
                format!("{stem}ForSequenceClassification")
            }
            Head::Embedding => format!("{stem}Model"),
        };
        config["architectures"] = json!([class]);
        if let Some(fields) = config.as_object_mut() {
            // Both names are in use for the number type; the old one is read by every version.
            fields.remove("dtype");
            let name = match self.dtype {
                DType::BF16 => "bfloat16",
                DType::F16 => "float16",
                _ => "float32",
            };
            fields.insert("torch_dtype".into(), json!(name));
        }
        if let Head::SequenceClassification { labels } = &self.head {
            let by_id: serde_json::Map<String, Value> = labels
                .iter()
                .enumerate()
                .map(|(id, label)| (id.to_string(), json!(label)))
                .collect();
            let by_label: serde_json::Map<String, Value> = labels
                .iter()
                .enumerate()
                .map(|(id, label)| (label.clone(), json!(id)))
                .collect();
            config["id2label"] = Value::Object(by_id);
            config["label2id"] = Value::Object(by_label);
            config["num_labels"] = json!(labels.len());
            config["problem_type"] = json!("single_label_classification");
        }
        config
    }
}

fn create(directory: &Path) -> Result<(), ModelError> {
    std::fs::create_dir_all(directory).map_err(|source| ModelError::Write {
        path: directory.to_owned(),
        source,
    })
}

fn write_json(path: &Path, value: &Value) -> Result<(), ModelError> {
    let text = format!("{value:#}\n");
    std::fs::write(path, text).map_err(|source| ModelError::Write {
        path: path.to_owned(),
        source,
    })
}
