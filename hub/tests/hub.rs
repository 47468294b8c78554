//! Reading and writing against a real Hub of git repositories, with everything that may go wrong on the way.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::{Hub, noise, status};
use serde_json::json;
use slipway_contract::{DatasetSource, FailureReason, HubRef, ModelSource};
use slipway_hub::{Client, Commit, Error, Operation, RepoId, RepoType, Retry, source};

macro_rules! hub {
    () => {
        match Hub::start() {
            Some(hub) => hub,
            None => return,
        }
    };
}

fn commit(summary: &str, operations: Vec<Operation>) -> Commit {
    Commit {
        summary: summary.into(),
        operations,
        ..Commit::default()
    }
}

/// A repository with a small and a large file; returns its head.
async fn seeded(client: &Client, repo: &RepoId, weights: &[u8]) -> String {
    client.create_repo(repo, false).await.unwrap();
    let operations = vec![
        Operation::add("config.json", "{\"model_type\": \"bert\"}\n"),
        Operation::add("sub/ü #1.txt", "odd name\n"),
        Operation::add("model.safetensors", weights.to_vec()),
    ];
    client
        .commit(repo, "main", commit("seed", operations))
        .await
        .unwrap()
        .commit
}

async fn fetch(client: &Client, repo: &RepoId, commit: &str, cache: &Path) -> std::path::PathBuf {
    client.snapshot(repo, commit, &[], cache, |_| {}).await.unwrap()
}

#[tokio::test]
async fn what_is_committed_comes_back_in_a_snapshot_and_is_not_asked_for_twice() {
    let hub = hub!();
    let (client, cache) = (hub.owner(), tempfile::tempdir().unwrap());
    let repo = RepoId::model("acme/minilm").unwrap();
    let weights = noise(3_000_000, 1);
    let head = seeded(&client, &repo, &weights).await;

    let info = client.resolve(&repo, "main").await.unwrap();
    assert_eq!(info.commit, head);
    let large = info
        .siblings
        .iter()
        .find(|file| file.path == "model.safetensors")
        .unwrap();
    assert_eq!(large.size, Some(3_000_000));
    assert!(large.sha256.is_some());

    let mut last = None;
    let path = client
        .snapshot(
            &repo,
            &head,
            &["*.json", "*.safetensors", "sub/*"],
            cache.path(),
            |p| last = Some(p),
        )
        .await
        .unwrap();
    assert_eq!(path, cache.path().join("models--acme--minilm").join(&head));
    assert_eq!(std::fs::read(path.join("model.safetensors")).unwrap(), weights);
    assert_eq!(
        std::fs::read_to_string(path.join("sub/ü #1.txt")).unwrap(),
        "odd name\n"
    );
    assert!(!path.join(".gitattributes").exists());
    let last = last.unwrap();
    assert_eq!((last.files_done, last.files_total), (3, 3));
    assert_eq!(
        (last.bytes_done, last.bytes_total),
        (last.bytes_total, 3_000_000 + 23 + 9)
    );

    let before = hub.requests("").await;
    fetch_patterns(
        &client,
        &repo,
        &head,
        cache.path(),
        &["*.json", "*.safetensors", "sub/*"],
    )
    .await;
    assert_eq!(
        hub.requests("").await,
        before,
        "a complete snapshot was asked for again"
    );
}

async fn fetch_patterns(client: &Client, repo: &RepoId, commit: &str, cache: &Path, patterns: &[&str]) {
    client
        .snapshot(repo, commit, patterns, cache, |_| {})
        .await
        .unwrap();
}

#[tokio::test]
async fn a_broken_connection_is_resumed_where_it_broke() {
    let hub = hub!();
    let (client, cache) = (hub.owner(), tempfile::tempdir().unwrap());
    let repo = RepoId::model("acme/big").unwrap();
    let weights = noise(8_000_000, 2);
    let head = seeded(&client, &repo, &weights).await;
    for _ in 0..2 {
        hub.fault(
            json!({"match": "^GET .*(safetensors|lfs|objects)", "dropAfterBytes": 3_000_000, "times": 1}),
        )
        .await;
    }
    let mut received = 0u64;
    let mut least_lost = u64::MAX;
    let path = client
        .snapshot(&repo, &head, &["*.safetensors"], cache.path(), |p| {
            if p.bytes_done < received {
                least_lost = least_lost.min(received - p.bytes_done);
            }
            received = p.bytes_done;
        })
        .await
        .unwrap();
    assert_eq!(std::fs::read(path.join("model.safetensors")).unwrap(), weights);
    assert_eq!(
        least_lost,
        u64::MAX,
        "bytes were thrown away instead of resumed from"
    );
    assert_eq!(received, 8_000_000);
}

