//! `GET /stats` of `slipway-router`: what counts as an answer, as an error, as a second, and in which window.

#[allow(unreachable_pub, dead_code)]
mod router_support;

use futures::StreamExt;
use router_support::{Backend, Router, canary_table, eventually, version};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// One arm "a", revision "r1".
fn table(backend: &Backend, version: &str, window: &str) -> Value {
    json!({
        "variants": [{"name": "a", "weight": 1, "url": backend.url(), "revision": "r1"}],
        "version": version, "window": window,
    })
}

#[tokio::test]
async fn answers_of_500_and_broken_ones_are_errors() {
    let a = Backend::start("a").await;
    let router = Router::start(&table(&a, "1", "w")).await;
    for (path, requests, errors) in [
        ("/", 1, 0),
        ("/refuse", 2, 0),
        ("/fail", 3, 1),
        ("/break", 4, 2),
        ("/drop", 5, 3),
    ] {
        // Broken before its answer, the server is out until its next probe.
        eventually("the server is ready", async || {
            router.revision("r1").await.ready_servers == 1
        })
        .await;
        let response = reqwest::get(format!("{}{path}", router.url)).await.unwrap();
        assert_eq!(response.bytes().await.is_err(), path == "/break");
        // An answer counts when it ended, a moment after the client has it.
        eventually(path, async || {
            let stats = router.revision("r1").await;
            (stats.requests, stats.errors) == (requests, errors)
        })
        .await;
    }
    let stats = router.revision("r1").await;
    assert_eq!(stats.latency.count(), 5);
    assert_eq!(
        stats.first_byte.count(),
        4,
        "the one that was dropped had no body"
    );
    assert_eq!((stats.in_flight, stats.mirrored), (0, None));
}

#[tokio::test]
async fn a_client_that_leaves_is_no_error() {
    let a = Backend::start("a").await;
    let router = Router::start(&table(&a, "1", "w")).await;
    // Before the answer.
    let waiting = tokio::spawn(reqwest::get(format!("{}/hang", router.url)));
    eventually("the server works", async || {
        router.revision("r1").await.in_flight == 1
    })
    .await;
    waiting.abort();
    eventually("the server was told", async || a.cancelled() == 1).await;
    // Within its own request, too large to be held back until it is whole.
    let mut stream = TcpStream::connect(router.url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let head = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![7; 100_000]).await.unwrap();
    eventually("the server reads", async || a.requests() == 2).await;
    drop(stream);
    eventually("nothing is under way", async || {
        router.revision("r1").await.in_flight == 0
    })
    .await;
    let stats = router.revision("r1").await;
    assert_eq!((stats.requests, stats.errors), (0, 0), "neither had an answer");
    assert_eq!(stats.ready_servers, 1, "the server was blamed");
    // Within the answer.
    let mut answer = router.get("/stream").await.bytes_stream();
    a.state.chunks.add_permits(1);
    answer.next().await.unwrap().unwrap();
    drop(answer);
    a.state.chunks.add_permits(2);
    eventually("the answer ended", async || {
        router.revision("r1").await.in_flight == 0
    })
    .await;
    let stats = router.revision("r1").await;
    assert_eq!((stats.requests, stats.errors), (1, 0));
}

#[tokio::test]
async fn latency_is_to_the_last_byte_and_first_byte_to_the_first() {
    let a = Backend::start("a").await;
    let router = Router::start(&table(&a, "1", "w")).await;
    for _ in 0..5 {
        router.get("/sleep").await.bytes().await.unwrap();
    }
    eventually("all are counted", async || {
        router.revision("r1").await.requests == 5
    })
    .await;
    let stats = router.revision("r1").await;
    // The server takes 0.2 s to the first byte and as long again to the last; a bucket is 4.5 % off at most, and a
    // loaded machine may add to both, but not three times as much.
    for (histogram, seconds) in [(&stats.first_byte, 0.2), (&stats.latency, 0.4)] {
        for q in [0.0, 0.5, 0.95] {
            let told = histogram.quantile(q).unwrap();
            assert!(
                told > 0.95 * seconds && told < 4.0 * seconds,
                "{told} for {seconds}"
            );
        }
    }
}

