//! Starting: what is served under which name, and failures with exit code and termination message.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{Server, command, free_port, tiny};
use serde_json::{Value, json};

/// Exit code and reported failure of a start that must fail.
fn failure(arguments: &[&str]) -> (Option<i32>, Value) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let done = command(&[&["--listen", &listen], arguments].concat())
        .env("SLIPWAY_TERMINATION_LOG", log.path())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let report: Value = serde_json::from_slice(&std::fs::read(log.path()).unwrap()).unwrap();
    (done.code(), report["failure"].clone())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn bad_models_end_with_their_reason() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    tiny::decoder(&at("good"));
    tiny::encoder(&at("encoder"), None);
    tiny::decoder(&at("unknown"));
    std::fs::write(
        at("unknown/config.json"),
        json!({"model_type": "mamba", "architectures": ["MambaLM"]}).to_string(),
    )
    .unwrap();
    tiny::decoder(&at("pickle"));
    std::fs::rename(at("pickle/model.safetensors"), at("pickle/pytorch_model.bin")).unwrap();
    tiny::decoder(&at("cut"));
    let bytes = std::fs::read(at("cut/model.safetensors")).unwrap();
    std::fs::write(at("cut/model.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    tiny::decoder(&at("mute"));
    std::fs::remove_file(at("mute/tokenizer.json")).unwrap();
    tiny::classifier_adapter(&at("other"), 1, &["a", "b"]);

    let wrong_adapter = format!("x={}", path(&at("other")));
    for (arguments, code, reason, part) in [
        (
            vec!["--model", path(&at("nowhere"))],
            3,
            "ModelNotFound",
            "nowhere",
        ),
        (
            vec!["--model", path(&at("unknown"))],
            3,
            "UnsupportedArchitecture",
            "Llama",
        ),
        (
            vec!["--model", path(&at("pickle"))],
            3,
            "UnsafeWeights",
            "safetensors",
        ),
        (
            vec!["--model", path(&at("cut"))],
            3,
            "InvalidModel",
            "model.safetensors",
        ),
        (
            vec!["--model", path(&at("mute"))],
            3,
            "InvalidModel",
            "tokenizer.json",
        ),
        (
            vec!["--model", path(&at("good")), "--adapter", &wrong_adapter],
            3,
            "InvalidModel",
            "other",
        ),
        (
            vec!["--model", path(&at("encoder")), "--task", "CausalLM"],
            2,
            "InvalidConfig",
            "CausalLM",
        ),
        (
            vec!["--model", path(&at("good")), "--max-tokens", "99999"],
            2,
            "InvalidConfig",
            "4096",
        ),
        (
            vec!["--model", path(&at("good")), "--listen", "nonsense"],
            2,
            "InvalidConfig",
            "HOST:PORT",
        ),
        (
            vec!["--config", "/nowhere.yaml"],
            2,
            "InvalidConfig",
            "/nowhere.yaml",
        ),
    ] {
        let (found, failure) = failure(&arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {failure}");
        assert_eq!(failure["reason"], reason, "{arguments:?}: {failure}");
        assert!(
            failure["message"].as_str().unwrap().contains(part),
            "{arguments:?}: {failure}"
        );
    }
}

#[test]
fn a_port_in_use_may_be_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    tiny::decoder(directory.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, failure) = failure(&["--model", path(directory.path()), "--listen", &address]);
    assert_eq!(code, Some(4));
    assert!(
        failure["message"].as_str().unwrap().contains(&address),
        "{failure}"
    );
}

#[tokio::test]
async fn while_it_loads_it_lives_but_is_not_ready() {
    // A Hub that takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let server = Server::spawn(Path::new("hf://acme/model"), &["--hub-endpoint", &endpoint]);
    while server.health().await.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let health = server
        .client
        .get(format!("{}/health", server.url))
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), 503);
    assert_eq!(health.json::<Value>().await.unwrap()["status"], "loading");
    assert_eq!(server.get("/healthz").await["status"], "live");
    let refused = server
        .send("/v1/completions", &json!({"model": "base", "prompt": "a"}))
        .await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn an_adapter_as_model_serves_itself_and_its_base() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    tiny::decoder(&at("origin"));
    tiny::decoder_adapter(&at("tuned"), 3);
    let file = at("tuned/adapter_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    config["base_model_name_or_path"] = json!(path(&at("origin")));
    std::fs::write(&file, config.to_string()).unwrap();
    let yaml = at("serve.yaml");
    let listen = format!("127.0.0.1:{}", free_port());
    std::fs::write(
        &yaml,
        format!(
            "name: answers\nmodel: {{path: {}}}\nlisten: {listen}\n",
            path(&at("tuned"))
        ),
    )
    .unwrap();
    let mut process = command(&["--config", path(&yaml)]).spawn().unwrap();
    let client = reqwest::Client::new();
    let url = format!("http://{listen}");
    let models = loop {
        let response = client.get(format!("{url}/v1/models")).send().await;
        match response {
            Ok(response) if response.status() == 200 => break response.json::<Value>().await.unwrap(),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        assert!(process.try_wait().unwrap().is_none(), "the server ended");
    };
    let names: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["answers", "origin"]);
    let mut texts = Vec::new();
    for name in names {
        let body =
            json!({"model": name, "prompt": "abc", "max_tokens": 20, "temperature": 0, "ignore_eos": true});
        let answer = client
            .post(format!("{url}/v1/completions"))
            .json(&body)
            .send()
            .await
            .unwrap();
        texts.push(answer.json::<Value>().await.unwrap()["choices"][0]["text"].clone());
    }
    assert_ne!(texts[0], texts[1]);
    process.kill().unwrap();
    process.wait().unwrap();
}
