//! From `config.json` to an architecture, its sizes, and the names PEFT uses for it.

use candle_nn::Activation;
use serde::Deserialize;
use serde_json::Value;

use crate::ModelError;

/// The architectures built here, each by the `model_type` of its configuration.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Architecture {
    /// Llama 1 to 3 and its relatives by configuration, `SmolLM` among them.
    Llama,
    /// Mistral 7B and its relatives, with sliding-window attention.
    Mistral,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// BERT, MiniLM among them.
    Bert,
    /// RoBERTa.
    Roberta,
    /// DistilBERT.
    DistilBert,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Bert,
        Self::Roberta,
        Self::DistilBert,
    ];

    /// The architecture that `config` (the content of `config.json`) names.
    pub fn of(config: &Value) -> Result<Self, ModelError> {
        let model_type = config["model_type"].as_str().unwrap_or_default();
        Self::ALL
            .into_iter()
            .find(|architecture| architecture.model_type() == model_type)
            .ok_or_else(|| ModelError::UnsupportedArchitecture {
                found: config["architectures"][0]
                    .as_str()
                    .or_else(|| (!model_type.is_empty()).then_some(model_type))
                    .unwrap_or("(config.json has no model_type)")
                    .to_owned(),
                known: Self::ALL.map(Self::name).to_vec(),
            })
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "Llama",
            Self::Mistral => "Mistral",
            Self::Qwen2 => "Qwen2",
            Self::Bert => "BERT",
            Self::Roberta => "RoBERTa",
            Self::DistilBert => "DistilBERT",
        }
    }

    /// `model_type` of its `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Bert => "bert",
            Self::Roberta => "roberta",
            Self::DistilBert => "distilbert",
        }
    }

    /// Whether it continues text (else it reads the whole text at once).
    pub fn is_decoder(self) -> bool {
        matches!(self, Self::Llama | Self::Mistral | Self::Qwen2)
    }

    /// The stem of the class names in `transformers`, for instance `DistilBert` of `DistilBertModel`.
    pub fn class_stem(self) -> &'static str {
        match self {
            Self::Llama => "Llama",
            Self::Mistral => "Mistral",
            Self::Qwen2 => "Qwen2",
            Self::Bert => "Bert",
            Self::Roberta => "Roberta",
            Self::DistilBert => "DistilBert",
        }
    }

    /// The prefix of the backbone's tensors in a model with a head.
    pub fn backbone_prefix(self) -> &'static str {
        match self {
            Self::Llama | Self::Mistral | Self::Qwen2 => "model.",
            Self::Bert => "bert.",
            Self::Roberta => "roberta.",
            Self::DistilBert => "distilbert.",
        }
    }

    /// Linear layers that get a LoRA adapter where none are named:
    /// `TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING` of PEFT 0.21.
    pub fn lora_targets(self) -> &'static [&'static str] {
        match self {
            Self::Llama | Self::Mistral | Self::Qwen2 => &["q_proj", "v_proj"],
            Self::Bert | Self::Roberta => &["query", "value"],
            Self::DistilBert => &["q_lin", "v_lin"],
        }
    }
}

/// The class names of `id2label` in order of their ids; None when there are none or an id is left out.
pub(crate) fn labels(config: &Value) -> Option<Vec<String>> {
    let map = config["id2label"].as_object()?;
    (0..map.len())
        .map(|id| Some(map.get(&id.to_string())?.as_str()?.to_owned()))
        .collect::<Option<Vec<_>>>()
        .filter(|labels| !labels.is_empty())
}

/// Sizes and settings of a decoder, from the keys of `transformers`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct DecoderConfig {
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; fewer than query heads is grouped-query attention.
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    head_dim: Option<usize>,
    /// Positions the model was made for.
    #[serde(default = "two_thousand")]
    pub max_position_embeddings: usize,
    /// Epsilon of the norms.
    #[serde(default = "small")]
    pub rms_norm_eps: f64,
    #[serde(default)]
    rope_theta: Option<f64>,
    #[serde(default)]
    rope_scaling: Option<RopeScaling>,
    // Since version 5 transformers writes theta and scaling into one object of this name.
    #[serde(default)]
    rope_parameters: Option<RopeScaling>,
    /// Whether the output matrix is the embedding matrix.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    /// Whether the MLP's linears have biases.
    #[serde(default)]
    pub mlp_bias: bool,
    #[serde(default)]
    sliding_window: Option<usize>,
    #[serde(default)]
    use_sliding_window: Option<bool>,
    #[serde(default)]
    max_window_layers: Option<usize>,
    /// Dropout on attention weights while training.
    #[serde(default)]
    pub attention_dropout: f64,
    /// Activation inside the MLP.
    #[serde(default = "silu")]
    pub hidden_act: Activation,
    #[serde(skip)]
    architecture: Option<Architecture>,
}

