//! PEFT's files: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use slipway_contract::Lora;

use super::{Adapter, LowRank, scale, targets};
use crate::files::read_json;
use crate::head::Classifier;
use crate::linear::Linear;
use crate::param::Param;
use crate::weights::{Safetensors, TensorSource};
use crate::{ModelError, registry};

/// What an adapter is for, in PEFT's words.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum TaskType {
    CausalLm,
    SeqCls,
    FeatureExtraction,
}

/// `adapter_config.json` as PEFT 0.21 writes it, as far as it matters to a LoRA.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "PEFT's format")]
pub(crate) struct PeftConfig {
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    #[serde(default)]
    auto_mapping: Option<Value>,
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    inference_mode: bool,
    #[serde(default = "yes")]
    init_lora_weights: Value,
    #[serde(default)]
    lora_alpha: f64,
    #[serde(default)]
    lora_bias: bool,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    peft_type: String,
    #[serde(default)]
    r: usize,
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    pub revision: Option<String>,
    #[serde(default)]
    target_modules: Value,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    use_rslora: bool,
}

fn yes() -> Value {
    Value::Bool(true)
}

impl PeftConfig {
    /// What is written for a LoRA that was trained here.
    pub fn new(
        lora: &Lora,
        linears: &[&Linear],
        defaults: &[&str],
        modules_to_save: Option<Vec<&'static str>>,
        base: (&str, Option<&str>),
        task: TaskType,
    ) -> Self {
        Self {
            alpha_pattern: BTreeMap::new(),
            auto_mapping: None,
            base_model_name_or_path: Some(base.0.to_owned()),
            bias: Some("none".into()),
            fan_in_fan_out: false,
            inference_mode: true,
            init_lora_weights: yes(),
            lora_alpha: lora.alpha,
            lora_bias: false,
            lora_dropout: lora.dropout,
            modules_to_save: modules_to_save.map(|modules| modules.into_iter().map(Into::into).collect()),
            peft_type: "LORA".into(),
            r: lora.rank as usize,
            rank_pattern: BTreeMap::new(),
            revision: base.1.map(Into::into),
            target_modules: targets(lora, linears, defaults).into(),
            task_type: serde_json::to_value(task)
                .ok()
                .and_then(|task| task.as_str().map(Into::into)),
            use_dora: false,
            use_rslora: lora.rs_lora,
        }
    }

    /// The first setting that is not supported, in words.
    fn unsupported(&self) -> Option<String> {
        if self.peft_type != "LORA" {
            return Some(format!(
                "its peft_type is {}, and only LORA is supported",
                self.peft_type
            ));
        }
        let patterns = !self.alpha_pattern.is_empty();
        let bias = self.bias.as_deref().is_some_and(|bias| bias != "none");
        [
            (self.use_dora, "it uses DoRA (use_dora), which is not supported"),
            (self.fan_in_fan_out, "fan_in_fan_out is not supported"),
            (self.lora_bias, "lora_bias is not supported"),
            (patterns, "alpha_pattern is not supported"),
            (bias, "it trains biases (bias), which is not supported"),
        ]
        .into_iter()
        .find_map(|(found, text)| found.then(|| text.to_owned()))
    }
}

/// An adapter's directory, opened.
pub(crate) struct AdapterFiles {
    path: PathBuf,
    config: PeftConfig,
    tensors: Safetensors,
    labels: Option<Vec<String>>,
}

