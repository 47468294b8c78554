//! Translation edit rate (Snover et al., 2006), equal to sacrebleu's `TER` with all flags off, which follows Tercom. Pure.

mod distance;
mod shift;

use std::collections::HashMap;

use self::distance::Distance;
use self::shift::Shifts;
use super::strings::words;

/// Candidate shifts that are tried for one example before the search ends.
const MOST_CANDIDATES: usize = 1000;

/// What an example contributes. The score of a corpus is that of the sum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ter {
    /// Insertions, deletions, substitutions and shifts that turn the answers into the references.
    edits: u64,
    /// Words of the references.
    truth: u64,
}

impl Ter {
    /// An answer against its reference, by words between white space, without regard to case.
    pub fn of(found: &str, truth: &str) -> Self {
        let (found, truth) = (found.to_lowercase(), truth.to_lowercase());
        // Words become numbers: they are compared often.
        let mut numbers = HashMap::new();
        let mut numbered = |text| {
            words(text)
                .map(|word| {
                    let next = numbers.len() as u32;
                    *numbers.entry(word.to_owned()).or_insert(next)
                })
                .collect::<Vec<u32>>()
        };
        let (found, truth) = (numbered(&found), numbered(&truth));
        Self {
            edits: edits(found, &truth) as u64,
            truth: truth.len() as u64,
        }
    }

    /// 100 · edits / words of the references, 0 to infinity; less is better. 100 where answers have words and references
    /// none.
    pub fn score(&self) -> f64 {
        match (self.edits, self.truth) {
            (0, _) => 0.0,
            (_, 0) => 100.0,
            (edits, words) => 100.0 * edits as f64 / words as f64,
        }
    }
}

impl std::iter::Sum for Ter {
    fn sum<I: Iterator<Item = Self>>(examples: I) -> Self {
        examples.fold(Self::default(), |sum, one| Self {
            edits: sum.edits + one.edits,
            truth: sum.truth + one.truth,
        })
    }
}

/// Shifts the block of words that brings `found` nearest to `truth` until no shift does, then counts.
fn edits(mut found: Vec<u32>, truth: &[u32]) -> usize {
    if truth.is_empty() {
        return found.len();
    }
    let mut shifts = 0;
    let mut candidates = 0;
    loop {
        let distance = Distance::new(&found, truth);
        let best = Shifts::new(&distance, &found, truth).best(&mut candidates);
        match best {
            // Tercom drops the shift with which the candidates run out.
            Some(shift) if shift.gain > 0 && candidates < MOST_CANDIDATES => {
                found = shift.words;
                shifts += 1;
            }
            _ => return shifts + distance.edits(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: sacrebleu.corpus_ter.
    #[test]
    fn rates_are_those_of_sacrebleu() {
        for (found, truth, edits, words) in [
            ("the cat sat", "The cat sat", 0, 3),
            // One shift of two words.
            ("c d a b e", "a b c d e", 1, 5),
            ("a b c", "a x c d", 2, 4),
            ("", "a b", 2, 2),
            ("a b", "", 2, 0),
            ("", "", 0, 0),
        ] {
            let expected = Ter { edits, truth: words };
            assert_eq!(Ter::of(found, truth), expected, "{found} | {truth}");
        }
    }

    #[test]
    fn the_rate_is_that_of_the_sums() {
        let all: Ter = [Ter::of("a b", "a c"), Ter::of("a", "a b c d")].into_iter().sum();
        assert!((all.score() - 100.0 * 4.0 / 6.0).abs() < 1e-12);
        assert_eq!((Ter::of("a", "").score(), Ter::default().score()), (100.0, 0.0));
    }
}
