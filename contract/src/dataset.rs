//! Where examples come from and what their columns mean.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::HubRef;

/// A dataset as an image reads it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dataset {
    /// Where the rows are.
    pub source: DatasetSource,
    /// Which split to read. Default: `train` for training, `test` for evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// File format. Default: told from the file's ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<DataFormat>,
    /// Names of the columns; those left out are guessed from the usual names.
    #[serde(default)]
    pub columns: Columns,
    /// Held-out examples for evaluation while training. Default: the dataset's `validation` split, where it has
    /// one, else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
    /// Reads at most this many examples, from the first on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_examples: Option<u64>,
    /// How many malformed rows may be skipped before the job fails. Default 0: the first one fails it, named by
    /// file and line.
    #[serde(default)]
    pub max_invalid_rows: u64,
}

/// Where the rows of a dataset are: exactly one.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::union)]
pub enum DatasetSource {
    /// A dataset repository on the Hub.
    Hub(HubRef),
    /// A local file, or a directory laid out as a dataset repository.
    Path(PathBuf),
    /// A file over HTTP(S).
    Url(String),
}

/// File formats.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DataFormat {
    /// Apache Parquet.
    Parquet,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a header line.
    Csv,
}

/// Which column holds what. Each is guessed from the usual names when left out, for instance `text`, `sentence`,
/// `tweet` for text and `label`, `labels`, `sentiment` for labels; a column that is not there is refused with those that are.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Columns {
    /// Text to classify, or plain text to learn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Class label: an integer or a string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// A conversation: a list of `{role, content}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
    /// Instruction or question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Further input that belongs to the prompt (Alpaca's `input`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The answer to learn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<String>,
}

/// Held-out examples: exactly one way.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::union)]
pub enum Validation {
    /// A share of the training split between 0 and 0.5, drawn by the seed.
    Fraction(#[schemars(range(min = 0.0, max = 0.5))] f64),
    /// Another split of the dataset, by name.
    Split(String),
}