fn two_thousand() -> usize {
    2048
}

fn small() -> f64 {
    1e-6
}

fn silu() -> Activation {
    Activation::Silu
}

/// `rope_scaling` or `rope_parameters`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
struct RopeScaling {
    #[serde(default, alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

/// How rotary frequencies are stretched for longer texts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeKind {
    /// Not at all.
    Default,
    /// All divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// By wavelength, as Llama 3.1 does.
    Llama3 {
        /// Divisor of the long wavelengths.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low: f64,
        /// Wavelengths below `original / high` stay.
        high: f64,
        /// Positions of the model before it was stretched.
        original: f64,
    },
}

impl DecoderConfig {
    /// Reads and checks the configuration of a decoder.
    pub fn parse(config: &Value) -> Result<Self, ModelError> {
        let architecture = Architecture::of(config)?;
        let mut parsed: Self = deserialize(config)?;
        parsed.architecture = Some(architecture);
        let heads = parsed.num_attention_heads;
        if heads == 0 || parsed.kv_heads() == 0 || !heads.is_multiple_of(parsed.kv_heads()) {
            return Err(ModelError::InvalidSetting(format!(
                "config.json has {heads} attention heads for {} key/value heads, which does not divide",
                parsed.kv_heads()
            )));
        }
        if !parsed.head_dim().is_multiple_of(2) || parsed.head_dim() == 0 {
            return Err(ModelError::InvalidSetting(format!(
                "config.json gives heads of {} numbers; rotary positions need an even size",
                parsed.head_dim()
            )));
        }
        parsed.rope()?;
        if architecture == Architecture::Qwen2
            && parsed.use_sliding_window == Some(true)
            && parsed.max_window_layers.unwrap_or(0) < parsed.num_hidden_layers
            && parsed.sliding_window.is_some()
            && parsed.max_window_layers != Some(0)
        {
            return Err(ModelError::UnsupportedSetting {
                architecture: architecture.name(),
                setting: "use_sliding_window in some layers only (max_window_layers)".into(),
                supported: "all layers or none".into(),
            });
        }
        Ok(parsed)
    }

    /// Key and value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Numbers per head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
            .unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Whether the query, key and value projections have biases.
    pub fn qkv_bias(&self) -> bool {
        self.architecture == Some(Architecture::Qwen2) || self.attention_bias
    }

    /// Whether the attention's output projection has a bias.
    pub fn output_bias(&self) -> bool {
        self.architecture == Some(Architecture::Llama) && self.attention_bias
    }

    /// How many tokens back a token attends to, itself included; None is all.
    pub fn window(&self) -> Option<usize> {
        match self.architecture {
            Some(Architecture::Mistral) => self.sliding_window,
            Some(Architecture::Qwen2) if self.use_sliding_window == Some(true) => {
                // With max_window_layers at or above the depth no layer slides.
                (self.max_window_layers.unwrap_or(usize::MAX) < self.num_hidden_layers)
                    .then_some(self.sliding_window)
                    .flatten()
            }
            _ => None,
        }
    }

    /// Base of the rotary frequencies.
    pub fn theta(&self) -> f64 {
        self.rope_parameters
            .as_ref()
            .and_then(|rope| rope.rope_theta)
            .or(self.rope_theta)
            .unwrap_or(10_000.0)
    }

    /// How rotary frequencies are stretched.
    pub fn rope(&self) -> Result<RopeKind, ModelError> {
        let Some(scaling) = self.rope_scaling.as_ref().or(self.rope_parameters.as_ref()) else {
            return Ok(RopeKind::Default);
        };
        let need = |value: Option<f64>, name: &str| {
            value
                .filter(|value| value.is_finite() && *value > 0.0)
                .ok_or_else(|| {
                    ModelError::InvalidSetting(format!("rope_scaling in config.json needs a positive {name}"))
                })
        };
        match scaling.rope_type.as_deref() {
            None | Some("default") => Ok(RopeKind::Default),
            Some("linear") => Ok(RopeKind::Linear {
                factor: need(scaling.factor, "factor")?,
            }),
            Some("llama3") => Ok(RopeKind::Llama3 {
                factor: need(scaling.factor, "factor")?,
                low: need(scaling.low_freq_factor, "low_freq_factor")?,
                high: need(scaling.high_freq_factor, "high_freq_factor")?,
                original: need(
                    scaling.original_max_position_embeddings,
                    "original_max_position_embeddings",
                )?,
            }),
            Some(other) => Err(ModelError::UnsupportedSetting {
                architecture: self.architecture.map_or("this model", Architecture::name),
                setting: format!("rope_scaling of type {other}"),
                supported: "default, linear or llama3".into(),
            }),
        }
    }
}

