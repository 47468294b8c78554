//! `POST /v1/feedback`: what a client says of an answer, taken by the router itself.

use std::pin::pin;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes};
use hyper::{Method, Response, StatusCode};
use serde::Deserialize;

use super::body::ResponseBody;
use super::experiment::NotCounted;
use super::refusal::{self, Refusal};
use super::table::Table;

/// Where it is posted. No server gets a request for this path.
pub const PATH: &str = "/v1/feedback";
/// An id and a number take far less.
const LARGEST: usize = 4096;
/// What of a larger body is read before it is refused.
const DRAINED: usize = 1 << 20;

/// What is posted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    id: String,
    score: f64,
}

/// Counts a score as the table in force says. `thread`: which of the router's answers.
pub async fn take<B>(
    table: &Table,
    method: &Method,
    body: B,
    thread: usize,
) -> Result<Response<ResponseBody>, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !table.takes_feedback() {
        return Err(refusal::no_feedback());
    }
    if *method != Method::POST {
        return Err(refusal::feedback_method());
    }
    let bytes = read(body)
        .await
        .map_err(|error| refusal::feedback(&error.to_string()))?;
    let Feedback { id, score } =
        serde_json::from_slice(&bytes).map_err(|error| refusal::feedback(&error.to_string()))?;
    if !(0.0..=1.0).contains(&score) {
        return Err(refusal::feedback(&format!("the score is {score}")));
    }
    match table.feedback(&id, score, thread) {
        Ok(()) => {
            let mut response = Response::new(ResponseBody::Own(None));
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Err(NotCounted::Unknown) => Err(refusal::unknown_id()),
        Err(NotCounted::Twice) => Err(refusal::scored_already()),
    }
}

/// The whole of a small body. Of a large one the rest is read all the same, up to a bound: an answer that is sent while its
/// client still writes may be lost with the connection.
async fn read<B>(body: B) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = pin!(body);
    let (mut bytes, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Into::into)?;
        let data = frame.data_ref().map_or(&[][..], |data| &data[..]);
        length += data.len();
        if length <= LARGEST {
            bytes.extend_from_slice(data);
        } else if length > DRAINED {
            break;
        }
    }
    if length > LARGEST {
        return Err(format!("the body is larger than {LARGEST} bytes").into());
    }
    Ok(bytes)
}
