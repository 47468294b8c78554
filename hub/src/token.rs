//! A Hub token that cannot be printed by accident.

use std::fmt;
use std::path::Path;

use crate::Error;

/// An access token. `Debug` shows that there is one, never what it is; there is no `Display`.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(String);

impl Token {
    /// Takes the token without the white space that editors and `echo` leave around it; `None` when nothing is
    /// left.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// Reads a token from a file, for instance a mounted Secret.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::TokenFile {
            path: path.to_owned(),
            message: source.to_string(),
        })?;
        Self::new(&text).ok_or_else(|| Error::TokenFile {
            path: path.to_owned(),
            message: "it is empty".into(),
        })
    }

    /// The value of the `Authorization` header, marked sensitive so that no middleware logs it.
    pub(crate) fn authorization(&self) -> Result<reqwest::header::HeaderValue, Error> {
        let mut value = reqwest::header::HeaderValue::try_from(format!("Bearer {}", self.0))
            .map_err(|_| Error::TokenShape)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_token() {
        let token = Token::new(" hf_secret\n").unwrap();
        assert_eq!(format!("{token:?}"), "Token(redacted)");
        assert!(!format!("{:?}", token.authorization().unwrap()).contains("secret"));
    }

    #[test]
    fn an_empty_file_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Token::from_file(file.path()).unwrap_err().to_string();
        assert!(error.contains("is empty"), "{error}");
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn a_token_with_a_line_break_inside_is_refused_without_being_shown() {
        let error = Token::new("hf_one\nhf_two").unwrap().authorization().unwrap_err();
        assert!(!error.to_string().contains("hf_"), "{error}");
    }
}
