//! BLEU (Papineni et al., 2002) in the two forms that are in use. Pure.

use super::Undefined;
use super::ngrams::{possible, shared};
use super::strings::trim_end;
use super::tokenize::{separated, tokens};

/// The longest n-grams compared.
const ORDERS: usize = 4;

/// What an example contributes. The score of a corpus is that of the sum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bleu {
    /// Tokens of the answers.
    found: u64,
    /// Tokens of the references.
    truth: u64,
    /// n-grams of the answers that the references have, by n − 1.
    matched: [u64; ORDERS],
    /// n-grams of the answers.
    possible: [u64; ORDERS],
}

impl Bleu {
    /// An answer against its reference, as Hugging Face's `bleu` counts.
    pub fn of(found: &str, truth: &str) -> Self {
        let (found, truth) = (separated(found), separated(truth));
        let (found, truth) = (tokens(&found), tokens(&truth));
        Self {
            found: found.len() as u64,
            truth: truth.len() as u64,
            matched: std::array::from_fn(|order| shared(&found, &truth, order + 1)),
            possible: std::array::from_fn(|order| possible(&found, order + 1)),
        }
    }

    /// As sacrebleu counts: it drops white space at the end before it joins hyphenated lines.
    pub fn of_sacrebleu(found: &str, truth: &str) -> Self {
        Self::of(trim_end(found), trim_end(truth))
    }

    /// Hugging Face's `bleu`, 0 to 1: no smoothing, so 0 where some order has no match.
    pub fn bleu(&self) -> Result<f64, Undefined> {
        for (count, side) in [(self.truth, "the references"), (self.found, "the answers")] {
            if count == 0 {
                return Err(Undefined::NothingToCount {
                    unit: "word",
                    side,
                    metric: "bleu",
                    fix: "measure sacrebleu, which scores that 0",
                });
            }
        }
        if self.matched.contains(&0) {
            return Ok(0.0);
        }
        let logarithms: f64 = (0..ORDERS)
            .map(|order| (self.matched[order] as f64 / self.possible[order] as f64).ln())
            .sum();
        Ok((logarithms / ORDERS as f64).exp() * self.brevity())
    }

    /// `sacrebleu.corpus_bleu`, 0 to 100. The n-th order without a match counts as 1/2ⁿ of one ("exp" smoothing, method 3
    /// of Chen and Cherry, 2014).
    pub fn sacrebleu(&self) -> f64 {
        // Without any match, or with all answers too short for some order, there is nothing to smooth.
        if self.matched.iter().all(|&count| count == 0) || self.possible.contains(&0) {
            return 0.0;
        }
        let mut smoothing = 1.0;
        let logarithms: f64 = (0..ORDERS)
            .map(|order| {
                let mut matched = self.matched[order] as f64;
                if self.matched[order] == 0 {
                    smoothing *= 2.0;
                    matched = 1.0 / smoothing;
                }
                (100.0 * matched / self.possible[order] as f64).ln()
            })
            .sum();
        (logarithms / ORDERS as f64).exp() * self.brevity()
    }

    /// The penalty of answers shorter than their references.
    fn brevity(&self) -> f64 {
        if self.found == 0 {
            0.0
        } else {
            (1.0 - self.truth as f64 / self.found as f64).exp().min(1.0)
        }
    }
}

impl std::iter::Sum for Bleu {
    fn sum<I: Iterator<Item = Self>>(examples: I) -> Self {
        examples.fold(Self::default(), |sum, one| Self {
            found: sum.found + one.found,
            truth: sum.truth + one.truth,
            matched: std::array::from_fn(|order| sum.matched[order] + one.matched[order]),
            possible: std::array::from_fn(|order| sum.possible[order] + one.possible[order]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected value: sacrebleu.corpus_bleu(["the cat sat on the mat."], [["the cat is on the mat."]]).score.
    #[test]
    fn a_corpus_scores_as_in_sacrebleu() {
        let one = Bleu::of_sacrebleu("the cat sat on the mat.", "the cat is on the mat.");
        assert!(
            (one.sacrebleu() - 48.892_302_243_490_086).abs() < 1e-9,
            "{}",
            one.sacrebleu()
        );
        assert_eq!(
            Bleu::of("the same four words", "the same four words").bleu(),
            Ok(1.0)
        );
    }

    #[test]
    fn nothing_in_common_and_nothing_at_all_score_0() {
        let strange = Bleu::of("one two three four", "five six seven eight");
        assert_eq!((strange.bleu(), strange.sacrebleu()), (Ok(0.0), 0.0));
        let nothing = Bleu::of("", "");
        assert_eq!((nothing.found, nothing.sacrebleu()), (0, 0.0));
        let refused = Bleu::of("", "word").bleu().unwrap_err().to_string();
        assert_eq!(
            refused,
            "there is not one word in the answers, and bleu divides by their number; measure sacrebleu, which scores that 0"
        );
    }
}
