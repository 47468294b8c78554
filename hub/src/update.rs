//! Read, change, commit; again when somebody else committed in between.

use bytes::Bytes;

use crate::client::{About, quoted, quoted_path};
use crate::transport::Call;
use crate::{Client, Commit, CommitInfo, Error, Operation, RepoId};

/// How often a change is repeated on a branch that keeps moving.
const ROUNDS: u32 = 8;

/// Reads a repository at the commit that an update is based on.
#[derive(Clone, Debug)]
pub struct Reader {
    client: Client,
    repo: RepoId,
    commit: String,
    files: Vec<String>,
}

/// One try of an update.
pub(crate) struct Step<'a> {
    pub branch: &'a str,
    pub summary: &'a str,
    pub description: &'a str,
    pub pull_request: bool,
}

impl Reader {
    /// The commit read from.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Whether there is a file `path`, without fetching it.
    pub fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file == path)
    }

    /// The content of `path`, in memory; `None` when there is no such file.
    pub async fn read(&self, path: &str) -> Result<Option<Bytes>, Error> {
        match self.client.read(&self.repo, &self.commit, path).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::EntryNotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Client {
    /// The content of one file at `revision`, in memory: for cards and configurations.
    pub async fn read(&self, repo: &RepoId, revision: &str, path: &str) -> Result<Bytes, Error> {
        let url = format!(
            "{}/resolve/{}/{}",
            self.url(repo),
            quoted(revision),
            quoted_path(path)
        );
        let call = Call::get(url, format!("send {path} of the {repo}"));
        let answer = self.transport.ask(&call).await?;
        Ok(self.check(answer, &call, About::file(repo, revision, path))?.body)
    }

    /// Commits what `change` makes of the current state. When the branch moves on in between, `change` is called
    /// again with the new state, a bounded number of times. Without an operation, or where every file already
    /// holds what it is to hold, no commit is made (`changed` is false).
    pub async fn update<F, Fut>(
        &self,
        repo: &RepoId,
        branch: &str,
        summary: &str,
        pull_request: bool,
        mut change: F,
    ) -> Result<CommitInfo, Error>
    where
        F: FnMut(Reader) -> Fut + Send,
        Fut: Future<Output = Result<Vec<Operation>, Error>> + Send,
    {
        let step = Step {
            branch,
            summary,
            description: "",
            pull_request,
        };
        let mut round = 1;
        loop {
            match self.step(repo, &step, &mut change).await {
                Err(Error::Conflict { .. }) if round < ROUNDS => {
                    tracing::info!(%repo, branch, round, "the branch moved on; merging into its new head");
                    round += 1;
                }
                result => return result,
            }
        }
    }

    /// Commits once what `change` makes of the current state.
    pub(crate) async fn step<F, Fut>(
        &self,
        repo: &RepoId,
        step: &Step<'_>,
        change: &mut F,
    ) -> Result<CommitInfo, Error>
    where
        F: FnMut(Reader) -> Fut + Send,
        Fut: Future<Output = Result<Vec<Operation>, Error>> + Send,
    {
        let now = self.resolve(repo, step.branch).await?;
        let reader = Reader {
            client: self.clone(),
            repo: repo.clone(),
            commit: now.commit.clone(),
            files: now.siblings.into_iter().map(|file| file.path).collect(),
        };
        let commit = Commit {
            summary: step.summary.to_owned(),
            description: step.description.to_owned(),
            parent: Some(now.commit),
            operations: change(reader).await?,
            pull_request: step.pull_request,
        };
        self.commit(repo, step.branch, commit).await
    }
}
