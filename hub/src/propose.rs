//! Pull requests that are opened once: a run that is repeated pushes to the one it opened before.

use serde::Deserialize;
use serde_json::Value;

use crate::client::About;
use crate::transport::Call;
use crate::update::Step;
use crate::{Client, CommitInfo, Error, Operation, Reader, RepoId};

/// How often a change is repeated on a branch that keeps moving.
const ROUNDS: u32 = 8;

/// What stands in the description of a pull request of `run`; a page shows no comment.
fn marker(run: &str) -> String {
    format!("<!-- slipway-run: {run} -->")
}

#[derive(Deserialize)]
struct Page {
    discussions: Vec<Listed>,
    #[serde(default)]
    count: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    num: u64,
    #[serde(default)]
    is_pull_request: bool,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Value,
}

impl Details {
    /// Whether its description, the first comment, holds `marker`.
    fn describes(&self, marker: &str) -> bool {
        self.events
            .iter()
            .find(|event| event.kind == "comment")
            .and_then(|event| event.data["latest"]["raw"].as_str())
            .is_some_and(|text| text.contains(marker))
    }
}

impl Client {
    /// Opens a pull request on `branch` with what `change` makes of its current state, or pushes to the open one
    /// that an earlier call with the same `run` (any name that only this run has) opened. So a run that was
    /// interrupted after its pull request, and repeated, opens no second one. Where every file of the branch
    /// already holds what it is to hold, none is opened (`changed` is false).
    pub async fn propose<F, Fut>(
        &self,
        repo: &RepoId,
        branch: &str,
        summary: &str,
        run: &str,
        mut change: F,
    ) -> Result<CommitInfo, Error>
    where
        F: FnMut(Reader) -> Fut + Send,
        Fut: Future<Output = Result<Vec<Operation>, Error>> + Send,
    {
        let marker = marker(run);
        let description = format!("Written by Slipway.\n\n{marker}");
        let mut unanswered = None;
        let mut round = 1;
        loop {
            if let Some(number) = self.open_pull_request(repo, &marker).await? {
                let head = format!("refs/pr/{number}");
                let info = self.update(repo, &head, summary, false, &mut change).await?;
                return Ok(CommitInfo {
                    pull_request_url: Some(format!("{}/discussions/{number}", self.url(repo))),
                    ..info
                });
            }
            // Nothing came of it that could be seen: to ask again might still open a second one.
            if let Some(error) = unanswered {
                return Err(error);
            }
            let step = Step {
                branch,
                summary,
                description: &description,
                pull_request: true,
            };
            match self.step(repo, &step, &mut change).await {
                Err(Error::Conflict { .. }) if round < ROUNDS => round += 1,
                // It may have been carried out all the same.
                Err(error) if error.retryable() => unanswered = Some(error),
                result => return result,
            }
        }
    }

    /// The open pull request of the token's owner whose description holds `marker`.
    async fn open_pull_request(&self, repo: &RepoId, marker: &str) -> Result<Option<u64>, Error> {
        let me = self.whoami().await?.name;
        let (mut page, mut seen) = (0, 0);
        loop {
            // Somebody else's may hold the marker too: it is public.
            let url = format!(
                "{}/discussions?p={page}&type=pull_request&status=open&author={}",
                self.api(repo),
                crate::client::quoted(&me)
            );
            let listed: Page = self.discussion(repo, url).await?;
            for one in &listed.discussions {
                let open = matches!(one.status.as_str(), "open" | "draft");
                if one.is_pull_request && open {
                    let url = format!("{}/discussions/{}", self.api(repo), one.num);
                    let details: Details = self.discussion(repo, url).await?;
                    if details.describes(marker) {
                        return Ok(Some(one.num));
                    }
                }
            }
            seen += listed.discussions.len();
            page += 1;
            if listed.discussions.is_empty() || seen >= listed.count {
                return Ok(None);
            }
        }
    }

    async fn discussion<T: serde::de::DeserializeOwned>(
        &self,
        repo: &RepoId,
        url: String,
    ) -> Result<T, Error> {
        let call = Call::get(url, format!("list the pull requests of the {repo}"));
        let answer = self.transport.ask(&call).await?;
        let answer = self.check(answer, &call, About::revision(repo, "main"))?;
        self.parsed(&answer.body, &call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_description_tells_whose_a_pull_request_is() {
        let details = |first: &str, second: &str| -> Details {
            let comment = |text: &str| json!({"type": "comment", "data": {"latest": {"raw": text}}});
            let commit = json!({"type": "commit", "data": {"subject": "x"}});
            serde_json::from_value(json!({"events": [commit, comment(first), comment(second)]})).unwrap()
        };
        let ours = marker("run-1");
        assert!(details(&format!("Hello.\n\n{ours}"), "").describes(&ours));
        assert!(!details("Hello.", &format!("See {ours}")).describes(&ours));
        assert!(!details(&marker("run-10"), "").describes(&ours));
        assert!(
            !serde_json::from_value::<Details>(json!({}))
                .unwrap()
                .describes(&ours)
        );
    }
}