impl AdapterFiles {
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let config_path = path.join("adapter_config.json");
        let config: PeftConfig =
            serde_json::from_value(read_json(&config_path)?).map_err(|error| ModelError::Invalid {
                path: config_path,
                message: error.to_string(),
            })?;
        if let Some(message) = config.unsupported() {
            return Err(ModelError::InvalidAdapter {
                path: path.to_owned(),
                message,
            });
        }
        let weights = path.join("adapter_model.safetensors");
        if !weights.exists() {
            let pickle = path.join("adapter_model.bin");
            return Err(if pickle.exists() {
                ModelError::UnsafeWeights { path: pickle }
            } else {
                ModelError::NotFound { path: weights }
            });
        }
        // PEFT has no place for the names of classes; the directory's config.json has.
        let labels = match path.join("config.json") {
            config if config.exists() => registry::labels(&read_json(&config)?),
            _ => None,
        };
        Ok(Self {
            path: path.to_owned(),
            config,
            tensors: Safetensors::open(&[weights])?,
            labels,
        })
    }

    fn invalid(&self, message: String) -> ModelError {
        ModelError::InvalidAdapter {
            path: self.path.clone(),
            message,
        }
    }

    /// Fits the adapter to a network: every tensor must find its place and its shape.
    pub fn load(
        self,
        name: &str,
        linears: &[&Linear],
        prefixes: (&str, &str),
        classifier: Option<(&Classifier, usize, (usize, usize))>,
        device: &Device,
        dtype: DType,
    ) -> Result<Adapter, ModelError> {
        let (full, own) = prefixes;
        let bare = |name: &str| name.strip_prefix(full).unwrap_or(name).to_owned();
        let mut left: BTreeMap<String, Tensor> = BTreeMap::new();
        for name in self.tensors.names() {
            let tensor = self.tensors.tensor(&name, device, dtype)?;
            left.insert(
                bare(name.strip_prefix("base_model.model.").unwrap_or(&name)),
                tensor,
            );
        }
        let sites = linears.iter().map(|linear| linear.site + 1).max().unwrap_or(0);
        let mut loras: Vec<Option<LowRank>> = (0..sites).map(|_| None).collect();
        for linear in linears {
            let module = bare(linear.name());
            let a = left.remove(&format!("{module}.lora_A.weight"));
            let b = left.remove(&format!("{module}.lora_B.weight"));
            let (a, b) = match (a, b) {
                (Some(a), Some(b)) => (a, b),
                (None, None) => continue,
                (a, _) => {
                    let missing = if a.is_none() { "lora_A" } else { "lora_B" };
                    return Err(self.invalid(format!("{module} has no {missing}.weight")));
                }
            };
            let (outputs, inputs) = linear.dims();
            let rank = a.dims().first().copied().unwrap_or(0);
            if rank == 0 || a.dims() != [rank, inputs] || b.dims() != [outputs, rank] {
                return Err(self.invalid(format!(
                    "{module} has A {:?} and B {:?}, but the layer is {outputs} by {inputs}; was it trained on another base?",
                    a.dims(),
                    b.dims()
                )));
            }
            let param = |part: &str, tensor| Param {
                name: format!("base_model.model.{}.lora_{part}.weight", linear.name()),
                tensor,
            };
            loras[linear.site] = Some(LowRank {
                a: param("A", a),
                b: param("B", b),
                scale: scale(self.config.lora_alpha, rank, self.config.use_rslora),
            });
        }
        let head = match classifier {
            Some((classifier, hidden, sites)) => {
                let (head, taken) = classifier.with(own, hidden, sites, |name| left.remove(&bare(name)))?;
                (taken > 0).then_some(head)
            }
            None => None,
        };
        if !left.is_empty() {
            let names: Vec<_> = left.keys().take(5).cloned().collect();
            return Err(self.invalid(format!(
                "{} of its tensors have no place in this model, for instance {}; was it trained on another base or for another task?",
                left.len(),
                names.join(", ")
            )));
        }
        let classes = head.as_ref().and_then(Classifier::classes);
        if let (Some(labels), Some(classes)) = (&self.labels, classes)
            && labels.len() != classes
        {
            return Err(self.invalid(format!(
                "its config.json names {} classes, but its head has {classes}",
                labels.len()
            )));
        }
        Ok(Adapter {
            name: name.to_owned(),
            loras,
            dropout: 0.0,
            labels: classes.map(|classes| {
                self.labels
                    .unwrap_or_else(|| (0..classes).map(|class| format!("LABEL_{class}")).collect())
            }),
            head,
            settings: None,
        })
    }
}
