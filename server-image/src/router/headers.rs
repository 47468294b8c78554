//! The headers of the router's own, and those of requests on their way to a server. Pure.

use hyper::Version;
use hyper::body::Bytes;
use hyper::header::{
    CONNECTION, EXPECT, Entry, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::http::uri::{PathAndQuery, Uri};

/// The header that asks for an arm by name, and in an answer names the arm that gave it.
pub const VARIANT: HeaderName = HeaderName::from_static("x-slipway-variant");
/// The header that asks for a revision by name, and in an answer names the revision that gave it.
pub const REVISION: HeaderName = HeaderName::from_static("x-slipway-revision");
/// The header that tells a server that nobody gets its answer.
pub const MIRROR: HeaderName = HeaderName::from_static("x-slipway-mirror");
/// The header of an answer with the id that its client's feedback names.
pub const ID: HeaderName = HeaderName::from_static("x-slipway-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers that are about one connection and not about the message (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Turns a request to this router into one to a server.
pub fn prepare(parts: &mut Parts, peer: &HeaderValue) {
    parts.version = Version::HTTP_11;
    if parts.uri.authority().is_some() {
        let path = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    strip(&mut parts.headers);
    // Answered here already, by reading the body.
    parts.headers.remove(EXPECT);
    match parts.headers.entry(FORWARDED_FOR) {
        Entry::Vacant(place) => {
            place.insert(peer.clone());
        }
        Entry::Occupied(mut chain) => {
            let joined = [chain.get().as_bytes(), b", ", peer.as_bytes()].concat();
            if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
                chain.insert(value);
            }
        }
    }
}

/// Removes what is about one connection only. Most messages have little of it: looking at the names that are there
/// costs less than looking up each that may be.
pub fn strip(headers: &mut HeaderMap) {
    if headers.keys().any(|name| *name == CONNECTION) {
        strip_named(headers);
    }
    if headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

/// Removes `connection` and the headers that it names.
fn strip_named(headers: &mut HeaderMap) {
    let values = headers.get_all(CONNECTION).iter();
    // Said by nearly every server, and among `HOP_BY_HOP` itself.
    let named: Vec<HeaderName> = values
        .filter(|value| *value != "keep-alive")
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    headers.remove(CONNECTION);
    for name in named {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    #[test]
    fn hop_by_hop_headers_go_no_further() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Private"),
            ("keep-alive", "timeout=5"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("x-public", "1"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("x-public"));
    }

    #[test]
    fn an_absolute_target_becomes_a_path_and_the_client_joins_the_chain() {
        let request = Request::get("http://example/v1/models?x=1")
            .header("x-forwarded-for", "10.0.0.1")
            .body(());
        let (mut parts, ()) = request.unwrap().into_parts();
        prepare(&mut parts, &HeaderValue::from_static("10.0.0.2"));
        assert_eq!(parts.uri, "/v1/models?x=1");
        assert_eq!(parts.headers["x-forwarded-for"], "10.0.0.1, 10.0.0.2");
    }
}
