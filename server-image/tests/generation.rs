//! Completions and chat against a real process with a tiny decoder and two adapters.

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{Server, events, long, streamed_text, tiny};
use futures::StreamExt;
use serde_json::{Value, json};

struct Files {
    _directory: tempfile::TempDir,
    model: PathBuf,
    adapters: [String; 2],
}

fn files() -> Files {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("base");
    tiny::decoder(&model);
    let adapters = ["formal", "tone"].map(|name| {
        let path = directory.path().join(name);
        tiny::decoder_adapter(&path, 10 + name.len() as u64);
        format!("{name}={}", path.display())
    });
    Files {
        model,
        adapters,
        _directory: directory,
    }
}

async fn server(arguments: &[&str]) -> (Files, Server) {
    let files = files();
    let adapters = ["--adapter", &files.adapters[0], "--adapter", &files.adapters[1]];
    let server = Server::start(&files.model, &[&adapters, arguments].concat()).await;
    (files, server)
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn models_lists_the_base_and_its_adapters() {
    let (_files, server) = server(&[]).await;
    let list = server.get("/v1/models").await;
    let ids: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["base", "formal", "tone"]);
    assert_eq!(list["data"][1]["parent"], "base");
    assert_eq!(server.get("/v1/models/tone").await["max_model_len"], 4096);
}

#[tokio::test]
async fn answers_have_openais_shape() {
    let (_files, server) = server(&[]).await;
    let body =
        json!({"model": "base", "prompt": "once", "max_tokens": 5, "ignore_eos": true, "n": 2, "seed": 3});
    let first = server.post("/v1/completions", &body).await;
    let second = server.post("/v1/completions", &body).await;
    assert_eq!(first["object"], "text_completion");
    assert_eq!(
        first["usage"],
        json!({"prompt_tokens": 4, "completion_tokens": 10, "total_tokens": 14})
    );
    assert_eq!(first["choices"][1]["finish_reason"], "length");
    assert_ne!(first["choices"][0]["text"], first["choices"][1]["text"]);
    assert_eq!(first["choices"], second["choices"]);
    assert_ne!(first["id"], second["id"]);
    assert_eq!(first["system_fingerprint"], second["system_fingerprint"]);

    let messages = json!([{"role": "user", "content": "hi"}]);
    let response = server
        .send(
            "/v1/chat/completions",
            &json!({"model": "tone", "messages": messages}),
        )
        .await;
    assert_eq!(response.headers()["x-slipway-model"], "tone");
    let chat: Value = response.json().await.unwrap();
    assert_eq!(chat["object"], "chat.completion");
    assert_eq!(chat["usage"]["prompt_tokens"], 4);
    assert_eq!(chat["choices"][0]["message"]["role"], "assistant");
    assert!(["stop", "length"].contains(&chat["choices"][0]["finish_reason"].as_str().unwrap()));
}

#[tokio::test]
async fn sixteen_at_once_with_mixed_adapters_answer_as_one_by_one() {
    let (_files, server) = server(&[]).await;
    let bodies: Vec<Value> = (0..16)
        .map(|i| {
            let model = ["base", "formal", "tone"][i % 3];
            let temperature = if i % 2 == 0 { 0.0 } else { 1.0 };
            json!({"model": model, "prompt": "x".repeat(1 + 37 * i), "max_tokens": 24 + i, "seed": i,
                "temperature": temperature, "top_p": 0.95})
        })
        .collect();
    let mut alone = Vec::new();
    for body in &bodies {
        alone.push(server.post("/v1/completions", body).await["choices"].clone());
    }
    let together =
        futures::future::join_all(bodies.iter().map(|body| server.post("/v1/completions", body))).await;
    for (alone, together) in alone.iter().zip(&together) {
        assert_eq!(alone, &together["choices"]);
    }
    // The adapters matter, or the above says little about mixing them.
    let mut greedy = Vec::new();
    for model in ["base", "formal", "tone"] {
        let body =
            json!({"model": model, "prompt": "abc", "max_tokens": 20, "temperature": 0, "ignore_eos": true});
        greedy.push(server.post("/v1/completions", &body).await["choices"][0]["text"].clone());
    }
    assert!(greedy[0] != greedy[1] && greedy[1] != greedy[2] && greedy[0] != greedy[2]);
    assert!(
        server
            .metric("slipway_server_batch_rows_bucket{le=\"1.0\"}")
            .await
            .unwrap()
            < server.metric("slipway_server_batch_rows_count").await.unwrap(),
        "nothing was computed together"
    );
}

