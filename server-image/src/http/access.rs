//! One log line and one sample of each figure for each request, written when the last byte of its response is out (or
//! its client has gone). Prompts and answers are never logged.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use crate::app::{App, Phase};
use crate::history::History;
use crate::metrics::Metrics;
use crate::router::headers::{MIRROR, REVISION, VARIANT};

/// As nginx logs a request whose client left before the answer.
const CLIENT_LEFT: u16 = 499;
/// A client that leaves after so long without any answer did not change its mind: the server is at fault.
const HANG: Duration = Duration::from_secs(30);

/// What is known about a request; written out when the last holder drops it.
#[derive(Debug)]
pub struct Record {
    metrics: Arc<Metrics>,
    /// Where it counts as traffic.
    history: Option<Arc<History>>,
    arrived: Instant,
    first_byte: OnceLock<Duration>,
    method: Method,
    path: String,
    request_id: Option<String>,
    status: AtomicU16,
    complete: AtomicBool,
    details: Mutex<Details>,
}

#[derive(Debug, Default)]
struct Details {
    model: Option<String>,
    prompt_tokens: usize,
    completion_tokens: usize,
}

impl Record {
    /// Which model was asked for.
    pub fn model(&self, name: &str) {
        self.details().model = Some(name.to_owned());
    }

    /// Adds to the tokens read and written.
    pub fn tokens(&self, prompt: usize, completion: usize) {
        let mut details = self.details();
        details.prompt_tokens += prompt;
        details.completion_tokens += completion;
    }

    /// When the request arrived.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    fn details(&self) -> std::sync::MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let complete = self.complete.load(Ordering::Relaxed);
        let status = if complete {
            self.status.load(Ordering::Relaxed)
        } else {
            CLIENT_LEFT
        };
        let took = self.arrived.elapsed();
        self.metrics.http(&self.path, status, took);
        if let Some(history) = &self.history {
            let first_byte = self.first_byte.get().copied();
            let hung = status == CLIENT_LEFT && first_byte.is_none() && took > HANG;
            history.answered(self.arrived, status >= 500 || hung, took, first_byte);
        }
        // Probes and scrapes come every second; they would bury the requests of people.
        if is_probe(&self.path) && status < 500 {
            return;
        }
        let details = self.details.get_mut().unwrap_or_else(PoisonError::into_inner);
        tracing::info!(
            target: "access",
            method = %self.method,
            path = %self.path,
            status,
            seconds = took.as_secs_f64(),
            model = details.model.as_deref(),
            prompt_tokens = details.prompt_tokens,
            completion_tokens = details.completion_tokens,
            request_id = self.request_id.as_deref(),
            "request"
        );
    }
}

fn is_probe(path: &str) -> bool {
    matches!(path, "/health" | "/healthz" | "/readyz" | "/metrics" | "/stats")
}

/// Whether a request is of the traffic that is split: no probe, no copy, and nobody asked for a server by name.
fn is_traffic(path: &str, headers: &HeaderMap) -> bool {
    !is_probe(path)
        && [VARIANT, REVISION, MIRROR]
            .iter()
            .all(|name| !headers.contains_key(name))
}

/// The middleware around every route.
pub async fn log(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let path = super::route(&request);
    let record = Arc::new(Record {
        metrics: app.metrics().clone(),
        history: is_traffic(&path, request.headers()).then(|| app.history().clone()),
        arrived: Instant::now(),
        first_byte: OnceLock::new(),
        method: request.method().clone(),
        path,
        request_id: request_id(request.headers()),
        status: AtomicU16::new(0),
        complete: AtomicBool::new(request.method() == Method::HEAD),
        details: Mutex::default(),
    });
    request.extensions_mut().insert(record.clone());
    let mut response = next.run(request).await;
    record.status.store(response.status().as_u16(), Ordering::Relaxed);
    let identity = app.identity();
    for (name, value) in [(VARIANT, &identity.variant), (REVISION, &identity.revision)] {
        if let Some(value) = value {
            response.headers_mut().insert(name, value.clone());
        }
    }
    if app.phase() == Phase::Draining {
        // Clients that keep connections alive must look for another server.
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| {
        let mut logged = Logged { body, record };
        // An empty body is never polled.
        logged.note_end();
        Body::new(logged)
    })
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    Some(id.chars().take(128).collect())
}

/// A response body that keeps its request's record until it is out.
struct Logged {
    body: Body,
    record: Arc<Record>,
}

impl Logged {
    fn note_end(&mut self) {
        if self.body.is_end_stream() {
            self.record.complete.store(true, Ordering::Relaxed);
        }
    }
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(_)) = &frame {
            let record = &self.record;
            record.first_byte.get_or_init(|| record.arrived.elapsed());
        }
        if frame.is_none() {
            self.record.complete.store(true, Ordering::Relaxed);
        } else {
            self.note_end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
