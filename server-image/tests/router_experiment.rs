//! What `slipway-router` counts of an experiment: who was sent where, and what it scored.

#[allow(unreachable_pub, dead_code)]
mod router_support;

use router_support::{Backend, Router, bound, canary_table, eventually, version};
use serde_json::{Value, json};
use slipway_contract::experiment::{ArmOutcome, Outcome, Rule, Tally, decide};

/// Two arms and an experiment between them.
fn table(a: &Backend, b: &Backend, weights: [u32; 2], metric: &Value) -> Value {
    json!({
        "variants": [
            {"name": "a", "weight": weights[0], "url": a.url(), "revision": "r1"},
            {"name": "b", "weight": weights[1], "url": b.url(), "revision": "r1"},
        ],
        "experiment": {"id": "e1", "metric": metric},
    })
}

async fn arms() -> (Backend, Backend) {
    (Backend::start("a").await, Backend::start("b").await)
}

async fn tally(router: &Router) -> Tally {
    let experiment = router.stats().await.experiment.unwrap();
    assert_eq!(experiment.id, "e1");
    experiment.tally
}

async fn outcome(router: &Router) -> Outcome {
    decide(&tally(router).await, &Rule::default(), 0)
}

/// Each arm's figures once so many requests have a score.
async fn scored(router: &Router, scores: u64) -> Vec<ArmOutcome> {
    eventually("all are scored", async || {
        let arms = outcome(router).await.arms;
        arms.iter().map(|arm| arm.scores).sum::<u64>() == scores
    })
    .await;
    outcome(router).await.arms
}

async fn send(router: &Router, path: &str, user: Option<usize>) {
    let mut request = router.client.get(format!("{}{path}", router.url));
    if let Some(user) = user {
        request = request.header("x-user-id", format!("user-{user}"));
    }
    request.send().await.unwrap().bytes().await.ok();
}

#[tokio::test]
async fn two_thousand_requests_are_counted_where_the_split_sent_them() {
    let (a, b) = arms().await;
    let mut router = Router::start(&table(&a, &b, [80, 20], &json!({"success": {}}))).await;
    for _ in 0..2000 {
        send(&router, "/", None).await;
    }
    let counted = scored(&router, 2000).await;
    for (arm, backend) in counted.iter().zip([&a, &b]) {
        assert_eq!(arm.name, backend.state.name);
        assert_eq!(arm.requests as usize, backend.requests());
        assert_eq!((arm.scores, arm.users), (arm.requests, arm.requests));
        assert_eq!(arm.mean, Some(1.0));
    }
    let off = (counted[0].requests as f64 - 1600.0).abs();
    assert!(off < bound(2000, 0.8), "{counted:?}");
    assert!(!outcome(&router).await.sample_ratio.mismatch);

    // A new split counts beside the old one, in the same experiment.
    let first = [a.requests(), b.requests()];
    router
        .apply(&version(table(&a, &b, [50, 50], &json!({"success": {}})), "even"))
        .await;
    for _ in 0..400 {
        send(&router, "/fail", None).await;
    }
    let counted = scored(&router, 2400).await;
    let told = serde_json::to_value(tally(&router).await).unwrap();
    let second = [a.requests() - first[0], b.requests() - first[1]];
    let splits = json!([{"shares": [4, 1], "alone": first}, {"shares": [1, 1], "alone": second}]);
    assert_eq!(told["splits"], splits);
    assert!(!outcome(&router).await.sample_ratio.mismatch);
    // Each moment counts the same in every arm: the mean of both weighs the failures alike, though the arms met
    // them in different shares. By the overlap weights a request weighs 1/5 and 4/5 first, then 1/2.
    let mean = |n: [usize; 2], weight: f64| n[0] as f64 * weight / (n[0] as f64 * weight + n[1] as f64 * 0.5);
    for (arm, weight) in [(0, 0.2), (1, 0.8)] {
        let expected = mean([first[arm], second[arm]], weight);
        assert!(
            (counted[arm].mean.unwrap() - expected).abs() < 1e-9,
            "{counted:?}"
        );
    }

    // Another id, another count.
    let mut next = table(&a, &b, [50, 50], &json!({"success": {}}));
    next["experiment"]["id"] = "e2".into();
    router.apply(&version(next, "next")).await;
    let experiment = router.stats().await.experiment.unwrap();
    assert_eq!(experiment.id, "e2");
    let arms = decide(&experiment.tally, &Rule::default(), 0).arms;
    assert!(arms.iter().all(|arm| arm.requests == 0));
    let mut over = table(&a, &b, [50, 50], &json!({"success": {}}));
    over.as_object_mut().unwrap().remove("experiment");
    router.apply(&version(over, "over")).await;
    assert!(router.stats().await.experiment.is_none());
}

