//! Models in GGUF files: read as they are, or converted to the layout of `transformers`.
//!
//! Tensors are offered under their Hugging Face names with llama.cpp's changes undone, so the rest of the crate does not
//! know where weights come from.

mod config;
mod convert;
mod header;
mod rope;
mod spm;
mod tensors;
mod tokenizer;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use candle_core::quantized::{QTensor, ggml_file::qtensor_from_ggml};
use candle_core::{DType, Device, Tensor};

use crate::weights::TensorSource;
use crate::{ModelError, ModelFiles};
pub use convert::{Converted, convert};
use header::{Header, TensorInfo};

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    file: Mutex<File>,
    header: Header,
}

impl Gguf {
    /// Reads the header of `path`. Tensors are read when asked for.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let path = path.to_owned();
        let file = File::open(&path).map_err(|source| ModelError::Read {
            path: path.clone(),
            source,
        })?;
        let header = Header::read(&file).map_err(|message| ModelError::Invalid {
            path: path.clone(),
            message,
        })?;
        let gguf = Self {
            path,
            file: Mutex::new(file),
            header,
        };
        gguf.check_names()?;
        Ok(gguf)
    }

    /// The model as the rest of the crate takes it: configuration, tokenizer and weights.
    pub fn into_model_files(self) -> Result<ModelFiles, ModelError> {
        let documents = [
            ("generation_config.json", self.generation_config()),
            ("tokenizer.json", self.tokenizer_json()?),
            ("tokenizer_config.json", self.tokenizer_config()?),
        ];
        let documents = documents
            .map(|(name, content)| (name.to_owned(), content.to_string()))
            .into();
        ModelFiles::from_parts(&self.path.clone(), self.config()?, documents, Arc::new(self))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn damaged(&self, message: impl Into<String>) -> ModelError {
        ModelError::Invalid {
            path: self.path.clone(),
            message: message.into(),
        }
    }

    fn unsupported(setting: impl Into<String>, supported: impl Into<String>) -> ModelError {
        ModelError::UnsupportedSetting {
            architecture: "GGUF files",
            setting: setting.into(),
            supported: supported.into(),
        }
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, ModelError> {
        self.header
            .tensors
            .get(name)
            .ok_or_else(|| self.damaged(format!("it has no tensor {name}")))
    }

    /// The tensor as it is stored, under llama.cpp's name.
    fn stored(&self, name: &str, device: &Device) -> Result<QTensor, ModelError> {
        let info = self.info(name)?;
        let mut bytes = vec![0; info.bytes];
        {
            let mut file = self
                .file
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            file.seek(SeekFrom::Start(info.offset))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(|source| ModelError::Read {
                    path: self.path.clone(),
                    source,
                })?;
        }
        qtensor_from_ggml(info.dtype, &bytes, info.shape.clone(), device)
            .map_err(|error| self.damaged(format!("tensor {name}: {error}")))
    }

    fn dequantize(&self, name: &str, device: &Device) -> Result<Tensor, ModelError> {
        self.stored(name, device)?
            .dequantize(device)
            .map_err(|error| self.damaged(format!("tensor {name}: {error}")))
    }
}

impl TensorSource for Gguf {
    fn names(&self) -> Vec<String> {
        self.weights()
    }

    fn contains(&self, name: &str) -> bool {
        self.has_weight(name)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.weight_shape(name)
    }

    fn tensor(&self, name: &str, device: &Device, dtype: DType) -> Result<Tensor, ModelError> {
        self.weight(name, device, dtype)
    }
}

#[cfg(test)]
mod tests;
