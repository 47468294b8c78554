//! Decoding an answer while it grows.

use super::{Tokenizer, TokenizerError};

/// Most tokens that may have arrived of a character that takes four, and most U+FFFD that stand for them: a
/// byte-fallback decoder writes one for each byte.
const UNFINISHED: usize = 3;

/// Turns tokens into text one by one. A character that takes several tokens comes out when its last one is there, so
/// that what comes out is always complete UTF-8.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    /// The tokens that may still influence the text to come, oldest first.
    window: Vec<u32>,
    /// How many of them had all their text given out. They stay as context: decoders treat the first token of a text
    /// differently, and they begin where a character begins.
    read: usize,
    /// How much of the window's text has been given out, in bytes.
    given: usize,
    skip_special: bool,
}

impl StreamDecoder {
    /// A decoder at the beginning of an answer.
    pub fn new(skip_special: bool) -> Self {
        Self {
            window: Vec::new(),
            read: 0,
            given: 0,
            skip_special,
        }
    }

    /// Takes the next token and returns the text that is complete now, often empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String, TokenizerError> {
        self.window.push(id);
        let text = tokenizer.decode(&self.window, self.skip_special)?;
        if text.ends_with('\u{fffd}') && self.window.len() - self.read <= UNFINISHED {
            return Ok(String::new());
        }
        let complete = without_unfinished(&text);
        let new = complete.get(self.given..).unwrap_or_default().to_owned();
        if complete.len() == text.len() && !new.is_empty() {
            self.window.drain(..self.read);
            self.read = self.window.len();
            self.given = tokenizer.decode(&self.window, self.skip_special)?.len();
        } else {
            self.given = self.given.max(complete.len());
        }
        Ok(new)
    }

    /// Returns what was held back, at the end of the answer: characters that were never completed, as U+FFFD.
    pub fn finish(self, tokenizer: &Tokenizer) -> Result<String, TokenizerError> {
        let text = tokenizer.decode(&self.window, self.skip_special)?;
        Ok(text.get(self.given..).unwrap_or_default().to_owned())
    }
}

fn without_unfinished(text: &str) -> &str {
    let mut rest = text;
    for _ in 0..UNFINISHED {
        let Some(shorter) = rest.strip_suffix('\u{fffd}') else {
            break;
        };
        rest = shorter;
    }
    rest
}
