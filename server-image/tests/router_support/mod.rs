//! A router as a process, and servers behind it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// What a test sees and changes of a server behind the router.
#[derive(Debug)]
pub struct State {
    pub name: String,
    pub healthy: AtomicBool,
    pub requests: AtomicUsize,
    pub connections: AtomicUsize,
    /// `/hang` requests that were given up on.
    pub cancelled: AtomicUsize,
    /// Each permit lets `/stream` send one more chunk.
    pub chunks: Semaphore,
}

/// A server; it ends, connections and all, with this value.
#[derive(Debug)]
pub struct Backend {
    pub address: SocketAddr,
    pub state: Arc<State>,
    accepting: AbortHandle,
}

impl Backend {
    pub async fn start(name: &str) -> Self {
        Self::start_at(name, "127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(name: &str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            name: name.into(),
            healthy: AtomicBool::new(true),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            chunks: Semaphore::new(0),
        });
        let shared = state.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let state = shared.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(request, state.clone()));
                    let builder = hyper::server::conn::http1::Builder::new();
                    builder.serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        Self {
            address,
            state,
            accepting: accepting.abort_handle(),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

type Body = BoxBody<Bytes, Infallible>;

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

/// Counts a request that ended before its answer.
struct Cancelled(Arc<State>);

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.0.cancelled.fetch_add(1, Ordering::Relaxed);
    }
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    if path != "/health" {
        state.requests.fetch_add(1, Ordering::Relaxed);
    }
    let mut response = match path.as_str() {
        "/health" => {
            let mut response = Response::new(full("ok"));
            if !state.healthy.load(Ordering::Relaxed) {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
        "/stream" => {
            let chunks = futures::stream::iter(0..3).then(move |number| {
                let state = state.clone();
                async move {
                    state.chunks.acquire().await.unwrap().forget();
                    Ok(Frame::data(Bytes::from(format!("data: {number}\n\n"))))
                }
            });
            Response::new(BodyExt::boxed(StreamBody::new(chunks)))
        }
        "/hang" => {
            let _guard = Cancelled(state);
            std::future::pending().await
        }
        "/echo" => {
            let (parts, body) = request.into_parts();
            let bytes = body.collect().await?.to_bytes();
            let headers: serde_json::Map<String, Value> = parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap_or("?"))))
                .collect();
            let sum: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
            let text = json!({
                "method": parts.method.as_str(), "path": parts.uri.to_string(), "headers": headers,
                "bytes": bytes.len(), "sum": sum,
            });
            Response::new(full(text.to_string()))
        }
        _ => Response::new(full(state.name.clone())),
    };
    response
        .headers_mut()
        .insert("connection", "x-secret".parse().unwrap());
    response.headers_mut().insert("x-secret", "1".parse().unwrap());
    Ok(response)
}

/// A running router; killed when dropped.
#[derive(Debug)]
pub struct Router {
    child: Child,
    pub url: String,
    pub metrics: String,
    table: PathBuf,
    folder: tempfile::TempDir,
    generation: usize,
    pub client: reqwest::Client,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Router {
    pub async fn start(table: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (listen, metrics) = (free_port(), free_port());
        let path = folder.path().join("routes.yaml");
        let mut router = Self {
            child: Command::new("true").spawn().unwrap(),
            url: format!("http://127.0.0.1:{listen}"),
            metrics: format!("http://127.0.0.1:{metrics}"),
            table: path.clone(),
            folder,
            generation: 0,
            client: reqwest::Client::new(),
        };
        router.child.wait().unwrap();
        router.write(&table.to_string());
        router.child = Command::new(env!("CARGO_BIN_EXE_slipway-router"))
            .arg("--routes")
            .arg(&path)
            .args(["--listen", &format!("127.0.0.1:{listen}")])
            .args(["--metrics-listen", &format!("127.0.0.1:{metrics}")])
            .args(["--shutdown-delay-seconds", "1", "--drain-seconds", "20"])
            .stderr(Stdio::inherit())
            .env("RUST_LOG", "warn")
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !router.is_ready().await {
            assert!(Instant::now() < deadline, "the router did not become ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        router
    }

    pub async fn is_ready(&self) -> bool {
        let response = self.client.get(format!("{}/readyz", self.metrics)).send().await;
        response.is_ok_and(|response| response.status().is_success())
    }

    /// Puts a new table in place as a ConfigMap volume does: a folder of its own, and a symbolic link swapped.
    pub fn write(&mut self, text: &str) {
        self.generation += 1;
        let folder = self.folder.path().join(format!("..{}", self.generation));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("routes.yaml"), text).unwrap();
        let link = self.folder.path().join("..data");
        let beside = self.folder.path().join("..data_tmp");
        std::os::unix::fs::symlink(&folder, &beside).unwrap();
        std::fs::rename(&beside, &link).unwrap();
        if !self.table.is_symlink() {
            std::os::unix::fs::symlink(Path::new("..data/routes.yaml"), &self.table).unwrap();
        }
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap()
    }

    /// The arm that answers a request with `header`.
    pub async fn arm(&self, header: (&str, &str)) -> String {
        let request = self
            .client
            .get(format!("{}/", self.url))
            .header(header.0, header.1);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let arm = response.headers()["x-slipway-variant"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(response.text().await.unwrap(), arm);
        arm
    }

    /// The value of a sample line of `/metrics`.
    pub async fn sample(&self, line: &str) -> Option<f64> {
        let text = reqwest::get(format!("{}/metrics", self.metrics))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let found = text
            .lines()
            .find_map(|known| known.strip_prefix(line)?.strip_prefix(' '));
        found.map(|value| value.parse().unwrap())
    }

    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end; its exit code.
    pub async fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the router did not end");
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs a router that is to fail at once.
pub fn fail(routes: &Path) -> Output {
    let command = &mut Command::new(env!("CARGO_BIN_EXE_slipway-router"));
    command
        .arg("--routes")
        .arg(routes)
        .args(["--listen", "127.0.0.1:0"])
        .output()
        .unwrap()
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(8);
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Six standard deviations of a binomial count.
pub fn bound(n: usize, p: f64) -> f64 {
    6.0 * (n as f64 * p * (1.0 - p)).sqrt()
}
