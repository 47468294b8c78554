//! `POST /v1/feedback` of `slipway-router`: what its clients say of answers, and what is not taken.

#[allow(unreachable_pub, dead_code)]
mod router_support;

use router_support::{Backend, Router, canary_table, version};
use serde_json::{Value, json};
use slipway_contract::experiment::{ArmOutcome, Rule, decide};

/// Two arms whose answers are scored by clients, in the experiment `id`, with a key of this digit.
fn table(a: &Backend, b: &Backend, id: &str, digit: &str) -> Value {
    json!({
        "variants": [
            {"name": "a", "weight": 1, "url": a.url(), "revision": "r1"},
            {"name": "b", "weight": 1, "url": b.url(), "revision": "r1"},
        ],
        "experiment": {"id": id, "metric": {"feedbackScore": {}}, "key": digit.repeat(64)},
    })
}

async fn arms() -> (Backend, Backend) {
    (Backend::start("a").await, Backend::start("b").await)
}

/// The arm that answered, and the id of its answer.
async fn ask(router: &Router) -> (String, String) {
    let response = router.get("/").await;
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    (header("x-slipway-variant"), header("x-slipway-id"))
}

/// Status, and the sentence of a refusal.
async fn post(router: &Router, body: impl Into<reqwest::Body>) -> (u16, String) {
    let request = router.client.post(format!("{}/v1/feedback", router.url));
    let response = request.body(body).send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    if status == 204 {
        return (status, text);
    }
    let body: Value = serde_json::from_str(&text).unwrap();
    (status, body["error"]["message"].as_str().unwrap().to_owned())
}

async fn score(router: &Router, id: &str, score: f64) -> u16 {
    post(router, json!({"id": id, "score": score}).to_string())
        .await
        .0
}

async fn counted(router: &Router) -> Vec<ArmOutcome> {
    let tally = router.stats().await.experiment.unwrap().tally;
    decide(&tally, &Rule::default(), 0).arms
}

fn scores(arms: &[ArmOutcome]) -> u64 {
    arms.iter().map(|arm| arm.scores).sum()
}

#[tokio::test]
async fn a_score_counts_for_the_arm_that_answered_and_once() {
    let (a, b) = arms().await;
    let router = Router::start(&table(&a, &b, "e1", "0")).await;
    let mut said = std::collections::BTreeMap::from([("a".to_owned(), vec![]), ("b".to_owned(), vec![])]);
    for number in 0..40 {
        let (arm, id) = ask(&router).await;
        let given = f64::from(number % 5) / 4.0;
        assert_eq!(
            post(&router, json!({"id": id, "score": given}).to_string()).await,
            (204, String::new())
        );
        let (status, message) = post(&router, json!({"id": id, "score": 1}).to_string()).await;
        assert!(status == 409 && message.contains("already"), "{status} {message}");
        said.get_mut(&arm).unwrap().push(given);
    }
    // One that nobody scores.
    ask(&router).await;
    let arms = counted(&router).await;
    for arm in &arms {
        let said = &said[&arm.name];
        assert_eq!(arm.scores as usize, said.len());
        let mean = said.iter().sum::<f64>() / said.len() as f64;
        assert!((arm.mean.unwrap() - mean).abs() < 1e-9, "{arm:?}");
    }
    assert_eq!(arms.iter().map(|arm| arm.requests).sum::<u64>(), 41);
    // No server got any of it, and none of it counts as a request.
    assert_eq!(a.requests() + b.requests(), 41);
    assert_eq!(router.sample("slipway_router_unrouted_total").await, Some(0.0));
}

#[tokio::test]
async fn what_is_no_feedback_is_refused_with_its_cause() {
    let (a, b) = arms().await;
    let router = Router::start(&table(&a, &b, "e1", "0")).await;
    let (_, id) = ask(&router).await;
    for body in [
        format!("{{\"id\": \"{id}\", \"score\": NaN}}"),
        format!("{{\"id\": \"{id}\", \"score\": 1e999}}"),
        json!({"id": id, "score": 1.001}).to_string(),
        json!({"id": id, "score": -0.001}).to_string(),
        json!({"id": id, "score": "1"}).to_string(),
        json!({"id": id}).to_string(),
        json!({"score": 1}).to_string(),
        "thumbs up".to_owned(),
        "x".repeat(100_000),
    ] {
        let (status, message) = post(&router, body.clone()).await;
        assert!(
            status == 422 && message.contains("from 0 to 1"),
            "{body:.99}: {status} {message}"
        );
    }
    // Of the same arm, but of an answer that nobody got.
    let forged = format!(
        "{}{}{}",
        &id[..20],
        if &id[20..21] == "A" { "B" } else { "A" },
        &id[21..]
    );
    for wrong in [forged.as_str(), "", "chatcmpl-1", &id[1..], &format!("{id}A")] {
        assert_eq!(score(&router, wrong, 1.0).await, 404, "{wrong}");
    }
    for method in [
        reqwest::Method::GET,
        reqwest::Method::PUT,
        reqwest::Method::DELETE,
    ] {
        let request = router
            .client
            .request(method, format!("{}/v1/feedback?x=1", router.url));
        let response = request.send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &"POST".parse().unwrap())
        );
    }
    assert_eq!(scores(&counted(&router).await), 0);
    // It is good still.
    assert_eq!(score(&router, &id, 0.0).await, 204);
    assert_eq!(scores(&counted(&router).await), 1);
    assert_eq!(a.requests() + b.requests(), 1);
}

