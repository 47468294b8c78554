//! What the router says where no server answers, in the shape of OpenAI's errors.

use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::body::ResponseBody;

/// Seconds after which a request that waited for a server in vain is worth another try: models load for long.
const RETRY_HELD: u16 = 5;

/// An answer of the router's own.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    message: String,
    /// Seconds.
    retry_after: Option<u16>,
    allow: Option<&'static str>,
}

impl Refusal {
    /// Whether no arm is to blame: it counts for none.
    pub fn counts_as_unrouted(&self) -> bool {
        self.status != StatusCode::BAD_GATEWAY
    }

    /// As an answer.
    pub fn into_response(self) -> Response<ResponseBody> {
        let body = json!({"error": {
            "message": self.message, "type": self.kind, "param": null, "code": self.code,
        }});
        let mut response = Response::new(ResponseBody::Own(Some(Bytes::from(body.to_string()))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        response
    }
}

fn unavailable(code: &'static str, message: String) -> Refusal {
    Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        kind: "service_unavailable",
        code,
        message,
        retry_after: Some(1),
        allow: None,
    }
}

fn invalid(status: StatusCode, code: &'static str, message: String) -> Refusal {
    Refusal {
        status,
        kind: "invalid_request_error",
        code,
        message,
        retry_after: None,
        allow: None,
    }
}

/// No arm has a server that can answer.
pub fn no_server() -> Refusal {
    unavailable(
        "no_ready_server",
        "no server is ready to answer; try again in a moment".into(),
    )
}

/// The arm asked for has none.
pub fn unready_variant(variant: &str) -> Refusal {
    let message = format!(
        "no server of the variant {variant:?} is ready; try again in a moment, or leave x-slipway-variant out to be answered by another"
    );
    unavailable("variant_not_ready", message)
}

/// The revision asked for has none.
pub fn unready_revision(variant: &str, revision: &str) -> Refusal {
    let message = format!(
        "no server of the revision {revision:?} of the variant {variant:?} is ready; try again in a moment, or leave x-slipway-revision out to be answered by another"
    );
    unavailable("revision_not_ready", message)
}

/// Too many wait for the arm already.
pub fn queue_full(variant: &str, limit: u32) -> Refusal {
    let message = format!(
        "{limit} requests wait for the first server of the variant {variant:?}, and no more may; try again in a few seconds"
    );
    Refusal {
        retry_after: Some(RETRY_HELD),
        ..unavailable("queue_full", message)
    }
}

/// The arm's first server did not become ready in time.
pub fn held_too_long(variant: &str, seconds: u32) -> Refusal {
    let message = format!(
        "no server of the variant {variant:?} became ready within {seconds} s; its model may still be loading, try again in a few seconds"
    );
    Refusal {
        retry_after: Some(RETRY_HELD),
        ..unavailable("variant_not_ready", message)
    }
}

/// The arm asked for does not exist.
pub fn unknown_variant<'a>(asked: &str, known: impl Iterator<Item = &'a str>) -> Refusal {
    let known = known.collect::<Vec<_>>().join(", ");
    let message = format!("there is no variant {asked:?}; x-slipway-variant may be one of: {known}");
    invalid(StatusCode::NOT_FOUND, "variant_not_found", message)
}

/// The revision asked for does not exist, or not in the arm asked for.
pub fn unknown_revision<'a>(
    asked: &str,
    variant: Option<&str>,
    known: impl Iterator<Item = &'a str>,
) -> Refusal {
    let place = variant.map_or_else(String::new, |variant| format!(" of the variant {variant:?}"));
    let known: Vec<&str> = known.filter(|revision| !revision.is_empty()).collect();
    let message = if known.is_empty() {
        format!("there is no revision {asked:?}{place}, nor any with a name; leave x-slipway-revision out")
    } else {
        let known = known.join(", ");
        format!("there is no revision {asked:?}{place}; x-slipway-revision may be one of: {known}")
    };
    invalid(StatusCode::NOT_FOUND, "revision_not_found", message)
}

/// Every server tried closed the connection.
pub fn broken() -> Refusal {
    Refusal {
        status: StatusCode::BAD_GATEWAY,
        kind: "server_error",
        code: "server_disconnected",
        message: "the server closed the connection before it answered; the request may have been worked on, try again if that does no harm".into(),
        retry_after: None,
        allow: None,
    }
}

/// The client stopped in the middle of its request.
pub fn incomplete() -> Refusal {
    let message = "the request ended before its body was complete; send as many bytes as content-length says";
    invalid(StatusCode::BAD_REQUEST, "incomplete_body", message.into())
}

/// Tunnels are not for a router.
pub fn connect() -> Refusal {
    let message = "CONNECT is not served here; send requests to this address directly";
    invalid(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message.into(),
    )
}

/// Nobody takes feedback.
pub fn no_feedback() -> Refusal {
    let message =
        "neither an experiment nor an analysis asks for a feedbackScore here; keep the score to yourself";
    invalid(StatusCode::NOT_FOUND, "no_feedback", message.into())
}

/// Feedback is posted.
pub fn feedback_method() -> Refusal {
    let message = "feedback is taken by POST only; post {\"id\": ID, \"score\": NUMBER}";
    Refusal {
        allow: Some("POST"),
        ..invalid(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message.into(),
        )
    }
}

/// What was posted is none: `why`.
pub fn feedback(why: &str) -> Refusal {
    let message = format!(
        "this is no feedback: {why}; post {{\"id\": ID, \"score\": NUMBER}} with the x-slipway-id of an answer and a number from 0 to 1"
    );
    invalid(StatusCode::UNPROCESSABLE_ENTITY, "invalid_feedback", message)
}

/// No router gave out the id, for what is there now.
pub fn unknown_id() -> Refusal {
    let message = "this id is damaged, or of an experiment or a revision that is over or elsewhere; post the x-slipway-id of an answer as it came, soon after it";
    invalid(StatusCode::NOT_FOUND, "id_not_found", message.into())
}

/// The id has its score.
pub fn scored_already() -> Refusal {
    let message = "this answer was scored already, and its first score counts; post one score an answer";
    invalid(StatusCode::CONFLICT, "scored_already", message.into())
}
