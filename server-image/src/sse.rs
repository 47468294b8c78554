//! Server-sent events as OpenAI's clients read them.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use serde::Serialize;
use std::convert::Infallible;

/// The event after the last chunk.
pub const DONE: &str = "data: [DONE]\n\n";

/// One event. JSON never has a bare line break, so one `data:` line holds it.
pub fn event(data: &impl Serialize) -> Bytes {
    let mut frame = b"data: ".to_vec();
    serde_json::to_writer(&mut frame, data).expect("chunks are plain data");
    frame.extend_from_slice(b"\n\n");
    frame.into()
}

/// A response that sends each event at once.
pub fn response(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(futures::StreamExt::map(events, Ok::<_, Infallible>));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would otherwise collect chunks.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_the_text() {
        let frame = event(&serde_json::json!({"text": "a\nb\r\n\u{2028}"}));
        let text = std::str::from_utf8(&frame).unwrap();
        assert!(text.starts_with("data: {") && text.ends_with("}\n\n"));
        assert_eq!(text.trim_end().lines().count(), 1);
    }
}
