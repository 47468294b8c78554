//! A running server, asked over HTTP as a client asks it.

mod language;
mod likelihood;
mod predict;

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde_json::Value;
use slipway_contract::{Failure, FailureReason};

/// Tries of one request.
const TRIES: u32 = 8;
/// The longest wait between two tries, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A model that has been scaled to zero is loaded before it answers.
const TIMEOUT: Duration = Duration::from_mins(5);

/// A server.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    http: reqwest::Client,
    url: String,
    variant: Option<String>,
    revision: Option<String>,
}

/// Why a request was not answered.
enum Refused {
    /// Another try may help.
    Later(String, Option<Duration>),
    /// The request itself is at fault.
    Request(StatusCode, String),
}

impl Endpoint {
    /// The server at base URL `url`; `variant` and `revision` choose an arm and a revision behind a router.
    pub fn new(url: &str, variant: Option<&str>, revision: Option<&str>) -> Result<Self, Failure> {
        let invalid = |error: &dyn std::fmt::Display| {
            Failure::new(
                FailureReason::InvalidConfig,
                format!(
                    "target.endpoint.url `{url}` cannot be used: {error}; set it to a base URL such as http://name.namespace.svc"
                ),
            )
        };
        let parsed = reqwest::Url::parse(url).map_err(|error| invalid(&error))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(invalid(&"it is no http:// or https:// URL"));
        }
        let http = reqwest::Client::builder()
            .tls_certs_only(slipway_hub::tls_roots().map_err(|error| invalid(&error))?)
            .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| invalid(&error))?;
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            variant: variant.map(ToOwned::to_owned),
            revision: revision.map(ToOwned::to_owned),
        })
    }

    fn refused(&self, path: &str, (status, message): (StatusCode, String), index: usize) -> Failure {
        let (reason, fix) = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
                FailureReason::AccessDenied,
                "let the evaluation reach the server without a token",
            ),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => (
                FailureReason::InvalidConfig,
                "check the URL, the variant, and that the server's model is for this task",
            ),
            _ => (
                FailureReason::InvalidRow,
                "shorten or correct that example, or raise the server's limits",
            ),
        };
        Failure::new(
            reason,
            format!(
                "{}{path} refused example {} with {status}: {message}; {fix}",
                self.url,
                index + 1
            ),
        )
    }

    /// Asks until there is an answer that `read` takes; a GET without a body. The inner error is a refusal of this request.
    async fn ask<T>(
        &self,
        path: &str,
        body: Option<&Value>,
        read: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<Result<T, (StatusCode, String)>, Failure> {
        let mut last = String::new();
        for attempt in 0..TRIES {
            let answered = self.once(path, body).await;
            match answered.and_then(|bytes| read(&bytes).map_err(|odd| Refused::Later(odd, None))) {
                Ok(answer) => return Ok(Ok(answer)),
                Err(Refused::Request(status, message)) => return Ok(Err((status, message))),
                Err(Refused::Later(message, wait)) => {
                    last = message;
                    let wait = wait
                        .unwrap_or_else(|| Duration::from_millis(250 << attempt))
                        .min(LONGEST_WAIT);
                    if attempt + 1 < TRIES {
                        tokio::time::sleep(wait).await;
                    }
                }
            }
        }
        Err(Failure::new(
            FailureReason::EndpointUnavailable,
            format!(
                "{}{path} did not answer in {TRIES} tries: {last}; see whether the server is ready",
                self.url
            ),
        ))
    }

    async fn once(&self, path: &str, body: Option<&Value>) -> Result<Vec<u8>, Refused> {
        let url = format!("{}{path}", self.url);
        let mut request = match body {
            Some(body) => self.http.post(url).json(body),
            None => self.http.get(url),
        };
        if let Some(revision) = &self.revision {
            request = request.header("x-slipway-revision", revision);
        }
        if let Some(variant) = &self.variant {
            request = request.header("x-slipway-variant", variant);
        }
        let response = request
            .send()
            .await
            .map_err(|error| Refused::Later(describe(&error), None))?;
        let status = response.status();
        let wait = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = response
            .bytes()
            .await
            .map_err(|error| Refused::Later(describe(&error), wait))?;
        if status.is_success() {
            return Ok(body.to_vec());
        }
        let message = error_message(&body);
        let busy = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        );
        Err(if status.is_server_error() || busy {
            Refused::Later(format!("{status}: {message}"), wait)
        } else {
            Refused::Request(status, message)
        })
    }
}

fn is_about_input(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    )
}

/// The server's sentence, in the shape of OpenAI's errors or any other.
fn error_message(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = json["error"]["message"]
        .as_str()
        .or_else(|| json["error"].as_str());
    message.map_or_else(
        || String::from_utf8_lossy(body).chars().take(300).collect(),
        ToOwned::to_owned,
    )
}

/// The error with its causes: reqwest's own sentence leaves them out.
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
