//! The client: where the Hub is, who asks, and the calls that read about repositories.

use std::fmt;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use slipway_contract::HubAccess;

use crate::repo::RepoInfoWire;
use crate::transport::{Answer, Call, Payload, Retry, Transport};
use crate::{Error, RepoId, RepoInfo, RepoType, Token};

/// Who a token belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// User or organisation name.
    pub name: String,
    /// The organisations it is a member of.
    pub organizations: Vec<String>,
}

/// A connection pool to one Hub. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Transport,
}

impl Client {
    /// A client of the Hub at `endpoint`, for instance `https://huggingface.co`.
    #[allow(clippy::needless_pass_by_value)] // the client becomes its owner
    pub fn new(endpoint: &str, token: Option<Token>) -> Result<Self, Error> {
        Ok(Self {
            transport: Transport::new(endpoint, token.as_ref())?,
        })
    }

    /// A client as configured: the endpoint, else `HF_ENDPOINT`, else `https://huggingface.co`; the token file,
    /// else `HF_TOKEN`, else anonymous.
    pub fn from_access(access: &HubAccess) -> Result<Self, Error> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let endpoint = access
            .endpoint
            .clone()
            .or_else(|| variable("HF_ENDPOINT"))
            .unwrap_or_else(|| "https://huggingface.co".into());
        let token = match &access.token_file {
            Some(path) => Some(Token::from_file(path)?),
            None => variable("HF_TOKEN").and_then(|text| Token::new(&text)),
        };
        Self::new(&endpoint, token)
    }

    /// The same client with another patience.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.transport.retry = retry;
        self
    }

    /// The Hub's address, without a trailing slash.
    pub fn endpoint(&self) -> &str {
        self.transport.endpoint()
    }

    /// Where a person sees the repository.
    pub fn url(&self, repo: &RepoId) -> String {
        format!("{}/{}{}", self.endpoint(), repo.kind.prefix(), repo.id())
    }

    /// `<endpoint>/api/models/owner/name`.
    pub(crate) fn api(&self, repo: &RepoId) -> String {
        format!("{}/api/{}/{}", self.endpoint(), repo.kind.plural(), repo.id())
    }

    /// What `revision` (a branch, tag, commit or `refs/pr/N`) of `repo` stands for now, with the size and, for
    /// large files, the SHA-256 of every file.
    pub async fn resolve(&self, repo: &RepoId, revision: &str) -> Result<RepoInfo, Error> {
        let url = format!("{}/revision/{}?blobs=true", self.api(repo), quoted(revision));
        let call = Call::get(url, format!("look up the {repo}"));
        let answer = self.transport.ask(&call).await?;
        let answer = self.check(answer, &call, About::revision(repo, revision))?;
        let wire: RepoInfoWire = self.parsed(&answer.body, &call)?;
        wire.into_info().ok_or_else(|| Error::RevisionNotFound {
            repo: repo.clone(),
            revision: revision.to_owned(),
        })
    }

    /// Whom the token belongs to.
    pub async fn whoami(&self) -> Result<Identity, Error> {
        #[derive(Deserialize)]
        struct Organization {
            name: String,
        }
        #[derive(Deserialize)]
        struct Wire {
            name: String,
            #[serde(default)]
            orgs: Vec<Organization>,
        }
        let call = Call::get(
            format!("{}/api/whoami-v2", self.endpoint()),
            "tell whom the token belongs to",
        );
        let answer = self.transport.ask(&call).await?;
        let answer = self.check(answer, &call, About::default())?;
        let wire: Wire = self.parsed(&answer.body, &call)?;
        Ok(Identity {
            name: wire.name,
            organizations: wire.orgs.into_iter().map(|org| org.name).collect(),
        })
    }

    /// Creates `repo`; one that is there already is left as it is. True when it was created now.
    pub async fn create_repo(&self, repo: &RepoId, private: bool) -> Result<bool, Error> {
        let mut body = json!({
            "name": repo.name,
            "organization": repo.owner,
            "private": private,
            "visibility": if private { "private" } else { "public" },
        });
        if repo.kind == RepoType::Dataset {
            body["type"] = json!("dataset");
        }
        let call = Call::post(
            format!("{}/api/repos/create", self.endpoint()),
            json_payload(&body),
            format!("create the {repo}"),
        );
        let mut patience = self.transport.patience(&call);
        loop {
            let answer = self.transport.ask(&call).await?;
            if answer.status != StatusCode::CONFLICT {
                self.check(answer, &call, About::default())?;
                return Ok(true);
            }
            let message = server_message(&answer);
            if !message.contains("conflicting operation") {
                return Ok(false);
            }
            // Another creation or deletion in the same namespace holds a lock for a moment.
            patience.failed(message).await?;
        }
    }

    /// Turns a refusal into the error that says what to do about it.
    pub(crate) fn check(&self, answer: Answer, call: &Call, about: About<'_>) -> Result<Answer, Error> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(self.refusal(
            answer.status,
            &answer.headers,
            &server_message(&answer),
            call,
            about,
        ))
    }

    pub(crate) fn refusal(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        message: &str,
        call: &Call,
        about: About<'_>,
    ) -> Error {
        let endpoint = self.endpoint().to_owned();
        let anonymous = self.transport.anonymous();
        let code = headers
            .get("x-error-code")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let entry_missing = |repo: &RepoId| match about.path {
            Some(path) => Error::EntryNotFound {
                repo: repo.clone(),
                revision: about.revision.unwrap_or("main").to_owned(),
                path: path.to_owned(),
            },
            None => missing_repo(repo, &endpoint, anonymous),
        };
        match (about.repo, code, status.as_u16()) {
            (Some(repo), "GatedRepo", _) => Error::Gated {
                repo: repo.clone(),
                endpoint,
                anonymous,
            },
            (Some(repo), "RepoNotFound", _) => missing_repo(repo, &endpoint, anonymous),
            (Some(repo), "RevisionNotFound", _) => Error::RevisionNotFound {
                repo: repo.clone(),
                revision: about.revision.unwrap_or("main").to_owned(),
            },
            (Some(repo), "EntryNotFound", _) | (Some(repo), _, 404) => entry_missing(repo),
            (Some(repo), _, 412) => Error::Conflict {
                repo: repo.clone(),
                branch: about.revision.unwrap_or("main").to_owned(),
            },
            // The Hub hides private repositories behind a 401 without a code from those who send no token.
            (Some(repo), "", 401) if anonymous && call.method == reqwest::Method::GET => {
                missing_repo(repo, &endpoint, anonymous)
            }
            (_, _, 401 | 403) => Error::Unauthorized {
                endpoint,
                action: call.action.clone(),
                message: message.to_owned(),
                anonymous,
            },
            _ => Error::Rejected {
                endpoint,
                action: call.action.clone(),
                status: status.as_u16(),
                message: message.to_owned(),
            },
        }
    }

    pub(crate) fn parsed<T: DeserializeOwned>(&self, body: &Bytes, call: &Call) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|error| Error::Protocol {
            endpoint: self.endpoint().to_owned(),
            action: call.action.clone(),
            message: error.to_string(),
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.endpoint())
            .field("anonymous", &self.transport.anonymous())
            .finish_non_exhaustive()
    }
}

