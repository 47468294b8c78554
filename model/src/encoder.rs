//! The encoder: BERT, RoBERTa and DistilBERT by configuration.

use candle_core::Tensor;
use candle_nn::Module;

use crate::attention::{attend, by_head, split_heads};
use crate::decoder::ATTENTION_SITES;
use crate::linear::Linear;
use crate::ops;
use crate::param::{Loader, Param};
use crate::pass::Pass;
use crate::registry::EncoderConfig;
use crate::{Architecture, Batch, ModelError};

/// Embeddings and layers, each normed after its residual sum.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub config: EncoderConfig,
    words: Param,
    positions: Param,
    // DistilBERT has none.
    types: Option<Param>,
    norm: Norm,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Norm {
    weight: Param,
    bias: Param,
    epsilon: f64,
}

#[derive(Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    mlp_norm: Norm,
}

/// Names of a layer's parts, in the order of [`Layer`]'s fields.
struct Names {
    layers: &'static str,
    parts: [&'static str; 8],
}

const BERT: Names = Names {
    layers: "encoder.layer",
    parts: [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "attention.output.LayerNorm",
        "intermediate.dense",
        "output.dense",
        "output.LayerNorm",
    ],
};

const DISTIL_BERT: Names = Names {
    layers: "transformer.layer",
    parts: [
        "attention.q_lin",
        "attention.k_lin",
        "attention.v_lin",
        "attention.out_lin",
        "sa_layer_norm",
        "ffn.lin1",
        "ffn.lin2",
        "output_layer_norm",
    ],
};

/// Dropout sites of residual branches.
const RESIDUAL_SITES: u64 = 1 << 18;

impl Encoder {
    pub fn load(loader: &mut Loader, config: EncoderConfig) -> Result<Self, ModelError> {
        let prefix = loader.prefix;
        let hidden = config.hidden_size;
        let names = match loader.architecture {
            Architecture::DistilBert => &DISTIL_BERT,
            _ => &BERT,
        };
        let mut table =
            |part: &str, rows| loader.param(&format!("{prefix}embeddings.{part}.weight"), &[rows, hidden]);
        let words = table("word_embeddings", config.vocab_size)?;
        let positions = table("position_embeddings", config.max_position_embeddings)?;
        let types = (config.type_vocab_size > 0)
            .then(|| table("token_type_embeddings", config.type_vocab_size))
            .transpose()?;
        let norm = Norm::load(loader, &format!("{prefix}embeddings.LayerNorm"), &config)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| {
                Layer::load(
                    loader,
                    &config,
                    &format!("{prefix}{}.{index}", names.layers),
                    names,
                )
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            config,
            words,
            positions,
            types,
            norm,
            layers,
        })
    }

    /// Last hidden states [B, T, H].
    pub fn forward(&self, batch: &Batch, pass: &Pass) -> Result<Tensor, ModelError> {
        let device = self.words.tensor.device();
        let shape = (batch.rows(), batch.columns(), self.config.hidden_size);
        let ids = batch.ids_tensor(self.config.vocab_size, device)?.flatten_all()?;
        let offset = self.config.position_offset() as u32;
        // Padding's position matters to nobody, but must be in the table.
        let positions: Vec<u32> = batch
            .positions()
            .iter()
            .map(|position| position + offset)
            .collect();
        let positions = Tensor::from_vec(positions, batch.ids().len(), device)?;
        let words = self.words.get(pass).index_select(&ids, 0)?;
        let mut x = (words + self.positions.get(pass).index_select(&positions, 0)?)?;
        if let Some(types) = &self.types {
            x = x.broadcast_add(&types.get(pass).narrow(0, 0, 1)?)?;
        }
        let x = self.norm.forward(&x.reshape(shape)?, pass)?;
        let mut x = pass.drop(&x, self.config.hidden_dropout_prob, RESIDUAL_SITES)?;
        let mask = batch.mask(false, None, x.dtype(), device)?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, &self.config, mask.as_ref(), index as u64, pass)?;
        }
        Ok(x)
    }

    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.layers.iter().flat_map(Layer::linears)
    }

    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.layers.iter_mut().flat_map(Layer::linears_mut)
    }

    pub fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a Param)) {
        visit(&self.words);
        visit(&self.positions);
        if let Some(types) = &self.types {
            visit(types);
        }
        self.norm.visit(visit);
        for layer in &self.layers {
            layer.linears().into_iter().for_each(|linear| linear.visit(visit));
            layer.attention_norm.visit(visit);
            layer.mlp_norm.visit(visit);
        }
    }

    pub fn visit_mut(
        &mut self,
        visit: &mut dyn FnMut(&mut Param) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        visit(&mut self.words)?;
        visit(&mut self.positions)?;
        if let Some(types) = &mut self.types {
            visit(types)?;
        }
        self.norm.visit_mut(visit)?;
        for layer in &mut self.layers {
            for linear in layer.linears_mut() {
                linear.visit_mut(visit)?;
            }
            layer.attention_norm.visit_mut(visit)?;
            layer.mlp_norm.visit_mut(visit)?;
        }
        Ok(())
    }
}

