//! A test Hub of its own for each test: `slipway-hub` on a free port, with faults to inject.
#![allow(dead_code)] // each test file uses its part

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_hub::{Client, Retry, Token};

/// A running Hub; it ends with this value.
pub struct Hub {
    process: Child,
    _data: tempfile::TempDir,
    pub endpoint: String,
}

fn binary() -> PathBuf {
    let cache = std::env::var_os("SLIPWAY_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/slipway"),
        PathBuf::from,
    );
    cache.join("bin/slipway-hub")
}

impl Hub {
    /// `None`, with a message, where the binary is not built and nothing insists on it.
    pub fn start() -> Option<Self> {
        let binary = binary();
        if !binary.exists() {
            let insisted = ["CI", "SLIPWAY_REQUIRE_HUB"]
                .iter()
                .any(|name| std::env::var_os(name).is_some());
            assert!(!insisted, "{} is missing; run e2e/hub/build.sh", binary.display());
            eprintln!("skipped: {} is missing; run e2e/hub/build.sh", binary.display());
            return None;
        }
        for _ in 0..5 {
            let data = tempfile::tempdir().unwrap();
            let port = std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let mut process = Command::new(&binary)
                .args(["--listen", &format!("127.0.0.1:{port}"), "--faults", "--data"])
                .arg(data.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let hub_is_up = wait_for(port);
            if hub_is_up && process.try_wait().unwrap().is_none() {
                return Some(Self {
                    process,
                    _data: data,
                    endpoint: format!("http://127.0.0.1:{port}"),
                });
            }
            // Another test took the port in between.
            process.kill().ok();
            if let Some(output) = process.stdout.take() {
                BufReader::new(output)
                    .lines()
                    .map_while(Result::ok)
                    .for_each(|line| eprintln!("{line}"));
            }
            process.wait().ok();
        }
        panic!("slipway-hub did not come up");
    }

    pub fn client(&self, token: Option<&str>) -> Client {
        Client::new(&self.endpoint, token.and_then(Token::new))
            .unwrap()
            .with_retry(Retry {
                first_pause: Duration::from_millis(20),
                longest_pause: Duration::from_millis(200),
                ..Retry::default()
            })
    }

    /// The user `owner`, who may write to `owner/…` and `acme/…`.
    pub fn owner(&self) -> Client {
        self.client(Some("hf_owner"))
    }

    /// Injects `fault` (see `e2e/hub/internal/faults`).
    pub async fn fault(&self, fault: Value) {
        let response = reqwest::Client::new()
            .post(format!("{}/_faults", self.endpoint))
            .body(fault.to_string())
            .send()
            .await
            .unwrap();
        assert!(
            response.status().is_success(),
            "{}",
            response.text().await.unwrap()
        );
    }

    /// Requests answered so far whose `METHOD /path` contains `part`.
    pub async fn requests(&self, part: &str) -> u64 {
        let response = reqwest::get(format!("{}/_requests", self.endpoint))
            .await
            .unwrap();
        let counts: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        let counts = counts.get("requests").unwrap_or(&counts);
        counts
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| key.contains(part))
            .map(|(_, count)| count.as_u64().unwrap())
            .sum()
    }

    /// `PUT` of settings and the like, as `owner`.
    pub async fn put(&self, path: &str, body: Value) {
        self.send(reqwest::Method::PUT, path, body).await;
    }

    /// `POST` of what the client under test does not do itself, as `owner`.
    pub async fn post(&self, path: &str, body: Value) {
        self.send(reqwest::Method::POST, path, body).await;
    }

    async fn send(&self, method: reqwest::Method, path: &str, body: Value) {
        let response = reqwest::Client::new()
            .request(method, format!("{}{path}", self.endpoint))
            .bearer_auth("hf_owner")
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        assert!(
            response.status().is_success(),
            "{}",
            response.text().await.unwrap()
        );
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn wait_for(port: u16) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// A fault that answers `times` matching requests with `status`.
pub fn status(pattern: &str, status: u16, times: u32) -> Value {
    json!({"match": pattern, "status": status, "times": times})
}

/// Bytes that do not compress and do not repeat.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