#[tokio::test]
async fn a_new_window_starts_from_zero_and_a_new_version_does_not() {
    let a = Backend::start("a").await;
    let mut router = Router::start(&table(&a, "1", "first")).await;
    let send = async |router: &Router, count: u64| {
        let before = router.revision("r1").await.requests;
        for _ in 0..count {
            router.get("/").await.bytes().await.unwrap();
        }
        eventually("all are counted", async || {
            router.revision("r1").await.requests == before + count
        })
        .await;
    };
    send(&router, 7).await;
    // Begun in the first window, it ends in the second.
    let mut answer = router.get("/stream").await.bytes_stream();
    a.state.chunks.add_permits(1);
    answer.next().await.unwrap().unwrap();

    router.apply(&table(&a, "2", "first")).await;
    assert_eq!(router.revision("r1").await.requests, 7);

    router.apply(&table(&a, "3", "second")).await;
    let stats = router.stats().await;
    assert_eq!((stats.version.as_str(), stats.window.as_str()), ("3", "second"));
    let series = router.revision("r1").await;
    assert_eq!(
        (series.requests, series.latency.count(), series.first_byte.count()),
        (0, 0, 0)
    );
    assert_eq!(series.in_flight, 1, "it is under way, whenever it began");
    a.state.chunks.add_permits(2);
    while let Some(chunk) = answer.next().await {
        chunk.unwrap();
    }
    eventually("it ended", async || router.revision("r1").await.in_flight == 0).await;
    assert_eq!(router.revision("r1").await.requests, 0);

    send(&router, 3).await;
    router.apply(&table(&a, "4", "second")).await;
    assert_eq!(router.revision("r1").await.requests, 3);
    // A refused table leaves the window alone.
    router.write(&table(&a, "5", "third").to_string().replace("http:", "ftp:"));
    eventually("the wrong table is refused", async || {
        router.sample("slipway_router_invalid_tables_total").await == Some(1.0)
    })
    .await;
    let stats = router.stats().await;
    assert_eq!((stats.version.as_str(), stats.window.as_str()), ("4", "second"));
    assert_eq!(router.revision("r1").await.requests, 3);
    // Back under an old name it is a new window all the same.
    router.apply(&table(&a, "6", "first")).await;
    assert_eq!(router.revision("r1").await.requests, 0);
    // Prometheus counts on.
    let total = "slipway_router_requests_total{variant=\"a\",revision=\"r1\",code=\"200\"}";
    assert_eq!(router.sample(total).await, Some(11.0));
}

#[tokio::test]
async fn each_revision_of_an_arm_counts_by_itself() {
    let (stable, canary) = (Backend::start("a").await, Backend::start("a").await);
    let mut router = Router::start(&canary_table(&stable, &canary, 50, 0)).await;
    for _ in 0..60 {
        router.get("/").await.bytes().await.unwrap();
    }
    let requests = async |router: &Router, revision| router.revision(revision).await.requests;
    eventually("all are counted", async || {
        requests(&router, "r1").await + requests(&router, "r2").await == 60
    })
    .await;
    assert_eq!(requests(&router, "r2").await, canary.requests() as u64);
    // Promoted, it goes on counting where it was.
    let promoted = requests(&router, "r2").await;
    let mut table = canary_table(&canary, &canary, 0, 0);
    table["variants"][0]["revision"] = "r2".into();
    table["variants"][0].as_object_mut().unwrap().remove("canary");
    router.apply(&version(table, "promoted")).await;
    assert_eq!(requests(&router, "r2").await, promoted);
    assert_eq!(
        requests(&router, "r1").await + promoted,
        60,
        "what it did in this window is still told"
    );
    assert_eq!(router.revision("r1").await.ready_servers, 0, "it is in no table");
}

#[tokio::test]
async fn each_process_has_a_name_of_its_own_which_a_new_table_does_not_change() {
    let a = Backend::start("a").await;
    let mut router = Router::start(&table(&a, "1", "w")).await;
    let first = router.stats().await.instance;
    assert_eq!(first.len(), 16);
    router.apply(&table(&a, "2", "x")).await;
    assert_eq!(router.stats().await.instance, first);
    let other = Router::start(&table(&a, "1", "w")).await;
    assert_ne!(other.stats().await.instance, first);
}