#[tokio::test]
async fn a_stream_says_the_same_as_the_whole() {
    let (_files, server) = server(&[]).await;
    let mut body = long("base", "tell", 40);
    let whole = server.post("/v1/completions", &body).await;
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    body["n"] = json!(2);
    let response = server.send("/v1/completions", &body).await;
    assert_eq!(
        response.headers()["content-type"],
        "text/event-stream; charset=utf-8"
    );
    let chunks = events(&response.text().await.unwrap());
    assert_eq!(streamed_text(&chunks, 0), text(&whole));
    assert!(chunks.len() > 40, "the stream came in {} chunks", chunks.len());
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 80);
    assert!(chunks[0]["usage"].is_null());

    let messages = json!([{"role": "user", "content": "hi"}]);
    let mut chat =
        json!({"model": "base", "messages": messages, "max_tokens": 12, "seed": 1, "ignore_eos": true});
    let whole = server.post("/v1/chat/completions", &chat).await;
    chat["stream"] = json!(true);
    let chunks = events(
        &server
            .send("/v1/chat/completions", &chat)
            .await
            .text()
            .await
            .unwrap(),
    );
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(
        streamed_text(&chunks, 0),
        whole["choices"][0]["message"]["content"].as_str().unwrap()
    );
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn stop_strings_end_an_answer_and_never_leak() {
    let (_files, server) = server(&[]).await;
    let mut body = long("base", "tell", 200);
    let whole = server.post("/v1/completions", &body).await;
    let whole = text(&whole).to_owned();
    let characters: Vec<char> = whole.chars().collect();
    let stop: String = characters[20..23].iter().collect();
    let expected = &whole[..whole.find(&stop).unwrap()];
    body["stop"] = json!([stop]);
    body["logprobs"] = json!(1);
    let stopped = server.post("/v1/completions", &body).await;
    assert_eq!(text(&stopped), expected);
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    let offsets = stopped["choices"][0]["logprobs"]["text_offset"]
        .as_array()
        .unwrap();
    let characters = expected.chars().count() as u64;
    assert!(
        offsets.iter().all(|offset| offset.as_u64().unwrap() < characters),
        "{offsets:?}"
    );
    body["stream"] = json!(true);
    let chunks = events(&server.send("/v1/completions", &body).await.text().await.unwrap());
    assert_eq!(streamed_text(&chunks, 0), expected);
}