/// What a request was about, for its errors.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About<'a> {
    pub repo: Option<&'a RepoId>,
    pub revision: Option<&'a str>,
    pub path: Option<&'a str>,
}

impl<'a> About<'a> {
    pub(crate) fn revision(repo: &'a RepoId, revision: &'a str) -> Self {
        Self {
            repo: Some(repo),
            revision: Some(revision),
            path: None,
        }
    }

    pub(crate) fn file(repo: &'a RepoId, revision: &'a str, path: &'a str) -> Self {
        Self {
            repo: Some(repo),
            revision: Some(revision),
            path: Some(path),
        }
    }
}

fn missing_repo(repo: &RepoId, endpoint: &str, anonymous: bool) -> Error {
    Error::NotFound {
        repo: repo.clone(),
        endpoint: endpoint.to_owned(),
        anonymous,
    }
}

pub(crate) fn json_payload(value: &Value) -> Payload {
    Payload::Bytes("application/json", Bytes::from(value.to_string()))
}

/// What the Hub says went wrong: `X-Error-Message`, or one of the shapes of its bodies.
pub(crate) fn server_message(answer: &Answer) -> String {
    const LIMIT: usize = 300;
    let said = answer
        .headers
        .get("x-error-message")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
        .or_else(|| {
            let body: Value = serde_json::from_slice(&answer.body).ok()?;
            let texts = |value: &Value| match value {
                Value::String(text) => Some(text.clone()),
                Value::Array(items) => {
                    let items: Vec<&str> = items
                        .iter()
                        .filter_map(|item| item.as_str().or_else(|| item["message"].as_str()))
                        .collect();
                    (!items.is_empty()).then(|| items.join("; "))
                }
                _ => None,
            };
            texts(&body["error"])
                .or_else(|| texts(&body["errors"]))
                .or_else(|| texts(&body["message"]))
        })
        .unwrap_or_else(|| format!("HTTP {}", answer.status));
    said.chars().take(LIMIT).collect()
}

/// A revision or one segment of a path, as the Hub's own clients quote it: everything but unreserved
/// characters, `/` included.
pub(crate) fn quoted(text: &str) -> String {
    use std::fmt::Write;
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            quoted.push(byte as char);
        } else {
            write!(quoted, "%{byte:02X}").expect("a String takes everything");
        }
    }
    quoted
}

/// A path within a repository: quoted, its slashes kept.
pub(crate) fn quoted_path(path: &str) -> String {
    path.split('/').map(quoted).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_quoted_with_their_slashes_and_paths_without() {
        assert_eq!(quoted("refs/pr/2"), "refs%2Fpr%2F2");
        assert_eq!(
            quoted_path("a b/ü#?.safetensors"),
            "a%20b/%C3%BC%23%3F.safetensors"
        );
    }

    #[test]
    fn debug_shows_the_address_and_no_token() {
        let client = Client::new("http://127.0.0.1:1/", Token::new("hf_secret")).unwrap();
        let shown = format!("{client:?}");
        assert!(
            shown.contains("http://127.0.0.1:1") && !shown.contains("secret"),
            "{shown}"
        );
    }

    #[test]
    fn the_hubs_words_are_found_in_every_shape_of_its_bodies() {
        let message = |body: &'static str| {
            server_message(&Answer {
                status: StatusCode::BAD_REQUEST,
                headers: HeaderMap::new(),
                body: Bytes::from_static(body.as_bytes()),
                after_unanswered: false,
            })
        };
        assert_eq!(message(r#"{"error":"no"}"#), "no");
        assert_eq!(message(r#"{"error":["a","b"]}"#), "a; b");
        assert_eq!(message(r#"{"errors":[{"message":"bad yaml"}]}"#), "bad yaml");
        assert_eq!(message("<html>"), "HTTP 400 Bad Request");
    }
}
