//! Writes a GGUF model out in the layout of `transformers`: `convert MODEL.gguf DIRECTORY`.

use std::path::Path;

use candle_core::DType;
use slipway_model::gguf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, directory] = arguments.as_slice() else {
        return Err("usage: convert MODEL.gguf DIRECTORY".into());
    };
    let converted = gguf::convert(Path::new(model), Path::new(directory), DType::F32, |_, _| {})?;
    println!(
        "{} weights, {} parameters",
        converted.tensors, converted.parameters
    );
    Ok(())
}
