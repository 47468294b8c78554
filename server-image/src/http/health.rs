//! Probes and figures.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::app::{App, Phase};
use crate::error::ApiError;
use crate::metrics::CONTENT_TYPE;

/// Whether requests should come here: 200 when ready, else 503 with the reason.
pub(super) async fn ready(State(app): State<App>) -> Response {
    let (status, body) = match app.phase() {
        Phase::Ready => (StatusCode::OK, json!({"status": "ready"})),
        Phase::Loading(detail) => (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({"status": "loading", "detail": detail}),
        ),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "draining"})),
    };
    (status, axum::Json(body)).into_response()
}

/// Whether the process lives. It ends by itself when it cannot serve.
pub(super) async fn live() -> Response {
    super::ok(json!({"status": "live"}))
}

pub(super) async fn metrics(State(app): State<App>) -> Response {
    let waiting = app.served().map_or(0, |served| served.engine.waiting());
    let text = app.metrics().encode(waiting, app.phase() == Phase::Ready);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

/// The time that `/stats` is asked about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lately {
    /// Seconds back from now. Default: since the start.
    seconds: Option<u64>,
}

pub(super) async fn stats(
    State(app): State<App>,
    asked: Result<Query<Lately>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(asked) = asked.map_err(|error| {
        let why = error.body_text();
        ApiError::invalid(
            "seconds",
            format!("{why}; write /stats?seconds=60 for the last minute"),
        )
    })?;
    let seconds = asked.seconds.unwrap_or(u64::MAX);
    Ok(super::ok(app.history().lately(seconds)))
}