/// Sizes and settings of an encoder. DistilBERT's own key names are accepted beside BERT's.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct EncoderConfig {
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    #[serde(alias = "dim")]
    pub hidden_size: usize,
    /// Width inside the MLP.
    #[serde(alias = "hidden_dim")]
    pub intermediate_size: usize,
    /// Number of layers.
    #[serde(alias = "n_layers")]
    pub num_hidden_layers: usize,
    /// Attention heads.
    #[serde(alias = "n_heads")]
    pub num_attention_heads: usize,
    /// Rows of the position embedding.
    pub max_position_embeddings: usize,
    /// Rows of the segment embedding; DistilBERT has none.
    #[serde(default)]
    pub type_vocab_size: usize,
    /// Epsilon of the norms.
    #[serde(default = "tiny")]
    pub layer_norm_eps: f64,
    /// Activation inside the MLP.
    #[serde(default = "gelu", alias = "activation")]
    pub hidden_act: Activation,
    /// Dropout on the residual branches while training.
    #[serde(default = "tenth", alias = "dropout")]
    pub hidden_dropout_prob: f64,
    /// Dropout on attention weights while training.
    #[serde(default = "tenth", alias = "attention_dropout")]
    pub attention_probs_dropout_prob: f64,
    #[serde(default)]
    classifier_dropout: Option<f64>,
    #[serde(default)]
    seq_classif_dropout: Option<f64>,
    #[serde(default)]
    pad_token_id: Option<usize>,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(skip)]
    architecture: Option<Architecture>,
}

fn tiny() -> f64 {
    1e-12
}

fn gelu() -> Activation {
    Activation::Gelu
}

fn tenth() -> f64 {
    0.1
}

impl EncoderConfig {
    /// Reads and checks the configuration of an encoder.
    pub fn parse(config: &Value) -> Result<Self, ModelError> {
        let architecture = Architecture::of(config)?;
        let mut parsed: Self = deserialize(config)?;
        parsed.architecture = Some(architecture);
        if let Some(kind) = parsed.position_embedding_type.as_deref()
            && kind != "absolute"
        {
            return Err(ModelError::UnsupportedSetting {
                architecture: architecture.name(),
                setting: format!("position_embedding_type {kind}"),
                supported: "absolute".into(),
            });
        }
        let heads = parsed.num_attention_heads;
        if heads == 0 || !parsed.hidden_size.is_multiple_of(heads) {
            return Err(ModelError::InvalidSetting(format!(
                "config.json has a width of {} for {heads} heads, which does not divide",
                parsed.hidden_size
            )));
        }
        Ok(parsed)
    }

    /// Added to each position before its embedding is looked up: RoBERTa starts after the padding's.
    pub fn position_offset(&self) -> usize {
        match self.architecture {
            Some(Architecture::Roberta) => self.pad_token_id.unwrap_or(1) + 1,
            _ => 0,
        }
    }

    /// The longest sequence it can read.
    pub fn max_sequence_length(&self) -> usize {
        self.max_position_embeddings
            .saturating_sub(self.position_offset())
    }

    /// Dropout behind the attention's output projection while training; DistilBERT has none there.
    pub fn attention_output_dropout(&self) -> f64 {
        match self.architecture {
            Some(Architecture::DistilBert) => 0.0,
            _ => self.hidden_dropout_prob,
        }
    }

    /// Dropout before the classifier while training.
    pub fn classifier_dropout(&self) -> f64 {
        match self.architecture {
            Some(Architecture::DistilBert) => self.seq_classif_dropout.unwrap_or(0.2),
            _ => self.classifier_dropout.unwrap_or(self.hidden_dropout_prob),
        }
    }
}

fn deserialize<T: serde::de::DeserializeOwned>(config: &Value) -> Result<T, ModelError> {
    serde_json::from_value(config.clone()).map_err(|error| ModelError::Invalid {
        path: "config.json".into(),
        message: error.to_string(),
    })
}
