//! Read, change, commit; again when somebody else committed in between.

use bytes::Bytes;

use crate::{Client, CommitInfo, Error, Operation, RepoId};

/// Reads a repository at the commit that an update is based on.
#[derive(Clone, Debug)]
pub struct Reader {
    client: Client,
    repo: RepoId,
    commit: String,
}

impl Reader {
    /// The commit read from.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The content of `path`; `None` when there is no such file.
    #[allow(clippy::unused_async)]
    pub async fn read(&self, _path: &str) -> Result<Option<Bytes>, Error> {
        let _ = (&self.client, &self.repo);
        todo!()
    }
}

impl Client {
    /// Commits what `change` makes of the current state. When the branch moves on in between, `change` is called
    /// again with the new state, a bounded number of times. Without an operation, or where every file already
    /// holds what it is to hold, no commit is made (`changed` is false).
    #[allow(clippy::unused_async)]
    pub async fn update<F, Fut>(
        &self,
        _repo: &RepoId,
        _branch: &str,
        _summary: &str,
        _pull_request: bool,
        _change: F,
    ) -> Result<CommitInfo, Error>
    where
        F: FnMut(Reader) -> Fut + Send,
        Fut: Future<Output = Result<Vec<Operation>, Error>> + Send,
    {
        todo!()
    }
}
