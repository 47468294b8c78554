//! Counts of n-grams. Pure.

use std::collections::HashMap;
use std::hash::Hash;

/// How often each run of `order` items occurs.
pub(super) fn counted<T: Eq + Hash>(items: &[T], order: usize) -> HashMap<&[T], u64> {
    let mut counts = HashMap::new();
    for gram in items.windows(order) {
        *counts.entry(gram).or_default() += 1;
    }
    counts
}

/// Runs of `order` items that both have, each as often as the side that has it less often.
pub(super) fn shared<T: Eq + Hash>(found: &[T], truth: &[T], order: usize) -> u64 {
    let truth = counted(truth, order);
    counted(found, order)
        .iter()
        .map(|(gram, &count)| count.min(truth.get(gram).copied().unwrap_or_default()))
        .sum()
}

/// Runs of `order` items there are.
pub(super) fn possible<T>(items: &[T], order: usize) -> u64 {
    (items.len() + 1).saturating_sub(order) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gram_is_shared_as_often_as_the_poorer_side_has_it() {
        let (found, truth) = (["a", "b", "a", "b"], ["a", "b", "c"]);
        assert_eq!((shared(&found, &truth, 1), shared(&found, &truth, 2)), (2, 1));
        assert_eq!((possible(&found, 3), possible(&truth, 4)), (2, 0));
    }
}
