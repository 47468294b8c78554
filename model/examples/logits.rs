//! Runs a model on token ids and prints what comes out, for comparison with other implementations.
//!
//! `logits MODEL TASK [ADAPTER]` with TASK one of `causal`, `classify`, `embed`, `generate`; standard input is a JSON list of
//! lists of token ids, standard output a JSON list of one result a sequence.

use std::io::Read;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use slipway_model::{Batch, Head, LoadOptions, Mode, ModelFiles, Network, Rows};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, task) = match arguments.as_slice() {
        [model, task, ..] => (model, task.as_str()),
        _ => return Err("usage: logits MODEL causal|classify|embed|generate [ADAPTER] < ids.json".into()),
    };
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let sequences: Vec<Vec<u32>> = serde_json::from_str(&text)?;
    let files = ModelFiles::open(Path::new(model))?;
    let head = match task {
        "classify" => Head::SequenceClassification {
            labels: files
                .labels()
                .unwrap_or_else(|| vec!["LABEL_0".into(), "LABEL_1".into()]),
        },
        "embed" => Head::Embedding,
        _ => Head::CausalLm,
    };
    let options = LoadOptions {
        device: Device::Cpu,
        dtype: DType::F32,
        mode: Mode::Serve,
        seed: 0,
        head_from_adapter: arguments.len() > 2,
    };
    let mut network = Network::load(&files, head, options)?;
    let adapter = match arguments.get(2) {
        Some(directory) => Some(network.add_adapter("adapter", Path::new(directory))?),
        None => None,
    };
    let rows = Rows {
        adapters: Some(vec![adapter; sequences.len()]),
    };
    let batch = Batch::padded(&sequences);
    let results: Vec<Value> = match task {
        "causal" => {
            let logits = network
                .lm_logits(&network.hidden(&batch, &rows)?)?
                .to_vec3::<f32>()?;
            let real = sequences.iter().map(Vec::len);
            logits
                .iter()
                .zip(real)
                .map(|(rows, length)| json!(rows[..length]))
                .collect()
        }
        "classify" => list(&network.classify(&batch, &rows)?)?,
        "embed" => list(&network.embed(&batch, &rows)?)?,
        "generate" => sequences
            .iter()
            .map(|prompt| generate(&network, prompt, adapter))
            .collect::<Result<_, _>>()?,
        other => return Err(format!("unknown task {other}").into()),
    };
    println!("{}", Value::Array(results));
    Ok(())
}

fn list(rows: &Tensor) -> Result<Vec<Value>, Failure> {
    Ok(rows.to_vec2::<f32>()?.iter().map(|row| json!(row)).collect())
}

/// Sixteen tokens, always the likeliest.
fn generate(
    network: &Network,
    prompt: &[u32],
    adapter: Option<slipway_model::AdapterId>,
) -> Result<Value, Failure> {
    let mut cache = network.kv_cache();
    let mut scores = network.prefill(prompt, &mut cache, adapter)?;
    let mut tokens = Vec::new();
    for _ in 0..16 {
        let token = scores.argmax(0)?.to_scalar::<u32>()?;
        tokens.push(token);
        scores = network
            .decode(&[token], &mut [&mut cache], &[adapter])?
            .squeeze(0)?;
    }
    Ok(json!(tokens))
}
