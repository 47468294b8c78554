//! llama.cpp's tensor names and layouts, and back.

use candle_core::{DType, Device, Tensor};

use super::{Gguf, rope};
use crate::ModelError;

/// Names outside the blocks: ours, llama.cpp's.
const OUTER: [(&str, &str); 3] = [
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
];

/// Modules inside a block: ours, llama.cpp's.
const BLOCK: [(&str, &str); 9] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The Hugging Face name of llama.cpp's tensor `name`.
fn ours(name: &str) -> Option<String> {
    if let Some((ours, _)) = OUTER.iter().find(|(_, theirs)| *theirs == name) {
        return Some((*ours).to_owned());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (module, parameter) = rest.split_once('.')?;
    let (ours, _) = BLOCK.iter().find(|(_, theirs)| *theirs == module)?;
    matches!(parameter, "weight" | "bias").then(|| format!("model.layers.{layer}.{ours}.{parameter}"))
}

/// llama.cpp's name of the Hugging Face tensor `name`.
fn theirs(name: &str) -> Option<String> {
    if let Some((_, theirs)) = OUTER.iter().find(|(ours, _)| *ours == name) {
        return Some((*theirs).to_owned());
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, parameter) = rest.rsplit_once('.')?;
    let (_, theirs) = BLOCK.iter().find(|(ours, _)| *ours == module)?;
    Some(format!("blk.{layer}.{theirs}.{parameter}"))
}

impl Gguf {
    /// Refuses a tensor that has no Hugging Face name: leaving a weight out would change the model silently.
    pub(super) fn check_names(&self) -> Result<(), ModelError> {
        self.architecture()?;
        match self
            .header
            .tensors
            .keys()
            .find(|name| *name != rope::FACTORS && ours(name).is_none())
        {
            Some(name) => Err(Self::unsupported(
                format!("the tensor {name}"),
                "a model with llama.cpp's attention and feed-forward tensors only",
            )),
            None => Ok(()),
        }
    }

    /// Hugging Face names of all weights, sorted.
    pub(super) fn weights(&self) -> Vec<String> {
        let mut names: Vec<String> = self.header.tensors.keys().filter_map(|name| ours(name)).collect();
        names.sort();
        names
    }

    /// Whether there is a weight of the Hugging Face name `name`.
    pub(super) fn has_weight(&self, name: &str) -> bool {
        theirs(name).is_some_and(|name| self.header.tensors.contains_key(&name))
    }

    /// The shape of the weight of the Hugging Face name `name`.
    pub(super) fn weight_shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.header.tensors.get(&theirs(name)?)?.shape.clone())
    }

    /// The weight of the Hugging Face name `name`, dequantized to `dtype`, in the layout of `transformers`.
    pub(super) fn weight(&self, name: &str, device: &Device, dtype: DType) -> Result<Tensor, ModelError> {
        let stored = theirs(name).ok_or_else(|| self.damaged(format!("it has no weight {name}")))?;
        let mut tensor = self.dequantize(&stored, device)?;
        if self.architecture()? == "llama" {
            let (heads, kv_heads, _) = self.heads()?;
            if name.contains(".q_proj.") {
                tensor =
                    unpermute(&tensor, heads).map_err(|error| self.damaged(format!("{stored}: {error}")))?;
            } else if name.contains(".k_proj.") {
                tensor = unpermute(&tensor, kv_heads)
                    .map_err(|error| self.damaged(format!("{stored}: {error}")))?;
            }
        }
        tensor
            .to_dtype(dtype)
            .map_err(|error| self.damaged(format!("{stored}: {error}")))
    }
}

/// llama.cpp rotates neighbouring rows of a head, `transformers` row i with row i + d/2, so the rows of Llama's query and
/// key projections are interleaved in GGUF. Takes `[heads · d, …]` and puts the rows back.
fn unpermute(tensor: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let shape = tensor.dims().to_vec();
    let rest: usize = shape[1..].iter().product();
    let half = shape[0] / heads / 2;
    tensor
        .reshape((heads, half, 2, rest))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for name in [
            "model.embed_tokens.weight",
            "lm_head.weight",
            "model.layers.11.self_attn.q_proj.bias",
            "model.layers.0.post_attention_layernorm.weight",
        ] {
            assert_eq!(ours(&theirs(name).unwrap()).as_deref(), Some(name));
        }
        assert_eq!(ours("blk.0.ffn_gate_exps.weight"), None);
        assert_eq!(ours("blk.x.attn_q.weight"), None);
    }

    #[test]
    fn rows_go_back_to_where_llama_had_them() {
        // convert_hf_to_gguf.py: reshape(heads, 2, d / 2, columns).swapaxes(1, 2). With one head of four rows that
        // stores rows 0 2 1 3.
        let stored = Tensor::new(&[[0f32], [2.], [1.], [3.]], &Device::Cpu).unwrap();
        let rows = unpermute(&stored, 1)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        assert_eq!(rows, [0., 1., 2., 3.]);
    }
}
