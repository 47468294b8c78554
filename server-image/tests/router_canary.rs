//! A canary inside an arm of `slipway-router`: who meets it, and who answers when servers come and go.

#[allow(unreachable_pub, dead_code)]
mod router_support;

use router_support::{Backend, Router, bound, canary_table, eventually, version};
use serde_json::{Value, json};

const REVISION: &str = "x-slipway-revision";
const VARIANT: &str = "x-slipway-variant";

/// Two arms that clients stick to, the first with a canary unless `percent` is none.
fn two_arms(a: &Backend, canary: &Backend, b: &Backend, percent: Option<u32>) -> Value {
    let mut arm = json!({"name": "a", "weight": 60, "url": a.url(), "revision": "r1"});
    if let Some(percent) = percent {
        arm["canary"] = json!({"url": canary.url(), "revision": "r2", "percent": percent});
    }
    let other = json!({"name": "b", "weight": 40, "url": b.url(), "revision": "b1"});
    let table = json!({"variants": [arm, other], "sticky": {"header": "x-user-id"}});
    version(table, &format!("{percent:?}"))
}

/// The revisions that the clients from 0 to `count` meet.
async fn met(router: &Router, count: usize) -> Vec<String> {
    let mut revisions = Vec::new();
    for user in 0..count {
        revisions.push(router.answers(&[("x-user-id", &format!("user-{user}"))]).await);
    }
    revisions
}

#[tokio::test]
async fn a_canary_answers_its_share_of_clients_and_of_draws() {
    let (stable, canary) = (Backend::start("a").await, Backend::start("a").await);
    let mut table = canary_table(&stable, &canary, 0, 0);
    table["sticky"] = json!({"header": "x-user-id"});
    let mut router = Router::start(&table).await;
    let n = 600;
    for percent in [0, 10, 50, 100] {
        table["variants"][0]["canary"]["percent"] = percent.into();
        router.apply(&version(table.clone(), &percent.to_string())).await;
        let p = f64::from(percent) / 100.0;
        let right = |count: usize| (count as f64 - n as f64 * p).abs() <= bound(n, p);
        let clients = met(&router, n).await;
        let met_it = clients.iter().filter(|revision| *revision == "r2").count();
        assert!(right(met_it), "{percent}% of {n} clients: {met_it}");
        let before = canary.requests();
        for _ in 0..n {
            router.get("/").await.bytes().await.unwrap();
        }
        let drawn = canary.requests() - before;
        assert!(right(drawn), "{percent}% of {n} draws: {drawn}");
    }
}

#[tokio::test]
async fn nobody_drifts_and_a_new_percent_moves_only_its_share() {
    let (a, canary, b) = (
        Backend::start("a").await,
        Backend::start("a").await,
        Backend::start("b").await,
    );
    let mut router = Router::start(&two_arms(&a, &canary, &b, None)).await;
    let n = 800;
    let without = met(&router, n).await;
    router.apply(&two_arms(&a, &canary, &b, Some(10))).await;
    let tenth = met(&router, n).await;
    assert_eq!(met(&router, n).await, tenth, "somebody drifted");
    for (before, now) in without.iter().zip(&tenth) {
        assert_eq!(
            before == "b1",
            now == "b1",
            "a canary changed the choice of the arm"
        );
    }
    router.apply(&two_arms(&a, &canary, &b, Some(30))).await;
    let third = met(&router, n).await;
    let mut moved = 0;
    for (before, now) in tenth.iter().zip(&third) {
        match (before.as_str(), now.as_str()) {
            ("r1", "r2") => moved += 1,
            (before, now) => assert_eq!(before, now, "a raised percent moved somebody the wrong way"),
        }
    }
    let arm = without.iter().filter(|revision| *revision == "r1").count();
    assert!(
        (f64::from(moved) - 0.2 * arm as f64).abs() < bound(arm, 0.2),
        "{moved} of {arm} moved"
    );
    router.apply(&two_arms(&a, &canary, &b, Some(10))).await;
    assert_eq!(met(&router, n).await, tenth, "lowered again, it met others");
}

