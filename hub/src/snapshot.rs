//! Pinned snapshots: every file checked, whole or absent, and fetched once.
//!
//! ```text
//! <cache>/models--acme--minilm/
//!   <commit>.json          what the commit holds
//!   <commit>.lock          held while files are fetched, so that two processes share the work
//!   <commit>/config.json   a file is here once it is whole and its checksum holds
//!   partial/<checksum>     what has arrived so far of a file; the next attempt goes on from there
//! ```

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;

use crate::client::{About, quoted_path};
use crate::digest::{Hasher, feed_file};
use crate::transport::{Answer, Call, describe};
use crate::tree::TreeFile;
use crate::{Client, Error, RepoId};

/// Files fetched at the same time: enough to hide the latency of small ones.
const PARALLEL: usize = 4;

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
    ///
    /// Files that are there already are not asked for again: a complete snapshot costs no request. An
    /// interrupted download goes on where it stopped. Several processes may share a cache.
    pub async fn snapshot(
        &self,
        repo: &RepoId,
        commit: &str,
        patterns: &[&str],
        cache: &Path,
        progress: impl FnMut(SnapshotProgress) + Send,
    ) -> Result<PathBuf, Error> {
        if !is_commit(commit) {
            return Err(Error::NotACommit {
                repo: repo.clone(),
                revision: commit.to_owned(),
            });
        }
        let folder = cache.join(repo.folder());
        let target = folder.join(commit);
        let files = self.tree(repo, commit, &folder).await?;
        let wanted: Vec<&TreeFile> = files
            .iter()
            .filter(|file| patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, &file.path)))
            .collect();
        let tally = Tally::new(progress, &wanted);
        if wanted.iter().all(|file| is_present(&target, file)) {
            tally.all_present();
            return Ok(target);
        }
        let lock = lock(&folder, commit).await?;
        let partial = folder.join("partial");
        for directory in [&target, &partial] {
            tokio::fs::create_dir_all(directory)
                .await
                .map_err(|error| Error::io("create", directory, error))?;
        }
        futures::stream::iter(wanted.iter().map(|file| async {
            // Looked at under the lock: another process may have fetched it meanwhile.
            if is_present(&target, file) {
                tally.present(file);
                return Ok(());
            }
            self.fetch(repo, commit, file, &partial, &target, &tally).await
        }))
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
        drop(lock);
        Ok(target)
    }

    async fn fetch<F: FnMut(SnapshotProgress) + Send>(
        &self,
        repo: &RepoId,
        commit: &str,
        file: &TreeFile,
        partial: &Path,
        target: &Path,
        tally: &Tally<F>,
    ) -> Result<(), Error> {
        // Two paths with the same content would otherwise write to one partial file at once.
        let name = hash_of_path(&file.path);
        let partial = partial.join(format!("{}-{name}", file.digest.hex()));
        let mut damaged = None;
        for _ in 0..2 {
            let mut transfer = Transfer::resume(file, &partial).await?;
            tally.arrived(file, transfer.length);
            self.receive(repo, commit, file, &mut transfer, tally).await?;
            let actual = transfer.finish().await?;
            if actual == file.digest.hex() {
                let target = target.join(&file.path);
                let rename = async {
                    if let Some(directory) = target.parent() {
                        tokio::fs::create_dir_all(directory).await?;
                    }
                    tokio::fs::rename(&partial, &target).await
                };
                rename.await.map_err(|error| Error::io("write", &target, error))?;
                tally.finished(file);
                return Ok(());
            }
            // What was kept from an earlier attempt may be what is damaged: once more from the start.
            tokio::fs::remove_file(&partial).await.ok();
            tally.lost(file.size);
            damaged = Some(actual);
        }
        Err(Error::Checksum {
            repo: Box::new(repo.clone()),
            path: file.path.clone(),
            actual: damaged.unwrap_or_default(),
            expected: file.digest.hex().to_owned(),
        })
    }

    /// Appends to `transfer` until the file has its full length.
    async fn receive<F: FnMut(SnapshotProgress) + Send>(
        &self,
        repo: &RepoId,
        commit: &str,
        file: &TreeFile,
        transfer: &mut Transfer,
        tally: &Tally<F>,
    ) -> Result<(), Error> {
        let url = format!("{}/resolve/{commit}/{}", self.url(repo), quoted_path(&file.path));
        let call = Call::get(url, format!("send {} of the {repo} whole", file.path)).header(
            reqwest::header::ACCEPT_ENCODING,
            reqwest::header::HeaderValue::from_static("identity"),
        );
        let mut patience = self.transport.patience(&call);
        while transfer.length < file.size {
            let mut call = call.clone();
            if transfer.length > 0 {
                let range = format!("bytes={}-", transfer.length);
                call.headers.insert(
                    reqwest::header::RANGE,
                    range.parse().expect("a range is plain ASCII"),
                );
            }
            let mut response = self.transport.open(&call, &mut patience).await?;
            match response.status().as_u16() {
                206 => {}
                200 if transfer.length == 0 => {}
                // The whole file, or no use for what is here: from the start.
                200 | 416 => {
                    tally.lost(transfer.length);
                    transfer.restart().await?;
                }
                _ => {
                    let (status, headers) = (response.status(), response.headers().clone());
                    let body = response.bytes().await.unwrap_or_default();
                    let answer = Answer {
                        status,
                        headers,
                        body,
                        after_unanswered: false,
                    };
                    self.check(answer, &call, About::file(repo, commit, &file.path))?;
                    return Err(Error::Protocol {
                        endpoint: self.endpoint().to_owned(),
                        action: call.action,
                        message: format!("HTTP {status}"),
                    });
                }
            }
            if response.status() == reqwest::StatusCode::RANGE_NOT_SATISFIABLE {
                patience
                    .failed("it does not know the range asked for".into())
                    .await?;
                continue;
            }
            let broken = loop {
                match response.chunk().await {
                    Ok(Some(chunk)) => {
                        let room = usize::try_from(file.size - transfer.length).unwrap_or(usize::MAX);
                        let chunk = chunk.slice(..chunk.len().min(room));
                        transfer.append(&chunk).await?;
                        tally.arrived(file, chunk.len() as u64);
                        patience.progressed();
                        if transfer.length == file.size {
                            break None;
                        }
                    }
                    Ok(None) => break Some("the answer ended early".to_owned()),
                    Err(error) => break Some(describe(&error)),
                }
            };
            if let Some(message) = broken {
                // Should this process end here, the next one goes on from what arrived.
                transfer.flush().await?;
                patience.failed(message).await?;
            }
        }
        Ok(())
    }
}

