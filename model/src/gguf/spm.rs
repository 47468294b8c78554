//! `SentencePiece` vocabularies: merges from scores.

use std::collections::HashMap;

/// What `SentencePiece` writes for a space.
pub(super) const SPACE: &str = "\u{2581}";

/// The merges that make byte-pair encoding pick the pieces `SentencePiece` would: each way to make a token out of two
/// others, best score first. The same order as `transformers.convert_slow_tokenizer.generate_merges`.
pub(super) fn merges<'a>(tokens: &[&'a str], scores: &[f64]) -> Vec<(&'a str, &'a str)> {
    let ids: HashMap<&str, usize> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (*token, id))
        .collect();
    let mut found = Vec::new();
    for (token, &score) in tokens.iter().zip(scores) {
        let mut ways: Vec<_> = token
            .char_indices()
            .skip(1)
            .map(|(at, _)| token.split_at(at))
            .filter_map(|(left, right)| Some((*ids.get(left)?, *ids.get(right)?, left, right)))
            .collect();
        ways.sort_by_key(|&(left, right, ..)| (left, right));
        found.extend(ways.into_iter().map(|(_, _, left, right)| (score, left, right)));
    }
    // Stable, so that equals keep the vocabulary's order.
    found.sort_by(|a, b| {
        b.0.total_cmp(&a.0)
            .then_with(|| b.1.chars().count().cmp(&a.1.chars().count()))
            .then_with(|| b.2.chars().count().cmp(&a.2.chars().count()))
    });
    found.into_iter().map(|(_, left, right)| (left, right)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_scores_merge_first() {
        let tokens = ["a", "b", "ab", "abab", "ba"];
        let merges = merges(&tokens, &[0.0, 0.0, -1.0, -2.0, -3.0]);
        assert_eq!(merges, [("a", "b"), ("ab", "ab"), ("b", "a")]);
    }
}
