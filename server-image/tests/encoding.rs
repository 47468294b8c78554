//! Embeddings and classification against a real process with tiny encoders.

mod common;

use common::{Server, tiny};
use serde_json::{Value, json};

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

fn assert_near(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 1e-5, "{a} is not {b}");
    }
}

/// The little-endian floats in base64.
fn decoded(text: &str) -> Vec<f64> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    bytes
        .chunks_exact(4)
        .map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap())))
        .collect()
}

#[tokio::test]
async fn embeddings_are_the_same_alone_and_together() {
    let directory = tempfile::tempdir().unwrap();
    tiny::encoder(directory.path(), None);
    let server = Server::start(directory.path(), &[]).await;
    let texts: Vec<String> = (0..40).map(|i| "word ".repeat(1 + i * 7 % 50)).collect();
    let together = server
        .post("/v1/embeddings", &json!({"model": "base", "input": texts}))
        .await;
    let data = together["data"].as_array().unwrap();
    assert_eq!(data.len(), 40);
    for (index, text) in texts.iter().enumerate().step_by(7) {
        assert_eq!(data[index]["index"], index);
        let alone = server
            .post("/v1/embeddings", &json!({"model": "base", "input": text}))
            .await;
        let vector = numbers(&alone["data"][0]["embedding"]);
        assert_near(&vector, &numbers(&data[index]["embedding"]));
        assert!((vector.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5);
    }
    let tokens: usize = texts.iter().map(String::len).sum();
    assert_eq!(
        together["usage"],
        json!({"prompt_tokens": tokens, "total_tokens": tokens})
    );

    let base64 = json!({"model": "base", "input": "word ", "encoding_format": "base64"});
    let base64 = server.post("/v1/embeddings", &base64).await;
    assert_near(
        &decoded(base64["data"][0]["embedding"].as_str().unwrap()),
        &numbers(&data[0]["embedding"]),
    );
    let ids = json!({"model": "base", "input": [119, 111, 114, 100, 32], "dimensions": 32});
    let ids = server.post("/v1/embeddings", &ids).await;
    assert_near(
        &numbers(&ids["data"][0]["embedding"]),
        &numbers(&data[0]["embedding"]),
    );
    let features = server.post("/", &json!({"inputs": ["word "]})).await;
    assert_near(&numbers(&features[0]), &numbers(&data[0]["embedding"]));
}

#[tokio::test]
async fn embedding_mistakes_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    tiny::encoder(directory.path(), None);
    let server = Server::start(directory.path(), &[]).await;
    for (body, parts) in [
        (
            json!({"model": "base", "input": ["ok", "a".repeat(513)]}),
            vec!["input[1]", "513 tokens", "takes 512"],
        ),
        (
            json!({"model": "base", "input": "a", "dimensions": 8}),
            vec!["dimensions is 8", "have 32"],
        ),
        (json!({"model": "base", "input": ""}), vec!["input is empty"]),
        (json!({"model": "other", "input": "a"}), vec!["\"other\"", "base"]),
    ] {
        let (_, error) = server.refused("/v1/embeddings", &body).await;
        let message = error["message"].as_str().unwrap();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let chat = json!({"model": "base", "messages": [{"role": "user", "content": "a"}]});
    let (status, error) = server.refused("/v1/chat/completions", &chat).await;
    assert_eq!((status, error["code"].as_str()), (400, Some("wrong_task")));
}

#[tokio::test]
async fn a_classifier_answers_in_the_inference_apis_shape() {
    let directory = tempfile::tempdir().unwrap();
    tiny::encoder(directory.path(), Some(&["neg", "neu", "pos"]));
    let server = Server::start(directory.path(), &[]).await;
    let one = server.post("/predict", &json!({"inputs": "good"})).await;
    let classes = one[0].as_array().unwrap();
    assert_eq!(classes.len(), 3);
    let scores: Vec<f64> = classes
        .iter()
        .map(|class| class["score"].as_f64().unwrap())
        .collect();
    assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-6);
    assert!(scores.is_sorted_by(|a, b| a >= b));
    let texts: Vec<String> = (1..30).map(|i| "good".repeat(i)).collect();
    let many = server
        .post("/", &json!({"inputs": texts, "parameters": {"top_k": 1}}))
        .await;
    assert_eq!(many.as_array().unwrap().len(), 29);
    assert_eq!(many[0][0]["label"], classes[0]["label"]);
    assert!((many[0][0]["score"].as_f64().unwrap() - scores[0]).abs() < 1e-6);
    assert_eq!(many[5].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn adapters_bring_their_own_classes_to_a_bare_base() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    tiny::encoder(&at("base"), None);
    tiny::classifier_adapter(&at("mood"), 5, &["sad", "glad"]);
    tiny::classifier_adapter(&at("topic"), 6, &["law", "money", "sport", "war"]);
    let adapters = ["mood", "topic"].map(|name| format!("{name}={}", at(name).display()));
    let server = Server::start(
        &at("base"),
        &["--adapter", &adapters[0], "--adapter", &adapters[1]],
    )
    .await;
    // The base alone has no classes to answer with.
    let models = server.get("/v1/models").await;
    let names: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["mood", "topic"]);
    let bodies: Vec<Value> = (0..16)
        .map(|i| json!({"inputs": "text", "model": (["mood", "topic"][i % 2])}))
        .collect();
    let answers = futures::future::join_all(bodies.iter().map(|body| server.post("/predict", body))).await;
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer[0].as_array().unwrap().len(), [2, 4][i % 2]);
        assert_eq!(answer[0][0]["label"], answers[i % 2][0][0]["label"]);
    }
    let (status, error) = server
        .refused("/predict", &json!({"inputs": "a", "model": "base"}))
        .await;
    assert_eq!(status, 404);
    assert!(error["message"].as_str().unwrap().contains("mood, topic"));
}

