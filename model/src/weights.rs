//! Tensors by name: the one interface over safetensors and GGUF.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, Metadata};

use crate::ModelError;

/// Weights that are read one tensor at a time, under their Hugging Face names.
pub trait TensorSource: Send + Sync {
    /// Names of all tensors, sorted.
    fn names(&self) -> Vec<String>;

    /// Whether there is a tensor of this name.
    fn contains(&self, name: &str) -> bool;

    /// The shape of a tensor, without reading it; None when there is none of this name.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// Reads one tensor and converts it to `dtype` on `device`.
    fn tensor(&self, name: &str, device: &Device, dtype: DType) -> Result<Tensor, ModelError>;
}

/// One or several safetensors files. Only headers are held; a tensor's bytes are read when asked for.
pub struct Safetensors {
    files: Vec<Part>,
    // Name to index in `files`.
    index: BTreeMap<String, usize>,
}

struct Part {
    path: PathBuf,
    file: Mutex<File>,
    data_start: u64,
    metadata: Metadata,
}

/// Headers beyond this are refused; the format's own reference implementation sets the same bound.
const MAX_HEADER: u64 = 100_000_000;

impl std::fmt::Debug for Safetensors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let paths: Vec<_> = self.files.iter().map(|part| &part.path).collect();
        f.debug_struct("Safetensors")
            .field("files", &paths)
            .finish_non_exhaustive()
    }
}

impl Safetensors {
    /// Opens `paths` and checks that each file is as long as its header says.
    pub fn open(paths: &[PathBuf]) -> Result<Self, ModelError> {
        let mut files = Vec::with_capacity(paths.len());
        let mut index = BTreeMap::new();
        for path in paths {
            let part = Part::open(path)?;
            for name in part.metadata.offset_keys() {
                index.insert(name, files.len());
            }
            files.push(part);
        }
        Ok(Self { files, index })
    }

    /// Reads every tensor in its stored number type.
    pub fn all(&self, device: &Device) -> Result<HashMap<String, Tensor>, ModelError> {
        self.index
            .iter()
            .map(|(name, file)| Ok((name.clone(), self.files[*file].tensor(name, device)?)))
            .collect()
    }
}

impl TensorSource for Safetensors {
    fn names(&self) -> Vec<String> {
        self.index.keys().cloned().collect()
    }

    fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let part = &self.files[*self.index.get(name)?];
        Some(part.metadata.info(name)?.shape.clone())
    }

    fn tensor(&self, name: &str, device: &Device, dtype: DType) -> Result<Tensor, ModelError> {
        let part = self.index.get(name).map(|file| &self.files[*file]);
        let part = part.ok_or_else(|| ModelError::MissingTensor {
            name: name.to_owned(),
            architecture: "the model",
        })?;
        Ok(part.tensor(name, device)?.to_dtype(dtype)?)
    }
}

impl Part {
    fn open(path: &Path) -> Result<Self, ModelError> {
        let read = |source| ModelError::Read {
            path: path.to_owned(),
            source,
        };
        let invalid = |message: String| ModelError::Invalid {
            path: path.to_owned(),
            message,
        };
        let mut file = File::open(path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let mut size = [0; 8];
        file.read_exact(&mut size)
            .map_err(|_| invalid("it is too short for a safetensors header".into()))?;
        let header = u64::from_le_bytes(size);
        if header > MAX_HEADER || header + 8 > length {
            return Err(invalid(format!(
                "its header claims {header} bytes, but the file has {length}"
            )));
        }
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text).map_err(read)?;
        let metadata: Metadata =
            serde_json::from_slice(&text).map_err(|error| invalid(format!("its header: {error}")))?;
        let expected = 8 + header + metadata.data_len() as u64;
        if expected != length {
            return Err(invalid(format!(
                "it has {length} bytes where its header asks for {expected}, as if a download was cut short"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(file),
            data_start: 8 + header,
            metadata,
        })
    }

    fn tensor(&self, name: &str, device: &Device) -> Result<Tensor, ModelError> {
        let info = self
            .metadata
            .info(name)
            .ok_or_else(|| ModelError::MissingTensor {
                name: name.to_owned(),
                architecture: "the model",
            })?;
        let dtype = match info.dtype {
            Dtype::F64 => DType::F64,
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::U8 => DType::U8,
            Dtype::U32 => DType::U32,
            Dtype::I64 => DType::I64,
            other => {
                return Err(ModelError::Invalid {
                    path: self.path.clone(),
                    message: format!(
                        "the tensor {name} has the number type {other:?}, which is not supported"
                    ),
                });
            }
        };
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        let read = |source| ModelError::Read {
            path: self.path.clone(),
            source,
        };
        let mut file = self
            .file
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.data_start + start as u64))
            .map_err(read)?;
        file.read_exact(&mut bytes).map_err(read)?;
        Ok(Tensor::from_raw_buffer(&bytes, dtype, &info.shape, device)?)
    }
}

/// Writes tensors as one safetensors file, sorted by name, with the metadata that `transformers` asks for.
pub(crate) fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), ModelError> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        views.push((name.clone(), Bytes::of(tensor)?));
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|error| ModelError::Write {
        path: path.to_owned(),
        source: match error {
            safetensors::SafeTensorError::IoError(source) => source,
            other => std::io::Error::other(other.to_string()),
        },
    })
}

struct Bytes {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Bytes {
    fn of(tensor: &Tensor) -> Result<Self, ModelError> {
        let flat = tensor.detach().flatten_all()?.to_device(&Device::Cpu)?;
        let (dtype, data) = match flat.dtype() {
            DType::BF16 => {
                let numbers = flat.to_vec1::<half::bf16>()?;
                (
                    Dtype::BF16,
                    numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
                )
            }
            DType::F16 => {
                let numbers = flat.to_vec1::<half::f16>()?;
                (
                    Dtype::F16,
                    numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
                )
            }
            _ => {
                let numbers = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                (
                    Dtype::F32,
                    numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
                )
            }
        };
        Ok(Self {
            dtype,
            shape: tensor.dims().to_vec(),
            data,
        })
    }
}

impl safetensors::View for Bytes {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}
