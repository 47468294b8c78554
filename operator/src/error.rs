//! Why a reconciliation broke off. It is tried again; what only a person can mend is told in the status instead.

use crate::{apply::ApplyError, sources};

/// Why a reconciliation broke off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be read.
    #[error("failed to read what the object depends on")]
    Inputs(#[from] sources::Error),
    /// A child could not be written.
    #[error("failed to write a child of the object")]
    Apply(#[from] ApplyError),
    /// The object itself, most often its status, could not be written.
    #[error("failed to write the object")]
    Write(#[source] kube::Error),
}

impl Error {
    /// One word for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Inputs(_) => "InputsFailed",
            Self::Apply(_) => "ApplyFailed",
            Self::Write(_) => "WriteFailed",
        }
    }
}
