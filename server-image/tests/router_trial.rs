//! A canary of `slipway-router` that fails: no request fails that the stable revision alone would have answered.

#[allow(unreachable_pub, dead_code)]
mod router_support;

use std::time::Duration;

use router_support::{Backend, Router, canary_table, eventually, version};
use serde_json::{Value, json};

const REVISION: &str = "x-slipway-revision";
const VARIANT: &str = "x-slipway-variant";

async fn servers() -> (Backend, Backend) {
    (Backend::start("a").await, Backend::start("a").await)
}

/// Posts `body` to `/echo`; the answer must come from the stable revision, and that must have read all of it.
async fn echoes(router: &Router, body: &'static [u8]) {
    let response = router
        .client
        .post(format!("{}/echo", router.url))
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().get_all(REVISION).iter().count(), 1);
    assert_eq!(response.headers()[REVISION], "r1");
    let seen: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(
        (&seen["bytes"], &seen["method"]),
        (&json!(body.len()), &json!("POST"))
    );
}

/// Gets `/`; the answer must come from `revision`.
async fn echoes_from(router: &Router, revision: &str) {
    let response = router.get("/").await;
    assert_eq!(response.headers()[REVISION], *revision);
}

/// The answers that Prometheus counts for a revision, by status.
async fn answers(router: &Router, revision: &str, code: u16) -> usize {
    let labels = format!("variant=\"a\",revision=\"{revision}\",code=\"{code}\"");
    let line = format!("slipway_router_requests_total{{{labels}}}");
    router.sample(&line).await.unwrap_or_default() as usize
}

#[tokio::test]
async fn a_canary_that_always_fails_costs_no_request() {
    let (stable, canary) = servers().await;
    let router = Router::start(&canary_table(&stable, &canary, 50, 0)).await;
    canary.set_failing(true);
    let n = 200;
    for _ in 0..n {
        echoes(&router, b"hello").await;
    }
    let failed = canary.requests();
    assert!((50..150).contains(&failed), "{failed}");
    assert_eq!(stable.requests(), n);
    eventually("all are counted", async || {
        router.revision("r1").await.requests as usize == n && router.revision("r2").await.in_flight == 0
    })
    .await;
    let (r1, r2) = (router.revision("r1").await, router.revision("r2").await);
    assert_eq!((r2.requests as usize, r2.errors as usize), (failed, failed));
    assert_eq!((r1.errors, r1.in_flight), (0, 0));
    assert_eq!(answers(&router, "r2", 500).await, failed);
    assert_eq!(answers(&router, "r1", 200).await, n);
    // Its own failures do not take it out of the split.
    assert_eq!(r2.ready_servers, 1);
    canary.set_failing(false);
    eventually("it answers again", async || router.answers(&[]).await == "r2").await;
}

#[tokio::test]
async fn a_canary_that_closes_connections_costs_no_request() {
    let (stable, canary) = servers().await;
    let router = Router::start(&canary_table(&stable, &canary, 100, 0)).await;
    canary.set_closing(true);
    let mut sent = 0;
    // After each such end it is out until its next probe.
    eventually("the canary was tried three times", async || {
        echoes(&router, b"hello").await;
        sent += 1;
        canary.requests() == 3
    })
    .await;
    assert_eq!(stable.requests(), sent);
    eventually("all are counted", async || {
        router.revision("r1").await.requests as usize == sent
    })
    .await;
    let r2 = router.revision("r2").await;
    assert_eq!((r2.requests, r2.errors, r2.in_flight), (3, 3, 0));
    assert_eq!(answers(&router, "r2", 502).await, 3);
    assert_eq!(router.revision("r1").await.errors, 0);
}

#[tokio::test]
async fn a_canary_that_freezes_costs_no_request() {
    let (stable, canary) = servers().await;
    let router = Router::start(&canary_table(&stable, &canary, 100, 0)).await;
    echoes_from(&router, "r2").await;
    canary.set_frozen(true);
    // Sent to the canary, which was ready a moment ago; answered once it has left three probes unanswered.
    echoes(&router, b"hello").await;
    assert_eq!((canary.requests(), stable.requests()), (1, 1));
    eventually("it is counted", async || {
        let r2 = router.revision("r2").await;
        (r2.requests, r2.errors, r2.in_flight) == (2, 1, 0)
    })
    .await;
}

