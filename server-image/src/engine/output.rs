//! From sampled tokens to what a client receives: complete UTF-8, no part of a stop string, log-probabilities
//! with the text they belong to.

use slipway_model::tokenizer::{StreamDecoder, Tokenizer, TokenizerError};

use crate::sampling::Logprobs;
use crate::stop::{Passed, StopFilter};

/// A token of an answer with its log-probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenInfo {
    /// Its id.
    pub id: u32,
    /// How likely it and its rivals were.
    pub logprobs: Logprobs,
    /// Characters of the answer before it.
    pub offset: usize,
}

/// The next part of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Text, often empty while something is held back.
    pub text: String,
    /// The tokens of that text, when log-probabilities were asked for.
    pub tokens: Vec<TokenInfo>,
}

impl Delta {
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.tokens.is_empty()
    }
}

/// The answer of one sequence while it grows.
#[derive(Debug)]
pub struct Output {
    decoder: StreamDecoder,
    stop: StopFilter,
    pending: Vec<TokenInfo>,
    // Characters decoded, and characters given out.
    decoded: usize,
    given: usize,
}

impl Output {
    /// The beginning of an answer that ends at any of `stop`.
    pub fn new(stop: Vec<String>) -> Self {
        Self {
            decoder: StreamDecoder::new(true),
            stop: StopFilter::new(stop),
            pending: Vec::new(),
            decoded: 0,
            given: 0,
        }
    }

    /// Takes the next token. The second value says whether a stop string ended the answer.
    pub fn push(
        &mut self,
        tokenizer: &Tokenizer,
        id: u32,
        logprobs: Option<Logprobs>,
    ) -> Result<(Delta, bool), TokenizerError> {
        if let Some(logprobs) = logprobs {
            self.pending.push(TokenInfo {
                id,
                logprobs,
                offset: self.decoded,
            });
        }
        let piece = self.decoder.push(tokenizer, id)?;
        self.decoded += piece.chars().count();
        let passed = self.stop.push(&piece);
        let stopped = passed.stopped;
        Ok((self.give(passed), stopped))
    }

    /// The rest of an answer that ended without a stop string.
    pub fn finish(mut self, tokenizer: &Tokenizer) -> Result<Delta, TokenizerError> {
        let decoder = std::mem::replace(&mut self.decoder, StreamDecoder::new(true));
        let mut passed = self.stop.push(&decoder.finish(tokenizer)?);
        if !passed.stopped {
            passed.text.push_str(&self.stop.finish());
        }
        let mut delta = self.give(passed);
        delta.tokens.append(&mut self.pending);
        Ok(delta)
    }

    fn give(&mut self, passed: Passed) -> Delta {
        self.given += passed.text.chars().count();
        let certain = self
            .pending
            .iter()
            .take_while(|token| token.offset < self.given)
            .count();
        let tokens = if passed.text.is_empty() {
            Vec::new()
        } else {
            self.pending.drain(..certain).collect()
        };
        if passed.stopped {
            // What is left lies in the stop string.
            self.pending.clear();
        }
        Delta {
            text: passed.text,
            tokens,
        }
    }
}
