//! `slipway-router` as a process between real clients and real servers.

#[allow(unreachable_pub, dead_code)]
mod router_support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use router_support::{Backend, Router, bound, eventually, fail};
use serde_json::{Value, json};

fn table(arms: &[(&str, u32, &Backend)], sticky: &Value) -> Value {
    let variants: Vec<Value> = arms
        .iter()
        .map(|(name, weight, backend)| {
            json!({"name": name, "weight": weight, "url": backend.url(), "revision": format!("{name}-1")})
        })
        .collect();
    if sticky.is_null() {
        json!({"variants": variants})
    } else {
        json!({"variants": variants, "sticky": sticky})
    }
}

#[tokio::test]
async fn a_thousand_requests_split_by_weight_and_say_who_answered() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let router = Router::start(&table(&[("a", 80, &a), ("b", 20, &b)], &Value::Null)).await;
    let mut counts: HashMap<String, usize> = HashMap::new();
    for _ in 0..1000 {
        let response = router.get("/").await;
        let arm = response.headers()["x-slipway-variant"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(response.headers()["x-slipway-revision"], format!("{arm}-1"));
        assert!(
            response.headers().get("x-secret").is_none(),
            "a hop-by-hop header came through"
        );
        assert_eq!(response.text().await.unwrap(), arm);
        *counts.entry(arm).or_default() += 1;
    }
    assert!(
        (counts["a"] as f64 - 800.0).abs() < bound(1000, 0.8),
        "{counts:?}"
    );
    assert_eq!((a.requests(), b.requests()), (counts["a"], counts["b"]));
    let labels = "variant=\"a\",revision=\"a-1\"";
    let sample = async |line: String| router.sample(&line).await.unwrap_or_default() as usize;
    assert_eq!(
        sample(format!("slipway_router_requests_total{{{labels},code=\"200\"}}")).await,
        counts["a"]
    );
    assert_eq!(
        sample(format!(
            "slipway_router_request_duration_seconds_count{{{labels}}}"
        ))
        .await,
        counts["a"]
    );
    assert_eq!(
        sample(format!(
            "slipway_router_time_to_first_byte_seconds_count{{{labels}}}"
        ))
        .await,
        counts["a"]
    );
    assert_eq!(sample(format!("slipway_router_in_flight{{{labels}}}")).await, 0);
    // Few connections carried them all.
    assert!(a.state.connections.load(Ordering::Relaxed) < 10, "{:?}", a.state);
}

#[tokio::test]
async fn a_client_stays_with_its_arm_and_a_new_weight_moves_a_tenth() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let sticky = json!({"header": "x-user-id"});
    let mut router = Router::start(&table(&[("a", 50, &a), ("b", 50, &b)], &sticky)).await;
    let mut before = Vec::new();
    for user in 0..1000 {
        before.push(router.arm(("x-user-id", &format!("user-{user}"))).await);
    }
    for (user, arm) in before.iter().enumerate().take(100) {
        assert_eq!(&router.arm(("x-user-id", &format!("user-{user}"))).await, arm);
    }
    router.write(&table(&[("a", 60, &a), ("b", 40, &b)], &sticky).to_string());
    // The first client that moves tells that the table is in force.
    let movers: Vec<String> = (0..200)
        .filter(|&user| before[user] == "b")
        .map(|user| format!("user-{user}"))
        .collect();
    eventually("the new table is in force", async || {
        for user in &movers {
            if router.arm(("x-user-id", user)).await == "a" {
                return true;
            }
        }
        false
    })
    .await;
    let mut moved = 0;
    for (user, old) in before.iter().enumerate() {
        let new = router.arm(("x-user-id", &format!("user-{user}"))).await;
        match (old.as_str(), new.as_str()) {
            ("b", "a") => moved += 1,
            ("a", "b") => panic!("user-{user} left the arm that grew"),
            _ => {}
        }
    }
    assert!((f64::from(moved) - 100.0).abs() < bound(1000, 0.1), "{moved}");
}

#[tokio::test]
async fn a_cookie_is_set_once_and_keeps_its_client_with_one_arm() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let router = Router::start(&table(&[("a", 50, &a), ("b", 50, &b)], &json!({"cookie": "arm"}))).await;
    let mut arms = std::collections::HashSet::new();
    for _ in 0..40 {
        let response = router.get("/").await;
        let cookie = response.headers()["set-cookie"]
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        assert!(cookie.starts_with("arm=") && cookie.len() == 36, "{cookie}");
        let arm = response.headers()["x-slipway-variant"]
            .to_str()
            .unwrap()
            .to_owned();
        for _ in 0..3 {
            let again = router
                .client
                .get(&router.url)
                .header("cookie", format!("theme=dark; {cookie}"));
            let again = again.send().await.unwrap();
            assert_eq!(again.headers()["x-slipway-variant"], arm);
            assert!(again.headers().get("set-cookie").is_none());
        }
        arms.insert(arm);
    }
    assert_eq!(arms.len(), 2);
}

