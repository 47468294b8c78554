//! A server behind the router, and what a test sees and changes of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, stream};
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
    /// Answers nothing but its probe.
    pub hanging: AtomicBool,
    /// Answers nothing at all, and keeps its connections.
    pub frozen: AtomicBool,
    /// Answers all but its probe with 500.
    pub failing: AtomicBool,
    /// Reads a request whole and closes the connection on it, but for its probe.
    pub closing: AtomicBool,
    pub requests: AtomicUsize,
    /// Of these, the ones that nobody gets the answer of.
    pub copies: AtomicUsize,
    pub connections: AtomicUsize,
    /// Requests that were given up on while they hung.
    pub cancelled: AtomicUsize,
    /// Each permit lets `/stream` send one more chunk.
    pub chunks: Semaphore,
    /// What `/echo` last said.
    pub echoed: Mutex<Value>,
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
            frozen: AtomicBool::new(false),
            hanging: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            copies: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            chunks: Semaphore::new(0),
            echoed: Mutex::new(Value::Null),
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

    pub fn copies(&self) -> usize {
        self.state.copies.load(Ordering::Relaxed)
    }

    pub fn cancelled(&self) -> usize {
        self.state.cancelled.load(Ordering::Relaxed)
    }

    pub fn set_healthy(&self, healthy: bool) {
        self.state.healthy.store(healthy, Ordering::Relaxed);
    }

    pub fn set_failing(&self, failing: bool) {
        self.state.failing.store(failing, Ordering::Relaxed);
    }

    pub fn set_closing(&self, closing: bool) {
        self.state.closing.store(closing, Ordering::Relaxed);
    }

    pub fn set_frozen(&self, frozen: bool) {
        self.state.frozen.store(frozen, Ordering::Relaxed);
    }

    pub fn set_hanging(&self, hanging: bool) {
        self.state.hanging.store(hanging, Ordering::Relaxed);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;
type Body = BoxBody<Bytes, Error>;

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

fn failed() -> Response<Body> {
    let mut response = Response::new(full("failed on purpose"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn broken() -> Error {
    "broken on purpose".into()
}

/// Counts a request that ended before its answer.
struct Cancelled(Arc<State>);

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.0.cancelled.fetch_add(1, Ordering::Relaxed);
    }
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    if state.frozen.load(Ordering::Relaxed) {
        return std::future::pending().await;
    }
    if path != "/health" {
        state.requests.fetch_add(1, Ordering::Relaxed);
        if request.headers().contains_key("x-slipway-mirror") {
            state.copies.fetch_add(1, Ordering::Relaxed);
        }
        if state.hanging.load(Ordering::Relaxed) {
            let _guard = Cancelled(state);
            return std::future::pending().await;
        }
        if state.closing.load(Ordering::Relaxed) {
            request.into_body().collect().await?;
            return Err(broken());
        }
        if state.failing.load(Ordering::Relaxed) {
            request.into_body().collect().await?;
            return Ok(failed());
        }
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
            let chunks = stream::iter(0..3).then(move |number| {
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
            return std::future::pending().await;
        }
        "/fail" => failed(),
        "/refuse" => {
            let mut response = Response::new(full("the client's fault"));
            *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
            response
        }
        // The connection ends before an answer, or within it.
        "/drop" => return Err(broken()),
        "/break" => {
            let half = stream::once(async { Ok(Frame::data(Bytes::from("half"))) });
            let rest = stream::once(async {
                // Time for the first half to be on its way.
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(broken())
            });
            Response::new(BodyExt::boxed(StreamBody::new(half.chain(rest))))
        }
        "/sleep" => {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let late = stream::once(async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                Ok(Frame::data(Bytes::from("late")))
            });
            let early = stream::once(async { Ok(Frame::data(Bytes::from("early"))) });
            Response::new(BodyExt::boxed(StreamBody::new(early.chain(late))))
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
            let echo = json!({
                "method": parts.method.as_str(), "path": parts.uri.to_string(), "headers": headers,
                "bytes": bytes.len(), "sum": sum,
            });
            let text = echo.to_string();
            *state.echoed.lock().unwrap() = echo;
            Response::new(full(text))
        }
        _ => {
            // A connection that is closed on a body half read may take the answer with it.
            request.into_body().collect().await?;
            Response::new(full(state.name.clone()))
        }
    };
    let headers = response.headers_mut();
    headers.insert("connection", "x-secret".parse().unwrap());
    headers.insert("x-secret", "1".parse().unwrap());
    Ok(response)
}
