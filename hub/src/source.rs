//! From the model or dataset of a configuration to local files.

use std::path::{Path, PathBuf};

use slipway_contract::{DatasetSource, ModelSource};

use crate::{Client, Error, SnapshotProgress};

/// A repository at a commit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pin {
    /// `owner/name`.
    pub repo: String,
    /// 40 hexadecimal digits.
    pub commit: String,
}

/// A model on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalModel {
    /// The base: a directory (`config.json`, safetensors, tokenizer) or a `.gguf` file.
    pub base: PathBuf,
    /// The adapter's directory, when what was asked for is an adapter.
    pub adapter: Option<PathBuf>,
    /// What was asked for, when it is on a Hub.
    pub identity: Option<Pin>,
    /// The base, when it is on a Hub; the same as `identity` without an adapter.
    pub base_identity: Option<Pin>,
}

/// A dataset on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalDataset {
    /// A file, or a directory laid out as a dataset repository.
    pub path: PathBuf,
    /// Where it comes from, when that is a Hub.
    pub identity: Option<Pin>,
}

/// Makes a model local: downloads what its source names (an adapter together with its base), or checks the
/// files of a local one. Only safetensors and GGUF are fetched.
#[allow(clippy::unused_async)]
pub async fn fetch_model(
    _source: &ModelSource,
    _client: &Client,
    _cache: &Path,
    _progress: impl FnMut(SnapshotProgress) + Send,
) -> Result<LocalModel, Error> {
    todo!()
}

/// Makes a dataset local: its data files and card from a Hub, one file from a URL, or what is there already.
#[allow(clippy::unused_async)]
pub async fn fetch_dataset(
    _source: &DatasetSource,
    _client: &Client,
    _cache: &Path,
    _progress: impl FnMut(SnapshotProgress) + Send,
) -> Result<LocalDataset, Error> {
    todo!()
}
