//! One request: an arm, a server, an answer passed on.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use arc_swap::ArcSwap;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{
    CONNECTION, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::http::uri::{PathAndQuery, Uri};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::backend::{Backend, Busy, CONNECT_TIMEOUT};
use super::body::{Exchange, RequestBody, ResponseBody};
use super::choose::Draws;
use super::metrics::Metrics;
use super::pool::{Pool, Sender};
use super::refusal::{self, Refusal};
use super::table::{Key, Table};

/// Bodies up to this size are read whole before a server is asked, so that another can be asked instead.
const REPLAYABLE: u64 = 1 << 20;
/// Servers tried for one request.
const ATTEMPTS: u32 = 4;
/// A month: longer than an experiment.
const COOKIE_SECONDS: u32 = 30 * 24 * 3600;

/// The header that asks for an arm by name, and in an answer names the arm that gave it.
pub const VARIANT: HeaderName = HeaderName::from_static("x-slipway-variant");
/// The header that names the revision that answered.
pub const REVISION: HeaderName = HeaderName::from_static("x-slipway-revision");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers that are about one connection and not about the message (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What all threads share.
#[derive(Debug)]
pub struct Shared {
    /// The table in force.
    pub table: ArcSwap<Table>,
    /// Counts and times.
    pub metrics: Metrics,
}

/// A thread that answers requests.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    pool: Pool,
    draws: RefCell<Draws>,
}

impl Worker {
    /// A thread without connections yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            pool: Pool::default(),
            draws: RefCell::default(),
        }
    }

    /// Answers one request of the client at `peer`.
    pub async fn answer(&self, request: Request<Incoming>, peer: &HeaderValue) -> Response<ResponseBody> {
        match self.route(request, peer).await {
            Ok(response) => response,
            Err(refusal) => {
                if refusal.counts_as_unrouted() {
                    self.shared.metrics.unrouted.fetch_add(1, Relaxed);
                }
                refusal.into_response()
            }
        }
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        peer: &HeaderValue,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let started = Instant::now();
        let table = self.shared.table.load_full();
        let (mut parts, body) = request.into_parts();
        if parts.method == Method::CONNECT {
            return Err(refusal::connect());
        }
        let asked = asked_for(&table, &parts.headers)?;
        let client = self.client(&table.key, &parts.headers);
        let body = readable(body).await?;
        prepare(&mut parts, peer);
        let mut carried = Some((parts, body));
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let Some((mut parts, body)) = carried.take() else {
                break;
            };
            let chosen = asked
                .or_else(|| table.choose(client.as_ref().map(Client::key), &mut self.draws.borrow_mut()));
            let Some((index, backend)) = chosen.and_then(|index| Some((index, table.backend(index)?))) else {
                return Err(asked.map_or_else(refusal::no_server, |index| {
                    refusal::unready(&table.variants[index].name)
                }));
            };
            let variant = &table.variants[index];
            if !parts.headers.contains_key(HOST) {
                let host = HeaderValue::from_str(variant.target.authority().as_str());
                parts
                    .headers
                    .insert(HOST, host.map_err(|_| refusal::no_server())?);
            }
            let busy = Busy::new(backend.clone());
            let mut exchange = Exchange::new(variant.series.clone(), busy, self.pool.clone(), started);
            match self.send(&backend, parts, body).await {
                Ok((mut response, sender)) => {
                    exchange.answered(response.status().as_u16(), sender, response.body());
                    strip(response.headers_mut());
                    let headers = response.headers_mut();
                    headers.insert(VARIANT, variant.name_header.clone());
                    if let Some(revision) = &variant.revision_header {
                        headers.insert(REVISION, revision.clone());
                    }
                    if let Some(cookie) = client.as_ref().and_then(Client::cookie) {
                        headers.append(SET_COOKIE, cookie);
                    }
                    return Ok(response.map(|body| ResponseBody::Passed(body, exchange)));
                }
                Err(Failed::Untouched(message)) => {
                    variant.series.upstream_failures.fetch_add(1, Relaxed);
                    carried = Some(*message);
                    last = Some(exchange);
                }
                Err(Failed::Spent) => {
                    variant.series.upstream_failures.fetch_add(1, Relaxed);
                    last = Some(exchange);
                }
            }
        }
        if let Some(exchange) = &mut last {
            exchange.failed(StatusCode::BAD_GATEWAY.as_u16());
        }
        Err(refusal::broken())
    }

    /// Sends to `backend`, over an idle connection where there is one.
    async fn send(
        &self,
        backend: &Backend,
        parts: Parts,
        body: RequestBody,
    ) -> Result<(Response<Incoming>, Sender), Failed> {
        let pooled = self.pool.take(backend.id);
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
        // A server may close an idle connection in the moment a request is put on it. That says nothing about
        // the request, so it is sent once more; where it was the first on its connection, it may be its fault.
        let copy = match &body {
            RequestBody::Buffered(bytes) if reused => {
                Some((parts.clone(), RequestBody::Buffered(bytes.clone())))
            }
            _ => None,
        };
        match sender.try_send_request(Request::from_parts(parts, body)).await {
            Ok(response) => Ok((response, sender)),
            Err(mut error) => {
                if reused {
                    self.pool.clear(backend.id);
                } else {
                    backend.refused();
                }
                let returned = error.take_message().map(Request::into_parts);
                match returned.or(copy) {
                    Some(message) => Err(Failed::Untouched(Box::new(message))),
                    None => Err(Failed::Spent),
                }
            }
        }
    }

    /// What tells this client from others, where the table asks for that.
    fn client<'a>(&self, key: &'a Key, headers: &HeaderMap) -> Option<Client<'a>> {
        match key {
            Key::None => None,
            Key::Header(name) => headers.get(name).cloned().map(Client::Header),
            Key::Cookie(name) => Some(cookie(headers, name).map_or_else(
                || {
                    let mut draws = self.draws.borrow_mut();
                    Client::New(name, format!("{:016x}{:016x}", draws.draw(), draws.draw()))
                },
                |value| Client::Known(value.to_vec()),
            )),
        }
    }
}

