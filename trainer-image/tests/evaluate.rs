//! `slipway-trainer evaluate`: real processes on tiny models, and a server over HTTP.

mod support;

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use support::Bench;

/// A classifier that learned which words are good, at `good`; and data to measure on.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.sentiment("data/train.jsonl", 80);
    bench.sentiment("data/test.jsonl", 40);
    bench
}

fn config(bench: &Bench, model: &str) -> Value {
    json!({
        "target": { "model": { "path": bench.path(model) } },
        "task": "SequenceClassification",
        "dataset": { "source": { "path": bench.path("data") } },
        "metrics": [{ "name": "accuracy" }, { "name": "f1", "average": "macro" }],
    })
}

fn evaluate(bench: &Bench, run: &str, config: &Value) -> Output {
    bench.run("evaluate", run, config).output().unwrap()
}

fn outcome(bench: &Bench, run: &str, config: &Value) -> Value {
    let output = evaluate(bench, run, config);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    bench.report(run)["outcome"].clone()
}

fn refused(bench: &Bench, run: &str, config: &Value, code: i32, reason: &str) -> String {
    let output = evaluate(bench, run, config);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let failure = bench.report(run)["failure"].clone();
    assert_eq!(failure["reason"], reason, "{failure}");
    failure["message"].as_str().unwrap().to_owned()
}

#[test]
fn an_adapter_is_measured_compared_and_judged() {
    let bench = bench();
    let mut training = bench.config("good", "bert", "data");
    training["hyperparameters"] = json!({
        "epochs": 8.0, "batchSize": 8, "learningRate": 0.02, "maxSequenceLength": 32, "warmupSteps": 4,
    });
    training["dataset"]["validation"] = json!({ "split": "test" });
    let trained = bench.trained("good", &training);
    training["output"]["directory"] = json!(bench.path("poor"));
    training["checkpoint"]["directory"] = json!(bench.path("poor-checkpoints"));
    training["hyperparameters"] = json!({ "maxSteps": 1, "batchSize": 8, "maxSequenceLength": 32 });
    bench.trained("poor", &training);

    let mut config = config(&bench, "good");
    config["baseline"] = json!({ "model": { "path": bench.path("poor") }, "metric": "accuracy" });
    config["thresholds"] = json!([{ "metric": "accuracy", "min": 0.7 }]);
    config["predictions"] = json!(bench.path("predictions.jsonl"));
    let first = outcome(&bench, "first", &config);
    assert_eq!(first["verdict"], "Passed", "{first}");
    assert_eq!(first["results"][0]["examples"], 40);
    assert_eq!(first["results"][1]["average"], "macro");

    // Training measured the same split at its end.
    let metrics = trained["metrics"].as_array().unwrap();
    let measured = |name: &str| {
        metrics.iter().find(|metric| metric["name"] == name).unwrap()["value"]
            .as_f64()
            .unwrap()
    };
    for (name, at) in [("evalAccuracy", 0), ("evalF1", 1)] {
        let value = first["results"][at]["value"].as_f64().unwrap();
        assert!(
            (measured(name) - value).abs() < 1e-6,
            "{name}: {} {value}",
            measured(name)
        );
    }

    // The figures are those of the predictions written.
    let lines = std::fs::read_to_string(bench.path("predictions.jsonl")).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let share =
        |model: &dyn Fn(&Value) -> bool| lines.iter().filter(|line| model(line)).count() as f64 / 40.0;
    let ours = share(&|line| line["reference"] == line["prediction"]);
    let theirs = share(&|line| line["baseline"]["reference"] == line["baseline"]["prediction"]);
    assert!((first["results"][0]["value"].as_f64().unwrap() - ours).abs() < 1e-12);
    assert!((first["comparison"]["difference"].as_f64().unwrap() - (ours - theirs)).abs() < 1e-12);
    assert!(ours > theirs, "{ours} {theirs}");

    // Nothing depends on time or on how texts share batches.
    config["batchSize"] = json!(3);
    assert_eq!(outcome(&bench, "second", &config), first);

    config["thresholds"] = json!([{ "metric": "accuracy", "max": 0.1 }]);
    let failed = outcome(&bench, "failed", &config);
    assert_eq!(failed["verdict"], "Failed", "a verdict is a result, not an error");
}

