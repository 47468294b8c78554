//! What can be wrong with a model, and what to do about it.

use std::path::PathBuf;

use slipway_contract::{Failure, FailureReason};

/// Why a model cannot be read, built, run or written. Each sentence names cause and fix.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file or directory is not there.
    #[error(
        "{path} is not there; a model is a directory with config.json and *.safetensors, or a .gguf file"
    )]
    NotFound {
        /// What was looked for.
        path: PathBuf,
    },
    /// A file is there but cannot be read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("failed to write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The weights are in a format that can run code when it is read.
    #[error(
        "{path} is a pickle file, which can run code when it is loaded, and is refused; convert the weights to safetensors \
         (save_pretrained of transformers writes them) and try again"
    )]
    UnsafeWeights {
        /// The pickle file.
        path: PathBuf,
    },
    /// `config.json` names an architecture that is not built here.
    #[error("the architecture {found} is not supported; supported are {}", known.join(", "))]
    UnsupportedArchitecture {
        /// What the configuration says.
        found: String,
        /// What there is instead.
        known: Vec<&'static str>,
    },
    /// The architecture is known, but one of its settings is not.
    #[error("{setting} is not supported for {architecture}; supported is {supported}")]
    UnsupportedSetting {
        /// The architecture.
        architecture: &'static str,
        /// Setting and value.
        setting: String,
        /// What there is instead.
        supported: String,
    },
    /// The directory holds an adapter and no base weights.
    #[error(
        "{path} holds an adapter, not a whole model; load its base {base} and add this directory as an adapter"
    )]
    AdapterWithoutBase {
        /// The directory.
        path: PathBuf,
        /// What `adapter_config.json` names as base.
        base: String,
    },
    /// A file of the model is damaged, or disagrees with another.
    #[error("{path} is not valid: {message}; download the model again or correct the file")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A tensor that the architecture needs is not in the weights.
    #[error(
        "the weights have no tensor {name}, which {architecture} needs; is config.json the right one for them?"
    )]
    MissingTensor {
        /// Its Hugging Face name.
        name: String,
        /// The architecture.
        architecture: &'static str,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error(
        "the tensor {name} has the shape {found:?}, but config.json asks for {expected:?}; the two do not belong together"
    )]
    TensorShape {
        /// Its name.
        name: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape by the configuration.
        expected: Vec<usize>,
    },
    /// The model has no head for what it is asked to do.
    #[error("the model has no {head}; fine-tune it for this task first, or load an adapter that brings one")]
    MissingHead {
        /// Which head, in words.
        head: &'static str,
    },
    /// Asked of an architecture that cannot do it.
    #[error("{architecture} cannot be used for {task}; use one of {}", fitting.join(", "))]
    WrongTask {
        /// The architecture.
        architecture: &'static str,
        /// What was asked for.
        task: &'static str,
        /// Architectures that can.
        fitting: Vec<&'static str>,
    },
    /// A LoRA target names no linear layer of the model.
    #[error("the LoRA target {target} matches no linear layer; this model has {}", known.join(", "))]
    UnknownTarget {
        /// What was asked for.
        target: String,
        /// The last parts of the names of its linear layers.
        known: Vec<String>,
    },
    /// A setting of an adapter or of a request to it is out of range.
    #[error("{0}")]
    InvalidSetting(String),
    /// Files of an adapter do not fit the model.
    #[error("the adapter in {path} does not fit: {message}")]
    InvalidAdapter {
        /// The adapter's directory.
        path: PathBuf,
        /// What does not fit.
        message: String,
    },
    /// An adapter is asked for that is not loaded.
    #[error("the adapter is not loaded; it may have been removed since the request began")]
    UnknownAdapter,
    /// More tokens than the model has positions for.
    #[error("the sequence has {length} tokens, but the model can attend to {limit}; shorten the text")]
    SequenceTooLong {
        /// Tokens asked for.
        length: usize,
        /// Tokens possible.
        limit: usize,
    },
    /// A token id is not in the vocabulary.
    #[error(
        "the token id {id} is not in the model's vocabulary of {vocabulary}; tokenizer and weights do not belong together"
    )]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// The program was built for a GPU that it cannot use.
    #[error(
        "this program was built for an NVIDIA GPU and cannot use one: {message}; run it where the driver and a GPU are, or use the build without the feature cuda"
    )]
    Device {
        /// What the driver said.
        message: String,
    },
    /// A computation failed; a fault of ours or of the device.
    #[error("failed to compute: {0}")]
    Compute(#[from] candle_core::Error),
}

impl ModelError {
    /// What to report: a reason for machines and this sentence for people.
    pub fn failure(&self) -> Failure {
        Failure::new(self.reason(), self.to_string())
    }

    fn reason(&self) -> FailureReason {
        match self {
            Self::NotFound { .. } => FailureReason::ModelNotFound,
            Self::UnsafeWeights { .. } => FailureReason::UnsafeWeights,
            Self::UnsupportedArchitecture { .. } | Self::UnsupportedSetting { .. } => {
                FailureReason::UnsupportedArchitecture
            }
            Self::Write { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                FailureReason::OutOfDisk
            }
            Self::UnknownTarget { .. } | Self::InvalidSetting(_) | Self::WrongTask { .. } => {
                FailureReason::InvalidConfig
            }
            Self::SequenceTooLong { .. } => FailureReason::SequenceTooLong,
            Self::Read { .. }
            | Self::AdapterWithoutBase { .. }
            | Self::Invalid { .. }
            | Self::MissingTensor { .. }
            | Self::TensorShape { .. }
            | Self::MissingHead { .. }
            | Self::InvalidAdapter { .. }
            | Self::TokenOutOfRange { .. } => FailureReason::InvalidModel,
            Self::Write { .. } | Self::UnknownAdapter | Self::Device { .. } | Self::Compute(_) => {
                FailureReason::Internal
            }
        }
    }
}
