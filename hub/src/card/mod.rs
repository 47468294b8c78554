//! Model cards: metadata merged into what people wrote. Pure.
//!
//! Only the bytes of what is set or merged change. Prose, key order, comments, quoting and line endings of
//! everything else stay as they are, and doing the same thing twice changes nothing the second time.

mod edit;
mod render;
mod results;
mod section;
mod tree;

use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use edit::{Document, not_a_mapping};

pub use results::{EvalEntry, EvalResult, Source, eval_results_yaml};

/// Why a card cannot be edited. It is then left alone.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CardError {
    /// The front matter is no YAML, or no mapping.
    #[error(
        "the model card's front matter is not valid: {message}; mend it between the two --- lines of README.md, nothing was changed"
    )]
    Invalid {
        /// Line, column and cause.
        message: String,
    },
    /// The text is not UTF-8, the only encoding the Hub reads.
    #[error(
        "the model card is not UTF-8: its byte {at} is part of no character; save README.md as UTF-8, nothing was changed"
    )]
    Encoding {
        /// How many bytes before it are good.
        at: usize,
    },
    /// A value has a shape that the Hub's format does not allow there.
    #[error(
        "{key:?} in the model card's front matter is not {expected}; mend it in README.md, nothing was changed"
    )]
    Shape {
        /// Which key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// The front matter as `huggingface_hub` finds it; an empty one is found too, and one behind a byte order mark, which
/// the Hub's page finds.
static FRONT_MATTER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(\u{feff}?\s*---(?:\r\n|\r|\n))((?s:.*?(?:\r\n|\r|\n))??)(---[ \t]*(?:\r\n|\n|$))")
        .expect("a constant pattern")
});

/// A model card: front matter and prose.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Card {
    text: String,
    /// Where the YAML between the two `---` lines is.
    metadata: Option<Range<usize>>,
    /// Where the prose begins.
    body: usize,
}

impl Card {
    /// Reads a card as it is stored.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CardError> {
        let text = std::str::from_utf8(bytes).map_err(|error| CardError::Encoding {
            at: error.valid_up_to(),
        })?;
        Self::parse(text)
    }

    /// Reads a card. Text without front matter is a card with prose only.
    pub fn parse(text: &str) -> Result<Self, CardError> {
        let card = Self::located(text.to_owned());
        let document = card.document()?;
        match document.value() {
            Value::Null | Value::Object(_) => Ok(card),
            _ => Err(not_a_mapping()),
        }
    }

    fn located(text: String) -> Self {
        let found = FRONT_MATTER
            .captures(&text)
            .and_then(|found| Some((found.get(2)?.range(), found.get(0)?.end())));
        let (metadata, body) = match found {
            Some((metadata, body)) => (Some(metadata), body),
            None => (None, 0),
        };
        Self { text, metadata, body }
    }

    fn document(&self) -> Result<Document, CardError> {
        let yaml = self.metadata.clone().map_or("", |range| &self.text[range]);
        Document::parse(yaml, line_break(&self.text))
    }

    fn put_document(&mut self, document: &Document) {
        let text = if let Some(range) = &self.metadata {
            let mut text = self.text.clone();
            text.replace_range(range.clone(), document.text());
            text
        } else {
            let end = line_break(&self.text);
            format!("---{end}{}---{end}{}", document.text(), self.text)
        };
        *self = Self::located(text);
    }

    /// The value of a top-level key of the front matter.
    pub fn get(&self, key: &str) -> Option<Value> {
        let document = self.document().ok()?;
        Some(document.root()?.get(key)?.value())
    }

    /// Sets a top-level key of the front matter; true when that changed anything.
    pub fn set(&mut self, key: &str, value: &Value) -> Result<bool, CardError> {
        let mut document = self.document()?;
        if document
            .root()
            .and_then(|root| root.get(key))
            .map(tree::Node::value)
            .as_ref()
            == Some(value)
        {
            return Ok(false);
        }
        document.set(key, value)?;
        self.put_document(&document);
        Ok(true)
    }

    /// Adds those of `items` that are missing to a list such as `tags` (a lone value becomes a list); true when
    /// any was.
    pub fn extend(&mut self, key: &'static str, items: &[&str]) -> Result<bool, CardError> {
        let mut changed = false;
        for item in items {
            let item = Value::from(*item);
            let mut document = self.document()?;
            match self.get(key) {
                None | Some(Value::Null) => document.set(key, &Value::Array(vec![item]))?,
                Some(Value::Array(known)) if known.contains(&item) => continue,
                Some(Value::Array(known)) if known.is_empty() => {
                    document.set(key, &Value::Array(vec![item]))?;
                }
                Some(Value::Array(_)) => document.append(&[edit::Step::Key(key)], &item)?,
                Some(Value::Object(_)) => {
                    return Err(CardError::Shape {
                        key: key.into(),
                        expected: "a list",
                    });
                }
                Some(one) if one == item => continue,
                Some(one) => document.set(key, &Value::Array(vec![one, item]))?,
            }
            self.put_document(&document);
            changed = true;
        }
        Ok(changed)
    }

    /// The prose.
    pub fn body(&self) -> &str {
        &self.text[self.body..]
    }

    /// Replaces the prose.
    pub fn set_body(&mut self, body: &str) {
        self.text.truncate(self.body);
        self.text.push_str(body);
        *self = Self::located(std::mem::take(&mut self.text));
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The line ending a text uses: that of its first line. A lone `\r` ends no front matter for the Hub's clients.
fn line_break(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

#[cfg(test)]
mod survival;
#[cfg(test)]
mod tests;
