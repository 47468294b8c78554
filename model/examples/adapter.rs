//! Writes an adapter with random weights for a model: `adapter MODEL TASK OUT [TARGET,..]` with TASK one of `causal`, `classify`,
//! `embed`. With `full` in place of the targets, the whole model is written instead.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use slipway_contract::Lora;
use slipway_model::{Head, LoadOptions, Mode, ModelFiles, Network};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, task, out, rest @ ..] = arguments.as_slice() else {
        return Err("usage: adapter MODEL causal|classify|embed OUT [TARGET,..|full]".into());
    };
    let files = ModelFiles::open(Path::new(model))?;
    let head = match task.as_str() {
        "classify" => Head::SequenceClassification {
            labels: ["negative", "neutral", "positive"].map(String::from).to_vec(),
        },
        "embed" => Head::Embedding,
        _ => Head::CausalLm,
    };
    let options = LoadOptions {
        device: Device::Cpu,
        dtype: DType::F32,
        mode: Mode::Train,
        seed: 7,
        head_from_adapter: false,
    };
    let mut network = Network::load(&files, head, options)?;
    if rest.first().is_some_and(|word| word == "full") {
        return Ok(network.save_full(Path::new(out))?);
    }
    let lora = Lora {
        rank: 4,
        alpha: 8.0,
        target_modules: rest
            .first()
            .map(|targets| targets.split(',').map(String::from).collect())
            .unwrap_or_default(),
        ..Lora::default()
    };
    network.attach_lora(&lora, 7)?;
    for (_, var) in network.trainable() {
        var.set(&Tensor::randn(0f32, 0.2, var.shape(), &Device::Cpu)?)?;
    }
    Ok(network.save_adapter(Path::new(out), model, None)?)
}
