//! Requests that come while the last server was lost a moment ago and another is not known to be back yet.

#[allow(unreachable_pub, dead_code)]
mod router_support;

use router_support::{Backend, Router, eventually};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

fn table(arms: &[(&str, &Backend)]) -> Value {
    let arm = |(name, server): &(&str, &Backend)| json!({"name": name, "weight": 1, "url": server.url(), "revision": format!("{name}1")});
    json!({"variants": arms.iter().map(arm).collect::<Vec<_>>()})
}

/// Sends requests that are answered when they are: status and code of the error, if any.
fn send(router: &Router, count: usize) -> Vec<JoinHandle<(u16, Value)>> {
    let send = |_| {
        let request = router.client.post(format!("{}/echo", router.url)).body("hello");
        tokio::spawn(async move {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            (status, body["error"]["code"].clone())
        })
    };
    (0..count).map(send).collect()
}

async fn all_answered(requests: Vec<JoinHandle<(u16, Value)>>) {
    for request in requests {
        assert_eq!(request.await.unwrap(), (200, Value::Null));
    }
}

async fn held(router: &Router, result: &str) -> u32 {
    let labels = format!("variant=\"a\",revision=\"a1\",result=\"{result}\"");
    let line = format!("slipway_router_held_total{{{labels}}}");
    router.sample(&line).await.unwrap() as u32
}

#[tokio::test]
async fn a_lone_server_that_is_started_again_costs_no_request() {
    let a = Backend::start("a").await;
    let address = a.address;
    let router = Router::start(&table(&[("a", &a)])).await;
    assert_eq!(router.get("/").await.status(), 200);
    drop(a);
    let requests = send(&router, 20);
    eventually("they wait", async || router.revision("a1").await.queued == 20).await;
    let a = Backend::start_at("a", address).await;
    all_answered(requests).await;
    assert_eq!(a.requests(), 20);
    assert_eq!(held(&router, "released").await, 20);
    let told = router.revision("a1").await;
    assert_eq!((told.queued, told.requests, told.errors), (0, 21, 0));
}

#[tokio::test]
async fn the_last_server_ends_right_after_another_is_back() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    b.set_healthy(false);
    let router = Router::start(&table(&[("a", &a), ("b", &b)])).await;
    assert_eq!(router.answers(&[]).await, "a1");
    b.set_healthy(true);
    drop(a);
    // Each of them meets the moment in which nobody is known to be ready, or comes after it.
    for _ in 0..20 {
        all_answered(send(&router, 5)).await;
    }
    assert_eq!(b.requests(), 100);
}

#[tokio::test]
async fn who_comes_when_it_has_long_been_away_is_told_at_once() {
    let a = Backend::start("a").await;
    let router = Router::start(&table(&[("a", &a)])).await;
    drop(a);
    for request in send(&router, 3) {
        assert_eq!(request.await.unwrap(), (503, json!("no_ready_server")));
    }
    assert_eq!(held(&router, "expired").await, 3);
    let response = router.get("/").await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    assert_eq!(router.revision("a1").await.queued, 0);
    assert_eq!(held(&router, "expired").await, 3, "it waited too");
}

#[tokio::test]
async fn a_server_that_was_never_there_is_not_waited_for() {
    let a = Backend::start("a").await;
    a.set_healthy(false);
    let router = Router::start(&table(&[("a", &a)])).await;
    assert_eq!(router.get("/").await.status(), 503);
    assert_eq!(
        (held(&router, "expired").await, held(&router, "refused").await),
        (0, 0)
    );
}

#[tokio::test]
async fn a_request_that_may_have_ended_the_lone_server_is_not_sent_again() {
    let a = Backend::start("a").await;
    let router = Router::start(&table(&[("a", &a)])).await;
    a.set_closing(true);
    for request in send(&router, 1) {
        assert_eq!(request.await.unwrap(), (502, json!("server_disconnected")));
    }
    a.set_closing(false);
    assert_eq!(a.requests(), 1);
    // Who comes after it waits for the next probe.
    all_answered(send(&router, 3)).await;
    assert_eq!(a.requests(), 4);
}
