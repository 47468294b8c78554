//! What one forward pass is told: gradients, dropout, and which adapter each row goes through.

use candle_core::{Device, Result, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::adapter::Adapter;

/// Settings of one forward pass.
pub(crate) struct Pass<'a> {
    /// Where dropout masks come from while training; None is no dropout.
    pub dropout: Option<DropoutSeed>,
    /// Whether gradients may be asked for.
    pub gradients: bool,
    /// Which adapters are applied.
    pub selection: Selection<'a>,
}

/// Which adapters are applied to which rows.
pub(crate) enum Selection<'a> {
    /// None to any row.
    Base,
    /// One to all rows.
    All(&'a Adapter),
    /// Several, each to some rows.
    Groups(Vec<Group<'a>>),
}

/// Rows that share an adapter.
pub(crate) struct Group<'a> {
    pub adapter: &'a Adapter,
    /// Indices of their tokens in [B·T], u32.
    pub tokens: Tensor,
}

/// Where dropout masks come from: they depend on nothing else, so a resumed run draws the same ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DropoutSeed {
    pub seed: u64,
    pub step: u64,
}

impl DropoutSeed {
    /// A mask of 0 and 1/(1−p) in the shape of `x`, multiplied in. `site` tells the places of dropout apart.
    pub fn apply(self, x: &Tensor, probability: f64, site: u64) -> Result<Tensor> {
        if probability <= 0.0 {
            return Ok(x.clone());
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        // 2^20 sites a step; a network has a few hundred.
        random.set_stream((self.step << 20) | site);
        let kept = (1.0 / (1.0 - probability)) as f32;
        let threshold = (probability * f64::from(u32::MAX)) as u32;
        let mask: Vec<f32> = (0..x.elem_count())
            .map(|_| if random.next_u32() < threshold { 0.0 } else { kept })
            .collect();
        let mask = Tensor::from_vec(mask, x.shape(), &Device::Cpu)?
            .to_device(x.device())?
            .to_dtype(x.dtype())?;
        x * mask
    }
}

impl Pass<'_> {
    /// Dropout at `site`, while training.
    pub fn drop(&self, x: &Tensor, probability: f64, site: u64) -> Result<Tensor> {
        match self.dropout {
            Some(seed) => seed.apply(x, probability, site),
            None => Ok(x.clone()),
        }
    }
}
