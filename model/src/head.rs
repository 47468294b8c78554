//! What comes after the backbone.

use candle_core::{D, DType, Device, Tensor};
use serde_json::Value;

use crate::linear::Linear;
use crate::param::{Loader, Param};
use crate::pass::Pass;
use crate::{Architecture, Batch, ModelError, ModelFiles};

/// The layers that turn a sequence's state into scores of classes. Parts are missing where the base has none and an adapter
/// brings them.
#[derive(Clone, Debug)]
pub(crate) struct Classifier {
    architecture: Architecture,
    dropout: f64,
    pub dense: Option<Linear>,
    pub output: Option<Linear>,
}

/// Dropout sites of the classifier.
const CLASSIFIER_SITES: u64 = 1 << 19;

impl Classifier {
    /// Names of the dense layer, where there is one, and of the output layer.
    fn names(architecture: Architecture, prefix: &str) -> (Option<String>, &'static str) {
        match architecture {
            Architecture::Bert => (Some(format!("{prefix}pooler.dense")), "classifier"),
            Architecture::Roberta => (Some("classifier.dense".into()), "classifier.out_proj"),
            Architecture::DistilBert => (Some("pre_classifier".into()), "classifier"),
            Architecture::Llama | Architecture::Mistral | Architecture::Qwen2 => (None, "score"),
        }
    }

    /// Reads the parts. With `partial`, a part that is not there is left out instead of being an error.
    pub fn load(
        loader: &mut Loader,
        hidden: usize,
        labels: usize,
        dropout: f64,
        partial: bool,
    ) -> Result<Self, ModelError> {
        let architecture = loader.architecture;
        let (dense, output) = Self::names(architecture, loader.prefix);
        let bias = !architecture.is_decoder();
        let mut read = |name: &str, outputs: usize| {
            let fits = loader.has_shape(&format!("{name}.weight"), &[outputs, hidden]);
            if partial && !fits {
                loader.linears += 1;
                return Ok(None);
            }
            Linear::load_head(loader, name, hidden, outputs, bias).map(Some)
        };
        let missing = |error| match error {
            ModelError::MissingTensor { .. } => ModelError::MissingHead {
                head: "classification head",
            },
            other => other,
        };
        Ok(Self {
            architecture,
            dropout,
            dense: match dense {
                Some(name) => read(&name, hidden).map_err(missing)?,
                None => None,
            },
            output: read(output, labels).map_err(missing)?,
        })
    }

    /// The same head with parts replaced by those of an adapter, under their names.
    pub fn with(
        &self,
        prefix: &str,
        hidden: usize,
        sites: (usize, usize),
        mut take: impl FnMut(&str) -> Option<Tensor>,
    ) -> Result<(Self, usize), ModelError> {
        let (dense, output) = Self::names(self.architecture, prefix);
        let mut replaced = self.clone();
        let mut taken = 0;
        let mut part = |name: &str, site: usize, old: Option<Linear>| -> Result<Option<Linear>, ModelError> {
            let Some(weight) = take(&format!("{name}.weight")) else {
                return Ok(old);
            };
            taken += 1;
            if weight.rank() != 2 || weight.dim(1)? != hidden {
                return Err(ModelError::TensorShape {
                    name: format!("{name}.weight"),
                    found: weight.dims().to_vec(),
                    expected: vec![weight.dims().first().copied().unwrap_or(0), hidden],
                });
            }
            let outputs = weight.dim(0)?;
            let bias = take(&format!("{name}.bias"));
            if let Some(bias) = &bias {
                taken += 1;
                if bias.dims() != [outputs] {
                    return Err(ModelError::TensorShape {
                        name: format!("{name}.bias"),
                        found: bias.dims().to_vec(),
                        expected: vec![outputs],
                    });
                }
            }
            let param = |suffix: &str, tensor| Param {
                name: format!("{name}.{suffix}"),
                tensor,
            };
            Ok(Some(Linear {
                weight: param("weight", weight),
                bias: bias.map(|bias| param("bias", bias)),
                site,
            }))
        };
        if let Some(name) = dense {
            replaced.dense = part(&name, sites.0, replaced.dense.take())?;
        }
        replaced.output = part(output, sites.1, replaced.output.take())?;
        Ok((replaced, taken))
    }