#[tokio::test]
async fn logprobs_of_prompt_and_answer_add_up() {
    let (_files, server) = server(&[]).await;
    let body = json!({"model": "tone", "prompt": "hello", "max_tokens": 3, "temperature": 0, "echo": true,
        "logprobs": 2, "ignore_eos": true});
    let answer = server.post("/v1/completions", &body).await;
    let found = &answer["choices"][0]["logprobs"];
    assert!(text(&answer).starts_with("hello"));
    assert_eq!(found["tokens"].as_array().unwrap().len(), 8);
    assert_eq!(found["token_logprobs"][0], Value::Null);
    assert_eq!(
        found["text_offset"].as_array().unwrap()[..6],
        [0, 1, 2, 3, 4, 5].map(Value::from)
    );
    for place in 5..8 {
        // Greedy: the chosen token is the most likely one.
        let chosen = found["token_logprobs"][place].as_f64().unwrap();
        let best = found["top_logprobs"][place]
            .as_object()
            .unwrap()
            .values()
            .map(|v| v.as_f64().unwrap());
        assert!((chosen - best.fold(f64::MIN, f64::max)).abs() < 1e-6);
    }
    // The prompt's log-probabilities are those the same tokens have as an answer.
    let tokens: Value = server.post("/tokenize", &json!({"prompt": text(&answer)})).await["tokens"].clone();
    if tokens.as_array().unwrap().len() == 8 {
        let scored = json!({"model": "tone", "prompt": tokens, "max_tokens": 0, "echo": true, "logprobs": 0});
        let scored = server.post("/v1/completions", &scored).await;
        for place in 1..8 {
            let again = scored["choices"][0]["logprobs"]["token_logprobs"][place]
                .as_f64()
                .unwrap();
            assert!(
                (again - found["token_logprobs"][place].as_f64().unwrap()).abs() < 1e-4,
                "token {place}"
            );
        }
    }
    // One token takes a shorter way through the engine; it must lead to the same place.
    let one = json!({"model": "tone", "prompt": "hello", "max_tokens": 1, "temperature": 0, "echo": true,
        "logprobs": 2, "ignore_eos": true});
    let one = server.post("/v1/completions", &one).await;
    assert_eq!(one["choices"][0]["logprobs"]["tokens"][5], found["tokens"][5]);
}

