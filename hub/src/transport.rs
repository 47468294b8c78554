//! One request and everything that may happen to it: redirects, rate limits, failures worth another try.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Method, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use url::{Origin, Url};

use crate::{Error, Token};

/// How patient a client is.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Attempts at one request before giving up on failures (5xx, broken connections).
    pub attempts: u32,
    /// Pause after the first failure; it doubles with each, shortened at random by up to a half.
    pub first_pause: Duration,
    /// Longest pause after a failure.
    pub longest_pause: Duration,
    /// Waiting for rate limits in all, per request. The Hub's windows are five minutes long.
    pub rate_limit_budget: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(8),
            rate_limit_budget: Duration::from_mins(11),
        }
    }
}

/// What a request carries. Every kind can be sent again.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    Empty,
    Bytes(&'static str, Bytes),
    /// A stretch of a local file, streamed.
    File {
        path: PathBuf,
        offset: u64,
        length: u64,
    },
}

/// A request that can be repeated.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub method: Method,
    pub url: String,
    pub payload: Payload,
    pub headers: HeaderMap,
    /// For messages, after "did not": `download model.safetensors of …`.
    pub action: String,
    /// Whether a request that may have been carried out already may be sent once more.
    pub repeatable: bool,
    /// Whether the token may go along, to the Hub's own origin.
    pub authorized: bool,
}

impl Call {
    pub(crate) fn get(url: String, action: impl Into<String>) -> Self {
        Self::new(Method::GET, url, Payload::Empty, action)
    }

    pub(crate) fn post(url: String, payload: Payload, action: impl Into<String>) -> Self {
        Self::new(Method::POST, url, payload, action)
    }