/// A client that meets the same arm each time.
enum Client<'a> {
    Header(HeaderValue),
    Known(Vec<u8>),
    /// One without a cookie yet: its name and the value it gets.
    New(&'a str, String),
}

impl Client<'_> {
    fn key(&self) -> &[u8] {
        match self {
            Self::Header(value) => value.as_bytes(),
            Self::Known(value) => value,
            Self::New(_, value) => value.as_bytes(),
        }
    }

    fn cookie(&self) -> Option<HeaderValue> {
        let Self::New(name, value) = self else { return None };
        let text = format!("{name}={value}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax");
        HeaderValue::try_from(text).ok()
    }
}

/// Why a server gave no answer.
enum Failed {
    /// It did not take the request, which is as good as new.
    Untouched(Box<(Parts, RequestBody)>),
    /// It may have worked on it.
    Spent,
}

/// The arm that the request names, if it names one.
fn asked_for(table: &Table, headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    let Some(name) = headers.get(&VARIANT) else {
        return Ok(None);
    };
    let found = table
        .variants
        .iter()
        .position(|variant| variant.name_header == name);
    found.map(Some).ok_or_else(|| {
        let known = table.variants.iter().map(|variant| variant.name.as_str());
        refusal::unknown_variant(&String::from_utf8_lossy(name.as_bytes()), known)
    })
}

/// Reads a small body whole; leaves a large one, or one of unknown length, to be passed on as it comes.
async fn readable(body: Incoming) -> Result<RequestBody, Refusal> {
    if body.is_end_stream() {
        return Ok(RequestBody::Buffered(None));
    }
    match body.size_hint().exact() {
        Some(size) if size <= REPLAYABLE => match body.collect().await {
            Ok(collected) => Ok(RequestBody::Buffered(Some(collected.to_bytes()))),
            Err(_) => Err(refusal::incomplete()),
        },
        _ => Ok(RequestBody::Streamed(body)),
    }
}

/// Turns a request to this router into one to a server.
fn prepare(parts: &mut Parts, peer: &HeaderValue) {
    parts.version = Version::HTTP_11;
    if parts.uri.authority().is_some() {
        let path = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    strip(&mut parts.headers);
    // Answered here already, by reading the body.
    parts.headers.remove(EXPECT);
    match parts.headers.get(&FORWARDED_FOR).map(HeaderValue::as_bytes) {
        None => {
            parts.headers.insert(FORWARDED_FOR, peer.clone());
        }
        Some(chain) => {
            let chain = [chain, b", ", peer.as_bytes()].concat();
            if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(chain)) {
                parts.headers.insert(FORWARDED_FOR, value);
            }
        }
    }
}

/// Removes what is about one connection only.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::try_from(name.trim()).ok())
            .collect();
        headers.remove(CONNECTION);
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The value of the cookie `name`.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b';'))
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .filter(|value| !value.is_empty())
}

async fn connect(backend: &Backend) -> Result<Sender, Box<dyn std::error::Error>> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(backend.address)).await??;
    // Tokens of a stream are small; none may wait for the next.
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_headers_go_no_further() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Private"),
            ("keep-alive", "timeout=5"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("x-public", "1"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("x-public"));
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; arm=x7 ;b=2"));
        headers.append(COOKIE, HeaderValue::from_static("ar=3; empty="));
        assert_eq!(cookie(&headers, "arm"), Some(b"x7".as_slice()));
        assert_eq!(cookie(&headers, "ar"), Some(b"3".as_slice()));
        assert_eq!(cookie(&headers, "empty"), None);
        assert_eq!(cookie(&headers, "c"), None);
    }

    #[test]
    fn an_absolute_target_becomes_a_path_and_the_client_joins_the_chain() {
        let request = Request::get("http://example/v1/models?x=1")
            .header("x-forwarded-for", "10.0.0.1")
            .body(());
        let (mut parts, ()) = request.unwrap().into_parts();
        prepare(&mut parts, &HeaderValue::from_static("10.0.0.2"));
        assert_eq!(parts.uri, "/v1/models?x=1");
        assert_eq!(parts.headers["x-forwarded-for"], "10.0.0.1, 10.0.0.2");
    }
}
