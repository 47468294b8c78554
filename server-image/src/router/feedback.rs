//! `POST /v1/feedback`: what a client says of an answer, taken by the router itself.

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes};
use hyper::{Method, Response, StatusCode};
use serde::Deserialize;

use super::body::ResponseBody;
use super::experiment::{Experiment, NotCounted};
use super::refusal::{self, Refusal};

/// Where it is posted. No server gets a request for this path.
pub const PATH: &str = "/v1/feedback";
/// An id and a number take far less.
const LARGEST: usize = 4096;

/// What is posted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    id: String,
    score: f64,
}

/// Counts a score for the experiment of the table in force. `thread`: which of the router's answers.
pub async fn take<B>(
    experiment: Option<&Experiment>,
    method: &Method,
    body: B,
    thread: usize,
) -> Result<Response<ResponseBody>, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let experiment = experiment
        .filter(|experiment| experiment.takes_feedback())
        .ok_or_else(refusal::no_feedback)?;
    if *method != Method::POST {
        return Err(refusal::feedback_method());
    }
    let bytes = Limited::new(body, LARGEST).collect().await;
    let bytes = bytes
        .map_err(|error| refusal::feedback(&error.to_string()))?
        .to_bytes();
    let Feedback { id, score } =
        serde_json::from_slice(&bytes).map_err(|error| refusal::feedback(&error.to_string()))?;
    if !(0.0..=1.0).contains(&score) {
        return Err(refusal::feedback(&format!("the score is {score}")));
    }
    match experiment.feedback(&id, score, thread) {
        Ok(()) => {
            let mut response = Response::new(ResponseBody::Own(None));
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Err(NotCounted::Unknown) => Err(refusal::unknown_id()),
        Err(NotCounted::Twice) => Err(refusal::scored_already()),
    }
}