    pub(crate) fn new(method: Method, url: String, payload: Payload, action: impl Into<String>) -> Self {
        Self {
            method,
            url,
            payload,
            headers: HeaderMap::new(),
            action: action.into(),
            repeatable: true,
            authorized: true,
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// An answer with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether an earlier attempt ended without an answer, so that it may have been carried out.
    pub after_unanswered: bool,
}

const REDIRECTS: usize = 8;

#[derive(Clone)]
pub(crate) struct Transport {
    http: reqwest::Client,
    endpoint: String,
    origin: Origin,
    authorization: Option<HeaderValue>,
    pub(crate) retry: Retry,
}

impl Transport {
    pub(crate) fn new(endpoint: &str, token: Option<&Token>) -> Result<Self, Error> {
        let invalid = |message: &str| Error::InvalidEndpoint {
            endpoint: endpoint.to_owned(),
            message: message.to_owned(),
        };
        let url = Url::parse(endpoint.trim()).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("its scheme is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::InvalidEndpoint {
                endpoint: url.host_str().unwrap_or_default().to_owned(),
                message: "it carries a user or password; give a token instead".into(),
            });
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
            .tls_certs_only(tls_roots()?)
            // Followed here, where the token can be kept from other origins.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_mins(1))
            .build()
            .map_err(|error| Error::Tls {
                message: describe(&error),
            })?;
        Ok(Self {
            http,
            endpoint: url.as_str().trim_end_matches('/').to_owned(),
            origin: url.origin(),
            authorization: token.map(Token::authorization).transpose()?,
            retry: Retry::default(),
        })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn anonymous(&self) -> bool {
        self.authorization.is_none()
    }

    /// Sends `call` until there is an answer other than a rate limit or a server's own failure, and reads its
    /// body whole.
    pub(crate) async fn ask(&self, call: &Call) -> Result<Answer, Error> {
        let mut patience = self.patience(call);
        loop {
            match self.attempt(call).await {
                Ok(response) if is_transient(response.status()) => patience.answered(&response).await?,
                Ok(response) => {
                    let (status, headers) = (response.status(), response.headers().clone());
                    match response.bytes().await {
                        Ok(body) => {
                            return Ok(Answer {
                                status,
                                headers,
                                body,
                                after_unanswered: patience.unanswered,
                            });
                        }
                        Err(error) => patience.failed(describe(&error)).await?,
                    }
                }
                Err(Attempt::Failed(message)) => patience.failed(message).await?,
                Err(Attempt::Fatal(error)) => return Err(error),
            }
        }
    }

    /// The same, up to the headers: the body is the caller's to read.
    pub(crate) async fn open(&self, call: &Call, patience: &mut Patience) -> Result<Response, Error> {
        loop {
            match self.attempt(call).await {
                Ok(response) if is_transient(response.status()) => patience.answered(&response).await?,
                Ok(response) => return Ok(response),
                Err(Attempt::Failed(message)) => patience.failed(message).await?,
                Err(Attempt::Fatal(error)) => return Err(error),
            }
        }
    }

    pub(crate) fn patience(&self, call: &Call) -> Patience {
        Patience {
            endpoint: self.endpoint.clone(),
            action: call.action.clone(),
            repeatable: call.repeatable,
            retry: self.retry,
            failures: 0,
            waited: Duration::ZERO,
            unanswered: false,
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Response, Attempt> {
        let mut url = Url::parse(&call.url).map_err(|error| {
            Attempt::Fatal(Error::Protocol {
                endpoint: self.endpoint.clone(),
                action: call.action.clone(),
                message: format!("it named an address that is none: {error}"),
            })
        })?;
        for _ in 0..=REDIRECTS {
            let mut request = self
                .http
                .request(call.method.clone(), url.clone())
                .headers(call.headers.clone());
            if let Some(authorization) = &self.authorization
                && call.authorized
                && url.origin() == self.origin
            {
                request = request.header(AUTHORIZATION, authorization);
            }
            request = match &call.payload {
                Payload::Empty => request,
                Payload::Bytes(content_type, bytes) => {
                    request.header(CONTENT_TYPE, *content_type).body(bytes.clone())
                }
                Payload::File { path, offset, length } => {
                    let body = file_body(path, *offset, *length)
                        .await
                        .map_err(|error| Attempt::Fatal(Error::io("read", path, error)))?;
                    request
                        .header(reqwest::header::CONTENT_LENGTH, *length)
                        .body(body)
                }
            };
            let response = request
                .send()
                .await
                .map_err(|error| Attempt::Failed(describe(&error)))?;
            let keeps_method = matches!(response.status().as_u16(), 307 | 308);
            let is_read = matches!(call.method, Method::GET | Method::HEAD);
            if !response.status().is_redirection()
                || response.status() == StatusCode::NOT_MODIFIED
                || !(keeps_method || is_read)
            {
                return Ok(response);
            }
            let target = response
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|location| url.join(location).ok())
                .filter(|target| matches!(target.scheme(), "http" | "https"));
            match target {
                Some(target) => url = target,
                None => return Ok(response),
            }
        }
        Err(Attempt::Fatal(Error::Protocol {
            endpoint: self.endpoint.clone(),
            action: call.action.clone(),
            message: format!("it redirected more than {REDIRECTS} times"),
        }))
    }
}

enum Attempt {
    Failed(String),
    Fatal(Error),
}

/// What is left of the tries for one request.
#[derive(Debug)]
pub(crate) struct Patience {
    endpoint: String,
    action: String,
    repeatable: bool,
    retry: Retry,
    failures: u32,
    waited: Duration,
    unanswered: bool,
}

impl Patience {
    /// Bytes arrived: failures before them no longer count.
    pub(crate) fn progressed(&mut self) {
        self.failures = 0;
    }

    /// Waits after a connection that broke or never came up.
    pub(crate) async fn failed(&mut self, message: String) -> Result<(), Error> {
        self.unanswered = true;
        self.pause(message, self.repeatable).await
    }

    async fn answered(&mut self, response: &Response) -> Result<(), Error> {
        let status = response.status();
        let told = told_to_wait(response.headers(), Timestamp::now());
        if status == StatusCode::TOO_MANY_REQUESTS {
            let wait = told.unwrap_or_else(|| jittered(self.retry.first_pause * 4));
            if self.waited + wait > self.retry.rate_limit_budget {
                return Err(Error::RateLimited {
                    endpoint: self.endpoint.clone(),
                    waited_seconds: self.waited.as_secs(),
                });
            }
            self.waited += wait;
            tracing::info!(
                wait_seconds = wait.as_secs_f64(),
                "the Hub limits the rate of requests; waiting as told"
            );
            tokio::time::sleep(wait).await;
            return Ok(());
        }
        // 503 says that nothing was done; other failures may have come after the work.
        let untouched = status == StatusCode::SERVICE_UNAVAILABLE;
        self.unanswered |= !untouched;
        self.pause(format!("HTTP {status}"), self.repeatable || untouched)
            .await
    }

    async fn pause(&mut self, message: String, again: bool) -> Result<(), Error> {
        self.failures += 1;
        if !again || self.failures >= self.retry.attempts {
            return Err(Error::Unavailable {
                endpoint: self.endpoint.clone(),
                action: self.action.clone(),
                attempts: self.failures,
                message,
            });
        }
        let doubled = self.retry.first_pause * 2u32.saturating_pow(self.failures - 1);
        let wait = jittered(doubled.min(self.retry.longest_pause));
        tracing::info!(action = %self.action, cause = %message, wait_seconds = wait.as_secs_f64(), "trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

/// How long a rate-limited answer says to wait: `RateLimit: "api";r=0;t=55`, or `Retry-After` in seconds or as
/// a date. A second is added to the window's `t`, which the Hub rounds down.
fn told_to_wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let window = text("ratelimit").and_then(|value| {
        let parameter = |key: &str| {
            value
                .split(';')
                .filter_map(|part| part.trim().split_once('='))
                .find(|(name, _)| *name == key)
                .and_then(|(_, number)| number.trim().parse::<u64>().ok())
        };
        (parameter("r") == Some(0)).then(|| parameter("t")).flatten()
    });
    if let Some(seconds) = window {
        return Some(Duration::from_secs(seconds + 1));
    }
    let value = text(RETRY_AFTER.as_str())?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// The cause chain without the address, whose query may hold a signature.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    use std::error::Error as _;
    let mut parts = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !parts.contains(&text) {
            parts.push(text);
        }
        source = cause.source();
    }
    if parts.is_empty() {
        parts.push(
            if error.is_timeout() {
                "it took too long"
            } else {
                "the connection failed"
            }
            .into(),
        );
    }
    parts.join(": ")
}

async fn file_body(path: &PathBuf, offset: u64, length: u64) -> std::io::Result<reqwest::Body> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(std::io::SeekFrom::Start(offset)).await?;
    let reader = tokio_util::io::ReaderStream::with_capacity(file.take(length), 256 * 1024);
    Ok(reqwest::Body::wrap_stream(reader))
}

/// `SSL_CERT_FILE` where it is set, as OpenSSL reads it; else Mozilla's roots, built in, because an image made
/// from scratch has none on disk.
pub fn tls_roots() -> Result<Vec<reqwest::Certificate>, Error> {
    let tls = |message: String| Error::Tls { message };
    let certificates = match std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
        Some(path) => {
            let pem = std::fs::read(&path).map_err(|error| tls(format!("{}: {error}", path.display())))?;
            reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| tls(format!("{}: {}", path.display(), describe(&error))))?
        }
        None => webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .map(|der| reqwest::Certificate::from_der(der))
            .collect::<Result<_, _>>()
            .map_err(|error| tls(describe(&error)))?,
    };
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_rate_limit_names_the_rest_of_its_window() {
        let now = Timestamp::UNIX_EPOCH;
        let told = |pairs: &[_]| told_to_wait(&headers(pairs), now).map(|wait| wait.as_secs());
        assert_eq!(told(&[("ratelimit", "\"api\";r=0;t=55")]), Some(56));
        assert_eq!(told(&[("ratelimit", "\"api\";r=3;t=55")]), None);
        assert_eq!(told(&[("retry-after", "7")]), Some(7));
        assert_eq!(told(&[("retry-after", "Thu, 01 Jan 1970 00:00:09 GMT")]), Some(9));
        assert_eq!(told(&[("retry-after", "Wed, 31 Dec 1969 23:59:00 GMT")]), Some(0));
        assert_eq!(told(&[("retry-after", "soon")]), None);
    }

    #[test]
    fn pauses_are_shortened_by_at_most_a_half() {
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(8)).as_secs_f64();
            assert!((4.0..=8.0).contains(&pause), "{pause}");
        }
    }

    #[test]
    fn built_in_roots_make_a_client() {
        assert!(webpki_root_certs::TLS_SERVER_ROOT_CERTS.len() > 50);
        Transport::new("https://huggingface.co/", None).unwrap();
    }

    #[test]
    fn an_endpoint_is_an_http_address() {
        for endpoint in ["", "huggingface.co", "ftp://x", "http://"] {
            let error = Transport::new(endpoint, None).err().unwrap().to_string();
            assert!(error.contains("https://huggingface.co"), "{endpoint}: {error}");
        }
        let error = Transport::new("https://me:hunter2@hub.example", None)
            .err()
            .unwrap()
            .to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
