//! Pull requests that are there already.

use serde::Deserialize;

use crate::client::About;
use crate::transport::Call;
use crate::{Client, Error, RepoId};

/// Pages of discussions that are looked through, newest first: a pull request that was opened by a run that is
/// repeated is a recent one.
const PAGES: usize = 5;

/// A pull request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PullRequest {
    /// Its newest commit.
    pub commit: String,
    /// Where a person sees it.
    pub url: String,
}

impl Client {
    /// The newest pull request with this title, whatever became of it. A request that opens one cannot be repeated
    /// blindly, since each opens another: whoever did not hear of its answer looks here first.
    pub async fn pull_request(&self, repo: &RepoId, title: &str) -> Result<Option<PullRequest>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Discussion {
            num: u64,
            title: String,
            is_pull_request: bool,
        }
        #[derive(Deserialize)]
        struct Page {
            discussions: Vec<Discussion>,
            count: usize,
        }
        let mut seen = 0;
        for page in 0..PAGES {
            let url = format!("{}/discussions?type=pull_request&p={page}", self.api(repo));
            let call = Call::get(url, format!("list the pull requests of the {repo}"));
            let answer = self.transport.ask(&call).await?;
            let answer = self.check(answer, &call, About::revision(repo, "main"))?;
            let Page { discussions, count } = self.parsed(&answer.body, &call)?;
            let found = discussions
                .iter()
                .find(|discussion| discussion.is_pull_request && discussion.title == title);
            if let Some(Discussion { num, .. }) = found {
                let commit = self.resolve(repo, &format!("refs/pr/{num}")).await?.commit;
                let url = format!("{}/discussions/{num}", self.url(repo));
                return Ok(Some(PullRequest { commit, url }));
            }
            seen += discussions.len();
            if discussions.is_empty() || seen >= count {
                break;
            }
        }
        Ok(None)
    }
}
