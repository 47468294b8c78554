//! Writing a GGUF model out as `transformers` lays it out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, View};
use serde_json::{Value as Json, json};

use super::Gguf;
use crate::ModelError;

/// Safetensors files are split at this size, in bytes, as the Hub's clients do.
const SHARD: usize = 5_000_000_000;

/// What was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Converted {
    /// Weights.
    pub tensors: usize,
    /// Numbers in all weights.
    pub parameters: usize,
    /// The files, relative to the directory.
    pub files: Vec<PathBuf>,
}

/// Writes the model of the GGUF file `gguf` to `directory` (made if it is not there): `model.safetensors` with weights as
/// `dtype` (or shards with an index), `config.json`, `generation_config.json`, `tokenizer.json` and
/// `tokenizer_config.json`. `progress` is told the weights done and the weights in all.
pub fn convert(
    gguf: &Path,
    directory: &Path,
    dtype: DType,
    mut progress: impl FnMut(usize, usize),
) -> Result<Converted, ModelError> {
    let gguf = Gguf::open(gguf)?;
    let name = match dtype {
        DType::F32 => "float32",
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        other => {
            return Err(ModelError::InvalidSetting(format!(
                "weights cannot be written as {other:?}; choose F32, F16 or BF16"
            )));
        }
    };
    let mut config = gguf.config()?;
    config["dtype"] = json!(name);
    let documents = [
        ("config.json", config),
        ("generation_config.json", gguf.generation_config()),
        ("tokenizer.json", gguf.tokenizer_json()?),
        ("tokenizer_config.json", gguf.tokenizer_config()?),
    ];
    let names = gguf.weights();
    fs::create_dir_all(directory).map_err(|source| write_error(directory, source))?;
    let mut files = Vec::new();
    for (file, content) in documents {
        write_json(&directory.join(file), &content)?;
        files.push(PathBuf::from(file));
    }
    let shards = shards(&gguf, &names, dtype);
    let mut index = BTreeMap::new();
    let mut parameters = 0;
    let mut done = 0;
    for (number, shard) in shards.iter().enumerate() {
        let file = match shards.len() {
            1 => "model.safetensors".to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        };
        let mut weights = Vec::with_capacity(shard.len());
        for name in shard {
            let weight = gguf.weight(name, &Device::Cpu, dtype)?;
            parameters += weight.elem_count();
            weights.push((name.as_str(), Weight::new(&gguf, name, &weight)?));
            index.insert(name.clone(), file.clone());
            done += 1;
            progress(done, names.len());
        }
        let path = directory.join(&file);
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        safetensors::serialize_to_file(weights, Some(metadata), &path).map_err(|error| {
            write_error(
                &path,
                match error {
                    safetensors::SafeTensorError::IoError(source) => source,
                    other => std::io::Error::other(other),
                },
            )
        })?;
        files.push(PathBuf::from(file));
    }
    if shards.len() > 1 {
        let size = parameters * dtype.size_in_bytes();
        let content = json!({"metadata": {"total_size": size}, "weight_map": index});
        write_json(&directory.join("model.safetensors.index.json"), &content)?;
        files.push("model.safetensors.index.json".into());
    }
    Ok(Converted {
        tensors: names.len(),
        parameters,
        files,
    })
}

fn shards(gguf: &Gguf, names: &[String], dtype: DType) -> Vec<Vec<String>> {
    let mut shards = vec![Vec::new()];
    let mut size = 0;
    for name in names {
        let weight = gguf
            .weight_shape(name)
            .unwrap_or_default()
            .iter()
            .product::<usize>()
            * dtype.size_in_bytes();
        if size + weight > SHARD && size > 0 {
            shards.push(Vec::new());
            size = 0;
        }
        size += weight;
        if let Some(shard) = shards.last_mut() {
            shard.push(name.clone());
        }
    }
    shards
}

fn write_json(path: &Path, content: &Json) -> Result<(), ModelError> {
    let mut text = serde_json::to_string_pretty(content).unwrap_or_default();
    text.push('\n');
    fs::write(path, text).map_err(|source| write_error(path, source))
}

fn write_error(path: &Path, source: std::io::Error) -> ModelError {
    ModelError::Write {
        path: path.to_owned(),
        source,
    }
}

/// A weight's bytes, little-endian, as safetensors wants them.
struct Weight {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Weight {
    fn new(gguf: &Gguf, name: &str, tensor: &Tensor) -> Result<Self, ModelError> {
        let (dtype, bytes) =
            little_endian(tensor).map_err(|error| gguf.damaged(format!("{name}: {error}")))?;
        Ok(Self {
            dtype,
            shape: tensor.dims().to_vec(),
            bytes,
        })
    }
}

fn little_endian(tensor: &Tensor) -> candle_core::Result<(Dtype, Vec<u8>)> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F16 => {
            let values = flat.to_vec1::<half::f16>()?;
            (
                Dtype::F16,
                values.into_iter().flat_map(half::f16::to_le_bytes).collect(),
            )
        }
        DType::BF16 => {
            let values = flat.to_vec1::<half::bf16>()?;
            (
                Dtype::BF16,
                values.into_iter().flat_map(half::bf16::to_le_bytes).collect(),
            )
        }
        _ => {
            let values = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            (
                Dtype::F32,
                values.into_iter().flat_map(f32::to_le_bytes).collect(),
            )
        }
    })
}

impl View for Weight {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.bytes).into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
