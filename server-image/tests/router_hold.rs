//! Requests that `slipway-router` holds while no server of their arm is ready.

#[allow(unreachable_pub, dead_code)]
mod router_support;

use std::time::{Duration, Instant};

use router_support::{Backend, Router, eventually, version};
use serde_json::{Value, json};
use slipway_contract::experiment::{Rule, decide};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const VARIANT: &str = "x-slipway-variant";
const REVISION: &str = "x-slipway-revision";

/// A table with one arm, "a" of revision "r1", whose requests are held.
fn held_table(server: &Backend, seconds: u32, limit: u32) -> Value {
    json!({"variants": [{
        "name": "a", "weight": 1, "url": server.url(), "revision": "r1",
        "hold": {"seconds": seconds, "limit": limit},
    }]})
}

/// An arm "b" beside it that is always there.
fn with_other(mut table: Value, other: &Backend) -> Value {
    let arm = json!({"name": "b", "weight": 1, "url": other.url(), "revision": "b1"});
    table["variants"].as_array_mut().unwrap().push(arm);
    table
}

/// A server that is not there yet, as one that is scaled to zero.
async fn away() -> Backend {
    let server = Backend::start("a").await;
    server.set_healthy(false);
    server
}

/// Sends a request that is answered when it is: its status, and the revision that answered it.
fn send(router: &Router, headers: &[(&str, &str)]) -> JoinHandle<(u16, Option<String>)> {
    let mut request = router.client.post(format!("{}/echo", router.url)).body("hello");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    tokio::spawn(async move {
        let response = request.send().await.unwrap();
        let revision = response.headers().get(REVISION);
        let revision = revision.map(|name| name.to_str().unwrap().to_owned());
        (response.status().as_u16(), revision)
    })
}

async fn queued(router: &Router, count: u64) {
    eventually(&format!("{count} requests wait"), async || {
        router.revision("r1").await.queued == count
    })
    .await;
}

async fn held(router: &Router, result: &str) -> f64 {
    let labels = format!("variant=\"a\",revision=\"r1\",result=\"{result}\"");
    let line = format!("slipway_router_held_total{{{labels}}}");
    router.sample(&line).await.unwrap()
}

#[tokio::test]
async fn a_request_waits_for_the_first_server_of_its_arm() {
    let server = away().await;
    let router = Router::start(&held_table(&server, 30, 100)).await;
    let waiting: Vec<_> = (0..20).map(|_| send(&router, &[])).collect();
    queued(&router, 20).await;
    let gauge = "slipway_router_queued{variant=\"a\",revision=\"r1\"}";
    assert_eq!(router.sample(gauge).await, Some(20.0));
    assert_eq!(router.revision("r1").await.idle_seconds, 0);
    assert_eq!(server.requests(), 0);
    server.set_healthy(true);
    for answer in waiting {
        assert_eq!(answer.await.unwrap(), (200, Some("r1".into())));
    }
    assert_eq!(server.requests(), 20);
    let told = router.revision("r1").await;
    assert_eq!((told.queued, told.requests, told.errors), (0, 20, 0));
    assert_eq!(held(&router, "released").await as u32, 20);
    // What waited is part of what the caller met.
    assert!(told.latency.quantile(0.5).unwrap() > 0.05);
}

#[tokio::test]
async fn who_waits_too_long_is_told_when_to_come_back() {
    let server = away().await;
    let router = Router::start(&held_table(&server, 1, 2)).await;
    let begun = Instant::now();
    let waiting = [send(&router, &[]), send(&router, &[])];
    queued(&router, 2).await;
    let full = router.get("/").await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(
        (full.status().as_u16(), &full.headers()["retry-after"]),
        (503, &"5".parse().unwrap())
    );
    let body: Value = serde_json::from_str(&full.text().await.unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "queue_full");
    for answer in waiting {
        assert_eq!(answer.await.unwrap(), (503, None));
    }
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let late = router.get("/").await;
    assert_eq!(
        (late.status().as_u16(), &late.headers()["retry-after"]),
        (503, &"5".parse().unwrap())
    );
    let body: Value = serde_json::from_str(&late.text().await.unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "variant_not_ready");
    assert_eq!(
        (
            held(&router, "expired").await as u32,
            held(&router, "refused").await as u32
        ),
        (3, 1)
    );
    let told = router.revision("r1").await;
    assert_eq!((told.queued, told.requests, told.errors), (0, 0, 0));
}

#[tokio::test]
async fn a_client_that_leaves_leaves_the_queue() {
    let server = away().await;
    let router = Router::start(&held_table(&server, 30, 1)).await;
    let leaving = send(&router, &[]);
    queued(&router, 1).await;
    assert_eq!(router.get("/").await.status(), 503);
    leaving.abort();
    queued(&router, 0).await;
    assert_eq!(held(&router, "left").await as u32, 1);
    let staying = send(&router, &[]);
    queued(&router, 1).await;
    server.set_healthy(true);
    assert_eq!(staying.await.unwrap().0, 200);
    let told = router.revision("r1").await;
    assert_eq!((told.requests, told.errors, server.requests()), (1, 0, 1));
}