#[tokio::test]
async fn a_canary_that_computes_for_long_is_waited_for() {
    let (stable, canary) = servers().await;
    let router = Router::start(&canary_table(&stable, &canary, 100, 0)).await;
    canary.set_hanging(true);
    // It answers its probes.
    let answer = router
        .client
        .get(&router.url)
        .timeout(Duration::from_secs(12))
        .send()
        .await;
    assert!(answer.unwrap_err().is_timeout());
    assert_eq!((canary.requests(), stable.requests()), (1, 0));
}

#[tokio::test]
async fn a_server_of_its_own_arm_answers_in_its_place() {
    let (stable, canary) = servers().await;
    let other = Backend::start("b").await;
    let mut table = canary_table(&stable, &canary, 100, 0);
    let arm = json!({"name": "b", "weight": 9, "url": other.url(), "revision": "b1"});
    table["variants"].as_array_mut().unwrap().push(arm);
    let router = Router::start(&table).await;
    canary.set_failing(true);
    for _ in 0..100 {
        let response = router.get("/").await;
        assert_eq!(response.status(), 200);
        let arm = response.headers()[VARIANT].to_str().unwrap().to_owned();
        assert_eq!(response.text().await.unwrap(), arm);
    }
    assert!(canary.requests() > 0);
    assert_eq!(stable.requests(), canary.requests());
    assert_eq!(other.requests(), 100 - canary.requests());
}

#[tokio::test]
async fn who_asks_for_the_canary_sees_it_fail() {
    let (stable, canary) = servers().await;
    let router = Router::start(&canary_table(&stable, &canary, 50, 0)).await;
    canary.set_failing(true);
    let ask = async |name: &str, value: &str| {
        let request = router.client.get(&router.url).header(name, value);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.headers()[REVISION].clone())
    };
    for _ in 0..5 {
        assert_eq!(ask(REVISION, "r2").await, (500, "r2".parse().unwrap()));
    }
    assert_eq!(stable.requests(), 0);
    // Who asks for the arm is answered as by the arm.
    for _ in 0..20 {
        assert_eq!(ask(VARIANT, "a").await, (200, "r1".parse().unwrap()));
    }
    canary.set_failing(false);
    canary.set_closing(true);
    assert_eq!(
        router
            .client
            .get(&router.url)
            .header(REVISION, "r2")
            .send()
            .await
            .unwrap()
            .status(),
        502
    );
}

#[tokio::test]
async fn what_cannot_be_sent_again_is_passed_on_as_it_is() {
    let (stable, canary) = servers().await;
    let router = Router::start(&canary_table(&stable, &canary, 100, 0)).await;
    canary.set_failing(true);
    let post = async |body: reqwest::Body| {
        let response = router.client.post(&router.url).body(body).send().await.unwrap();
        (response.status().as_u16(), response.headers()[REVISION].clone())
    };
    let chunks = || futures::stream::iter(["one", "two"].map(Ok::<_, std::io::Error>));
    let failed = (500, "r2".parse().unwrap());
    assert_eq!(post(vec![7; (1 << 20) + 1].into()).await, failed);
    assert_eq!(post(reqwest::Body::wrap_stream(chunks())).await, failed);
    assert_eq!(stable.requests(), 0);
    assert_eq!(post(vec![7; 1 << 20].into()).await, (200, "r1".parse().unwrap()));
    // An answer that broke off is the caller's already.
    canary.set_failing(false);
    assert!(router.get("/break").await.bytes().await.is_err());
    assert_eq!(stable.requests(), 1);
}

