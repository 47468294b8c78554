//! The decoder: Llama, Mistral and Qwen2 by configuration.

use candle_core::{DType, Device, Tensor};
use candle_nn::Module;

use crate::attention::{Rotary, attend, by_head, causal_mask, split_heads};
use crate::linear::Linear;
use crate::ops;
use crate::param::{Loader, Param};
use crate::pass::Pass;
use crate::registry::DecoderConfig;
use crate::{Batch, KvCache, ModelError};

/// Embedding, layers and final norm.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub config: DecoderConfig,
    pub embedding: Param,
    layers: Vec<Layer>,
    norm: Param,
    rotary: Rotary,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Param,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    mlp_norm: Param,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// Dropout sites from here on are not those of adapters.
pub(crate) const ATTENTION_SITES: u64 = 1 << 17;

/// Angles of rotary positions.
struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Decoder {
    pub fn load(loader: &mut Loader, config: DecoderConfig) -> Result<Self, ModelError> {
        let prefix = loader.prefix;
        let hidden = config.hidden_size;
        let embedding = loader.param(
            &format!("{prefix}embed_tokens.weight"),
            &[config.vocab_size, hidden],
        )?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(loader, &config, &format!("{prefix}layers.{index}")))
            .collect::<Result<_, _>>()?;
        let norm = loader.param(&format!("{prefix}norm.weight"), &[hidden])?;
        let rotary = Rotary::new(&config)?;
        Ok(Self {
            config,
            embedding,
            layers,
            norm,
            rotary,
        })
    }

    fn embed(&self, ids: &Tensor, pass: &Pass) -> Result<Tensor, ModelError> {
        let (b, t) = ids.dims2()?;
        let rows = self.embedding.get(pass).index_select(&ids.flatten_all()?, 0)?;
        Ok(rows.reshape((b, t, ()))?)
    }

    fn angles(&self, positions: &[u32], shape: (usize, usize), x: &Tensor) -> Result<Angles, ModelError> {
        let (cos, sin) = self.rotary.angles(positions, shape, x.device(), x.dtype())?;
        Ok(Angles { cos, sin })
    }

    fn finish(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, ModelError> {
        Ok(ops::rms_norm(
            x,
            &self.norm.get(pass),
            self.config.rms_norm_eps,
            pass.gradients,
        )?)
    }

    /// Last hidden states [B, T, H] of whole sequences.
    pub fn forward(&self, batch: &Batch, pass: &Pass) -> Result<Tensor, ModelError> {
        let device = self.embedding.tensor.device();
        let ids = batch.ids_tensor(self.config.vocab_size, device)?;
        let mut x = self.embed(&ids, pass)?;
        let mask = batch.mask(true, self.config.window(), x.dtype(), device)?;
        let angles = self.angles(batch.positions(), (batch.rows(), batch.columns()), &x)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let dropout = (self.config.attention_dropout, ATTENTION_SITES + index as u64);
            x = layer.forward(&x, &self.config, &angles, pass, |q, k, v| {
                attend(&q, &by_head(&k)?, &by_head(&v)?, mask.as_ref(), dropout, pass)
            })?;
        }
        self.finish(&x, pass)
    }

    /// Last hidden states [B, T, H] of T new tokens in each of B sequences, whose earlier ones are in `caches`.
    pub fn step(
        &self,
        tokens: &[u32],
        caches: &mut [&mut KvCache],
        pass: &Pass,
    ) -> Result<Tensor, ModelError> {
        let device = self.embedding.tensor.device();
        let (b, t) = (caches.len(), tokens.len() / caches.len().max(1));
        let vocabulary = self.config.vocab_size;
        if let Some(id) = tokens.iter().find(|id| **id as usize >= vocabulary) {
            return Err(ModelError::TokenOutOfRange { id: *id, vocabulary });
        }
        let mut x = self.embed(&Tensor::from_slice(tokens, (b, t), device)?, pass)?;
        let positions: Vec<u32> = caches
            .iter()
            .flat_map(|cache| cache.len() as u32..(cache.len() + t) as u32)
            .collect();
        let angles = self.angles(&positions, (b, t), &x)?;
        // All layers of a sequence share its mask.
        let window = self.config.window();
        let masks = caches
            .iter()
            .map(|cache| causal_mask(t, cache.len() + t, window, x.dtype(), device))
            .collect::<Result<Vec<_>, _>>()?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, &self.config, &angles, pass, |q, k, v| {
                let mut mixed = Vec::with_capacity(b);
                for (row, cache) in caches.iter_mut().enumerate() {
                    let (k, v) = (by_head(&k.narrow(0, row, 1)?)?, by_head(&v.narrow(0, row, 1)?)?);
                    let (k, v) = cache.append(index, &k, &v)?;
                    let q = q.narrow(0, row, 1)?;
                    mixed.push(attend(&q, &k, &v, masks[row].as_ref(), (0.0, 0), pass)?);
                }
                Ok(if b == 1 {
                    mixed.remove(0)
                } else {
                    Tensor::cat(&mixed, 0)?
                })
            })?;
        }
        for cache in caches.iter_mut() {
            cache.advance(t);
        }
        // Only the last token's state is asked for.
        self.finish(&x.narrow(1, t - 1, 1)?, pass)
    }

    pub fn cache(&self, dtype: DType, device: &Device) -> KvCache {
        KvCache::new(
            self.layers.len(),
            self.config.kv_heads(),
            self.config.head_dim(),
            dtype,
            device,
        )
    }

    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.layers.iter().flat_map(Layer::linears)
    }

    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.layers.iter_mut().flat_map(Layer::linears_mut)
    }

    pub fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a Param)) {
        visit(&self.embedding);
        for layer in &self.layers {
            layer.linears().into_iter().for_each(|linear| linear.visit(visit));
            visit(&layer.attention_norm);
            visit(&layer.mlp_norm);
        }
        visit(&self.norm);
    }

    pub fn visit_mut(
        &mut self,
        visit: &mut dyn FnMut(&mut Param) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        visit(&mut self.embedding)?;
        for layer in &mut self.layers {
            for linear in layer.linears_mut() {
                linear.visit_mut(visit)?;
            }
            visit(&mut layer.attention_norm)?;
            visit(&mut layer.mlp_norm)?;
        }
        visit(&mut self.norm)
    }
}

