//! Attention of queries over keys and values, and the angles of rotary positions.

use candle_core::{DType, Device, Tensor};

use crate::ModelError;
use crate::ops;
use crate::pass::Pass;
use crate::registry::{DecoderConfig, RopeKind};

/// softmax(q·kᵀ/√d + mask)·v: q [B, heads, T, d], k and v [B·groups, S, d] with heads a multiple of groups, mask
/// [B or 1, 1, T, S]; gives [B, T, heads·d].
///
/// Queries that share a key head are laid under one another, so keys and values are never repeated in memory.
pub(crate) fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    dropout: (f64, u64),
    pass: &Pass,
) -> Result<Tensor, ModelError> {
    let (b, heads, t, d) = q.dims4()?;
    let (groups, s, _) = k.dims3()?;
    let shared = b * heads / groups;
    let q = (q * (1.0 / (d as f64).sqrt()))?.reshape((groups, shared * t, d))?;
    let mut scores = q.matmul(&k.transpose(1, 2)?)?.reshape((b, heads, t, s))?;
    if let Some(mask) = mask {
        scores = scores.broadcast_add(mask)?;
    }
    let weights = pass.drop(&ops::softmax(&scores, pass.gradients)?, dropout.0, dropout.1)?;
    let mixed = weights.reshape((groups, shared * t, s))?.matmul(v)?;
    Ok(mixed
        .reshape((b, heads, t, d))?
        .transpose(1, 2)?
        .reshape((b, t, heads * d))?)
}

/// Inverse frequencies of rotary positions.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    frequencies: Vec<f64>,
}

impl Rotary {
    pub fn new(config: &DecoderConfig) -> Result<Self, ModelError> {
        let d = config.head_dim();
        let scale = config.rope()?;
        let frequencies = (0..d / 2)
            .map(|index| {
                let plain = config.theta().powf(-2.0 * index as f64 / d as f64);
                stretch(plain, scale)
            })
            .collect();
        Ok(Self { frequencies })
    }

    /// Cosines and sines [B, T, d/2] for the positions of B·T tokens.
    pub fn angles(
        &self,
        positions: &[u32],
        shape: (usize, usize),
        device: &Device,
        dtype: DType,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let angles = positions.iter().flat_map(|position| {
            self.frequencies
                .iter()
                .map(move |frequency| f64::from(*position) * frequency)
        });
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles
            .map(f64::sin_cos)
            .map(|(sin, cos)| (sin as f32, cos as f32))
            .unzip();
        let shape = (shape.0, shape.1, self.frequencies.len());
        let tensor = |values| Tensor::from_vec(values, shape, device)?.to_dtype(dtype);
        Ok((tensor(cos)?, tensor(sin)?))
    }
}

/// A frequency stretched for longer texts, as `transformers` does in `modeling_rope_utils.py`.
fn stretch(frequency: f64, kind: RopeKind) -> f64 {
    match kind {
        RopeKind::Default => frequency,
        RopeKind::Linear { factor } => frequency / factor,
        RopeKind::Llama3 {
            factor,
            low,
            high,
            original,
        } => {
            let wavelength = std::f64::consts::TAU / frequency;
            if wavelength < original / high {
                frequency
            } else if wavelength > original / low {
                frequency / factor
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}

/// [B, T, heads·d] to [B, T, heads, d].
pub(crate) fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor, ModelError> {
    let (b, t, width) = x.dims3()?;
    Ok(x.reshape((b, t, heads, width / heads))?)
}

/// [B, T, heads, d] to [B·heads, T, d].
pub(crate) fn by_head(x: &Tensor) -> Result<Tensor, ModelError> {
    let (b, t, heads, d) = x.dims4()?;
    Ok(x.transpose(1, 2)?.reshape((b * heads, t, d))?)
}

/// The mask of T new tokens after `past` others, [1, 1, T, S] with S the keys kept: at most `window` back, itself included.
pub(crate) fn causal_mask(
    t: usize,
    kept: usize,
    window: Option<usize>,
    dtype: DType,
    device: &Device,
) -> Result<Option<Tensor>, ModelError> {
    let past = kept - t;
    if t == 1 && window.is_none_or(|window| kept <= window) {
        return Ok(None);
    }
    let mut mask = vec![f32::NEG_INFINITY; t * kept];
    for query in 0..t {
        let last = past + query + 1;
        let first = window.map_or(0, |window| last.saturating_sub(window));
        mask[query * kept + first..query * kept + last].fill(0.0);
    }
    Ok(Some(
        Tensor::from_vec(mask, (1, 1, t, kept), device)?.to_dtype(dtype)?,
    ))
}
