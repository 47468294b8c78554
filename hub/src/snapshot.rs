//! Pinned snapshots.

use std::path::{Path, PathBuf};

use crate::{Client, Error, RepoId};

/// How far a download is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnapshotProgress {
    /// The file that last received bytes.
    pub file: String,
    /// Files complete and checked.
    pub files_done: usize,
    /// Files wanted.
    pub files_total: usize,
    /// Bytes here, those of earlier attempts included.
    pub bytes_done: u64,
    /// Bytes wanted.
    pub bytes_total: u64,
}

impl Client {
    /// The files of `repo` at `commit` whose paths match one of `patterns` (`*` and `?`, where `*` also crosses
    /// `/`; none: all files), in `<cache>/<type>--<owner>--<name>/<commit>/`. Returns that folder.
    #[allow(clippy::unused_async)]
    pub async fn snapshot(
        &self,
        _repo: &RepoId,
        _commit: &str,
        _patterns: &[&str],
        _cache: &Path,
        _progress: impl FnMut(SnapshotProgress) + Send,
    ) -> Result<PathBuf, Error> {
        todo!()
    }
}