/// A file on its way, with the checksum of what is here.
struct Transfer {
    file: tokio::io::BufWriter<tokio::fs::File>,
    path: PathBuf,
    length: u64,
    hasher: Hasher,
    fresh: Hasher,
}

impl Transfer {
    /// Goes on from what an earlier attempt left at `path`.
    async fn resume(wanted: &TreeFile, path: &Path) -> Result<Self, Error> {
        let fresh = Hasher::like(&wanted.digest, wanted.size);
        let mut hasher = fresh.clone();
        let mut length = match feed_file(&mut hasher, path, wanted.size.saturating_add(1)).await {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Error::io("read", path, error)),
        };
        let stale = length > wanted.size;
        if stale {
            (length, hasher) = (0, fresh.clone());
        }
        let file = tokio::fs::OpenOptions::new()
            .create(true)
            .append(!stale)
            .write(true)
            .truncate(stale)
            .open(path)
            .await
            .map_err(|error| Error::io("write", path, error))?;
        Ok(Self {
            file: tokio::io::BufWriter::with_capacity(1 << 20, file),
            path: path.to_owned(),
            length,
            hasher,
            fresh,
        })
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        let written = self.file.write_all(bytes).await;
        written.map_err(|error| Error::io("write", &self.path, error))
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let flushed = self.file.flush().await;
        flushed.map_err(|error| Error::io("write", &self.path, error))
    }

    async fn restart(&mut self) -> Result<(), Error> {
        let truncate = async {
            self.file.flush().await?;
            self.file.get_mut().set_len(0).await
        };
        truncate
            .await
            .map_err(|error| Error::io("write", &self.path, error))?;
        (self.length, self.hasher) = (0, self.fresh.clone());
        Ok(())
    }

    /// Puts everything on disk; returns the checksum.
    async fn finish(mut self) -> Result<String, Error> {
        let sync = async {
            self.file.flush().await?;
            self.file.get_mut().sync_all().await
        };
        sync.await
            .map_err(|error| Error::io("write", &self.path, error))?;
        Ok(self.hasher.hex())
    }
}

