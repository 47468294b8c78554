//! Pull requests that a repeated run does not open twice, on a real Hub.

mod common;

use common::Hub;
use serde_json::{Value, json};
use slipway_hub::{Client, CommitInfo, Error, Operation, RepoId};

async fn seeded(hub: &Hub) -> RepoId {
    let repo = RepoId::model("acme/minilm").unwrap();
    hub.owner().create_repo(&repo, false).await.unwrap();
    hub.owner()
        .update(&repo, "main", "seed", false, |_| async {
            Ok(vec![Operation::add("README.md", "# Model\n")])
        })
        .await
        .unwrap();
    repo
}

async fn propose(client: &Client, repo: &RepoId, run: &str, text: &str) -> Result<CommitInfo, Error> {
    client
        .propose(repo, "main", "Record", run, |_| async move {
            Ok(vec![Operation::add("a.txt", text.to_owned())])
        })
        .await
}

/// Numbers of all pull requests, newest first.
async fn numbers(hub: &Hub) -> Vec<u64> {
    let url = format!("{}/api/models/acme/minilm/discussions", hub.endpoint);
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    let all = found["discussions"].as_array().unwrap();
    all.iter().map(|one| one["num"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_repeated_run_pushes_to_the_pull_request_it_opened() {
    let Some(hub) = Hub::start() else { return };
    let repo = seeded(&hub).await;
    let client = hub.owner();
    let first = propose(&client, &repo, "run-1", "1").await.unwrap();
    assert!(
        first.changed
            && first
                .pull_request_url
                .as_ref()
                .unwrap()
                .ends_with("/discussions/1"),
        "{first:?}"
    );
    let again = propose(&client, &repo, "run-1", "1").await.unwrap();
    assert!(!again.changed);
    assert_eq!(
        (&again.commit, &again.pull_request_url),
        (&first.commit, &first.pull_request_url)
    );
    let changed = propose(&client, &repo, "run-1", "2").await.unwrap();
    assert!(changed.changed && changed.pull_request_url == first.pull_request_url);
    let proposed = client.read(&repo, "refs/pr/1", "a.txt").await.unwrap();
    assert_eq!(&proposed[..], b"2");
    assert!(matches!(
        client.read(&repo, "main", "a.txt").await,
        Err(Error::EntryNotFound { .. })
    ));
    assert_eq!(numbers(&hub).await, [1]);

    let other = propose(&client, &repo, "run-2", "3").await.unwrap();
    assert!(other.pull_request_url.unwrap().ends_with("/discussions/2"));

    // Merged, there is nothing left to propose.
    hub.post("/api/models/acme/minilm/discussions/1/merge", json!({}))
        .await;
    let merged = propose(&client, &repo, "run-1", "2").await.unwrap();
    assert!(!merged.changed && merged.pull_request_url.is_none(), "{merged:?}");
    assert_eq!(numbers(&hub).await, [2, 1]);
}

#[tokio::test]
async fn an_answer_that_is_lost_opens_no_second_one() {
    let Some(hub) = Hub::start() else { return };
    let repo = seeded(&hub).await;
    hub.fault(json!({"match": "^POST .*/commit/main\\?create_pr=1", "dropAfterBytes": 5}))
        .await;
    let info = propose(&hub.owner(), &repo, "run-1", "1").await.unwrap();
    assert!(info.pull_request_url.unwrap().ends_with("/discussions/1"));
    assert_eq!(numbers(&hub).await, [1]);

    // One that never arrived is for the next try.
    hub.fault(json!({"match": "^POST .*/commit/main\\?create_pr=1", "status": 503, "times": 20}))
        .await;
    let error = propose(&hub.owner(), &repo, "run-2", "2").await.unwrap_err();
    assert!(error.retryable(), "{error}");
    assert_eq!(numbers(&hub).await, [1]);
}

#[tokio::test]
async fn nobody_elses_pull_request_is_pushed_to() {
    let Some(hub) = Hub::start() else { return };
    let repo = seeded(&hub).await;
    propose(&hub.client(Some("hf_other")), &repo, "run-1", "theirs")
        .await
        .unwrap();
    let ours = propose(&hub.owner(), &repo, "run-1", "ours").await.unwrap();
    assert!(ours.pull_request_url.unwrap().ends_with("/discussions/2"));
    let theirs = hub.owner().read(&repo, "refs/pr/1", "a.txt").await.unwrap();
    assert_eq!(&theirs[..], b"theirs");
}
