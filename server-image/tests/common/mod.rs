//! A server as a process, and tiny models for it to serve.

// Each test binary uses a part of this.
#![allow(dead_code, unreachable_pub)]

pub mod tiny;

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A running `slipway-server`; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    pub client: reqwest::Client,
}

/// The command with its environment freed of what the machine may have set.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway-server"));
    command
        .args(arguments)
        .env_remove("HF_TOKEN")
        .env_remove("HF_ENDPOINT")
        .env("SLIPWAY_TERMINATION_LOG", "/dev/null")
        .stdout(Stdio::null());
    command
}

/// A port nobody listens on now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub async fn start(model: &Path, arguments: &[&str]) -> Self {
        let server = Self::spawn(model, arguments);
        let start = Instant::now();
        while server.health().await != Some(200) {
            assert!(
                start.elapsed() < Duration::from_mins(1),
                "the server did not become ready"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    /// Starts a server.
    pub fn spawn(model: &Path, arguments: &[&str]) -> Self {
        let listen = format!("127.0.0.1:{}", free_port());
        let model = model.to_str().unwrap();
        let arguments = [
            &[
                "--model",
                model,
                "--listen",
                &listen,
                "--name",
                "base",
                "--lame-duck-seconds",
                "0.3",
            ],
            arguments,
        ]
        .concat();
        let child = command(&arguments).spawn().unwrap();
        Self {
            child,
            url: format!("http://{listen}"),
            client: reqwest::Client::new(),
        }
    }

    /// The status of `/health`, once the server listens.
    pub async fn health(&self) -> Option<u16> {
        let response = self
            .client
            .get(format!("{}/health", self.url))
            .send()
            .await
            .ok()?;
        Some(response.status().as_u16())
    }

    pub async fn get(&self, path: &str) -> Value {
        let response = self
            .client
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    pub async fn send(&self, path: &str, body: &Value) -> reqwest::Response {
        self.client
            .post(format!("{}{path}", self.url))
            .json(body)
            .send()
            .await
            .unwrap()
    }

    /// The answer to a request that must succeed.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let response = self.send(path, body).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, 200, "{path} {body}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Status and `error` of a request that must fail.
    pub async fn refused(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.send(path, body).await;
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap();
        assert!(
            status >= 400 && body["error"]["message"].is_string(),
            "{status}: {body}"
        );
        (status, body["error"].clone())
    }

    pub async fn metric(&self, line: &str) -> Option<f64> {
        let text = self
            .client
            .get(format!("{}/metrics", self.url))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        text.lines()
            .find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the process to end.
    pub async fn ended(mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "the server did not end"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A completion request that runs to its full length.
pub fn long(model: &str, prompt: &str, max_tokens: usize) -> Value {
    json!({"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 1, "seed": 7,
        "ignore_eos": true})
}

/// The JSON of each event, without `[DONE]`, which must be the last.
pub fn events(stream: &str) -> Vec<Value> {
    let mut lines: Vec<&str> = stream.split("\n\n").filter(|event| !event.is_empty()).collect();
    assert_eq!(lines.pop(), Some("data: [DONE]"), "{stream}");
    lines
        .iter()
        .map(|line| serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap())
        .collect()
}

/// The text that the chunks of one completion choice add up to.
pub fn streamed_text(events: &[Value], index: u64) -> String {
    events
        .iter()
        .filter_map(|event| {
            event["choices"]
                .as_array()?
                .iter()
                .find(|choice| choice["index"] == index)
        })
        .filter_map(|choice| {
            choice["text"]
                .as_str()
                .or_else(|| choice["delta"]["content"].as_str())
        })
        .collect()
}