#[test]
fn perplexity_is_measured_over_the_answers() {
    let bench = bench();
    bench.instructions("prompts/test.jsonl", 12);
    let mut config = config(&bench, "llama");
    config["task"] = json!("CausalLM");
    config["dataset"]["source"]["path"] = json!(bench.path("prompts"));
    config["metrics"] = json!([{ "name": "perplexity" }]);
    config["baseline"] = json!({ "model": { "path": bench.path("llama") }, "metric": "perplexity" });
    let found = outcome(&bench, "perplexity", &config);
    let result = &found["results"][0];
    // Random weights know next to nothing: about as surprised as by an even draw from the vocabulary.
    let value = result["value"].as_f64().unwrap();
    assert!((15.0..60.0).contains(&value), "{value}");
    assert!(result["confidenceInterval"]["low"].as_f64().unwrap() <= value);
    assert_eq!(found["comparison"]["difference"], 0.0);
}

#[test]
fn what_cannot_work_is_refused_with_its_fix() {
    let bench = bench();
    let mut wrong = config(&bench, "bert");
    wrong["metrics"] = json!([{ "name": "perplexity" }]);
    let message = refused(&bench, "metric", &wrong, 2, "InvalidConfig");
    assert!(
        message.contains("perplexity cannot be computed for task SequenceClassification"),
        "{message}"
    );

    let mut wrong = config(&bench, "bert");
    wrong["thresholds"] = json!([{ "metric": "recall", "min": 0.5 }]);
    let message = refused(&bench, "threshold", &wrong, 2, "InvalidConfig");
    assert!(message.contains("recall, which is not computed"), "{message}");

    let mut wrong = config(&bench, "bert");
    wrong["confidence"] = json!(1.0);
    refused(&bench, "confidence", &wrong, 2, "InvalidConfig");

    let mut wrong = config(&bench, "bert");
    wrong["dataset"]["split"] = json!("nowhere");
    let message = refused(&bench, "split", &wrong, 3, "DatasetNotFound");
    assert!(
        message.contains("`nowhere`") && message.contains("`test`"),
        "{message}"
    );

    let message = refused(&bench, "headless", &config(&bench, "bert"), 3, "InvalidModel");
    assert!(
        message.contains("head") || message.contains("classifier"),
        "{message}"
    );
}

/// Serves `/predict` on a free port: `answer` gets the texts and how many requests came before.
fn serve(answer: impl Fn(&[String], usize) -> Response + Send + Sync + 'static) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (answer, requests) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
            let predict = move |headers: HeaderMap, Json(body): Json<Value>| async move {
                if headers
                    .get("x-slipway-variant")
                    .is_none_or(|name| name != "candidate")
                {
                    return StatusCode::NOT_FOUND.into_response();
                }
                let texts: Vec<String> = serde_json::from_value(body["inputs"].clone()).unwrap();
                answer(&texts, requests.fetch_add(1, Ordering::SeqCst))
            };
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, Router::new().route("/predict", post(predict)))
                .await
                .unwrap();
        });
    });
    format!("http://{address}")
}

fn classes(texts: &[String]) -> Value {
    let class = |text: &String| {
        let good = support::WORDS[..5].iter().any(|word| text.starts_with(word));
        let score = if good { 0.9 } else { 0.2 };
        json!([{ "label": "positive", "score": score }, { "label": "negative", "score": 1.0 - score }])
    };
    texts.iter().map(class).collect()
}

fn endpoint(bench: &Bench, url: &str) -> Value {
    let mut config = config(bench, "none");
    config["target"] = json!({ "endpoint": { "url": url, "variant": "candidate" } });
    config["batchSize"] = json!(8);
    config
}

#[test]
fn a_busy_server_is_asked_again_until_every_example_is_answered() {
    let bench = bench();
    let url = serve(|texts, before| match before {
        1 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")], "").into_response(),
        3 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        4 => Json(json!([])).into_response(),
        _ => Json(classes(texts)).into_response(),
    });
    let found = outcome(&bench, "served", &endpoint(&bench, &url));
    assert_eq!(found["results"][0]["value"], 1.0, "{found}");
    assert_eq!(found["results"][0]["examples"], 40);
}

#[test]
fn the_example_a_server_refuses_is_named() {
    let bench = bench();
    let url = serve(|texts, _| {
        if texts.iter().any(|text| text.starts_with("gain")) {
            let body = json!({ "error": { "message": "the text is too long" } });
            return (StatusCode::BAD_REQUEST, Json(body)).into_response();
        }
        Json(classes(texts)).into_response()
    });
    let message = refused(&bench, "refused", &endpoint(&bench, &url), 3, "InvalidRow");
    assert!(
        message.contains("example 9 ") && message.contains("the text is too long"),
        "{message}"
    );
}

