//! Copies of requests that `slipway-router` sends to a canary: the caller never notices, and they count apart.

#[allow(unreachable_pub, dead_code)]
mod router_support;

use std::time::{Duration, Instant};

use router_support::{Backend, Router, bound, canary_table, eventually};
use serde_json::{Value, json};
use slipway_contract::Mirrored;

/// Copies under way for one thread.
const UNDER_WAY: usize = 64;

async fn mirrored(router: &Router) -> Mirrored {
    router.revision("r2").await.mirrored.unwrap_or_default()
}

async fn total(router: &Router, result: &str) -> usize {
    let labels = format!("variant=\"a\",revision=\"r2\",result=\"{result}\"");
    let line = format!("slipway_router_mirrored_total{{{labels}}}");
    router.sample(&line).await.unwrap() as usize
}

#[tokio::test]
async fn a_canary_that_hangs_delays_nobody_and_gets_no_more_than_its_bound() {
    let (stable, canary) = (Backend::start("a").await, Backend::start("a").await);
    let table = canary_table(&stable, &canary, 0, 100);
    let router = Router::start_with(&table, &["--threads", "1", "--mirror-seconds", "3"]).await;
    canary.set_hanging(true);
    let started = Instant::now();
    let n = UNDER_WAY + 36;
    for _ in 0..n {
        let response = router
            .client
            .post(&router.url)
            .body("hello")
            .send()
            .await
            .unwrap();
        assert_eq!(response.headers()["x-slipway-revision"], "r1");
        assert_eq!(response.text().await.unwrap(), "a");
    }
    // Had one of them waited for the canary, it would have waited for three seconds.
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    eventually("the copies arrived", async || canary.copies() == UNDER_WAY).await;
    assert_eq!((stable.requests(), stable.copies()), (n, 0));
    let counts = mirrored(&router).await;
    assert_eq!((counts.requests, counts.dropped), (0, 36));
    assert_eq!(total(&router, "dropped").await, 36);

    // Given up on, they are errors, and their places are free.
    eventually("the copies are given up", async || {
        mirrored(&router).await.errors == UNDER_WAY as u64
    })
    .await;
    eventually("the canary was told", async || canary.cancelled() == UNDER_WAY).await;
    let counts = mirrored(&router).await;
    assert_eq!(
        (counts.requests, counts.first_byte.count()),
        (UNDER_WAY as u64, 0)
    );
    assert!(counts.latency.quantile(0.5).unwrap() > 2.8, "{counts:?}");
    canary.set_hanging(false);
    router.get("/").await.bytes().await.unwrap();
    eventually("another is answered", async || {
        total(&router, "answered").await == 1
    })
    .await;
    let stats = router.revision("r1").await;
    assert_eq!((stats.requests, stats.errors), (n as u64 + 1, 0));
    assert!(stats.latency.quantile(1.0).unwrap() < 3.0);
}

#[tokio::test]
async fn copies_are_drawn_from_what_the_other_revision_answers_and_count_apart() {
    let (stable, canary) = (Backend::start("a").await, Backend::start("a").await);
    let router = Router::start(&canary_table(&stable, &canary, 30, 50)).await;
    let n = 800;
    for _ in 0..n {
        router.get("/").await.bytes().await.unwrap();
    }
    let real = async || router.revision("r2").await.requests as usize;
    eventually("all are counted", async || {
        real().await + router.revision("r1").await.requests as usize == n
            && mirrored(&router).await.requests as usize == canary.copies()
    })
    .await;
    assert_eq!(real().await, canary.requests() - canary.copies());
    let others = stable.requests();
    assert_eq!(real().await + others, n);
    let copies = canary.copies();
    assert!(
        (copies as f64 - 0.5 * others as f64).abs() < bound(others, 0.5),
        "{copies} of {others}"
    );
    let counts = mirrored(&router).await;
    assert_eq!((counts.errors, counts.dropped), (0, 0));
    assert_eq!(
        (counts.latency.count(), counts.first_byte.count()),
        (copies as u64, copies as u64)
    );
    assert!(router.revision("r1").await.mirrored.is_none());
    assert_eq!(total(&router, "answered").await, copies);
    // Few connections carried them all.
    assert!(
        canary
            .state
            .connections
            .load(std::sync::atomic::Ordering::Relaxed)
            < 20
    );
}

