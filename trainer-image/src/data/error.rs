//! What can be wrong with a dataset.

use std::path::PathBuf;

use slipway_contract::{Failure, FailureReason};

/// Why a dataset cannot be used; each sentence names the cause and the fix.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Nothing is at the path.
    #[error("failed to read {path}: {source}; check the dataset's path")]
    Unreadable {
        /// What was opened.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A directory without any data file.
    #[error(
        "{path} holds no .parquet, .jsonl, .json or .csv file; point the dataset at a directory or file that does"
    )]
    NoFiles {
        /// The directory.
        path: PathBuf,
    },
    /// A file whose ending says nothing.
    #[error(
        "the format of {path} cannot be told from its ending; set dataset.format to parquet, jsonl or csv"
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A split that is not there.
    #[error(
        "the dataset has no split `{split}`; it has {}: set dataset.split or dataset.validation to one of these",
        list(available)
    )]
    NoSplit {
        /// The split asked for.
        split: String,
        /// Those there.
        available: Vec<String>,
    },
    /// A part of a collection for retrieval that is not there.
    #[error(
        "the dataset has no `{part}`, which retrieval needs beside the split of judgements; add {part}.jsonl (or .parquet, .csv), a folder {part}, or a split of that name"
    )]
    NoPart {
        /// `corpus` or `queries`.
        part: String,
    },
    /// A column that is not there.
    #[error(
        "column `{column}` is not in {file}, which has {}; set dataset.columns.{role} to one of these",
        list(available)
    )]
    NoColumn {
        /// The name asked for.
        column: String,
        /// The field of `dataset.columns`.
        role: &'static str,
        /// The file looked at.
        file: PathBuf,
        /// The columns there.
        available: Vec<String>,
    },
    /// No usual name fits.
    #[error(
        "no column of {file} looks like {wanted}; it has {}: set dataset.columns.{role} to one of these",
        list(available)
    )]
    NoGuess {
        /// What was looked for, in words.
        wanted: &'static str,
        /// The field of `dataset.columns`.
        role: &'static str,
        /// The file looked at.
        file: PathBuf,
        /// The columns there.
        available: Vec<String>,
    },
    /// More malformed rows than allowed.
    #[error(
        "{first}; {} (dataset.maxInvalidRows is {allowed}): mend the row, or raise dataset.maxInvalidRows to skip malformed rows",
        if *allowed == 0 { "no malformed row is allowed".to_owned() } else { format!("{found} rows are malformed") }
    )]
    InvalidRows {
        /// Place and cause of the first one.
        first: String,
        /// How many were met.
        found: u64,
        /// `maxInvalidRows`.
        allowed: u64,
    },
    /// A file that is not what its format promises.
    #[error("{path} is damaged or no {format} file: {message}; upload it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The format it was read as.
        format: &'static str,
        /// What the reader said.
        message: String,
    },
    /// A split without examples.
    #[error(
        "split `{split}` of the dataset holds no example{}; choose another split or add rows",
        detail
    )]
    Empty {
        /// The split.
        split: String,
        /// Why, where there is more to say; begins with a space, a comma or is empty.
        detail: String,
    },
    /// A classifier needs two classes.
    #[error(
        "every example of split `{split}` has the label `{label}`; a classifier needs at least two classes"
    )]
    OneClass {
        /// The split.
        split: String,
        /// The only label.
        label: String,
    },
    /// Splits that disagree about labels.
    #[error(
        "split `{split}` has the label `{label}`, which is not among those of {other}: {}; make the splits agree",
        list(known)
    )]
    LabelMismatch {
        /// The split with the odd label.
        split: String,
        /// The odd label.
        label: String,
        /// Who says what labels there are.
        other: String,
        /// The labels there are.
        known: Vec<String>,
    },
}

/// Names in backquotes, at most twenty of them.
fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    let mut shown: Vec<String> = names.iter().take(20).map(|name| format!("`{name}`")).collect();
    if names.len() > shown.len() {
        shown.push(format!("and {} more", names.len() - shown.len()));
    }
    shown.join(", ")
}

impl DataError {
    /// The failure as it is reported.
    pub fn failure(&self) -> Failure {
        let reason = match self {
            Self::Unreadable { .. }
            | Self::NoFiles { .. }
            | Self::UnknownFormat { .. }
            | Self::NoSplit { .. }
            | Self::NoPart { .. } => FailureReason::DatasetNotFound,
            Self::NoColumn { .. } | Self::NoGuess { .. } => FailureReason::ColumnNotFound,
            Self::InvalidRows { .. } | Self::Damaged { .. } => FailureReason::InvalidRow,
            Self::Empty { .. } | Self::OneClass { .. } => FailureReason::EmptyDataset,
            Self::LabelMismatch { .. } => FailureReason::LabelMismatch,
        };
        Failure::new(reason, self.to_string())
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        error.failure()
    }
}