#[tokio::test]
async fn an_unready_arm_gets_nothing_and_one_asked_for_says_so() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let router = Router::start(&table(&[("a", 10, &a), ("b", 90, &b)], &Value::Null)).await;
    assert_eq!(router.arm(("x-slipway-variant", "a")).await, "a");
    b.state.healthy.store(false, Ordering::Relaxed);
    let ready = "slipway_router_ready_backends{variant=\"b\",revision=\"b-1\"}";
    eventually("b is unready", async || router.sample(ready).await == Some(0.0)).await;
    for _ in 0..100 {
        assert_eq!(router.get("/").await.text().await.unwrap(), "a");
    }
    let ask = async |name: &str| {
        let request = router.client.get(&router.url).header("x-slipway-variant", name);
        let response = request.send().await.unwrap();
        let (status, retry) = (
            response.status().as_u16(),
            response.headers().contains_key("retry-after"),
        );
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        (
            status,
            retry,
            body["error"]["message"].as_str().unwrap().to_owned(),
        )
    };
    let (status, retry, message) = ask("b").await;
    assert!(
        status == 503 && retry && message.contains("\"b\" is ready"),
        "{status} {message}"
    );
    let (status, _, message) = ask("nobody").await;
    assert!(
        status == 404 && message.contains("one of: a, b"),
        "{status} {message}"
    );

    a.state.healthy.store(false, Ordering::Relaxed);
    eventually("nobody is ready", async || router.get("/").await.status() == 503).await;
    let response = router.get("/").await;
    assert_eq!(response.headers()["retry-after"], "1");
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "no_ready_server");
    b.state.healthy.store(true, Ordering::Relaxed);
    eventually("b answers again", async || router.get("/").await.status() == 200).await;
}