#[tokio::test]
async fn tokens_go_back_and_forth() {
    let (_files, server) = server(&[]).await;
    let text = "naïve 日本 🎉";
    let tokens = server
        .post("/tokenize", &json!({"prompt": text, "return_token_strs": true}))
        .await;
    assert_eq!(tokens["count"], text.len());
    assert_eq!(tokens["token_strs"][2], "bytes:\\xc3");
    let back = server
        .post("/detokenize", &json!({"tokens": tokens["tokens"]}))
        .await;
    assert_eq!(back["prompt"], text);
    let chat = json!({"messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(
        server.post("/tokenize", &chat).await["tokens"],
        json!([257, 104, 105, 258])
    );
    assert_eq!(server.get("/tokenizer_info").await["eos_token"], "<eos>");
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place() {
    let (_files, server) = server(&["--max-batch", "1"]).await;
    let mut body = long("base", "a", 4000);
    body["stream"] = json!(true);
    let response = server.send("/v1/completions", &body).await;
    let mut stream = response.bytes_stream();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    // The only place is free again long before 4,000 tokens are.
    let start = Instant::now();
    server.post("/v1/completions", &long("base", "b", 4)).await;
    let took = start.elapsed();
    assert_eq!(
        server
            .metric("vllm:request_success_total{model_name=\"base\",finished_reason=\"abort\"}")
            .await,
        Some(1.0),
        "the answer took {took:?}"
    );
    assert!(
        server
            .metric("vllm:generation_tokens_total{model_name=\"base\"}")
            .await
            .unwrap()
            < 4000.0
    );
}

#[tokio::test]
async fn a_full_queue_answers_429() {
    let (_files, server) = server(&["--max-batch", "1", "--max-queue", "1"]).await;
    let mut body = long("base", "a", 4000);
    body["stream"] = json!(true);
    let mut running = server.send("/v1/completions", &body).await.bytes_stream();
    running.next().await.unwrap().unwrap();
    let request = long("base", "b", 1);
    let waiting = tokio::spawn({
        let (client, url, request) = (server.client.clone(), server.url.clone(), request.clone());
        async move {
            client
                .post(format!("{url}/v1/completions"))
                .json(&request)
                .send()
                .await
                .unwrap()
                .status()
        }
    });
    while server.metric("vllm:num_requests_waiting").await != Some(1.0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = server.send("/v1/completions", &request).await;
    assert_eq!(refused.status(), 429);
    assert!(
        refused.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= 1
    );
    drop(running);
    assert_eq!(waiting.await.unwrap(), 200);
    assert_eq!(server.send("/v1/completions", &request).await.status(), 200);
}

#[tokio::test]
async fn sigterm_lets_every_stream_end() {
    let (_files, server) = server(&[]).await;
    let mut body = long("base", "a", 1500);
    body["stream"] = json!(true);
    let mut stream = server.send("/v1/completions", &body).await.bytes_stream();
    let mut received = stream.next().await.unwrap().unwrap().to_vec();
    server.signal("TERM");
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Not ready, but a request that comes before the load balancer knows is answered.
    assert_eq!(server.health().await, Some(503));
    let late = server.send("/v1/completions", &long("base", "b", 2)).await;
    assert_eq!(late.status(), 200);
    assert_eq!(late.headers()["connection"], "close");
    while let Some(chunk) = stream.next().await {
        received.extend_from_slice(&chunk.unwrap());
    }
    let chunks = events(&String::from_utf8(received).unwrap());
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_drain_ends_when_its_time_is_over() {
    let (_files, server) = server(&["--drain-seconds", "0", "--lame-duck-seconds", "0"]).await;
    let mut body = long("base", "a", 4000);
    body["stream"] = json!(true);
    let mut stream = server.send("/v1/completions", &body).await.bytes_stream();
    stream.next().await.unwrap().unwrap();
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn mistakes_get_sentences_that_help() {
    let (_files, server) = server(&["--max-tokens", "100", "--max-body-bytes", "5000"]).await;
    let completions = "/v1/completions";
    let chat = "/v1/chat/completions";
    let messages = json!([{"role": "user", "content": "hi"}]);
    for (path, body, status, parts) in [
        (
            completions,
            json!({"model": "none", "prompt": "a"}),
            404,
            vec!["\"none\"", "base, formal, tone"],
        ),
        (
            chat,
            json!({"model": "none", "messages": messages}),
            404,
            vec!["base, formal, tone"],
        ),
        (
            completions,
            json!({"model": "base", "prompt": "a".repeat(90)}),
            400,
            vec!["90 tokens", "16 more", "takes 100"],
        ),
        (
            chat,
            json!({"model": "base", "messages": [{"role": "user", "content": "a".repeat(120)}]}),
            400,
            vec!["122 tokens", "takes 100"],
        ),
        (
            completions,
            json!({"model": "base", "prompt": ""}),
            400,
            vec!["prompt is empty"],
        ),
        (
            completions,
            json!({"model": "base", "prompt": [5000]}),
            400,
            vec!["5000", "ends at 258"],
        ),
        (
            completions,
            json!({"model": "base", "prompt": "a", "best_of": 3}),
            400,
            vec!["best_of"],
        ),
        (
            chat,
            json!({"model": "base", "messages": messages, "tools": [{"type": "function"}]}),
            400,
            vec!["tools"],
        ),
        (
            "/v1/embeddings",
            json!({"model": "base", "input": "a"}),
            400,
            vec!["/v1/chat/completions", "--task"],
        ),
        ("/predict", json!({"inputs": "a"}), 400, vec!["continues text"]),
        ("/detokenize", json!({"tokens": [999]}), 400, vec!["999"]),
        ("/tokenize", json!({}), 400, vec!["either prompt or messages"]),
        (
            "/v2/chat",
            json!({}),
            404,
            vec!["/v2/chat", "/v1/chat/completions"],
        ),
        ("/v1/models", json!({}), 405, vec!["use GET"]),
        (
            completions,
            json!({"model": "base", "prompt": "a".repeat(6000)}),
            413,
            vec!["5000 bytes", "--max-body-bytes"],
        ),
    ] {
        let (found, error) = server.refused(path, &body).await;
        let message = error["message"].as_str().unwrap();
        assert_eq!(found, status, "{path}: {message}");
        for part in parts {
            assert!(message.contains(part), "{path}: {part:?} is not in {message:?}");
        }
    }
    let broken = server
        .client
        .post(format!("{}{completions}", server.url))
        .body("{\"model\": base}")
        .send()
        .await;
    let broken = broken.unwrap();
    assert_eq!(broken.status(), 400);
    assert!(broken.text().await.unwrap().contains("line 1 column 11"));
    // Nothing of this hurt the server.
    server.post(completions, &long("base", "a", 2)).await;
}