#[tokio::test]
async fn a_copy_is_the_request_itself_with_a_mark() {
    let (stable, canary) = (Backend::start("a").await, Backend::start("a").await);
    let mut table = canary_table(&stable, &canary, 0, 100);
    table["sticky"] = json!({"cookie": "arm"});
    let router = Router::start(&table).await;
    let url = format!("{}/echo?x=1", router.url);
    let sent = router
        .client
        .post(&url)
        .header("x-public", "1")
        .body(vec![7u8; 100_000]);
    let response = sent.send().await.unwrap();
    let cookies = response.headers().get_all("set-cookie").iter().count();
    assert_eq!(cookies, 1, "the caller's own cookie, and none of the copy's");
    response.bytes().await.unwrap();
    eventually("the copy arrived", async || mirrored(&router).await.requests == 1).await;
    let echoed = |backend: &Backend| backend.state.echoed.lock().unwrap().clone();
    let (mut copy, original) = (echoed(&canary), echoed(&stable));
    assert!(original["headers"].get("x-slipway-mirror").is_none());
    let mark = copy["headers"]
        .as_object_mut()
        .unwrap()
        .remove("x-slipway-mirror");
    assert_eq!(mark, Some(Value::from("1")));
    assert_eq!(copy, original);

    // A body that is passed on as it comes is not held for a copy; one that asks for a revision is a test.
    let large = router.client.post(&url).body(vec![7u8; 2_000_000]);
    large.send().await.unwrap().bytes().await.unwrap();
    assert_eq!(router.answers(&[("x-slipway-revision", "r1")]).await, "r1");
    router.get("/").await.bytes().await.unwrap();
    eventually("the last one's copy arrived", async || {
        mirrored(&router).await.requests == 2
    })
    .await;
    assert_eq!((canary.requests(), canary.copies()), (2, 2));
}

#[tokio::test]
async fn what_a_copy_meets_is_an_error_of_the_canary_alone() {
    let (stable, canary) = (Backend::start("a").await, Backend::start("a").await);
    let mut router = Router::start(&canary_table(&stable, &canary, 0, 100)).await;
    // The stable revision fails here as well: each counts its own.
    for (path, errors) in [("/fail", 1), ("/break", 2), ("/refuse", 2)] {
        router.get(path).await.bytes().await.ok();
        eventually(path, async || mirrored(&router).await.errors == errors).await;
    }
    eventually("the last copy ended", async || {
        mirrored(&router).await.requests == 3
    })
    .await;
    assert_eq!(total(&router, "failed").await, 2);
    // Gone, it is found out by copies or its probe, whichever comes first; callers go on being answered.
    drop(canary);
    for _ in 0..20 {
        assert_eq!(router.answers(&[]).await, "r1");
    }
    eventually("it is unready", async || {
        router.revision("r2").await.ready_servers == 0
    })
    .await;
    let before = mirrored(&router).await;
    assert_eq!(router.answers(&[]).await, "r1");
    assert_eq!(mirrored(&router).await, before, "what is unready gets no copies");
    // Told to stop, the router waits for callers and not for copies.
    router.terminate();
    assert_eq!(router.end().await, Some(0));
}

#[tokio::test]
async fn an_arm_gets_copies_of_what_the_others_answer_and_of_nothing_else() {
    let [a, b, canary] = [
        Backend::start("a").await,
        Backend::start("b").await,
        Backend::start("b").await,
    ];
    let table = json!({
        "variants": [
            {"name": "a", "weight": 3, "url": a.url(), "revision": "r1"},
            {
                "name": "b", "weight": 1, "url": b.url(), "revision": "b1",
                "canary": {"url": canary.url(), "revision": "b2", "percent": 0, "mirrorPercent": 0},
            },
        ],
        "mirror": {"variant": "b", "percent": 40},
    });
    let router = Router::start(&table).await;
    let n = 600;
    for _ in 0..n {
        let response = router.get("/").await;
        let arm = response.headers()["x-slipway-variant"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(response.text().await.unwrap(), arm);
    }
    for _ in 0..20 {
        router.arm(("x-slipway-variant", "a")).await;
    }
    let copies = async || {
        let series = router.stats().await.series;
        let told = series.into_iter().find(|series| series.revision == "b1").unwrap();
        (told.requests as usize, told.mirrored.unwrap_or_default())
    };
    let real = a.requests() - 20;
    eventually("all are counted", async || {
        let (requests, copied) = copies().await;
        requests == n - real && copied.requests as usize == b.copies() && copied.in_flight == 0
    })
    .await;
    let off = (b.copies() as f64 - 0.4 * real as f64).abs();
    assert!(off < bound(real, 0.4), "{} of {real}", b.copies());
    assert_eq!((a.copies(), canary.requests()), (0, 0));
    assert_eq!(b.requests(), n - real + b.copies());

    // While it is away there is nothing to copy to, and nobody notices.
    b.set_healthy(false);
    eventually("the arm is away", async || {
        router.get("/").await.text().await.unwrap() == "a"
    })
    .await;
    let before = b.copies();
    b.set_hanging(true);
    b.set_healthy(true);
    eventually("a copy hangs", async || {
        assert_eq!(router.arm(("x-slipway-variant", "a")).await, "a");
        let response = router
            .client
            .get(&router.url)
            .timeout(Duration::from_millis(300))
            .send()
            .await;
        drop(response);
        copies().await.1.in_flight > 0 && b.copies() > before
    })
    .await;
}
