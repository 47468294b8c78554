//! Model cards: metadata merged into what people wrote. Pure.
//!
//! Only the bytes of what is set or merged change. Prose, key order, comments, quoting and line endings of
//! everything else stay as they are, and doing the same thing twice changes nothing the second time.

use std::fmt;

use serde_json::Value;

/// Why a card cannot be edited. It is then left alone.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CardError {
    /// The front matter is no YAML, or no mapping.
    #[error(
        "the model card's front matter is not valid: {message}; mend it between the two --- lines of README.md, nothing was changed"
    )]
    Invalid {
        /// Line, column and cause.
        message: String,
    },
    /// A value has a shape that the Hub's format does not allow there.
    #[error(
        "{key:?} in the model card's front matter is not {expected}; mend it in README.md, nothing was changed"
    )]
    Shape {
        /// Which key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// A figure for a model card: one metric on one split of one dataset. Those fields that are set, other than the
/// value, tell whether two results are the same measurement (as `metadata_update` of huggingface_hub does).
#[derive(Clone, Debug, PartialEq)]
pub struct EvalResult {
    /// For instance `text-classification`.
    pub task_type: String,
    /// Dataset id, for instance `acme/finance-tweets`.
    pub dataset_type: String,
    /// Dataset name for people.
    pub dataset_name: String,
    /// Split, for instance `test`.
    pub dataset_split: Option<String>,
    /// Commit of the dataset.
    pub dataset_revision: Option<String>,
    /// For instance `accuracy`.
    pub metric_type: String,
    /// Metric name for people, for instance `F1 (macro)`.
    pub metric_name: Option<String>,
    /// The value.
    pub value: f64,
    /// Who or what measured it.
    pub source: Option<Source>,
}

/// Where a figure comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// For people.
    pub name: String,
    /// An address a person can open.
    pub url: String,
}

/// A model card: front matter and prose.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Card {
    text: String,
}

impl Card {
    /// Reads a card. Text without front matter is a card with prose only.
    pub fn parse(_text: &str) -> Result<Self, CardError> {
        todo!()
    }

    /// The value of a top-level key of the front matter.
    pub fn get(&self, _key: &str) -> Option<Value> {
        todo!()
    }

    /// Sets a top-level key of the front matter; true when that changed anything.
    pub fn set(&mut self, _key: &str, _value: &Value) -> Result<bool, CardError> {
        todo!()
    }

    /// Adds those of `items` that are missing to a list such as `tags`; true when any was.
    pub fn extend(&mut self, _key: &str, _items: &[&str]) -> Result<bool, CardError> {
        todo!()
    }

    /// Merges figures into `model-index` under the model `name`: a figure measured before is replaced, a new one
    /// appended, all others stay; true when anything changed.
    pub fn merge_model_index(&mut self, _name: &str, _results: &[EvalResult]) -> Result<bool, CardError> {
        todo!()
    }

    /// The prose.
    pub fn body(&self) -> &str {
        todo!()
    }

    /// Replaces the prose.
    pub fn set_body(&mut self, _body: &str) {
        todo!()
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One entry of a file in `.eval_results/`.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalEntry {
    /// Dataset id, for instance `acme/finance-tweets`.
    pub dataset_id: String,
    /// Task within the dataset, for instance `text-classification/accuracy`.
    pub task_id: String,
    /// Commit of the dataset.
    pub revision: Option<String>,
    /// The value.
    pub value: f64,
    /// Day of the measurement, `YYYY-MM-DD`.
    pub date: Option<String>,
    /// Where the figure comes from.
    pub source: Option<Source>,
    /// For people: number of examples, interval.
    pub notes: Option<String>,
}

/// The text of a file in `.eval_results/` with `entries` merged into what it holds (`None`: no file yet).
pub fn eval_results_yaml(_existing: Option<&str>, _entries: &[EvalEntry]) -> Result<String, CardError> {
    todo!()
}