#[tokio::test]
async fn an_arm_that_is_away_keeps_its_share_and_its_clients() {
    let (server, other) = (away().await, Backend::start("b").await);
    let mut table = with_other(held_table(&server, 30, 1000), &other);
    let router = Router::start(&table).await;
    let waiting: Vec<_> = (0..200).map(|_| send(&router, &[])).collect();
    eventually("the other arm answered its share", async || {
        router.revision("r1").await.queued as usize + other.requests() == 200
    })
    .await;
    assert!((50..150).contains(&other.requests()), "{}", other.requests());
    // Who asks for an arm by name waits for it too, and who asks for the other does not.
    let named = send(&router, &[(VARIANT, "a")]);
    let revision = send(&router, &[(REVISION, "r1")]);
    assert_eq!(router.answers(&[(VARIANT, "b")]).await, "b1");
    queued(&router, 203 - other.requests() as u64).await;
    server.set_healthy(true);
    for answer in waiting.into_iter().chain([named, revision]) {
        assert_eq!(answer.await.unwrap().0, 200);
    }
    drop(router);

    table["sticky"] = json!({"header": "x-user-id"});
    let router = Router::start(&table).await;
    let users: Vec<String> = (0..40).map(|user| format!("u{user}")).collect();
    let mut arms = Vec::new();
    for user in &users {
        arms.push(router.answers(&[("x-user-id", user)]).await);
    }
    server.set_healthy(false);
    eventually("the arm is away", async || {
        router.revision("r1").await.ready_servers == 0
    })
    .await;
    let again: Vec<_> = users
        .iter()
        .map(|user| send(&router, &[("x-user-id", user)]))
        .collect();
    let held = arms.iter().filter(|arm| *arm == "r1").count();
    assert!((5..35).contains(&held), "{held}");
    queued(&router, held as u64).await;
    server.set_healthy(true);
    for (answer, arm) in again.into_iter().zip(arms) {
        assert_eq!(answer.await.unwrap(), (200, Some(arm)));
    }
}

#[tokio::test]
async fn who_waits_follows_a_new_table() {
    let (server, other) = (away().await, Backend::start("b").await);
    let mut router = Router::start(&held_table(&server, 30, 100)).await;
    let waiting = send(&router, &[]);
    queued(&router, 1).await;
    let mut table = with_other(held_table(&server, 30, 100), &other);
    table["variants"].as_array_mut().unwrap().remove(0);
    router.apply(&version(table, "the arm is gone")).await;
    assert_eq!(waiting.await.unwrap(), (200, Some("b1".into())));
    // Its experiment, its cookie and its window are those of the table that answers.
    let moved = held_table(&server, 30, 100);
    router.apply(&version(moved.clone(), "it is back")).await;
    let waiting = send(&router, &[]);
    queued(&router, 1).await;
    let mut elsewhere = moved;
    elsewhere["variants"][0]["url"] = other.url().into();
    elsewhere["variants"][0]["revision"] = "r2".into();
    router.apply(&version(elsewhere, "it is elsewhere")).await;
    assert_eq!(waiting.await.unwrap(), (200, Some("r2".into())));
}

#[tokio::test]
async fn a_large_body_waits_at_its_client() {
    const SIZE: usize = 64 << 20;
    let server = away().await;
    let router = Router::start(&held_table(&server, 30, 100)).await;
    let mut client = TcpStream::connect(router.url.trim_start_matches("http://"))
        .await
        .unwrap();
    let head =
        format!("POST /echo HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {SIZE}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    queued(&router, 1).await;
    let (mut answers, mut body) = client.into_split();
    let written = tokio::spawn(async move { body.write_all(&vec![1; SIZE]).await.map(|()| body) });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        !written.is_finished(),
        "64 MiB went into the router while nobody took them"
    );
    server.set_healthy(true);
    // Kept: a client that closes its half has left.
    let _body = written.await.unwrap().unwrap();
    let mut answer = String::new();
    answers.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(&format!("\"sum\":{SIZE}")), "{answer}");
}

#[tokio::test]
async fn an_experiment_counts_whom_an_arm_kept_waiting() {
    let (server, other) = (away().await, Backend::start("b").await);
    let mut table = with_other(held_table(&server, 1, 1000), &other);
    table["experiment"] = json!({"id": "e1", "metric": {"success": {}}});
    let router = Router::start(&table).await;
    let answers: Vec<_> = (0..100).map(|_| send(&router, &[])).collect();
    let mut failed = 0;
    for answer in answers {
        failed += usize::from(answer.await.unwrap().0 == 503);
    }
    assert!((20..80).contains(&failed), "{failed}");
    // A mean score of 0 and 1: who was kept waiting in vain met a failure, and is not left out.
    let tally = router.stats().await.experiment.unwrap().tally;
    let arms = decide(&tally, &Rule::default(), 0).arms;
    let seen: Vec<_> = arms
        .iter()
        .map(|arm| (arm.requests, arm.scores, arm.mean))
        .collect();
    let failed = failed as u64;
    assert_eq!(
        seen,
        [
            (failed, failed, Some(0.0)),
            (100 - failed, 100 - failed, Some(1.0))
        ]
    );
}