#[tokio::test]
async fn a_user_who_comes_back_is_one_user() {
    let (a, b) = arms().await;
    let mut table = table(&a, &b, [80, 20], &json!({"success": {}}));
    table["sticky"] = json!({"header": "x-user-id"});
    let router = Router::start(&table).await;
    for round in 0..4 {
        for user in 0..400 {
            send(&router, "/", Some(user)).await;
        }
        let arms = scored(&router, (round + 1) * 400).await;
        let users: u64 = arms.iter().map(|arm| arm.users).sum();
        assert!((380..=420).contains(&users), "{users} users in round {round}");
        let off = (arms[0].users as f64 - 320.0).abs();
        assert!(off < bound(400, 0.8) + 20.0, "{arms:?}");
    }
    assert!(!outcome(&router).await.sample_ratio.mismatch);
    assert_eq!(a.requests() + b.requests(), 1600);
    // Without the header nobody knows who it is.
    for _ in 0..10 {
        send(&router, "/", None).await;
    }
    scored(&router, 1610).await;
    let told = serde_json::to_value(tally(&router).await).unwrap();
    let alone = told["splits"][0]["alone"].as_array().unwrap();
    assert_eq!(alone.iter().filter_map(Value::as_u64).sum::<u64>(), 10);
}

#[tokio::test]
async fn what_the_split_did_not_choose_is_not_counted() {
    let (a, b) = arms().await;
    let router = Router::start(&table(&a, &b, [50, 50], &json!({"success": {}}))).await;
    for name in ["a", "b"] {
        assert_eq!(router.arm(("x-slipway-variant", name)).await, name);
    }
    send(&router, "/", None).await;
    let requests = async || {
        let arms = outcome(&router).await.arms;
        arms.iter().map(|arm| arm.requests).sum::<u64>()
    };
    assert_eq!(requests().await, 1);
    b.set_healthy(false);
    let ready = "slipway_router_ready_backends{variant=\"b\",revision=\"r1\"}";
    eventually("b is unready", async || router.sample(ready).await == Some(0.0)).await;
    for _ in 0..10 {
        send(&router, "/", None).await;
    }
    assert_eq!(requests().await, 1, "a has nobody to be compared with");
    b.set_healthy(true);
    eventually("b is back", async || router.sample(ready).await == Some(1.0)).await;
    send(&router, "/", None).await;
    assert_eq!(requests().await, 2);
}

#[tokio::test]
async fn each_metric_scores_what_it_says() {
    let (a, b) = arms().await;
    // `/sleep` takes 0.2 s to its first byte and 0.4 s to its last.
    for (metric, path, mean) in [
        (json!({"success": {}}), "/", 1.0),
        (json!({"success": {}}), "/refuse", 1.0),
        (json!({"success": {}}), "/fail", 0.0),
        (json!({"success": {}}), "/break", 0.0),
        (json!({"success": {}}), "/drop", 0.0),
        (json!({"latencyWithin": {"seconds": 0.39}}), "/sleep", 0.0),
        (json!({"latencyWithin": {"seconds": 20}}), "/sleep", 1.0),
        (json!({"latencyWithin": {"seconds": 20}}), "/fail", 0.0),
        (json!({"firstByteWithin": {"seconds": 0.19}}), "/sleep", 0.0),
        (json!({"firstByteWithin": {"seconds": 20}}), "/sleep", 1.0),
        (json!({"firstByteWithin": {"seconds": 20}}), "/break", 0.0),
    ] {
        let router = Router::start(&table(&a, &b, [50, 50], &metric)).await;
        send(&router, path, None).await;
        let arms = scored(&router, 1).await;
        let told: Vec<f64> = arms.iter().filter_map(|arm| arm.mean).collect();
        assert_eq!(told, [mean], "{metric} {path}");
    }
}

#[tokio::test]
async fn an_arm_is_scored_by_the_answer_its_caller_got() {
    let (a, b) = arms().await;
    let canary = Backend::start("a").await;
    canary.set_failing(true);
    let mut table = table(&a, &b, [50, 50], &json!({"success": {}}));
    table["variants"][0]["canary"] = canary_table(&a, &canary, 100, 0)["variants"][0]["canary"].clone();
    let router = Router::start(&table).await;
    for _ in 0..40 {
        send(&router, "/", None).await;
    }
    let arms = scored(&router, 40).await;
    assert_eq!(arms[0].requests as usize, canary.requests());
    assert!(
        arms.iter()
            .all(|arm| arm.requests == arm.scores && arm.mean == Some(1.0)),
        "{arms:?}"
    );
}

#[tokio::test]
async fn an_arm_that_cannot_answer_scores_0_and_its_caller_is_answered_by_another() {
    let (a, mut b) = arms().await;
    let address = b.address;
    let router = Router::start(&table(&a, &b, [50, 50], &json!({"success": {}}))).await;
    let ready = "slipway_router_ready_backends{variant=\"b\",revision=\"r1\"}";
    // Its probe may find out first that it is gone.
    while outcome(&router).await.arms[1].requests == 0 {
        eventually("b is ready", async || router.sample(ready).await == Some(1.0)).await;
        drop(b);
        eventually("b is gone", async || {
            tokio::net::TcpStream::connect(address).await.is_err()
        })
        .await;
        for _ in 0..20 {
            assert_eq!(router.get("/").await.text().await.unwrap(), "a");
        }
        b = Backend::start_at("b", address).await;
    }
    let arms = outcome(&router).await.arms;
    assert_eq!(
        (arms[1].requests, arms[1].scores),
        (1, 1),
        "out of the split, it gets no more"
    );
    assert_eq!(arms[1].mean, Some(0.0));
    assert_eq!(b.requests(), 0);
}
