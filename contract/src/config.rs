//! Reading a configuration file.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or not readable.
    #[error(
        "failed to read the configuration {path}: {source}; pass --config with the path of a YAML or JSON file"
    )]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is no YAML or JSON, has an unknown field, or lacks one.
    #[error("failed to parse the configuration {path}: {message}")]
    Parse {
        /// The file asked for.
        path: PathBuf,
        /// Line, column and cause.
        message: String,
    },
}

/// Reads `path` as YAML (of which JSON is a subset) into `T`. Unknown fields are errors, so that a typing
/// mistake is never ignored.
pub fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_saphyr::from_str(&text).map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        message: error.to_string(),
    })
}
