//! One request to one server, over an idle connection or a new one.

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::backend::{Backend, CONNECT_TIMEOUT};
use super::body::RequestBody;
use super::pool::{Pool, Sender};

/// Servers tried for one request, or a copy of one.
pub const ATTEMPTS: u32 = 4;

/// The servers tried for one request. Those on trial count apart: they leave the others as many tries as there would
/// be without them.
#[derive(Debug, Default)]
pub struct Tries {
    on_trial: u32,
    other: u32,
}

impl Tries {
    /// Counts one more; whether it is the last of its kind.
    pub fn count(&mut self, on_trial: bool) -> bool {
        let tries = if on_trial {
            &mut self.on_trial
        } else {
            &mut self.other
        };
        *tries += 1;
        *tries >= ATTEMPTS
    }
}

/// Why a server gave no answer.
#[derive(Debug)]
pub enum Failed {
    /// It did not take the request, which is as good as new.
    Untouched(Box<(Parts, RequestBody)>),
    /// It closed an idle connection in the moment the request was put on it, which says nothing about the request.
    Stale,
    /// It may have worked on it.
    Spent,
    /// It did not begin its answer in time, and another is to be asked.
    Late,
    /// The client stopped in the middle of its body. No server is to blame.
    Abandoned,
}

/// Sends to `backend`, over an idle connection of `pool` where there is one. `sent` is called once the request is
/// on its way, before the answer is waited for.
pub async fn send(
    pool: &Pool,
    backend: &Backend,
    parts: Parts,
    body: RequestBody,
    sent: impl FnOnce(),
) -> Result<(Response<Incoming>, Sender), Failed> {
    let pooled = pool.take(backend.id);
    let reused = pooled.is_some();
    let mut sender = match pooled {
        Some(sender) => sender,
        None => match connect(backend).await {
            Ok(sender) => sender,
            Err(error) => {
                tracing::debug!(address = %backend.address, %error, "no connection");
                backend.refused();
                return Err(Failed::Untouched(Box::new((parts, body))));
            }
        },
    };
    // On the connection's queue with the call, whoever waits for the answer.
    let answer = sender.try_send_request(Request::from_parts(parts, body));
    sent();
    match answer.await {
        Ok(response) => Ok((response, sender)),
        Err(error) if error.error().is_user() => Err(Failed::Abandoned),
        Err(mut error) => {
            if reused {
                pool.clear(backend.id);
            } else {
                backend.refused();
            }
            Err(match error.take_message() {
                Some(request) => Failed::Untouched(Box::new(request.into_parts())),
                None if reused => Failed::Stale,
                // The first on its connection: it may be the request's fault.
                None => Failed::Spent,
            })
        }
    }
}

async fn connect(backend: &Backend) -> Result<Sender, Box<dyn std::error::Error>> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(backend.address)).await??;
    // Tokens of a stream are small; none may wait for the next.
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}