#[test]
fn the_scores_of_a_server_give_an_area_if_there_is_one_for_every_class() {
    let bench = bench();
    let url = serve(|texts, _| Json(classes(texts)).into_response());
    let mut config = endpoint(&bench, &url);
    config["metrics"] = json!([{ "name": "rocAuc" }, { "name": "matthewsCorrelation" }]);
    let found = outcome(&bench, "area", &config);
    assert_eq!(found["results"][0]["value"], 1.0, "{found}");
    assert_eq!(found["results"][1]["value"], 1.0, "{found}");

    let url = serve(|texts, _| {
        let mut scored = classes(texts);
        for one in scored.as_array_mut().unwrap() {
            let likeliest = usize::from(one[1]["score"].as_f64() > one[0]["score"].as_f64());
            *one = json!([one[likeliest]]);
        }
        Json(scored).into_response()
    });
    config["target"]["endpoint"]["url"] = json!(url);
    let message = refused(&bench, "unscored", &config, 2, "InvalidConfig");
    assert!(
        message.contains("without a score for every class, which rocAuc needs"),
        "{message}"
    );
    // Which class is the likeliest is enough for the others.
    config["metrics"] = json!([{ "name": "matthewsCorrelation" }]);
    assert_eq!(outcome(&bench, "likeliest", &config)["results"][0]["value"], 1.0);
}

#[test]
fn answers_are_compared_with_their_references() {
    let bench = bench();
    bench.instructions("prompts/test.jsonl", 12);
    let mut config = config(&bench, "llama");
    config["task"] = json!("CausalLM");
    config["dataset"]["source"]["path"] = json!(bench.path("prompts"));
    config["metrics"] = json!([{ "name": "chrf" }, { "name": "ter" }, { "name": "perplexity" }]);
    config["baseline"] = json!({ "model": { "path": bench.path("llama") }, "metric": "ter" });
    config["maxNewTokens"] = json!(4);
    config["predictions"] = json!(bench.path("predictions.jsonl"));
    let found = outcome(&bench, "answers", &config);
    assert_eq!(found["results"][0]["examples"], 12);
    assert_eq!(found["comparison"]["difference"], 0.0);
    let lines = std::fs::read_to_string(bench.path("predictions.jsonl")).unwrap();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(
            line["prediction"].as_str().unwrap().split_whitespace().count() <= 4,
            "{line}"
        );
        assert_eq!(line["prediction"], line["baseline"]["prediction"]);
        assert!(line["tokens"].as_u64().unwrap() > 0, "{line}");
    }
    // How answers share batches does not matter.
    config["batchSize"] = json!(5);
    assert_eq!(outcome(&bench, "batches", &config), found);

    bench.file("texts/test.jsonl", "{\"text\": \"no question\"}\n");
    config["dataset"]["source"]["path"] = json!(bench.path("texts"));
    let message = refused(&bench, "texts", &config, 3, "InvalidRow");
    assert!(
        message.contains("example 1 ") && message.contains("no answer to compare with"),
        "{message}"
    );

    config["metrics"] = json!([{ "name": "meteor" }]);
    config["baseline"] = Value::Null;
    config["lexicon"] = json!(bench.path("nowhere"));
    let message = refused(&bench, "lexicon", &config, 2, "InvalidConfig");
    assert!(
        message.contains("corpora/wordnet") && message.contains("nltk.downloader"),
        "{message}"
    );
}

#[test]
fn a_server_with_other_labels_or_without_the_variant_is_told() {
    let bench = bench();
    let url = serve(|texts, _| {
        Json(json!(vec![
            json!([{ "label": "spam", "score": 1.0 }]);
            texts.len()
        ]))
        .into_response()
    });
    let message = refused(&bench, "labels", &endpoint(&bench, &url), 3, "LabelMismatch");
    assert!(
        message.contains("`positive`") && message.contains("`spam`"),
        "{message}"
    );
    let mut other = endpoint(&bench, &url);
    other["target"]["endpoint"]["variant"] = json!("nobody");
    let message = refused(&bench, "variant", &other, 2, "InvalidConfig");
    assert!(message.contains("404"), "{message}");
}