/// Adds up what several downloads report.
struct Tally<F>(Mutex<(SnapshotProgress, F)>);

impl<F: FnMut(SnapshotProgress)> Tally<F> {
    fn new(progress: F, wanted: &[&TreeFile]) -> Self {
        let start = SnapshotProgress {
            file: String::new(),
            files_done: 0,
            files_total: wanted.len(),
            bytes_done: 0,
            bytes_total: wanted.iter().map(|file| file.size).sum(),
        };
        Self(Mutex::new((start, progress)))
    }

    fn change(&self, change: impl FnOnce(&mut SnapshotProgress)) {
        let mut guard = self.0.lock().expect("no holder panics");
        let (progress, report) = &mut *guard;
        change(progress);
        report(progress.clone());
    }

    fn arrived(&self, file: &TreeFile, bytes: u64) {
        self.change(|progress| {
            progress.file.clone_from(&file.path);
            progress.bytes_done += bytes;
        });
    }

    fn lost(&self, bytes: u64) {
        self.change(|progress| progress.bytes_done -= bytes);
    }

    fn finished(&self, file: &TreeFile) {
        self.change(|progress| {
            progress.file.clone_from(&file.path);
            progress.files_done += 1;
        });
    }

    fn present(&self, file: &TreeFile) {
        self.change(|progress| {
            progress.file.clone_from(&file.path);
            progress.files_done += 1;
            progress.bytes_done += file.size;
        });
    }

    fn all_present(&self) {
        self.change(|progress| {
            progress.files_done = progress.files_total;
            progress.bytes_done = progress.bytes_total;
        });
    }
}

/// Files get their names when they are whole and checked; the size tells of a file that was changed since.
fn is_present(target: &Path, file: &TreeFile) -> bool {
    std::fs::metadata(target.join(&file.path)).is_ok_and(|found| found.is_file() && found.len() == file.size)
}

pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hash_of_path(path: &str) -> String {
    let mut hasher = Hasher::git_blob(path.len() as u64);
    hasher.update(path.as_bytes());
    hasher.hex()[..8].to_owned()
}

/// Waits until no other process fetches this commit. The lock goes with the returned file, also when the
/// process dies.
async fn lock(folder: &Path, commit: &str) -> Result<std::fs::File, Error> {
    let path = folder.join(format!("{commit}.lock"));
    let io = |error| Error::io("lock", &path, error);
    tokio::fs::create_dir_all(folder).await.map_err(io)?;
    let file = std::fs::File::create(&path).map_err(io)?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                if !told {
                    tracing::info!(path = %path.display(), "another process fetches the same snapshot; waiting for it");
                    told = true;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            // Some network volumes know no locks. Names and checksums keep the result right without one.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                return Ok(file);
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
    }
}

/// Whether `path` matches `pattern`: `*` stands for any characters, `/` included, and `?` for one.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<char>, Vec<char>) = (pattern.chars().collect(), path.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < path.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == path[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_hubs_clients_do() {
        for (pattern, path, expected) in [
            ("*.json", "config.json", true),
            ("*.json", "1_Pooling/config.json", true),
            ("config.json", "1_Pooling/config.json", false),
            (
                "model-0000?-of-*.safetensors",
                "model-00001-of-00002.safetensors",
                true,
            ),
            ("data/*.parquet", "data/train-0.parquet", true),
            ("*", "a/b", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_commit_is_forty_lower_case_digits() {
        assert!(is_commit(&"a1".repeat(20)));
        assert!(!is_commit("main") && !is_commit(&"A1".repeat(20)) && !is_commit(&"a".repeat(41)));
    }
}
