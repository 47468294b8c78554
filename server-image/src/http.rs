//! Routes, and what all of them share: reading bodies, errors in one shape, the access log.

mod access;
mod chat;
mod completions;
mod embeddings;
mod generate;
mod health;
mod models;
mod predict;
mod tokens;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

pub use access::Record;

use crate::app::App;
use crate::error::ApiError;

/// The routes of a server.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*name}", get(models::one))
        .route("/v1/chat/completions", post(chat::handle))
        .route("/v1/completions", post(completions::handle))
        .route("/v1/embeddings", post(embeddings::handle))
        .route("/predict", post(predict::handle))
        .route("/", post(predict::handle).get(models::about))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/tokenizer_info", get(tokens::info))
        .route("/health", get(health::ready))
        .route("/readyz", get(health::ready))
        .route("/healthz", get(health::live))
        .route("/metrics", get(health::metrics))
        .route("/stats", get(health::stats))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(app.clone(), access::log))
        .with_state(app)
}

/// A request's whole body, refused with 413 above the limit.
#[derive(Debug)]
pub struct Body(pub Bytes);

impl FromRequest<App> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let limit = app.max_body_bytes();
        let declared = request
            .headers()
            .get(axum::http::header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| length > limit) {
            return Err(ApiError::too_large(limit));
        }
        let limited = http_body_util::Limited::new(request.into_body(), limit);
        match http_body_util::BodyExt::collect(limited).await {
            Ok(body) => Ok(Self(body.to_bytes())),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(ApiError::too_large(limit)),
            Err(error) => Err(ApiError::body(format!(
                "failed to read the request body: {error}"
            ))),
        }
    }
}

async fn unknown(State(_): State<App>, request: Request) -> ApiError {
    ApiError::not_found(format!(
        "there is no {} here; there are /v1/models, /v1/chat/completions, /v1/completions, /v1/embeddings, /predict, /tokenize, /detokenize, /tokenizer_info, /health, /metrics and /stats",
        request.uri().path()
    ))
    .code("unknown_path")
}

async fn wrong_method(State(_): State<App>, request: Request) -> ApiError {
    let other = if request.method() == Method::GET {
        "POST"
    } else {
        "GET"
    };
    ApiError::method_not_allowed(format!(
        "{} does not take {}; use {other}",
        request.uri().path(),
        request.method()
    ))
}

/// The route of a request as a metric label: never the raw path, of which there are without end.
fn route(request: &Request) -> String {
    request
        .extensions()
        .get::<MatchedPath>()
        .map_or("other", MatchedPath::as_str)
        .to_owned()
}

/// Runs work that takes more than a few microseconds off the threads that serve connections.
async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(ApiError::internal(format!(
            "a request could not be prepared: {error}"
        )))
    })
}

/// Names the model that answered, which matters when a router chose it.
fn with_model(mut response: Response, model: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(model) {
        response.headers_mut().insert("x-slipway-model", value);
    }
    response
}

fn ok(body: impl serde::Serialize) -> Response {
    (StatusCode::OK, axum::Json(body)).into_response()
}