#[tokio::test]
async fn a_later_process_goes_on_from_what_an_earlier_one_left() {
    let hub = hub!();
    let cache = tempfile::tempdir().unwrap();
    let repo = RepoId::model("acme/big").unwrap();
    let weights = noise(6_000_000, 3);
    let head = seeded(&hub.owner(), &repo, &weights).await;
    let impatient = hub.owner().with_retry(Retry {
        attempts: 1,
        ..Retry::default()
    });
    hub.fault(json!({"match": "^GET .*(safetensors|lfs|objects)", "dropAfterBytes": 4_000_000}))
        .await;
    let error = impatient
        .snapshot(&repo, &head, &["*.safetensors"], cache.path(), |_| {})
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert_eq!(
        error.failure(RepoType::Model).reason,
        FailureReason::HubUnavailable
    );

    let mut first = None;
    let path = hub
        .owner()
        .snapshot(&repo, &head, &["*.safetensors"], cache.path(), |p| {
            first.get_or_insert(p.bytes_done);
        })
        .await
        .unwrap();
    assert!(first.unwrap() > 1_000_000, "started over: {first:?}");
    assert_eq!(std::fs::read(path.join("model.safetensors")).unwrap(), weights);
}

#[tokio::test]
async fn damaged_leftovers_are_found_by_the_checksum_and_fetched_anew() {
    let hub = hub!();
    let (client, cache) = (hub.owner(), tempfile::tempdir().unwrap());
    let repo = RepoId::model("acme/big").unwrap();
    let weights = noise(2_000_000, 4);
    let head = seeded(&client, &repo, &weights).await;
    let impatient = hub.owner().with_retry(Retry {
        attempts: 1,
        ..Retry::default()
    });
    hub.fault(json!({"match": "^GET .*(safetensors|lfs|objects)", "dropAfterBytes": 1_500_000}))
        .await;
    impatient
        .snapshot(&repo, &head, &["*.safetensors"], cache.path(), |_| {})
        .await
        .unwrap_err();
    let partial = cache.path().join("models--acme--big/partial");
    for entry in std::fs::read_dir(&partial).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() > 100_000);
        bytes[5] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let path = fetch(&client, &repo, &head, cache.path()).await;
    assert_eq!(std::fs::read(path.join("model.safetensors")).unwrap(), weights);
    assert_eq!(std::fs::read_dir(&partial).unwrap().count(), 0);
}

#[tokio::test]
async fn two_writers_share_one_download() {
    let hub = hub!();
    let (client, cache) = (hub.owner(), tempfile::tempdir().unwrap());
    let repo = RepoId::model("acme/minilm").unwrap();
    let weights = noise(4_000_000, 5);
    let head = seeded(&client, &repo, &weights).await;
    let (one, two) = (hub.owner(), hub.owner());
    let (one, two) = tokio::join!(
        fetch(&one, &repo, &head, cache.path()),
        fetch(&two, &repo, &head, cache.path())
    );
    assert_eq!(one, two);
    assert_eq!(std::fs::read(one.join("model.safetensors")).unwrap(), weights);
    assert_eq!(hub.requests("/resolve/").await, 4, "files were fetched twice");
}

#[tokio::test]
async fn rate_limits_are_waited_for_and_given_up_on_when_they_last() {
    let hub = hub!();
    let client = hub.owner();
    let repo = RepoId::model("acme/minilm").unwrap();
    client.create_repo(&repo, false).await.unwrap();
    hub.fault(json!({"match": "^GET /api/models", "status": 429, "times": 1,
        "headers": {"RateLimit": "\"api\";r=0;t=1"}}))
        .await;
    let start = Instant::now();
    client.resolve(&repo, "main").await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());

    hub.fault(
        json!({"match": "^GET /api/models", "status": 429, "times": 9, "headers": {"Retry-After": "9000"}}),
    )
    .await;
    let error = client.resolve(&repo, "main").await.unwrap_err();
    assert!(matches!(error, Error::RateLimited { .. }), "{error}");
}