    /// What PEFT keeps whole beside the adapter (`modules_to_save`). A part whose weights were drawn here exists nowhere else,
    /// so it is kept too.
    pub fn modules_to_save(&self, drawn: &[String]) -> Vec<&'static str> {
        let mut modules = vec!["classifier", "score"];
        match self.architecture {
            Architecture::DistilBert => modules.insert(0, "pre_classifier"),
            Architecture::Bert if drawn.iter().any(|name| name.ends_with("pooler.dense")) => {
                modules.push("pooler");
            }
            _ => {}
        }
        modules
    }

    /// The number of classes.
    pub fn classes(&self) -> Option<usize> {
        self.output.as_ref().map(|output| output.dims().0)
    }

    /// Scores [N, L] of pooled states [N, H].
    pub fn forward(&self, pooled: &Tensor, pass: &Pass) -> Result<Tensor, ModelError> {
        let missing = || ModelError::MissingHead {
            head: "classification head",
        };
        let output = self.output.as_ref().ok_or_else(missing)?;
        if self.architecture.is_decoder() {
            return output.forward(pooled, pass);
        }
        let dense = self.dense.as_ref().ok_or_else(missing)?;
        // RoBERTa drops before its dense layer too; DistilBERT's is rectified.
        let first = if self.architecture == Architecture::Roberta {
            self.dropout
        } else {
            0.0
        };
        let x = dense.forward(&pass.drop(pooled, first, CLASSIFIER_SITES)?, pass)?;
        let x = match self.architecture {
            Architecture::DistilBert => x.relu()?,
            _ => x.tanh()?,
        };
        let x = pass.drop(&x, self.dropout, CLASSIFIER_SITES + 1)?;
        output.forward(&x, pass)
    }

    /// The states [B, H] that classes are read from: the first token of an encoder, the last of a decoder.
    pub fn pool(&self, hidden: &Tensor, batch: &Batch) -> Result<Tensor, ModelError> {
        let (b, t, width) = hidden.dims3()?;
        let last = batch.last_columns();
        let index: Vec<u32> = (0..b)
            .map(|row| {
                (row * t
                    + if self.architecture.is_decoder() {
                        last[row]
                    } else {
                        0
                    }) as u32
            })
            .collect();
        let index = Tensor::from_vec(index, b, hidden.device())?;
        Ok(hidden.reshape((b * t, width))?.index_select(&index, 0)?)
    }

    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.dense.iter().chain(&self.output)
    }

    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.dense.iter_mut().chain(&mut self.output)
    }
}

/// How the states of a sequence become one vector.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Pooling {
    kind: PoolingKind,
    normalise: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PoolingKind {
    Mean,
    First,
    Last,
}

impl Default for Pooling {
    fn default() -> Self {
        Self {
            kind: PoolingKind::Mean,
            normalise: true,
        }
    }
}

impl Pooling {
    /// As `1_Pooling/config.json` and `modules.json` of sentence-transformers say; without them the mean, normalised.
    pub fn of(files: &ModelFiles) -> Result<Self, ModelError> {
        let normalise = files.json("modules.json")?.is_none_or(|modules| {
            modules.as_array().is_none_or(|modules| {
                modules.iter().any(|module| {
                    module["type"]
                        .as_str()
                        .is_some_and(|kind| kind.ends_with("Normalize"))
                })
            })
        });
        let config = files.json("1_Pooling/config.json")?.unwrap_or(Value::Null);
        let on = |key: &str| config[key].as_bool() == Some(true);
        let name = match config["pooling_mode"].as_str() {
            Some(name) => name,
            None if config.is_null() || on("pooling_mode_mean_tokens") => "mean",
            None if on("pooling_mode_cls_token") => "cls",
            None if on("pooling_mode_lasttoken") => "lasttoken",
            None => "another",
        };
        let kind = match name {
            "mean" => Some(PoolingKind::Mean),
            "cls" => Some(PoolingKind::First),
            "lasttoken" => Some(PoolingKind::Last),
            _ => None,
        };
        kind.map(|kind| Self { kind, normalise })
            .ok_or_else(|| ModelError::UnsupportedSetting {
                architecture: "sentence embeddings",
                setting: "the pooling of 1_Pooling/config.json".into(),
                supported: "the mean, the first or the last token".into(),
            })
    }

    /// [B, T, H] to [B, H].
    pub fn apply(self, hidden: &Tensor, batch: &Batch) -> Result<Tensor, ModelError> {
        let (b, t, _) = hidden.dims3()?;
        // Each vector is a weighted sum of states.
        let mut weights = vec![0f32; b * t];
        let last = batch.last_columns();
        for (row, segments) in batch.segments().chunks(t.max(1)).enumerate() {
            let real = segments.iter().filter(|segment| **segment != 0).count().max(1);
            for (column, segment) in segments.iter().enumerate() {
                weights[row * t + column] = match self.kind {
                    PoolingKind::Mean if *segment != 0 => 1.0 / real as f32,
                    PoolingKind::First if column == 0 => 1.0,
                    PoolingKind::Last if column == last[row] => 1.0,
                    _ => 0.0,
                };
            }
        }
        let weights = Tensor::from_vec(weights, (b, 1, t), &Device::Cpu)?
            .to_device(hidden.device())?
            .to_dtype(hidden.dtype())?;
        let vectors = weights
            .matmul(&hidden.contiguous()?)?
            .squeeze(1)?
            .to_dtype(DType::F32)?;
        if !self.normalise {
            return Ok(vectors);
        }
        let length = vectors.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?;
        Ok(vectors.broadcast_div(&length)?)
    }
}
