//! Which block of words to shift. Pure.

use std::cmp::Reverse;

use super::MOST_CANDIDATES;
use super::distance::{Alignment, Distance};

/// Words of the longest block that is shifted, as in Tercom.
const LONGEST: usize = 10;
/// How far apart the block's places on both sides may be.
const FARTHEST: usize = 50;

/// A block moved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Shift {
    /// By how much the words come nearer to the reference; negative where they get farther away.
    pub gain: isize,
    /// The words after it.
    pub words: Vec<u32>,
}

/// The shifts of an answer.
#[derive(Debug)]
pub(super) struct Shifts<'a> {
    distance: &'a Distance<'a>,
    alignment: Alignment,
    found: &'a [u32],
    truth: &'a [u32],
}

impl<'a> Shifts<'a> {
    /// `distance` is that from `found` to `truth`.
    pub fn new(distance: &'a Distance<'a>, found: &'a [u32], truth: &'a [u32]) -> Self {
        Self {
            distance,
            alignment: distance.alignment(),
            found,
            truth,
        }
    }

    /// The best shift; `candidates` counts those tried and ends the search at [`MOST_CANDIDATES`].
    pub fn best(&self, candidates: &mut usize) -> Option<Shift> {
        let edits = self.distance.edits() as isize;
        let mut best = None;
        for (start, in_truth, length) in self.blocks() {
            let block = start..start + length;
            let right = |wrong: &[bool]| !wrong.contains(&true);
            if right(&self.alignment.found_wrong[block.clone()])
                || right(&self.alignment.truth_wrong[in_truth..in_truth + length])
            {
                continue;
            }
            // Not into itself.
            if (start + 1..=start + length).contains(&self.alignment.until[in_truth]) {
                continue;
            }
            let mut before = None;
            for target in self.targets(in_truth, length) {
                if before.replace(target) == Some(target) {
                    continue;
                }
                let words = shifted(self.found, start, length, target);
                let moved = self.distance.edits_of(&words, start.min(target)) as isize;
                *candidates += 1;
                // Tercom's order: the gain, then the longest block, the earliest, the earliest target.
                let rank = (edits - moved, length, Reverse(start), Reverse(target));
                if best.as_ref().is_none_or(|(most, _)| rank > *most) {
                    best = Some((rank, words));
                }
            }
            if *candidates >= MOST_CANDIDATES {
                break;
            }
        }
        best.map(|((gain, ..), words)| Shift { gain, words })
    }

    /// Blocks of the same words on both sides: where they start in the answer, where in the reference, and how long they
    /// are.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..self.found.len()).flat_map(move |start| {
            let near = start.saturating_sub(FARTHEST)..self.truth.len().min(start + FARTHEST + 1);
            near.flat_map(move |in_truth| {
                let same = self.found[start..]
                    .iter()
                    .zip(&self.truth[in_truth..])
                    .take(LONGEST)
                    .take_while(|(found, truth)| found == truth)
                    .count();
                (1..=same).map(move |length| (start, in_truth, length))
            })
        })
    }

    /// The places to put a block: before the word of the reference that it starts at, and after each of its words.
    fn targets(&self, in_truth: usize, length: usize) -> impl Iterator<Item = usize> {
        let before = match in_truth {
            0 => 0,
            at => self.alignment.until[at - 1],
        };
        let after = &self.alignment.until[in_truth..in_truth + length];
        std::iter::once(before).chain(after.iter().copied())
    }
}

/// `words` with the block of `length` from `start` moved to before `target`; a target within the block counts from the
/// block's start in what remains.
fn shifted(words: &[u32], start: usize, length: usize, target: usize) -> Vec<u32> {
    let (block, rest) = (
        &words[start..start + length],
        [&words[..start], &words[start + length..]].concat(),
    );
    let at = if target < start {
        target
    } else if target > start + length {
        target - length
    } else {
        target.min(rest.len())
    };
    [&rest[..at], block, &rest[at..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_moves_to_either_side() {
        let words = [0, 1, 2, 3, 4];
        assert_eq!(shifted(&words, 2, 2, 0), [2, 3, 0, 1, 4]);
        assert_eq!(shifted(&words, 0, 2, 4), [2, 3, 0, 1, 4]);
        assert_eq!(shifted(&words, 1, 2, 2), [0, 3, 1, 2, 4]);
        assert_eq!(shifted(&words, 3, 2, 5), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn the_best_shift_is_the_one_that_gains_most() {
        let (found, truth) = ([3, 4, 1, 2, 5], [1, 2, 3, 4, 5]);
        let distance = Distance::new(&found, &truth);
        let mut candidates = 0;
        let best = Shifts::new(&distance, &found, &truth)
            .best(&mut candidates)
            .unwrap();
        assert_eq!((best.gain, best.words), (4, truth.to_vec()));
        assert!(candidates > 1);
    }
}