#[tokio::test]
async fn traffic_is_told_by_its_age_and_answers_name_who_gave_them() {
    let directory = tempfile::tempdir().unwrap();
    tiny::encoder(directory.path(), Some(&["neg", "pos"]));
    let identity = ["--variant", "candidate", "--revision", "0123abcd"];
    let server = Server::start(directory.path(), &identity).await;
    let body = json!({"inputs": "good"});
    let answer = server.send("/predict", &body).await;
    let headers = answer.headers();
    assert_eq!(
        (&headers["x-slipway-variant"], &headers["x-slipway-revision"]),
        (&"candidate".parse().unwrap(), &"0123abcd".parse().unwrap())
    );
    server.post("/predict", &body).await;
    server.refused("/predict", &json!({"inputs": 1})).await;
    for (header, value) in [
        ("x-slipway-variant", "candidate"),
        ("x-slipway-revision", "0123abcd"),
        ("x-slipway-mirror", "1"),
    ] {
        let apart = server.client.post(format!("{}/predict", server.url)).json(&body);
        assert_eq!(apart.header(header, value).send().await.unwrap().status(), 200);
    }
    server.get("/v1/models").await;
    // Probes, scrapes and looks at these figures are no traffic, nor is what asked for somebody by name.
    let text = server.get("/stats").await.to_string();
    let stats: slipway_contract::ServerStats = serde_json::from_str(&text).unwrap();
    assert_eq!((stats.requests, stats.errors), (4, 0), "{text}");
    assert_eq!(
        (stats.latency.count(), stats.first_byte.count()),
        (4, 4),
        "{text}"
    );
    assert!(stats.latency.quantile(0.5) >= stats.first_byte.quantile(0.5));
    assert_eq!(server.get("/stats?seconds=3600").await["requests"], 4);
    assert_eq!(server.get("/stats?seconds=0").await["requests"], 0);
    let wrong = server.client.get(format!("{}/stats?seconds=soon", server.url));
    let wrong = wrong.send().await.unwrap();
    assert_eq!(wrong.status(), 400);
    let told: Value = wrong.json().await.unwrap();
    let told = told["error"]["message"].as_str().unwrap();
    assert!(told.contains("write /stats?seconds=60"), "{told}");
}
