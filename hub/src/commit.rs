//! Writing commits and pull requests.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::client::{About, json_payload, quoted};
use crate::digest::{Hasher, feed_file};
use crate::lfs::LargeFile;
use crate::transport::{Call, Payload};
use crate::{Client, Error, RepoId};

/// Files that one preupload request may ask about.
const PREUPLOAD_FILES: usize = 256;
/// Bytes of each file that the Hub looks at to tell text from binary.
const SAMPLE: usize = 512;

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

impl Content {
    pub(crate) async fn size(&self) -> Result<u64, Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => match tokio::fs::metadata(path).await {
                Ok(found) => Ok(found.len()),
                Err(error) => Err(Error::io("read", path, error)),
            },
        }
    }

    async fn sample(&self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes[..bytes.len().min(SAMPLE)].to_vec()),
            Self::File(path) => {
                let mut sample = Vec::with_capacity(SAMPLE);
                let read = async {
                    let file = tokio::fs::File::open(path).await?;
                    file.take(SAMPLE as u64).read_to_end(&mut sample).await
                };
                read.await.map_err(|error| Error::io("read", path, error))?;
                Ok(sample)
            }
        }
    }

    pub(crate) async fn digest(&self, mut hasher: Hasher) -> Result<String, Error> {
        match self {
            Self::Bytes(bytes) => hasher.update(bytes),
            Self::File(path) => {
                let fed = feed_file(&mut hasher, path, u64::MAX).await;
                fed.map_err(|error| Error::io("read", path, error))?;
            }
        }
        Ok(hasher.hex())
    }

    async fn base64(&self) -> Result<String, Error> {
        match self {
            Self::Bytes(bytes) => Ok(BASE64.encode(bytes)),
            Self::File(path) => {
                let read = tokio::fs::read(path).await;
                Ok(BASE64.encode(read.map_err(|error| Error::io("read", path, error))?))
            }
        }
    }
}

/// A file to add and what the Hub said about it.
struct Planned<'a> {
    path: &'a str,
    content: &'a Content,
    size: u64,
    mode: Upload,
    /// Checksum of the file that is at this path now.
    present: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Upload {
    Lfs,
    Regular,
}

impl Client {
    /// Commits to `branch`. Files that already hold the wanted content are left out; where that leaves nothing
    /// to do, no commit is made. Large files are streamed into large file storage first.
    pub async fn commit(&self, repo: &RepoId, branch: &str, commit: Commit) -> Result<CommitInfo, Error> {
        let planned = self.preupload(repo, branch, &commit).await?;
        let mut lines = Vec::new();
        let mut large = Vec::new();
        for file in planned {
            match file.mode {
                Upload::Regular => {
                    let unchanged = match &file.present {
                        Some(present) => *present == file.content.digest(Hasher::git_blob(file.size)).await?,
                        None => false,
                    };
                    if !unchanged {
                        let content = file.content.base64().await?;
                        let value = json!({"content": content, "path": file.path, "encoding": "base64"});
                        lines.push(json!({"key": "file", "value": value}));
                    }
                }
                Upload::Lfs => {
                    let sha256 = file.content.digest(Hasher::sha256()).await?;
                    if file.present.as_ref() != Some(&sha256) {
                        let value = json!({
                            "path": file.path, "algo": "sha256", "oid": sha256, "size": file.size,
                        });
                        lines.push(json!({"key": "lfsFile", "value": value}));
                        large.push(LargeFile {
                            path: file.path,
                            content: file.content,
                            size: file.size,
                            sha256,
                        });
                    }
                }
            }
        }
        for operation in &commit.operations {
            if let Operation::Delete { path } = operation {
                lines.push(json!({"key": "deletedFile", "value": {"path": path}}));
            }
        }
        if lines.is_empty() {
            return self.unchanged(repo, branch).await;
        }
        self.upload(repo, branch, &large).await?;
        self.post_commit(repo, branch, &commit, &lines).await
    }

    async fn unchanged(&self, repo: &RepoId, branch: &str) -> Result<CommitInfo, Error> {
        let head = self.resolve(repo, branch).await?.commit;
        Ok(CommitInfo {
            url: format!("{}/commit/{head}", self.url(repo)),
            commit: head,
            pull_request_url: None,
            changed: false,
        })
    }

