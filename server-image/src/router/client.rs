//! What tells one client from others, so that it meets the same arm and revision each time.

use hyper::header::{COOKIE, HeaderMap, HeaderValue};

use super::choose::Draws;
use super::table::Key;

/// A month: longer than an experiment.
const COOKIE_SECONDS: u32 = 30 * 24 * 3600;

/// A client that meets the same arm each time.
#[derive(Debug)]
pub enum Client {
    /// One that a header names.
    Header(HeaderValue),
    /// One that has the cookie.
    Known(Vec<u8>),
    /// One without a cookie yet: its name and the value it gets.
    New(String, String),
}

impl Client {
    /// The client of a request, where the table asks for that.
    pub fn read(key: &Key, headers: &HeaderMap, draws: &mut Draws) -> Option<Self> {
        match key {
            Key::None => None,
            Key::Header(name) => headers.get(name).cloned().map(Self::Header),
            Key::Cookie(name) => Some(cookie(headers, name).map_or_else(
                || {
                    Self::New(
                        name.clone(),
                        format!("{:016x}{:016x}", draws.draw(), draws.draw()),
                    )
                },
                |value| Self::Known(value.to_vec()),
            )),
        }
    }

    /// What its choices are hashed from.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Header(value) => value.as_bytes(),
            Self::Known(value) => value,
            Self::New(_, value) => value.as_bytes(),
        }
    }

    /// The `set-cookie` for one that has none yet.
    pub fn cookie(&self) -> Option<HeaderValue> {
        let Self::New(name, value) = self else { return None };
        let text = format!("{name}={value}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax");
        HeaderValue::try_from(text).ok()
    }
}

/// The value of the cookie `name`.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b';'))
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; arm=x7 ;b=2"));
        headers.append(COOKIE, HeaderValue::from_static("ar=3; empty="));
        assert_eq!(cookie(&headers, "arm"), Some(b"x7".as_slice()));
        assert_eq!(cookie(&headers, "ar"), Some(b"3".as_slice()));
        assert_eq!(cookie(&headers, "empty"), None);
        assert_eq!(cookie(&headers, "c"), None);
    }
}
