//! Reading and writing a Hugging Face Hub, or any server that speaks its API.
//!
//! [`Client`] resolves revisions, downloads pinned snapshots ([`Client::snapshot`]) and writes commits and pull
//! requests ([`Client::commit`], [`Client::update`]). [`card`] edits model cards without touching what people
//! wrote. [`source`] turns a model or dataset of a configuration into local files.
//!
//! Tokens go to the Hub's own origin only and appear in no error, log or debug output.

pub mod card;
mod client;
mod commit;
mod digest;
mod download;
mod error;
mod lfs;
pub mod license;
mod propose;
mod repo;
mod snapshot;
pub mod source;
mod token;
mod transport;
mod tree;
mod update;

pub use client::{Client, Identity};
pub use commit::{Commit, CommitInfo, Content, Operation};
pub use error::Error;
pub use repo::{RepoId, RepoInfo, RepoType, Sibling};
pub use snapshot::SnapshotProgress;
pub use token::Token;
pub use transport::{Retry, tls_roots};
pub use update::Reader;