    /// Asks for each file to add where it belongs and what is there now.
    async fn preupload<'a>(
        &self,
        repo: &RepoId,
        branch: &str,
        commit: &'a Commit,
    ) -> Result<Vec<Planned<'a>>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct File {
            path: String,
            upload_mode: Upload,
            #[serde(default)]
            should_ignore: bool,
            oid: Option<String>,
        }
        #[derive(Deserialize)]
        struct Wire {
            files: Vec<File>,
        }
        let additions: Vec<(&str, &Content)> = commit
            .operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::Add { path, content } => Some((path.as_str(), content)),
                Operation::Delete { .. } => None,
            })
            .collect();
        let mut planned = Vec::with_capacity(additions.len());
        for chunk in additions.chunks(PREUPLOAD_FILES) {
            let mut files = Vec::with_capacity(chunk.len());
            for (path, content) in chunk {
                let sample = BASE64.encode(content.sample().await?);
                files.push(json!({"path": path, "size": content.size().await?, "sample": sample}));
            }
            let mut url = format!("{}/preupload/{}", self.api(repo), quoted(branch));
            if commit.pull_request {
                url.push_str("?create_pr=1");
            }
            let call = Call::post(
                url,
                json_payload(&json!({"files": files})),
                format!("prepare an upload to the {repo}"),
            );
            let answer = self.transport.ask(&call).await?;
            let answer = self.check(answer, &call, About::revision(repo, branch))?;
            let wire: Wire = self.parsed(&answer.body, &call)?;
            for &(path, content) in chunk {
                let Some(file) = wire.files.iter().find(|file| file.path == path) else {
                    return Err(Error::Protocol {
                        endpoint: self.endpoint().to_owned(),
                        action: call.action,
                        message: format!("it said nothing about {path}"),
                    });
                };
                if file.should_ignore {
                    tracing::warn!(path, "left out: the repository's .gitignore names it");
                    continue;
                }
                planned.push(Planned {
                    path,
                    content,
                    size: content.size().await?,
                    mode: file.upload_mode,
                    present: file.oid.clone(),
                });
            }
        }
        Ok(planned)
    }

    async fn post_commit(
        &self,
        repo: &RepoId,
        branch: &str,
        commit: &Commit,
        lines: &[Value],
    ) -> Result<CommitInfo, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            commit_url: Option<String>,
            commit_oid: String,
            pull_request_url: Option<String>,
        }
        let mut header = json!({"summary": commit.summary, "description": commit.description});
        if let Some(parent) = &commit.parent {
            header["parentCommit"] = json!(parent);
        }
        let mut body = json!({"key": "header", "value": header}).to_string();
        for line in lines {
            body.push('\n');
            body.push_str(&line.to_string());
        }
        body.push('\n');
        let mut url = format!("{}/commit/{}", self.api(repo), quoted(branch));
        if commit.pull_request {
            url.push_str("?create_pr=1");
        }
        let payload = Payload::Bytes("application/x-ndjson", Bytes::from(body));
        let mut call = Call::post(url, payload, format!("commit to the {repo}"));
        // Sent twice, one request to open a pull request opens two.
        call.repeatable = !commit.pull_request;
        let answer = self.transport.ask(&call).await?;
        if answer.status.as_u16() == 412
            && answer.after_unanswered
            && let Some(ours) = self.landed(repo, branch, commit).await?
        {
            return Ok(ours);
        }
        let answer = self.check(answer, &call, About::revision(repo, branch))?;
        let wire: Wire = self.parsed(&answer.body, &call)?;
        let url = wire.pull_request_url.clone().or(wire.commit_url);
        Ok(CommitInfo {
            url: url.unwrap_or_else(|| format!("{}/commit/{}", self.url(repo), wire.commit_oid)),
            commit: wire.commit_oid,
            pull_request_url: wire.pull_request_url,
            changed: true,
        })
    }

    /// The head of `branch`, where it is `commit` on its parent: the request that was never answered had been
    /// carried out, and the one sent after it met its own work.
    async fn landed(
        &self,
        repo: &RepoId,
        branch: &str,
        commit: &Commit,
    ) -> Result<Option<CommitInfo>, Error> {
        #[derive(Deserialize)]
        struct Wire {
            id: String,
            title: String,
        }
        let url = format!("{}/commits/{}", self.api(repo), quoted(branch));
        let call = Call::get(url, format!("list the commits of the {repo}"));
        let answer = self.transport.ask(&call).await?;
        let answer = self.check(answer, &call, About::revision(repo, branch))?;
        let commits: Vec<Wire> = self.parsed(&answer.body, &call)?;
        Ok(match commits.as_slice() {
            [head, before, ..]
                if Some(&before.id) == commit.parent.as_ref() && head.title == commit.summary =>
            {
                Some(CommitInfo {
                    commit: head.id.clone(),
                    url: format!("{}/commit/{}", self.url(repo), head.id),
                    pull_request_url: None,
                    changed: true,
                })
            }
            _ => None,
        })
    }
}
