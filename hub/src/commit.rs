//! Writing commits and pull requests.

use std::path::PathBuf;

use bytes::Bytes;

use crate::{Client, Error, RepoId};

/// What a file is to hold.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A local file, streamed.
    File(PathBuf),
}

/// One change of a commit.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Creates or replaces a file.
    Add {
        /// Path within the repository.
        path: String,
        /// What it is to hold.
        content: Content,
    },
    /// Removes a file.
    Delete {
        /// Path within the repository.
        path: String,
    },
}

impl Operation {
    /// Creates or replaces `path` with `bytes`.
    pub fn add(path: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::Add {
            path: path.into(),
            content: Content::Bytes(bytes.into()),
        }
    }

    /// Creates or replaces `path` with the content of the local file `file`.
    pub fn add_file(path: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self::Add {
            path: path.into(),
            content: Content::File(file.into()),
        }
    }

    /// Removes `path`.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::Delete { path: path.into() }
    }

    /// The path it changes.
    pub fn path(&self) -> &str {
        match self {
            Self::Add { path, .. } | Self::Delete { path } => path,
        }
    }
}

/// A commit to make.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// First line of the message, and title of the pull request.
    pub summary: String,
    /// The rest of the message.
    pub description: String,
    /// The commit it is based on; the Hub refuses it when the branch has moved on. `None`: on whatever is there.
    pub parent: Option<String>,
    /// The changes.
    pub operations: Vec<Operation>,
    /// Opens a pull request instead of committing to the branch.
    pub pull_request: bool,
}

/// What a commit became.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommitInfo {
    /// The new commit; the branch's head, where nothing changed.
    pub commit: String,
    /// Where a person sees it: the commit, or the pull request.
    pub url: String,
    /// The pull request, where one was asked for and something changed.
    pub pull_request_url: Option<String>,
    /// False when every file already held what it was to hold: no commit was made.
    pub changed: bool,
}

impl Client {
    /// Commits to `branch`. Files that already hold the wanted content are left out.
    #[allow(clippy::unused_async)]
    pub async fn commit(&self, _repo: &RepoId, _branch: &str, _commit: Commit) -> Result<CommitInfo, Error> {
        todo!()
    }
}
