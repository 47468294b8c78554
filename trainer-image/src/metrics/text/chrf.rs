//! chrF (Popović, 2015): F-score of character n-grams, equal to sacrebleu's `CHRF(6, 0, 2)`. Pure.

use super::ngrams::{possible, shared};
use super::strings::is_space;

/// The longest n-grams compared.
const ORDERS: usize = 6;
/// How much more recall counts than precision, squared.
const BETA_SQUARED: f64 = 4.0;

/// What an example contributes. The score of a corpus is that of the sum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Chrf {
    orders: [Order; ORDERS],
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Order {
    found: u64,
    truth: u64,
    matched: u64,
}

impl Chrf {
    /// An answer against its reference. White space does not count.
    pub fn of(found: &str, truth: &str) -> Self {
        let characters = |text: &str| text.chars().filter(|&c| !is_space(c)).collect::<Vec<char>>();
        let (found, truth) = (characters(found), characters(truth));
        Self {
            orders: std::array::from_fn(|order| {
                let truth_count = possible(&truth, order + 1);
                Order {
                    // Where the reference is too short for an order, the answer's n-grams are no mistakes.
                    found: if truth_count == 0 {
                        0
                    } else {
                        possible(&found, order + 1)
                    },
                    truth: truth_count,
                    matched: shared(&found, &truth, order + 1),
                }
            }),
        }
    }

    /// 0 to 100: F₂ of the mean precision and the mean recall over the orders that both sides have.
    pub fn score(&self) -> f64 {
        let (mut precision, mut recall, mut count) = (0.0, 0.0, 0.0);
        for order in &self.orders {
            if order.found > 0 && order.truth > 0 {
                precision += order.matched as f64 / order.found as f64;
                recall += order.matched as f64 / order.truth as f64;
                count += 1.0;
            }
        }
        if precision + recall == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision / count, recall / count);
        100.0 * (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
    }
}

impl std::iter::Sum for Chrf {
    fn sum<I: Iterator<Item = Self>>(examples: I) -> Self {
        examples.fold(Self::default(), |sum, one| Self {
            orders: std::array::from_fn(|order| Order {
                found: sum.orders[order].found + one.orders[order].found,
                truth: sum.orders[order].truth + one.orders[order].truth,
                matched: sum.orders[order].matched + one.orders[order].matched,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected value: sacrebleu.corpus_chrf(["the cat sat"], [["the cat is"]]).score.
    #[test]
    fn a_corpus_scores_as_in_sacrebleu() {
        let score = Chrf::of("the cat sat", "the cat is").score();
        assert!((score - 59.341_461_400_074_01).abs() < 1e-9, "{score}");
        assert!((Chrf::of("日本 語", "日本語").score() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_scores_0() {
        let pairs = [("", ""), ("a", ""), ("", "a"), ("a", "b")];
        assert!(
            pairs
                .iter()
                .all(|(found, truth)| Chrf::of(found, truth).score() == 0.0)
        );
    }
}
