//! Whether a server is alive: `GET /health`.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::HOST;
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::backend::Backend;

/// Between two looks at the name and at each server.
pub const ROUND: Duration = Duration::from_secs(1);
/// A server that computes on every core answers its probe late, but not this late.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Probes in a row that may time out. One that is refused or answered with an error counts at once.
pub const TIMEOUTS: u32 = 3;

/// Asks `backend` again and again, and puts it in or takes it out by its answers.
pub async fn probe_for_ever(backend: Arc<Backend>, authority: Authority) {
    let mut connection: Option<SendRequest<Empty<Bytes>>> = None;
    let mut timeouts = 0;
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match timeout(PROBE_TIMEOUT, probe(&backend, &authority, connection.take())).await {
            Ok(Ok((status, reusable))) => {
                timeouts = 0;
                connection = reusable;
                backend.set_ready(status.is_success(), "its probe was answered");
            }
            Ok(Err(error)) => {
                timeouts = 0;
                backend.set_ready(false, &error.to_string());
            }
            Err(_) => {
                timeouts += 1;
                if timeouts >= TIMEOUTS {
                    backend.set_ready(false, "its probe timed out");
                }
            }
        }
    }
}

/// The status of the answer, and the connection where it can be used again.
type Probe =
    Result<(StatusCode, Option<SendRequest<Empty<Bytes>>>), Box<dyn std::error::Error + Send + Sync>>;

/// `GET /health` over the connection of the last probe, where it still stands.
pub async fn probe(
    backend: &Backend,
    authority: &Authority,
    connection: Option<SendRequest<Empty<Bytes>>>,
) -> Probe {
    let mut sender = if let Some(sender) = connection.filter(SendRequest::is_ready) {
        sender
    } else {
        let stream = TcpStream::connect(backend.address).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender
    };
    let request = Request::get("/health")
        .header(HOST, authority.as_str())
        .body(Empty::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    response.into_body().collect().await?;
    Ok((status, Some(sender)))
}