#[tokio::test]
async fn server_failures_are_retried_and_named_when_they_last() {
    let hub = hub!();
    let client = hub.owner();
    let repo = RepoId::model("acme/minilm").unwrap();
    client.create_repo(&repo, false).await.unwrap();
    hub.fault(status("^GET /api/models", 500, 2)).await;
    hub.fault(status("^GET /api/models", 503, 1)).await;
    client.resolve(&repo, "main").await.unwrap();
    hub.fault(status("^GET /api/models", 502, 50)).await;
    let error = client.resolve(&repo, "main").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { attempts: 6, .. }), "{error}");
    assert!(error.to_string().contains("502"), "{error}");
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_named() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let client = Client::new(&format!("http://127.0.0.1:{port}"), None)
        .unwrap()
        .with_retry(Retry {
            attempts: 2,
            first_pause: Duration::from_millis(1),
            ..Retry::default()
        });
    let error = client
        .resolve(&RepoId::model("a/b").unwrap(), "main")
        .await
        .unwrap_err();
    assert!(error.retryable());
    let error = error.to_string();
    assert!(
        error.contains(&port.to_string()) && error.contains("refused"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_missing_is_told_apart() {
    let hub = hub!();
    let client = hub.owner();
    let repo = RepoId::model("acme/minilm").unwrap();
    let error = client.resolve(&repo, "main").await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert_eq!(
        error.failure(RepoType::Model).reason,
        FailureReason::ModelNotFound
    );

    let head = seeded(&client, &repo, b"weights").await;
    let error = client.resolve(&repo, "v2").await.unwrap_err();
    assert!(
        matches!(&error, Error::RevisionNotFound { revision, .. } if revision == "v2"),
        "{error}"
    );
    let error = client.read(&repo, &head, "nope.json").await.unwrap_err();
    assert!(
        matches!(&error, Error::EntryNotFound { path, .. } if path == "nope.json"),
        "{error}"
    );

    let data = RepoId::dataset("acme/none").unwrap();
    let error = client.resolve(&data, "main").await.unwrap_err();
    assert_eq!(
        error.failure(RepoType::Dataset).reason,
        FailureReason::DatasetNotFound
    );
    let error = client
        .snapshot(&repo, "main", &[], Path::new("/tmp"), |_| {})
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotACommit { .. }), "{error}");
}

#[tokio::test]
async fn private_and_gated_repositories_ask_for_a_token_and_never_show_one() {
    let hub = hub!();
    let cache = tempfile::tempdir().unwrap();
    let repo = RepoId::model("acme/private").unwrap();
    hub.owner().create_repo(&repo, true).await.unwrap();
    for (client, hint) in [
        (hub.client(None), "asked without a token"),
        (hub.client(Some("hf_other")), "private"),
    ] {
        let error = client.resolve(&repo, "main").await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        assert!(error.to_string().contains(hint), "{error}");
        assert!(!format!("{error} {error:?}").contains("hf_other"));
    }
    assert!(hub.owner().resolve(&repo, "main").await.unwrap().private);

    let gated = RepoId::model("acme/gated").unwrap();
    let head = seeded(&hub.owner(), &gated, b"weights").await;
    hub.put("/api/models/acme/gated/settings", json!({"gated": "manual"}))
        .await;
    for client in [hub.client(None), hub.client(Some("hf_other"))] {
        assert!(client.resolve(&gated, "main").await.unwrap().gated);
        let error = client
            .snapshot(&gated, &head, &[], cache.path(), |_| {})
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Gated { .. }), "{error}");
        assert_eq!(error.failure(RepoType::Model).reason, FailureReason::AccessDenied);
        assert!(error.to_string().contains("accept its terms"), "{error}");
    }
    let error = hub.client(Some("hf_wrong")).whoami().await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hf_wrong"));
    let error = hub
        .client(Some("hf_other"))
        .create_repo(&RepoId::model("acme/x").unwrap(), false)
        .await;
    assert!(matches!(error, Err(Error::Unauthorized { .. })), "{error:?}");
    let me = hub.owner().whoami().await.unwrap();
    assert_eq!(
        (me.name.as_str(), me.organizations),
        ("owner", vec!["acme".to_owned()])
    );
}

#[tokio::test]
async fn a_stale_parent_conflicts_and_an_equal_tree_makes_no_commit() {
    let hub = hub!();
    let client = hub.owner();
    let repo = RepoId::model("acme/minilm").unwrap();
    let weights = noise(100_000, 6);
    let old = seeded(&client, &repo, &weights).await;
    let new = client
        .commit(&repo, "main", commit("edit", vec![Operation::add("a.txt", "1")]))
        .await
        .unwrap();
    assert!(new.changed && new.url.contains(&new.commit));
    let stale = Commit {
        parent: Some(old),
        ..commit("late", vec![Operation::add("a.txt", "2")])
    };
    let error = client.commit(&repo, "main", stale).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");

    let same = vec![
        Operation::add("a.txt", "1"),
        Operation::add("model.safetensors", weights),
    ];
    let same = client.commit(&repo, "main", commit("same", same)).await.unwrap();
    assert!(!same.changed);
    assert_eq!(same.commit, new.commit);

    assert!(!client.create_repo(&repo, false).await.unwrap(), "created twice");
    let gone = client
        .commit(&repo, "main", commit("rm", vec![Operation::delete("a.txt")]))
        .await
        .unwrap();
    let error = client.read(&repo, &gone.commit, "a.txt").await.unwrap_err();
    assert!(matches!(error, Error::EntryNotFound { .. }));
}