#[tokio::test]
async fn an_id_ends_with_its_experiment() {
    let (a, b) = arms().await;
    let mut router = Router::start(&table(&a, &b, "e1", "0")).await;
    let (_, id) = ask(&router).await;
    for (id_of_next, digit) in [("e2", "0"), ("e1", "1")] {
        router
            .apply(&version(
                table(&a, &b, id_of_next, digit),
                &format!("{id_of_next}{digit}"),
            ))
            .await;
        assert_eq!(score(&router, &id, 1.0).await, 404);
        let (_, new) = ask(&router).await;
        assert_eq!(score(&router, &new, 1.0).await, 204);
    }
    let mut other = table(&a, &b, "e1", "0");
    other["experiment"]["metric"] = json!({"success": {}});
    router.apply(&version(other.clone(), "success")).await;
    let (status, message) = post(&router, json!({"id": id, "score": 1}).to_string()).await;
    assert!(status == 404 && message.contains("feedbackScore"), "{message}");
    assert!(router.get("/").await.headers().get("x-slipway-id").is_none());
    other.as_object_mut().unwrap().remove("experiment");
    router.apply(&version(other, "none")).await;
    let before = a.requests() + b.requests();
    assert_eq!(score(&router, &id, 1.0).await, 404);
    assert_eq!(router.get("/v1/feedback").await.status(), 404);
    assert_eq!(a.requests() + b.requests(), before, "it was passed on");
}

#[tokio::test]
async fn routers_take_each_others_ids_and_those_of_before_a_restart() {
    let (a, b) = arms().await;
    let table = table(&a, &b, "e1", "0");
    let (first, second) = (Router::start(&table).await, Router::start(&table).await);
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(ask(&first).await.1);
    }
    assert_eq!(score(&second, &ids[0], 1.0).await, 204);
    assert_eq!(score(&second, &ids[0], 1.0).await, 409);
    // Each remembers its own only.
    assert_eq!(score(&first, &ids[0], 1.0).await, 204);
    let mut tally = first.stats().await.experiment.unwrap().tally;
    tally
        .merge(&second.stats().await.experiment.unwrap().tally)
        .unwrap();
    let arms = decide(&tally, &Rule::default(), 0).arms;
    assert_eq!((arms[0].requests + arms[1].requests, scores(&arms)), (10, 2));
    drop(first);
    let restarted = Router::start(&table).await;
    for id in &ids[1..] {
        assert_eq!(score(&restarted, id, 0.5).await, 204);
    }
    let arms = counted(&restarted).await;
    assert_eq!((arms[0].requests + arms[1].requests, scores(&arms)), (0, 9));
}

#[tokio::test]
async fn who_was_not_sent_by_the_split_gets_no_id() {
    let (a, b) = arms().await;
    let canary = Backend::start("a").await;
    let mut table = table(&a, &b, "e1", "0");
    table["variants"][0]["canary"] = canary_table(&a, &canary, 100, 0)["variants"][0]["canary"].clone();
    let router = Router::start(&table).await;
    canary.set_failing(true);
    for _ in 0..20 {
        let (_, id) = ask(&router).await;
        assert_eq!(
            score(&router, &id, 1.0).await,
            204,
            "of an answer in the canary's place too"
        );
    }
    let named = router
        .client
        .get(&router.url)
        .header("x-slipway-variant", "b")
        .send()
        .await
        .unwrap();
    assert!(named.headers().get("x-slipway-id").is_none());
}

#[tokio::test]
async fn an_experiment_that_cannot_run_is_refused_with_its_fix() {
    let (a, b) = arms().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.yaml");
    for (field, value, part) in [
        ("id", json!(""), "empty id"),
        ("key", json!("abc"), "64 hexadecimal digits"),
        ("metric", json!({"latencyWithin": {"seconds": 0}}), "above 0"),
        ("metric", json!({"firstByteWithin": {"seconds": -1}}), "above 0"),
        ("metric", json!({"median": {}}), "median"),
    ] {
        let mut table = table(&a, &b, "e1", "0");
        table["experiment"][field] = value;
        std::fs::write(&path, table.to_string()).unwrap();
        let output = router_support::fail(&path);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(2) && text.contains(part),
            "{part}: {text}"
        );
    }
    let mut table = canary_table(&a, &b, 50, 0);
    table["feedback"] = json!({"key": "0g".repeat(32)});
    std::fs::write(&path, table.to_string()).unwrap();
    let text = String::from_utf8(router_support::fail(&path).stderr).unwrap();
    assert!(
        text.contains("the feedback's key is not 64 hexadecimal digits"),
        "{text}"
    );
}