#[tokio::test]
async fn there_is_one_second_try_and_none_without_a_ready_stable_server() {
    let (stable, canary) = servers().await;
    let router = Router::start(&canary_table(&stable, &canary, 100, 100)).await;
    let response = router.get("/fail").await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()[REVISION]),
        (500, &"r1".parse().unwrap())
    );
    assert_eq!((canary.requests(), stable.requests()), (1, 1));
    assert_eq!(canary.copies(), 0, "it had the request itself");
    eventually("both are counted", async || {
        (
            router.revision("r1").await.errors,
            router.revision("r2").await.errors,
        ) == (1, 1)
    })
    .await;

    stable.set_healthy(false);
    eventually("only the canary is ready", async || {
        router.revision("r1").await.ready_servers == 0
    })
    .await;
    let response = router.get("/fail").await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()[REVISION]),
        (500, &"r2".parse().unwrap())
    );
    assert_eq!(response.text().await.unwrap(), "failed on purpose");
    assert_eq!(router.get("/drop").await.status(), 502);
    assert_eq!(stable.requests(), 1);
}

#[tokio::test]
async fn at_percent_0_nobody_meets_a_canary_unasked() {
    let (stable, canary) = servers().await;
    let mut router = Router::start(&canary_table(&stable, &canary, 0, 0)).await;
    stable.set_healthy(false);
    eventually("the arm has no server for the split", async || {
        router.get("/").await.status() == 503
    })
    .await;
    for _ in 0..20 {
        assert_eq!(router.get("/").await.status(), 503);
        let named = router.client.get(&router.url).header(VARIANT, "a");
        assert_eq!(named.send().await.unwrap().status(), 503);
    }
    assert_eq!(canary.requests(), 0);
    assert_eq!(router.answers(&[(REVISION, "r2")]).await, "r2");
    // Another arm takes what this one cannot.
    let other = Backend::start("b").await;
    let mut table = canary_table(&stable, &canary, 0, 0);
    let arm = json!({"name": "b", "weight": 1, "url": other.url(), "revision": "b1"});
    table["variants"].as_array_mut().unwrap().push(arm);
    router.apply(&version(table, "with another")).await;
    for _ in 0..20 {
        assert_eq!(router.answers(&[]).await, "b1");
    }
    router
        .apply(&version(canary_table(&stable, &canary, 1, 0), "on trial"))
        .await;
    assert_eq!(router.answers(&[]).await, "r2");
}

#[tokio::test]
async fn a_canary_that_hangs_costs_its_limit_and_no_request() {
    let (stable, canary) = servers().await;
    let router = Router::start_with(
        &canary_table(&stable, &canary, 100, 0),
        &["--canary-seconds", "1"],
    )
    .await;
    canary.set_hanging(true);
    let begun = std::time::Instant::now();
    echoes(&router, b"hello").await;
    let took = begun.elapsed().as_secs_f64();
    assert!((1.0..4.0).contains(&took), "{took} s");
    eventually("its work was given up", async || canary.cancelled() == 1).await;
    let r2 = router.revision("r2").await;
    assert_eq!((r2.requests, r2.errors, r2.in_flight), (1, 1, 0));
    assert_eq!(router.revision("r1").await.errors, 0);
    assert_eq!(answers(&router, "r2", 504).await, 1);
    // Who asks for it by name, or cannot be answered by another, waits.
    let patient = Duration::from_millis(2500);
    let named = router.client.get(&router.url).header(REVISION, "r2");
    assert!(named.timeout(patient).send().await.unwrap_err().is_timeout());
    let chunks = futures::stream::iter(["one", "two"].map(Ok::<_, std::io::Error>));
    let streamed = router
        .client
        .post(&router.url)
        .body(reqwest::Body::wrap_stream(chunks));
    assert!(streamed.timeout(patient).send().await.unwrap_err().is_timeout());
    assert_eq!(stable.requests(), 1);
    stable.set_healthy(false);
    eventually("only the canary is ready", async || {
        router.revision("r1").await.ready_servers == 0
    })
    .await;
    let alone = router.client.get(&router.url);
    assert!(alone.timeout(patient).send().await.unwrap_err().is_timeout());
}
