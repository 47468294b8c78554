//! Which files make up a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::gguf::Gguf;
use crate::weights::{Safetensors, TensorSource};
use crate::{Architecture, ModelError};

/// A model on disk: a directory in the layout of `transformers`, or a GGUF file. Opening reads headers and small
/// documents only.
#[derive(Clone)]
pub struct ModelFiles {
    path: PathBuf,
    config: Value,
    source: Arc<dyn TensorSource>,
    // What a GGUF file says in its metadata, under the names it has in a directory.
    documents: BTreeMap<String, String>,
}

impl std::fmt::Debug for ModelFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelFiles")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

const PICKLES: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];

impl ModelFiles {
    /// Opens a directory with `config.json` and `*.safetensors` (whole or in shards), or a `.gguf` file.
    ///
    /// Weights that exist only as pickle are refused, and so is an architecture that is not known.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        if path.is_file()
            && path
                .extension()
                .is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
        {
            return Self::open_gguf(path);
        }
        if path.is_file() && is_pickle(path) {
            return Err(ModelError::UnsafeWeights {
                path: path.to_owned(),
            });
        }
        if !path.is_dir() {
            return Err(ModelError::NotFound {
                path: path.to_owned(),
            });
        }
        let config_path = path.join("config.json");
        if !path.join("model.safetensors").exists() && path.join("adapter_config.json").exists() {
            let adapter = read_json(&path.join("adapter_config.json"))?;
            let base = adapter["base_model_name_or_path"]
                .as_str()
                .unwrap_or("(not named)");
            return Err(ModelError::AdapterWithoutBase {
                path: path.to_owned(),
                base: base.to_owned(),
            });
        }
        let weights = match weight_files(path)? {
            files if !files.is_empty() => files,
            _ => match only_gguf(path)? {
                Some(gguf) if !config_path.exists() => return Self::open_gguf(&gguf),
                _ => return Err(missing_weights(path)),
            },
        };
        if !config_path.exists() {
            return Err(ModelError::NotFound { path: config_path });
        }
        let config = read_json(&config_path)?;
        Architecture::of(&config)?;
        Ok(Self {
            path: path.to_owned(),
            config,
            source: Arc::new(Safetensors::open(&weights)?),
            documents: BTreeMap::new(),
        })
    }

    fn open_gguf(path: &Path) -> Result<Self, ModelError> {
        Gguf::open(path)?.into_model_files()
    }

    /// A model whose configuration and documents do not lie in files of their own, as in GGUF.
    pub(crate) fn from_parts(
        path: &Path,
        config: Value,
        documents: BTreeMap<String, String>,
        source: Arc<dyn TensorSource>,
    ) -> Result<Self, ModelError> {
        Architecture::of(&config)?;
        Ok(Self {
            path: path.to_owned(),
            config,
            source,
            documents,
        })
    }

    /// The directory or GGUF file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json`, or what a GGUF file says in its place.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Which architecture it is.
    pub fn architecture(&self) -> Result<Architecture, ModelError> {
        Architecture::of(&self.config)
    }

    /// The weights.
    pub fn weights(&self) -> &dyn TensorSource {
        self.source.as_ref()
    }

    /// The text of a document such as `tokenizer.json`, `chat_template.jinja` or `1_Pooling/config.json`; None
    /// where the model has none.
    pub fn document(&self, name: &str) -> Result<Option<String>, ModelError> {
        if let Some(text) = self.documents.get(name) {
            return Ok(Some(text.clone()));
        }
        let path = self.path.join(name);
        if !path.is_file() {
            return Ok(None);
        }
        std::fs::read_to_string(&path)
            .map(Some)
            .map_err(|source| ModelError::Read { path, source })
    }

    /// A document parsed as JSON.
    pub fn json(&self, name: &str) -> Result<Option<Value>, ModelError> {
        let Some(text) = self.document(name)? else {
            return Ok(None);
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| ModelError::Invalid {
                path: self.path.join(name),
                message: error.to_string(),
            })
    }

    /// The names of the classes, by `id2label` of the configuration, in order of their ids.
    pub fn labels(&self) -> Option<Vec<String>> {
        crate::registry::labels(&self.config)
    }
}

pub(crate) fn read_json(path: &Path) -> Result<Value, ModelError> {
    let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => ModelError::NotFound {
            path: path.to_owned(),
        },
        _ => ModelError::Read {
            path: path.to_owned(),
            source,
        },
    })?;
    serde_json::from_str(&text).map_err(|error| ModelError::Invalid {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

fn is_pickle(path: &Path) -> bool {
    path.extension()
        .and_then(|end| end.to_str())
        .is_some_and(|end| PICKLES.contains(&end.to_ascii_lowercase().as_str()))
}

/// The safetensors files of `directory`: the index's shards, or the single file.
fn weight_files(directory: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let index_path = directory.join("model.safetensors.index.json");
    let single = directory.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    if index_path.exists() {
        let index = read_json(&index_path)?;
        let map = index["weight_map"]
            .as_object()
            .ok_or_else(|| ModelError::Invalid {
                path: index_path.clone(),
                message: "it has no weight_map".into(),
            })?;
        let mut files: Vec<String> = map.values().filter_map(Value::as_str).map(Into::into).collect();
        files.sort();
        files.dedup();
        // A shard is a plain file name: an index must not lead out of the model's directory.
        if let Some(bad) = files
            .iter()
            .find(|file| Path::new(file).components().count() != 1 || *file == "..")
        {
            return Err(ModelError::Invalid {
                path: index_path,
                message: format!("the shard {bad:?} is not a file name in this directory"),
            });
        }
        let paths: Vec<_> = files.iter().map(|file| directory.join(file)).collect();
        if let Some(missing) = paths.iter().find(|path| !path.exists()) {
            return Err(ModelError::NotFound {
                path: missing.clone(),
            });
        }
        return Ok(paths);
    }
    let mut found = list(directory)?;
    found.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    found.retain(|path| {
        !path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("adapter_"))
    });
    Ok(found)
}

fn only_gguf(directory: &Path) -> Result<Option<PathBuf>, ModelError> {
    let mut found = list(directory)?;
    found.retain(|path| path.extension().is_some_and(|end| end == "gguf"));
    if found.len() > 1 {
        let names: Vec<_> = found
            .iter()
            .filter_map(|path| path.file_name())
            .map(|name| name.to_string_lossy())
            .collect();
        return Err(ModelError::InvalidSetting(format!(
            "{} holds several GGUF files ({}); name one of them as the model",
            directory.display(),
            names.join(", ")
        )));
    }
    Ok(found.pop())
}

fn missing_weights(directory: &Path) -> ModelError {
    let pickle = list(directory)
        .ok()
        .and_then(|files| files.into_iter().find(|path| is_pickle(path) && is_weights(path)));
    match pickle {
        Some(path) => ModelError::UnsafeWeights { path },
        None => ModelError::NotFound {
            path: directory.join("model.safetensors"),
        },
    }
}

/// Optimizer states and training arguments are pickles too, and lie beside good weights.
fn is_weights(path: &Path) -> bool {
    !path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with("training_args") || name.starts_with("optimizer") || name.starts_with("scheduler")
    })
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let read = |source| ModelError::Read {
        path: directory.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(read)? {
        paths.push(entry.map_err(read)?.path());
    }
    paths.sort();
    Ok(paths)
}
