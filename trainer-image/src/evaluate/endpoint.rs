//! A running server, asked over HTTP as a client asks it.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde::Deserialize;
use serde_json::json;
use slipway_contract::{Failure, FailureReason};

use super::labels::Classes;
use super::{Answer, Progress};
use crate::host::Host;

/// Tries of one request.
const TRIES: u32 = 8;
/// The longest wait between two tries, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A model that has been scaled to zero is loaded before it answers.
const TIMEOUT: Duration = Duration::from_mins(5);

/// A class with its score, as `/predict` answers.
#[derive(Debug, Deserialize)]
struct Scored {
    label: String,
    score: f64,
}

/// A server's `/predict`.
#[derive(Debug)]
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
            url: format!("{}/predict", url.trim_end_matches('/')),
            variant: variant.map(ToOwned::to_owned),
            revision: revision.map(ToOwned::to_owned),
        })
    }

    /// What the server says about each text, in their order, and the classes by name.
    pub fn classify(
        &self,
        texts: &[&str],
        batch_size: usize,
        host: &Host,
        progress: &mut Progress,
    ) -> Result<(Vec<Answer>, Classes), Failure> {
        let mut said = Vec::with_capacity(texts.len());
        let mut names = std::collections::BTreeSet::new();
        for (number, chunk) in texts.chunks(batch_size.max(1)).enumerate() {
            let first = number * batch_size.max(1);
            let answers = host.wait(self.batch(chunk, first))?;
            for classes in answers {
                names.extend(classes.iter().map(|scored| scored.label.clone()));
                said.push(classes);
            }
            progress.advance(chunk.len(), host);
        }
        let names: Vec<String> = names.into_iter().collect();
        let answers = said.into_iter().map(|classes| answer(classes, &names)).collect();
        let classes = Classes {
            names,
            ordered: false,
        };
        Ok((answers, classes))
    }

    /// Asks for a batch; where the server refuses it, one text after another, to name the one at fault.
    async fn batch(&self, texts: &[&str], first: usize) -> Result<Vec<Vec<Scored>>, Failure> {
        match self.ask(texts).await? {
            Ok(answers) => Ok(answers),
            Err((status, _)) if texts.len() > 1 && is_about_input(status) => {
                let mut answers = Vec::new();
                for (offset, text) in texts.iter().enumerate() {
                    let answer = self.ask(&[text]).await?;
                    answers.extend(
                        answer.map_err(|(status, message)| self.refused(status, &message, first + offset))?,
                    );
                }
                Ok(answers)
            }
            Err((status, message)) => Err(self.refused(status, &message, first)),
        }
    }

    fn refused(&self, status: StatusCode, message: &str, index: usize) -> Failure {
        let (reason, fix) = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
                FailureReason::AccessDenied,
                "let the evaluation reach the server without a token",
            ),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => (
                FailureReason::InvalidConfig,
                "check the URL, the variant, and that the server classifies text",
            ),
            _ => (
                FailureReason::InvalidRow,
                "shorten or correct that example, or raise the server's limits",
            ),
        };
        Failure::new(
            reason,
            format!(
                "{} refused example {} with {status}: {message}; {fix}",
                self.url,
                index + 1
            ),
        )
    }

    /// Asks until there is an answer. The inner error is a refusal of this request.
    async fn ask(&self, texts: &[&str]) -> Result<Result<Vec<Vec<Scored>>, (StatusCode, String)>, Failure> {
        let mut last = String::new();
        for attempt in 0..TRIES {
            match self.once(texts).await {
                Ok(answers) => return Ok(Ok(answers)),
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
                "{} did not answer in {TRIES} tries: {last}; see whether the server is ready",
                self.url
            ),
        ))
    }

    async fn once(&self, texts: &[&str]) -> Result<Vec<Vec<Scored>>, Refused> {
        let mut request = self.http.post(&self.url).json(&json!({"inputs": texts}));
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
        if !status.is_success() {
            let message = error_message(&body);
            return Err(
                if status.is_server_error()
                    || matches!(
                        status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
                {
                    Refused::Later(format!("{status}: {message}"), wait)
                } else {
                    Refused::Request(status, message)
                },
            );
        }
        let answers: Vec<Vec<Scored>> = serde_json::from_slice(&body).map_err(|error| {
            Refused::Later(format!("an answer that is no list of classes ({error})"), wait)
        })?;
        if answers.len() != texts.len() || answers.iter().any(Vec::is_empty) {
            return Err(Refused::Later(
                format!(
                    "{} answers to {} texts",
                    answers.iter().filter(|classes| !classes.is_empty()).count(),
                    texts.len()
                ),
                wait,
            ));
        }
        Ok(answers)
    }
}

/// One text's scores by class; `names` are sorted and hold every class.
fn answer(classes: Vec<Scored>, names: &[String]) -> Answer {
    let id = |label: &String| names.binary_search(label).unwrap_or_default();
    let best = classes.iter().max_by(|a, b| a.score.total_cmp(&b.score));
    let class = best.map_or(0, |scored| id(&scored.label)) as u32;
    let mut scores = vec![f64::NAN; names.len()];
    for scored in classes {
        scores[id(&scored.label)] = scored.score;
    }
    Answer { class, scores }
}

fn is_about_input(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    )
}

/// The server's sentence, in the shape of OpenAI's errors or any other.
fn error_message(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
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