#[tokio::test]
async fn either_revision_answers_while_the_other_has_no_ready_server() {
    let (stable, canary) = (Backend::start("a").await, Backend::start("a").await);
    let router = Router::start(&canary_table(&stable, &canary, 50, 0)).await;
    let ready = async |revision: &str| router.revision(revision).await.ready_servers;
    let answers = async || {
        let mut revisions = std::collections::BTreeSet::new();
        for _ in 0..60 {
            revisions.insert(router.answers(&[]).await);
        }
        revisions.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(answers().await, ["r1", "r2"]);

    canary.set_healthy(false);
    eventually("the canary is unready", async || ready("r2").await == 0).await;
    assert_eq!(answers().await, ["r1"]);
    let asked = router
        .client
        .get(&router.url)
        .header(REVISION, "r2")
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status(), 503);
    assert_eq!(asked.headers()["retry-after"], "1");
    let body: Value = serde_json::from_str(&asked.text().await.unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "revision_not_ready");

    canary.set_healthy(true);
    eventually("the canary is ready again", async || ready("r2").await == 1).await;
    assert_eq!(answers().await, ["r1", "r2"]);

    stable.set_healthy(false);
    eventually("only the canary is ready", async || ready("r1").await == 0).await;
    assert_eq!(answers().await, ["r2"]);
    // The arm is ready still.
    assert_eq!(router.answers(&[(VARIANT, "a")]).await, "r2");

    canary.set_healthy(false);
    eventually("nobody is ready", async || router.get("/").await.status() == 503).await;
}

#[tokio::test]
async fn a_canary_that_goes_away_costs_no_request() {
    let (stable, canary) = (Backend::start("a").await, Backend::start("a").await);
    let router = Router::start(&canary_table(&stable, &canary, 100, 0)).await;
    for _ in 0..20 {
        assert_eq!(router.answers(&[]).await, "r2");
    }
    // Idle connections to it are cut, then new ones refused; the next probe is up to a second away.
    drop(canary);
    for _ in 0..50 {
        let response = router.client.post(&router.url).body("x").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[REVISION], "r1");
    }
}

#[tokio::test]
async fn a_revision_asked_for_answers_and_counts_in_no_window() {
    let (a, canary, b) = (
        Backend::start("a").await,
        Backend::start("a").await,
        Backend::start("b").await,
    );
    let router = Router::start(&two_arms(&a, &canary, &b, Some(0))).await;
    for _ in 0..10 {
        assert_eq!(router.answers(&[(REVISION, "r2")]).await, "r2");
        assert_eq!(router.answers(&[(REVISION, "b1")]).await, "b1");
        assert_eq!(router.answers(&[(VARIANT, "a"), (REVISION, "r1")]).await, "r1");
        // An arm without a revision is split as ever.
        assert_eq!(router.answers(&[(VARIANT, "a")]).await, "r1");
    }
    let refused = async |headers: &[(&str, &str)]| {
        let mut request = router.client.get(&router.url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 404);
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        body["error"]["message"].as_str().unwrap().to_owned()
    };
    let message = refused(&[(REVISION, "r9")]).await;
    assert!(
        message.contains("\"r9\"") && message.ends_with("one of: r1, r2, b1"),
        "{message}"
    );
    let message = refused(&[(VARIANT, "b"), (REVISION, "r2")]).await;
    assert!(
        message.contains("variant \"b\"") && message.ends_with("one of: b1"),
        "{message}"
    );
    let message = refused(&[(VARIANT, "c"), (REVISION, "r2")]).await;
    assert!(message.ends_with("one of: a, b"), "{message}");

    let stats = router.stats().await;
    assert_eq!(stats.series.len(), 3);
    assert!(
        stats.series.iter().all(|series| series.requests == 0),
        "{stats:?}"
    );
    let sample = async |variant: &str, revision: &str| {
        let labels = format!("variant=\"{variant}\",revision=\"{revision}\",code=\"200\"");
        router
            .sample(&format!("slipway_router_requests_total{{{labels}}}"))
            .await
    };
    assert_eq!(sample("a", "r2").await, Some(10.0));
    assert_eq!(sample("a", "r1").await, Some(20.0));
    assert_eq!(sample("b", "b1").await, Some(10.0));
}