/// An arm and its canary, whose answers are scored for the revision that gave them.
fn analysed(stable: &Backend, canary: &Backend, percent: u32, window: &str) -> Value {
    let mut table = canary_table(stable, canary, percent, 0);
    table["feedback"] = json!({"key": "7".repeat(64)});
    table["window"] = window.into();
    version(table, &format!("{window} {percent}"))
}

/// The revision that answered, and the id of its answer.
async fn ask_revision(router: &Router) -> (String, String) {
    let response = router.get("/").await;
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    (header("x-slipway-revision"), header("x-slipway-id"))
}

#[tokio::test]
async fn a_score_counts_for_the_revision_that_answered_in_the_window_it_is_posted_in() {
    let (stable, canary) = arms().await;
    let mut router = Router::start(&analysed(&stable, &canary, 50, "w1")).await;
    let mut later = Vec::new();
    let mut said =
        std::collections::BTreeMap::from([("r1".to_owned(), (0, 0.0)), ("r2".to_owned(), (0, 0.0))]);
    for number in 0..40 {
        let (revision, id) = ask_revision(&router).await;
        if number % 4 == 3 {
            later.push((revision, id));
            continue;
        }
        let given = f64::from(number % 5) / 4.0;
        assert_eq!(score(&router, &id, given).await, 204);
        assert_eq!(score(&router, &id, 1.0).await, 409);
        let (count, sum) = said.get_mut(&revision).unwrap();
        (*count, *sum) = (*count + 1, *sum + given);
    }
    for (revision, (count, sum)) in &said {
        let scores = router.revision(revision).await.scores;
        assert_eq!(scores.count, *count, "{revision}");
        assert!((scores.sum - sum).abs() < 1e-9, "{scores:?}");
    }
    // The next window begins from zero, and takes what is said then of answers of before: people take their time.
    router.apply(&analysed(&stable, &canary, 50, "w2")).await;
    assert_eq!(router.revision("r1").await.scores.count, 0);
    for (_, id) in &later {
        assert_eq!(score(&router, id, 1.0).await, 204);
        assert_eq!(
            score(&router, id, 1.0).await,
            409,
            "however many tables came since"
        );
    }
    for name in ["r1", "r2"] {
        let given = later.iter().filter(|(revision, _)| revision == name).count() as u64;
        assert_eq!(router.revision(name).await.scores.count, given);
    }
}

#[tokio::test]
async fn any_router_takes_the_score_of_a_revision_that_is_there() {
    let (stable, canary) = arms().await;
    let table = analysed(&stable, &canary, 100, "w1");
    let (first, mut second) = (Router::start(&table).await, Router::start(&table).await);
    let ids = [ask_revision(&first).await.1, ask_revision(&first).await.1];
    assert_eq!(score(&second, &ids[0], 0.5).await, 204);
    assert_eq!(second.revision("r2").await.scores.mean(), Some(0.5));
    // The revision is gone.
    let mut alone = analysed(&stable, &canary, 100, "");
    alone["variants"][0].as_object_mut().unwrap().remove("canary");
    second.apply(&version(alone, "alone")).await;
    let (status, message) = post(&second, json!({"id": ids[1], "score": 1}).to_string()).await;
    assert!(
        status == 404 && message.contains("a revision that is over"),
        "{status} {message}"
    );
}

#[tokio::test]
async fn an_answer_in_a_canarys_place_is_scored_for_who_gave_it_and_one_asked_for_by_name_for_nobody() {
    let (stable, canary) = arms().await;
    let router = Router::start(&analysed(&stable, &canary, 100, "w1")).await;
    canary.set_failing(true);
    let (revision, id) = ask_revision(&router).await;
    assert_eq!((revision.as_str(), score(&router, &id, 1.0).await), ("r1", 204));
    assert_eq!(router.revision("r1").await.scores.count, 1);
    assert_eq!(router.revision("r2").await.scores.count, 0);
    for (name, value) in [("x-slipway-variant", "a"), ("x-slipway-revision", "r1")] {
        let request = router.client.get(&router.url).header(name, value);
        let headers = request.send().await.unwrap().headers().clone();
        assert!(headers.get("x-slipway-id").is_none(), "{name}: {headers:?}");
    }
}

#[tokio::test]
async fn an_experiments_ids_are_taken_beside_those_of_revisions() {
    let (a, b) = arms().await;
    let both = |name: &str, feedback: bool| {
        let mut table = version(table(&a, &b, "e1", "0"), name);
        if feedback {
            table["feedback"] = json!({"key": "7".repeat(64)});
        }
        table
    };
    let mut router = Router::start(&both("first", false)).await;
    let (_, of_experiment) = ask(&router).await;
    router.apply(&both("second", true)).await;
    let (_, of_revision) = ask(&router).await;
    assert_eq!(score(&router, &of_experiment, 1.0).await, 204);
    assert_eq!(score(&router, &of_revision, 0.0).await, 204);
    assert_eq!(scores(&counted(&router).await), 1);
    let stats = router.stats().await;
    let of_revisions: u64 = stats.series.iter().map(|series| series.scores.count).sum();
    assert_eq!(of_revisions, 1);
    for id in [of_experiment, of_revision] {
        assert_eq!(score(&router, &id, 1.0).await, 409);
    }
}