#[tokio::test]
async fn tables_change_under_load_without_a_dropped_request() {
    let (a, b, c) = (
        Backend::start("a").await,
        Backend::start("b").await,
        Backend::start("c").await,
    );
    let mut router = Router::start(&table(&[("a", 100, &a), ("b", 0, &b)], &Value::Null)).await;
    let (done, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (done, sent, url, client) = (
                done.clone(),
                sent.clone(),
                router.url.clone(),
                reqwest::Client::new(),
            );
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let response = client.post(&url).body("hello").send().await.unwrap();
                    assert_eq!(response.status(), 200);
                    response.text().await.unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..6u32 {
        // The last arm is new in every other table, and its server was never probed before.
        let third = if round % 2 == 0 { &c } else { &b };
        let weights = table(
            &[("a", round * 10, &a), ("b", 100 - round * 10, third)],
            &Value::Null,
        );
        router.write(&weights.to_string());
        tokio::time::sleep(Duration::from_millis(350)).await;
    }
    router.write("variants: [{name: a, weight: 1, url: 'ftp://nowhere'}]");
    let invalid = "slipway_router_invalid_tables_total";
    eventually("the wrong table is refused", async || {
        router.sample(invalid).await == Some(1.0)
    })
    .await;
    router.write(&table(&[("a", 0, &a), ("c", 1, &c)], &Value::Null).to_string());
    eventually("the last table is in force", async || {
        let mut arms = Vec::new();
        for _ in 0..10 {
            arms.push(router.get("/").await.text().await.unwrap());
        }
        arms.iter().all(|arm| arm == "c")
    })
    .await;
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(sent.load(Ordering::Relaxed) > 500, "{sent:?}");
    assert_eq!(router.sample("slipway_router_unrouted_total").await, Some(0.0));
}

#[tokio::test]
async fn a_stream_is_passed_on_as_it_comes() {
    let a = Backend::start("a").await;
    let router = Router::start(&table(&[("a", 1, &a)], &Value::Null)).await;
    let mut stream = router.get("/stream").await.bytes_stream();
    for number in 0..3 {
        // The server holds the next chunk back until this one was read here.
        a.state.chunks.add_permits(1);
        let chunk = tokio::time::timeout(Duration::from_secs(5), stream.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(chunk.unwrap(), format!("data: {number}\n\n"));
    }
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_work_of_its_server() {
    let a = Backend::start("a").await;
    let router = Router::start(&table(&[("a", 1, &a)], &Value::Null)).await;
    let client = reqwest::Client::new();
    let waiting = tokio::spawn(client.get(format!("{}/hang", router.url)).send());
    eventually("the server works", async || a.requests() == 1).await;
    waiting.abort();
    eventually("the server was told", async || {
        a.state.cancelled.load(Ordering::Relaxed) == 1
    })
    .await;
    let in_flight = "slipway_router_in_flight{variant=\"a\",revision=\"a-1\"}";
    eventually("nothing is under way", async || {
        router.sample(in_flight).await == Some(0.0)
    })
    .await;
}

#[tokio::test]
async fn bodies_and_headers_arrive_whole() {
    let a = Backend::start("a").await;
    let router = Router::start(&table(&[("a", 1, &a)], &Value::Null)).await;
    for (length, streamed) in [
        (0, false),
        (1000, false),
        (5_000_000, false),
        (5_000_000, true),
        (10, true),
    ] {
        let bytes = vec![7u8; length];
        let body = if streamed {
            let chunks: Vec<_> = bytes
                .chunks(100_000)
                .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
                .collect();
            reqwest::Body::wrap_stream(futures::stream::iter(chunks))
        } else {
            reqwest::Body::from(bytes)
        };
        let request = router
            .client
            .post(format!("{}/echo?x=%20y", router.url))
            .header("connection", "x-private")
            .header("x-private", "1")
            .header("te", "trailers")
            .header("x-public", "1");
        let response = request.body(body).send().await.unwrap();
        let seen: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(seen["bytes"], length, "streamed: {streamed}");
        assert_eq!(seen["sum"], 7 * length);
        assert_eq!(
            (&seen["method"], &seen["path"]),
            (&json!("POST"), &json!("/echo?x=%20y"))
        );
        let headers = &seen["headers"];
        assert_eq!(headers["x-public"], "1");
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
        assert_eq!(headers["host"], router.url.strip_prefix("http://").unwrap());
        assert!(
            headers["x-private"].is_null() && headers["te"].is_null(),
            "{headers}"
        );
    }
    let head = router
        .client
        .head(format!("{}/", router.url))
        .send()
        .await
        .unwrap();
    assert_eq!(head.headers()["content-length"], "1");
}

#[tokio::test]
async fn a_server_that_goes_away_costs_no_request() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let address = a.address;
    let router = Router::start(&table(&[("a", 50, &a), ("b", 50, &b)], &Value::Null)).await;
    for _ in 0..50 {
        assert_eq!(router.get("/").await.status(), 200);
    }
    // Idle connections to it are cut, then new ones refused.
    drop(a);
    for _ in 0..100 {
        let response = router.client.post(&router.url).body("x").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.text().await.unwrap(), "b");
    }
    let _a = Backend::start_at("a", address).await;
    eventually("it is back", async || {
        router.get("/").await.text().await.unwrap() == "a"
    })
    .await;
}

#[tokio::test]
async fn told_to_stop_it_finishes_what_is_under_way() {
    let a = Backend::start("a").await;
    let mut router = Router::start(&table(&[("a", 1, &a)], &Value::Null)).await;
    let mut stream = router.get("/stream").await.bytes_stream();
    a.state.chunks.add_permits(1);
    stream.next().await.unwrap().unwrap();
    let started = Instant::now();
    router.terminate();
    eventually("it says that it is not ready", async || !router.is_ready().await).await;
    // Those who have not heard yet are still answered.
    assert_eq!(router.get("/").await.status(), 200);
    eventually("it takes no new connection", async || {
        reqwest::Client::new().get(&router.url).send().await.is_err()
    })
    .await;
    assert!(started.elapsed() > Duration::from_millis(900));
    a.state.chunks.add_permits(2);
    let mut rest = Vec::new();
    while let Some(chunk) = stream.next().await {
        rest.extend(chunk.expect("the stream was cut"));
    }
    assert_eq!(rest, b"data: 1\n\ndata: 2\n\n");
    assert_eq!(router.end().await, Some(0));
}

#[tokio::test]
async fn every_address_of_a_name_is_a_server() {
    let a = Backend::start("a").await;
    let url = format!("http://localhost:{}", a.address.port());
    let router = Router::start(&json!({"variants": [{"name": "a", "weight": 1, "url": url}]})).await;
    let response = router.get("/").await;
    assert!(response.headers().get("x-slipway-revision").is_none());
    assert_eq!(response.text().await.unwrap(), "a");
}

#[test]
fn a_wrong_table_at_the_start_is_told_with_its_fix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.yaml");
    let told = |part: &str| {
        let output = fail(&path);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(part), "{text}");
        assert_eq!(output.status.code(), Some(2));
    };
    told("--routes");
    for (text, part) in [
        ("variants: []", "at least one"),
        (
            "variants: [{name: a, weight: 1, url: 'http://h:1', colour: red}]",
            "colour",
        ),
        ("variants: [{name: a, weight: 0, url: 'http://h:1'}]", "weight 0"),
        (
            "variants: [{name: a, weight: 1, url: 'http://h:1', canary: {url: 'http://c:1', revision: r, percent: 101}}]",
            "from 0 to 100",
        ),
        (
            "variants: [{name: a, weight: 1, url: 'http://h:1', canary: {url: 'http://c:1', percent: 10}}]",
            "revision",
        ),
        ("{", "parse"),
    ] {
        std::fs::write(&path, text).unwrap();
        told(part);
    }
}
