//! A named weight, and how weights are read.

use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::pass::Pass;
use crate::weights::TensorSource;
use crate::{Architecture, ModelError};

/// A weight under its Hugging Face name.
#[derive(Clone, Debug)]
pub(crate) struct Param {
    pub name: String,
    pub tensor: Tensor,
}

impl Param {
    /// The weight for use in `pass`: without gradients it must not start a graph, or activations would be kept.
    pub fn get(&self, pass: &Pass) -> Tensor {
        if pass.gradients {
            self.tensor.clone()
        } else {
            self.tensor.detach()
        }
    }

    /// Makes it trainable.
    pub fn unfreeze(&mut self) -> Result<(), ModelError> {
        self.tensor = Var::from_tensor(&self.tensor)?.as_tensor().clone();
        Ok(())
    }
}

/// Reads weights by name, whichever of the usual spellings the file has.
pub(crate) struct Loader<'a> {
    pub source: &'a dyn TensorSource,
    pub architecture: Architecture,
    /// Prefix of the backbone in this network: with a head as in `BertForSequenceClassification`, else none.
    pub prefix: &'static str,
    pub device: &'a Device,
    pub dtype: DType,
    /// Draws weights that are missing; None makes them an error.
    pub init: Option<ChaCha8Rng>,
    /// Modules whose weights were drawn.
    pub drawn: Vec<String>,
    /// Linear layers read so far; numbers the next one.
    pub linears: usize,
}

/// Standard deviation of weights drawn at first: `initializer_range` of all architectures here.
const INITIAL_DEVIATION: f64 = 0.02;

impl Loader<'_> {
    /// The name in the source for our `name`: with or without the backbone's prefix, and with the old names of layer norms.
    fn find(&self, name: &str) -> Option<String> {
        let full = self.architecture.backbone_prefix();
        let bare = name.strip_prefix(full).unwrap_or(name);
        let older = |name: &str| {
            let name = name
                .strip_suffix("LayerNorm.weight")
                .map(|stem| format!("{stem}LayerNorm.gamma"))
                .or_else(|| {
                    name.strip_suffix("LayerNorm.bias")
                        .map(|stem| format!("{stem}LayerNorm.beta"))
                });
            name.unwrap_or_default()
        };
        let candidates = [name.to_owned(), bare.to_owned(), format!("{full}{bare}")];
        candidates
            .iter()
            .cloned()
            .chain(candidates.iter().map(|name| older(name)))
            .find(|name| self.source.contains(name))
    }

    /// Whether the source has this weight in this shape.
    pub fn has_shape(&self, name: &str, shape: &[usize]) -> bool {
        self.find(name)
            .and_then(|name| self.source.shape(&name))
            .is_some_and(|found| found == shape)
    }

    /// Reads `name` and checks its shape.
    pub fn param(&mut self, name: &str, shape: &[usize]) -> Result<Param, ModelError> {
        let found = self.find(name).ok_or_else(|| ModelError::MissingTensor {
            name: name.to_owned(),
            architecture: self.architecture.name(),
        })?;
        let tensor = self.source.tensor(&found, self.device, self.dtype)?;
        if tensor.dims() != shape {
            return Err(ModelError::TensorShape {
                name: found,
                found: tensor.dims().to_vec(),
                expected: shape.to_vec(),
            });
        }
        Ok(Param {
            name: name.to_owned(),
            tensor,
        })
    }

    /// Reads a weight of a head, or draws it where that is allowed: normal for matrices, zeros for biases. A head for another
    /// number of classes is drawn anew as well.
    pub fn head_param(&mut self, name: &str, shape: &[usize]) -> Result<Param, ModelError> {
        match self.param(name, shape) {
            Err(ModelError::MissingTensor { .. } | ModelError::TensorShape { .. }) if self.init.is_some() => {
                let module = name
                    .rsplit_once('.')
                    .map_or(name, |(module, _)| module)
                    .to_owned();
                if !self.drawn.contains(&module) {
                    self.drawn.push(module);
                }
                let tensor = match (&mut self.init, shape.len()) {
                    (Some(random), 2) => normal(random, shape, INITIAL_DEVIATION)?,
                    _ => Tensor::zeros(shape, DType::F32, &Device::Cpu)?,
                };
                Ok(Param {
                    name: name.to_owned(),
                    tensor: tensor.to_device(self.device)?.to_dtype(self.dtype)?,
                })
            }
            other => other,
        }
    }
}

/// Numbers in [0, 1) with 24 random bits.
fn unit(random: &mut ChaCha8Rng) -> f64 {
    f64::from(random.next_u32() >> 8) / f64::from(1u32 << 24)
}

fn normal(random: &mut ChaCha8Rng, shape: &[usize], deviation: f64) -> Result<Tensor, ModelError> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|_| {
            // Box and Muller; 1 − u keeps the logarithm finite.
            let radius = (-2.0 * (1.0 - unit(random)).ln()).sqrt();
            let angle = std::f64::consts::TAU * unit(random);
            (deviation * radius * angle.cos()) as f32
        })
        .collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Uniform in ±`bound`, drawn from `(seed, stream)`.
pub(crate) fn uniform(
    seed: u64,
    stream: u64,
    shape: (usize, usize),
    bound: f64,
) -> Result<Tensor, ModelError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    let values: Vec<f32> = (0..shape.0 * shape.1)
        .map(|_| ((unit(&mut random) * 2.0 - 1.0) * bound) as f32)
        .collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