impl Norm {
    fn load(loader: &mut Loader, name: &str, config: &EncoderConfig) -> Result<Self, ModelError> {
        Ok(Self {
            weight: loader.param(&format!("{name}.weight"), &[config.hidden_size])?,
            bias: loader.param(&format!("{name}.bias"), &[config.hidden_size])?,
            epsilon: config.layer_norm_eps,
        })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, ModelError> {
        let (weight, bias) = (self.weight.get(pass), self.bias.get(pass));
        Ok(ops::layer_norm(x, &weight, &bias, self.epsilon, pass.gradients)?)
    }

    fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a Param)) {
        visit(&self.weight);
        visit(&self.bias);
    }

    fn visit_mut(
        &mut self,
        visit: &mut dyn FnMut(&mut Param) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        visit(&mut self.weight)?;
        visit(&mut self.bias)
    }
}

impl Layer {
    fn load(
        loader: &mut Loader,
        config: &EncoderConfig,
        name: &str,
        names: &Names,
    ) -> Result<Self, ModelError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let [query, key, value, output, attention_norm, up, down, mlp_norm] =
            names.parts.map(|part| format!("{name}.{part}"));
        Ok(Self {
            query: Linear::load(loader, &query, hidden, hidden, true)?,
            key: Linear::load(loader, &key, hidden, hidden, true)?,
            value: Linear::load(loader, &value, hidden, hidden, true)?,
            output: Linear::load(loader, &output, hidden, hidden, true)?,
            attention_norm: Norm::load(loader, &attention_norm, config)?,
            up: Linear::load(loader, &up, hidden, inner, true)?,
            down: Linear::load(loader, &down, inner, hidden, true)?,
            mlp_norm: Norm::load(loader, &mlp_norm, config)?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        config: &EncoderConfig,
        mask: Option<&Tensor>,
        index: u64,
        pass: &Pass,
    ) -> Result<Tensor, ModelError> {
        let heads = config.num_attention_heads;
        let q = split_heads(&self.query.forward(x, pass)?, heads)?
            .transpose(1, 2)?
            .contiguous()?;
        let k = by_head(&split_heads(&self.key.forward(x, pass)?, heads)?)?;
        let v = by_head(&split_heads(&self.value.forward(x, pass)?, heads)?)?;
        let dropout = (config.attention_probs_dropout_prob, ATTENTION_SITES + index);
        let mixed = self
            .output
            .forward(&attend(&q, &k, &v, mask, dropout, pass)?, pass)?;
        let residual = config.hidden_dropout_prob;
        let mixed = pass.drop(
            &mixed,
            config.attention_output_dropout(),
            RESIDUAL_SITES + 1 + 2 * index,
        )?;
        let x = self.attention_norm.forward(&(x + mixed)?, pass)?;
        let h = config.hidden_act.forward(&self.up.forward(&x, pass)?)?;
        let h = pass.drop(
            &self.down.forward(&h, pass)?,
            residual,
            RESIDUAL_SITES + 2 + 2 * index,
        )?;
        self.mlp_norm.forward(&(x + h)?, pass)
    }

    fn linears(&self) -> [&Linear; 6] {
        [
            &self.query,
            &self.key,
            &self.value,
            &self.output,
            &self.up,
            &self.down,
        ]
    }

    fn linears_mut(&mut self) -> [&mut Linear; 6] {
        [
            &mut self.query,
            &mut self.key,
            &mut self.value,
            &mut self.output,
            &mut self.up,
            &mut self.down,
        ]
    }
}
