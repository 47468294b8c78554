//! What can go wrong with a Hub, each as one sentence with its cause and its fix.

use std::path::PathBuf;

use slipway_contract::{Failure, FailureReason};

use crate::card::CardError;
use crate::{RepoId, RepoType};

/// Why something could not be read from or written to a Hub. No variant ever holds a token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is no HTTP address.
    #[error(
        "the Hub endpoint {endpoint:?} is no http(s) address: {message}; set it like https://huggingface.co"
    )]
    InvalidEndpoint {
        /// What was configured.
        endpoint: String,
        /// What is wrong with it.
        message: String,
    },
    /// The HTTP client could not be built, for instance because `SSL_CERT_FILE` is no PEM file.
    #[error("failed to set up TLS: {message}; check SSL_CERT_FILE, or unset it to use the built-in roots")]
    Tls {
        /// What is wrong.
        message: String,
    },
    /// The token file cannot be used.
    #[error("failed to read the Hub token from {path}: {message}; put a token there, or configure none")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The token holds characters no header may carry.
    #[error(
        "the Hub token holds a line break or another control character; store the token alone, on one line"
    )]
    TokenShape,
    /// No `owner/name`.
    #[error("{id:?} is no repository id; write owner/name")]
    InvalidRepo {
        /// What was given.
        id: String,
    },
    /// A snapshot was asked for by something that can move.
    #[error(
        "{revision:?} of the {repo} is no commit; resolve it first, a snapshot is pinned by its 40 digits"
    )]
    NotACommit {
        /// Which repository.
        repo: RepoId,
        /// What was given.
        revision: String,
    },
    /// The repository is not there, or hides itself.
    #[error(
        "the {repo} is not on {endpoint}{}; check its name, or give a token that can see it if it is private",
        if *anonymous { " (asked without a token)" } else { "" }
    )]
    NotFound {
        /// Which repository.
        repo: RepoId,
        /// Which Hub.
        endpoint: String,
        /// Whether no token was sent.
        anonymous: bool,
    },
    /// The repository has no such branch, tag or commit.
    #[error("the {repo} has no revision {revision:?}; name a branch, tag or commit that it has")]
    RevisionNotFound {
        /// Which repository.
        repo: RepoId,
        /// What was asked for.
        revision: String,
    },
    /// The repository has no such file.
    #[error("the {repo} has no file {path:?} at revision {revision}; check the path against its files")]
    EntryNotFound {
        /// Which repository.
        repo: RepoId,
        /// At which revision.
        revision: String,
        /// Which file.
        path: String,
    },
    /// The repository is gated and this user has not been let in.
    #[error("the {repo} is gated{}; accept its terms on {endpoint}/{} and give a token of that user",
        if *anonymous { " and was asked without a token" } else { " and the token's user has not been let in" },
        repo.id()
    )]
    Gated {
        /// Which repository.
        repo: RepoId,
        /// Which Hub.
        endpoint: String,
        /// Whether no token was sent.
        anonymous: bool,
    },
    /// The Hub does not know the token, or wants one.
    #[error("{endpoint} refused to {action}: {}; {}", message,
        if *anonymous { "give a token with a right to do that" } else { "give a valid token with a right to do that" }
    )]
    Unauthorized {
        /// Which Hub.
        endpoint: String,
        /// What was tried.
        action: String,
        /// What the Hub said.
        message: String,
        /// Whether no token was sent.
        anonymous: bool,
    },
    /// Asked too often, and still after waiting as told.
    #[error(
        "{endpoint} limits how often it may be asked and did so still after {waited_seconds} s of waiting; try again later, or use a token with a higher limit"
    )]
    RateLimited {
        /// Which Hub.
        endpoint: String,
        /// How long was waited in all.
        waited_seconds: u64,
    },
    /// Somebody committed since `parent`.
    #[error(
        "{branch} of the {repo} has moved on since the commit this change is based on; read it again and repeat the change"
    )]
    Conflict {
        /// Which repository.
        repo: RepoId,
        /// Which branch.
        branch: String,
    },
    /// The Hub did not answer, or failed, after every retry.
    #[error(
        "{endpoint} did not {action} after {attempts} attempts: {message}; check that it is up and reachable"
    )]
    Unavailable {
        /// Which Hub.
        endpoint: String,
        /// What was tried.
        action: String,
        /// How often.
        attempts: u32,
        /// What happened last.
        message: String,
    },
    /// The Hub answered something this client cannot use.
    #[error(
        "{endpoint} gave an answer that makes no sense when asked to {action}: {message}; check that it is a Hub"
    )]
    Protocol {
        /// Which Hub.
        endpoint: String,
        /// What was tried.
        action: String,
        /// What is wrong.
        message: String,
    },
    /// The Hub refused the request for a reason of its own.
    #[error("{endpoint} refused to {action} (HTTP {status}): {message}")]
    Rejected {
        /// Which Hub.
        endpoint: String,
        /// What was tried.
        action: String,
        /// HTTP status.
        status: u16,
        /// What the Hub said.
        message: String,
    },
    /// A file arrived damaged twice.
    #[error(
        "{path} of the {repo} arrived damaged twice (its checksum is {actual}, should be {expected}); check the network, or upload the file again"
    )]
    Checksum {
        /// Which repository.
        repo: Box<RepoId>,
        /// Which file.
        path: String,
        /// Checksum of what arrived.
        actual: String,
        /// Checksum on the Hub.
        expected: String,
    },
    /// The Hub lists a file that would be written outside its folder.
    #[error("the {repo} lists a file at {path:?}, which would leave its folder; nothing was written")]
    UnsafePath {
        /// Which repository.
        repo: RepoId,
        /// The path.
        path: String,
    },
    /// No space left.
    #[error("the disk is full while writing {path}; free some space or give a larger volume")]
    OutOfDisk {
        /// The file being written.
        path: PathBuf,
    },
    /// A local file could not be read or written.
    #[error("failed to {action} {path}: {source}")]
    Io {
        /// `read`, `write`…
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A local model or data file is not there.
    #[error("there is nothing at {path}; check the path")]
    PathNotFound {
        /// The path.
        path: PathBuf,
    },
    /// The address of a dataset is none.
    #[error(
        "{url:?} is no whole http(s) address of a file; write it like https://example.com/data/train.csv"
    )]
    InvalidUrl {
        /// What was given.
        url: String,
    },
    /// A URL of a dataset is not there.
    #[error("there is nothing at {url} (HTTP {status}); check the address")]
    UrlNotFound {
        /// The address, without its query.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The only weights are pickles, which run code when loaded.
    #[error("{model} has only pickled weights ({}), which can run code when loaded; publish it as safetensors or GGUF", files.join(", "))]
    UnsafeWeights {
        /// Repository or folder.
        model: String,
        /// The pickles.
        files: Vec<String>,
    },
    /// The files make no model.
    #[error("{model} {message}")]
    InvalidModel {
        /// Repository or folder.
        model: String,
        /// What is wrong and how to mend it.
        message: String,
    },
    /// A card cannot be edited.
    #[error(transparent)]
    Card(#[from] CardError),
}

impl Error {
    /// Whether the same call may succeed later with nothing changed.
    pub fn retryable(&self) -> bool {
        self.failure(RepoType::Model).reason.retryable()
    }

    /// The same as a failure of a run that was reading or writing a repository of type `kind`.
    pub fn failure(&self, kind: RepoType) -> Failure {
        use FailureReason as Reason;
        let absent = |kind| match kind {
            RepoType::Model => Reason::ModelNotFound,
            RepoType::Dataset => Reason::DatasetNotFound,
        };
        let reason = match self {
            Self::InvalidEndpoint { .. }
            | Self::Tls { .. }
            | Self::TokenFile { .. }
            | Self::TokenShape
            | Self::InvalidRepo { .. }
            | Self::InvalidUrl { .. }
            | Self::Rejected { .. }
            | Self::Card(_) => Reason::InvalidConfig,
            Self::NotFound { repo, .. }
            | Self::RevisionNotFound { repo, .. }
            | Self::EntryNotFound { repo, .. }
            | Self::NotACommit { repo, .. } => absent(repo.kind),
            Self::PathNotFound { .. } | Self::UrlNotFound { .. } => absent(kind),
            Self::Gated { .. } | Self::Unauthorized { .. } => Reason::AccessDenied,
            Self::RateLimited { .. }
            | Self::Conflict { .. }
            | Self::Unavailable { .. }
            | Self::Protocol { .. }
            | Self::Checksum { .. } => Reason::HubUnavailable,
            Self::OutOfDisk { .. } => Reason::OutOfDisk,
            Self::UnsafeWeights { .. } => Reason::UnsafeWeights,
            Self::InvalidModel { .. } | Self::UnsafePath { .. } => match kind {
                RepoType::Model => Reason::InvalidModel,
                RepoType::Dataset => Reason::DatasetNotFound,
            },
            Self::Io { .. } => Reason::Internal,
        };
        Failure::new(reason, self.to_string())
    }

    /// Names a full disk as such, anything else by what was being done.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = path.into();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::OutOfDisk { path },
            _ => Self::Io { action, path, source },
        }
    }
}
