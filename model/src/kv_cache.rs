//! Keys and values of the tokens a sequence has so far.

use candle_core::{DType, Device, Tensor};

use crate::ModelError;

/// Keys and values of one sequence, in every layer. Grows in blocks, so that a step copies its own token only.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<Layer>,
    length: usize,
    heads: usize,
    head_dim: usize,
    dtype: DType,
    device: Device,
}

#[derive(Debug)]
struct Layer {
    // [heads, capacity, head_dim]
    keys: Option<Tensor>,
    values: Option<Tensor>,
}

/// Tokens by which a cache grows.
const BLOCK: usize = 256;

impl KvCache {
    pub(crate) fn new(layers: usize, heads: usize, head_dim: usize, dtype: DType, device: &Device) -> Self {
        Self {
            layers: (0..layers)
                .map(|_| Layer {
                    keys: None,
                    values: None,
                })
                .collect(),
            length: 0,
            heads,
            head_dim,
            dtype,
            device: device.clone(),
        }
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let tensors = self.layers.iter().flat_map(|layer| [&layer.keys, &layer.values]);
        tensors
            .flatten()
            .map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes())
            .sum()
    }

    /// Forgets the tokens from the `length`th on.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Writes keys and values [heads, T, `head_dim`] of T new tokens behind those held and gives all of them. The tokens count
    /// as held after [`Self::advance`], once every layer has them.
    pub(crate) fn append(
        &mut self,
        layer: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let new = keys.dim(1)?;
        let end = self.length + new;
        let shape = (self.heads, end.next_multiple_of(BLOCK), self.head_dim);
        let (length, dtype, device) = (self.length, self.dtype, &self.device);
        let put = |held: &mut Option<Tensor>, fresh: &Tensor| -> Result<Tensor, ModelError> {
            let room = match held.take() {
                Some(tensor) if tensor.dim(1)? >= end => tensor,
                old => {
                    let larger = Tensor::zeros(shape, dtype, device)?;
                    if let Some(old) = old.filter(|_| length > 0) {
                        larger.slice_set(&old.narrow(1, 0, length)?.contiguous()?, 1, 0)?;
                    }
                    larger
                }
            };
            room.slice_set(&fresh.contiguous()?, 1, length)?;
            let all = room.narrow(1, 0, end)?;
            *held = Some(room);
            Ok(all)
        };
        let layer = &mut self.layers[layer];
        Ok((put(&mut layer.keys, keys)?, put(&mut layer.values, values)?))
    }

    pub(crate) fn advance(&mut self, tokens: usize) {
        self.length += tokens;
    }
}