impl Layer {
    fn load(loader: &mut Loader, config: &DecoderConfig, name: &str) -> Result<Self, ModelError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim();
        let keys = config.kv_heads() * config.head_dim();
        let (qkv_bias, mlp_bias) = (config.qkv_bias(), config.mlp_bias);
        let mut linear = |part: &str, inputs, outputs, bias| {
            Linear::load(loader, &format!("{name}.{part}"), inputs, outputs, bias)
        };
        Ok(Self {
            query: linear("self_attn.q_proj", hidden, queries, qkv_bias)?,
            key: linear("self_attn.k_proj", hidden, keys, qkv_bias)?,
            value: linear("self_attn.v_proj", hidden, keys, qkv_bias)?,
            output: linear("self_attn.o_proj", queries, hidden, config.output_bias())?,
            gate: linear("mlp.gate_proj", hidden, inner, mlp_bias)?,
            up: linear("mlp.up_proj", hidden, inner, mlp_bias)?,
            down: linear("mlp.down_proj", inner, hidden, mlp_bias)?,
            attention_norm: loader.param(&format!("{name}.input_layernorm.weight"), &[hidden])?,
            mlp_norm: loader.param(&format!("{name}.post_attention_layernorm.weight"), &[hidden])?,
        })
    }

    /// `mix` attends: q [B, heads, T, d], k and v [B, T, groups, d], gives [B, T, heads·d].
    fn forward(
        &self,
        x: &Tensor,
        config: &DecoderConfig,
        angles: &Angles,
        pass: &Pass,
        mix: impl FnOnce(Tensor, Tensor, Tensor) -> Result<Tensor, ModelError>,
    ) -> Result<Tensor, ModelError> {
        let epsilon = config.rms_norm_eps;
        let h = ops::rms_norm(x, &self.attention_norm.get(pass), epsilon, pass.gradients)?;
        let q = split_heads(&self.query.forward(&h, pass)?, config.num_attention_heads)?;
        let k = split_heads(&self.key.forward(&h, pass)?, config.kv_heads())?;
        let v = split_heads(&self.value.forward(&h, pass)?, config.kv_heads())?;
        let q = ops::rope(&q, &angles.cos, &angles.sin)?
            .transpose(1, 2)?
            .contiguous()?;
        let k = ops::rope(&k, &angles.cos, &angles.sin)?;
        let x = (x + self.output.forward(&mix(q, k, v)?, pass)?)?;
        let h = ops::rms_norm(&x, &self.mlp_norm.get(pass), epsilon, pass.gradients)?;
        let gate = config.hidden_act.forward(&self.gate.forward(&h, pass)?)?;
        let h = (gate * self.up.forward(&h, pass)?)?;
        Ok((x + self.down.forward(&h, pass)?)?)
    }

    fn linears(&self) -> [&Linear; 7] {
        [
            &self.query,
            &self.key,
            &self.value,
            &self.output,
            &self.gate,
            &self.up,
            &self.down,
        ]
    }

    fn linears_mut(&mut self) -> [&mut Linear; 7] {
        [
            &mut self.query,
            &mut self.key,
            &mut self.value,
            &mut self.output,
            &mut self.gate,
            &mut self.up,
            &mut self.down,
        ]
    }
}
