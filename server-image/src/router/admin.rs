//! The listener for the cluster: `/healthz`, `/readyz`, `/metrics`, `/stats`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use slipway_contract::RouterStats;
use tokio::net::TcpListener;

use super::proxy::Shared;

/// Answers for ever. `ready` is false from the moment the process is told to stop.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, ready: Arc<AtomicBool>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (shared, ready) = (shared.clone(), ready.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&request, &shared, &ready);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new());
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection to the metrics listener ended");
            }
        });
    }
}

fn answer(request: &Request<Incoming>, shared: &Shared, ready: &AtomicBool) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n".into()),
        "/readyz" if ready.load(Ordering::Relaxed) => text(StatusCode::OK, "ok\n".into()),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "told to stop\n".into()),
        "/metrics" => {
            let table = shared.table.load();
            let ready = table
                .revisions()
                .map(|(variant, revision)| (variant, revision.name.as_str(), revision.target.ready_count()));
            typed(
                "text/plain; version=0.0.4; charset=utf-8",
                shared.metrics.render(ready),
            )
        }
        "/stats" => {
            let stats = RouterStats {
                instance: shared.instance.clone(),
                ..shared.table.load().stats()
            };
            let stats = serde_json::to_string(&stats).expect("counts are plain data");
            typed("application/json", stats)
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "there is /healthz, /readyz, /metrics and /stats\n".into(),
        ),
    }
}

fn typed(content: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    response
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