#[tokio::test]
async fn an_update_merges_into_what_somebody_else_committed_meanwhile() {
    let hub = hub!();
    let client = hub.owner();
    let repo = RepoId::model("acme/minilm").unwrap();
    seeded(&client, &repo, b"weights").await;
    let calls = AtomicU32::new(0);
    let other = hub.owner();
    let info = client
        .update(&repo, "main", "append", false, |current| {
            let (other, repo, calls) = (other.clone(), repo.clone(), &calls);
            async move {
                let before = current.read("log.txt").await?.unwrap_or_default();
                if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                    let theirs = vec![Operation::add("log.txt", "theirs\n")];
                    other.commit(&repo, "main", commit("theirs", theirs)).await?;
                }
                let text = format!("{}ours\n", String::from_utf8_lossy(&before));
                Ok(vec![Operation::add("log.txt", text)])
            }
        })
        .await
        .unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_eq!(
        client.read(&repo, "main", "log.txt").await.unwrap(),
        "theirs\nours\n"
    );
    assert_eq!(client.resolve(&repo, "main").await.unwrap().commit, info.commit);

    let nothing = client
        .update(&repo, "main", "nothing", false, |_| async { Ok(vec![]) })
        .await
        .unwrap();
    assert!(!nothing.changed);
    assert_eq!(nothing.commit, info.commit);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_made_twice() {
    let hub = hub!();
    let client = hub.owner();
    let repo = RepoId::model("acme/minilm").unwrap();
    let head = seeded(&client, &repo, b"weights").await;
    hub.fault(json!({"match": "^POST .*/commit/main", "dropAfterBytes": 0}))
        .await;
    let ours = Commit {
        parent: Some(head),
        ..commit("once", vec![Operation::add("a.txt", "1")])
    };
    let info = client.commit(&repo, "main", ours).await.unwrap();
    assert_eq!(client.resolve(&repo, "main").await.unwrap().commit, info.commit);
    assert_eq!(client.read(&repo, "main", "a.txt").await.unwrap(), "1");
}

#[tokio::test]
async fn a_pull_request_leaves_the_branch_alone() {
    let hub = hub!();
    let client = hub.owner();
    let repo = RepoId::model("acme/minilm").unwrap();
    let head = seeded(&client, &repo, b"weights").await;
    let request = Commit {
        pull_request: true,
        ..commit("better card", vec![Operation::add("README.md", "# Better\n")])
    };
    let info = client.commit(&repo, "main", request).await.unwrap();
    assert_eq!(info.pull_request_url.as_ref(), Some(&info.url));
    assert!(info.url.ends_with("/1"), "{}", info.url);
    assert_eq!(client.resolve(&repo, "main").await.unwrap().commit, head);
    assert_eq!(
        client.read(&repo, "refs/pr/1", "README.md").await.unwrap(),
        "# Better\n"
    );
}

#[tokio::test]
async fn a_large_file_is_streamed() {
    let hub = hub!();
    let (client, cache) = (hub.owner(), tempfile::tempdir().unwrap());
    let repo = RepoId::model("acme/large").unwrap();
    client.create_repo(&repo, false).await.unwrap();
    let file = cache.path().join("weights");
    let piece = noise(1 << 20, 7);
    {
        use std::io::Write;
        let mut out = std::fs::File::create(&file).unwrap();
        for _ in 0..100 {
            out.write_all(&piece).unwrap();
        }
    }
    let upload = vec![Operation::add_file("model.safetensors", &file)];
    // The connection breaks in the middle of the upload, too.
    hub.fault(json!({"match": "^PUT ", "dropRequestAfterBytes": 30_000_000}))
        .await;
    let before = peak_memory();
    let info = client
        .commit(&repo, "main", commit("weights", upload))
        .await
        .unwrap();
    let path = fetch(&client, &repo, &info.commit, cache.path()).await;
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {} MiB", grown >> 20);
    let fetched = std::fs::read(path.join("model.safetensors")).unwrap();
    assert!(fetched.chunks(1 << 20).all(|chunk| chunk == piece) && fetched.len() == 100 << 20);
}

