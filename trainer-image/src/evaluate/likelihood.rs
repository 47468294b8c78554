//! How likely a text is, and how much of it is looked at. Pure.

use slipway_contract::{EvalConfig, EvalTask, Failure, FailureReason};

/// Longer texts are cut to this many tokens unless the configuration says otherwise.
const USUAL_LIMIT: usize = 512;

/// How likely a text is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Likelihood {
    /// Its negative log-likelihood.
    pub nats: f64,
    /// Its tokens, 0 where the limit leaves none of it.
    pub tokens: u64,
    /// Its length in UTF-8.
    pub bytes: u64,
}

impl Likelihood {
    /// Both texts together.
    pub fn and(self, other: Self) -> Self {
        Self {
            nats: self.nats + other.nats,
            tokens: self.tokens + other.tokens,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Tokens of a text that are looked at by a model that attends to `possible`.
pub(super) fn limit(config: &EvalConfig, possible: usize) -> Result<usize, Failure> {
    match config.max_sequence_length.map(|limit| limit as usize) {
        Some(asked) if asked > possible => Err(Failure::new(
            FailureReason::SequenceTooLong,
            format!(
                "maxSequenceLength is {asked}, but the model can attend to {possible} tokens; set it to at most {possible}"
            ),
        )),
        Some(asked) => Ok(asked),
        // Choices are compared with whatever came before them, as far as the model can look back.
        None if config.task == EvalTask::MultipleChoice => Ok(possible),
        None => Ok(possible.min(USUAL_LIMIT)),
    }
}

/// Bytes of text that the learned tokens add to what comes before them; the first token is predicted from nothing. `starts`
/// is where the text of each token begins, `end` where that of the last one ends.
pub(super) fn added_bytes(learned: &[bool], starts: &[usize], end: usize) -> u64 {
    let until = |token: usize| starts.get(token).copied().unwrap_or(end);
    let mut bytes = 0;
    let mut at = 1;
    for run in learned[1..].chunk_by(|a, b| a == b) {
        if run[0] {
            bytes += until(at + run.len()).saturating_sub(until(at));
        }
        at += run.len();
    }
    bytes as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_learned_tokens() {
        let starts = [0, 2, 5, 5];
        assert_eq!(added_bytes(&[true; 4], &starts, 9), 7);
        assert_eq!(added_bytes(&[false, false, false, true], &starts, 9), 4);
        assert_eq!(added_bytes(&[true, true, false, true], &starts, 9), 7);
        assert_eq!(added_bytes(&[true], &starts[..1], 2), 0);
    }
}