/// Bytes of the largest resident set so far.
fn peak_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_model_comes_with_its_base_and_a_dataset_with_its_rows() {
    let hub = hub!();
    let (client, cache) = (hub.owner(), tempfile::tempdir().unwrap());
    let base = RepoId::model("acme/base").unwrap();
    let base_commit = seeded(&client, &base, b"weights").await;
    let adapter = RepoId::model("acme/adapter").unwrap();
    client.create_repo(&adapter, false).await.unwrap();
    let config = json!({"base_model_name_or_path": "acme/base", "revision": null}).to_string();
    let files = vec![
        Operation::add("adapter_config.json", config),
        Operation::add("adapter_model.safetensors", noise(1000, 8)),
    ];
    let adapter_commit = client
        .commit(&adapter, "main", commit("adapter", files))
        .await
        .unwrap()
        .commit;
    let hub_source = |repo: &str| {
        ModelSource::Hub(HubRef {
            repo: repo.into(),
            revision: "main".into(),
        })
    };
    let model = source::fetch_model(&hub_source("acme/adapter"), &client, cache.path(), |_| {})
        .await
        .unwrap();
    assert!(model.base.join("model.safetensors").exists());
    assert!(model.adapter.unwrap().join("adapter_model.safetensors").exists());
    assert_eq!(model.identity.unwrap().commit, adapter_commit);
    assert_eq!(model.base_identity.unwrap().commit, base_commit);

    let pickled = RepoId::model("acme/pickled").unwrap();
    client.create_repo(&pickled, false).await.unwrap();
    let files = vec![Operation::add("pytorch_model.bin", noise(1000, 9))];
    client
        .commit(&pickled, "main", commit("pickle", files))
        .await
        .unwrap();
    let error = source::fetch_model(&hub_source("acme/pickled"), &client, cache.path(), |_| {})
        .await
        .unwrap_err();
    assert!(error.to_string().contains("pytorch_model.bin"), "{error}");
    assert_eq!(
        error.failure(RepoType::Model).reason,
        FailureReason::UnsafeWeights
    );
    assert_eq!(hub.requests("pytorch_model.bin").await, 0, "a pickle was fetched");

    let data = RepoId::dataset("acme/tweets").unwrap();
    client.create_repo(&data, false).await.unwrap();
    let files = vec![
        Operation::add("data/train.csv", "text,label\nup,1\n"),
        Operation::add("picture.png", noise(1000, 10)),
    ];
    client.commit(&data, "main", commit("rows", files)).await.unwrap();
    let from = DatasetSource::Hub(HubRef {
        repo: "acme/tweets".into(),
        revision: "main".into(),
    });
    let local = source::fetch_dataset(&from, &client, cache.path(), |_| {})
        .await
        .unwrap();
    assert!(local.path.join("data/train.csv").exists() && !local.path.join("picture.png").exists());

    let url = format!("{}/resolve/main/data/train.csv", client.url(&data));
    hub.fault(json!({"match": "^GET .*train.csv", "dropAfterBytes": 5}))
        .await;
    let local = source::fetch_dataset(&DatasetSource::Url(url), &client, cache.path(), |_| {})
        .await
        .unwrap();
    assert_eq!(local.path.file_name().unwrap(), "train.csv");
    assert_eq!(std::fs::read_to_string(local.path).unwrap(), "text,label\nup,1\n");
}

#[tokio::test]
async fn a_full_disk_is_named() {
    // /dev/full answers every write as a full disk does.
    let hub = hub!();
    let (client, cache) = (hub.owner(), tempfile::tempdir().unwrap());
    let repo = RepoId::model("acme/minilm").unwrap();
    let head = seeded(&client, &repo, &noise(2_000_000, 11)).await;
    let impatient = hub.owner().with_retry(Retry {
        attempts: 1,
        ..Retry::default()
    });
    hub.fault(json!({"match": "^GET .*(safetensors|lfs|objects)", "dropAfterBytes": 1_200_000}))
        .await;
    impatient
        .snapshot(&repo, &head, &["*.safetensors"], cache.path(), |_| {})
        .await
        .unwrap_err();
    let partial = cache.path().join("models--acme--minilm/partial");
    let left = std::fs::read_dir(&partial)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::remove_file(&left).unwrap();
    std::os::unix::fs::symlink("/dev/full", &left).unwrap();
    let error = client
        .snapshot(&repo, &head, &["*.safetensors"], cache.path(), |_| {})
        .await
        .unwrap_err();
    assert!(matches!(error, Error::OutOfDisk { .. }), "{error}");
    assert_eq!(error.failure(RepoType::Model).reason, FailureReason::OutOfDisk);
}
