//! ROUGE (Lin, 2004): F-measures of shared n-grams and of longest common subsequences, equal to rouge_score's without a
//! stemmer. Each is 0 to 1 for one example; that of a corpus is their mean. Pure.

use std::collections::HashMap;

use super::lcs;
use super::ngrams::{possible, shared};

/// F-measure of shared runs of `order` words: `rouge1`, `rouge2`.
pub fn rouge_n(found: &str, truth: &str, order: usize) -> f64 {
    let (found, truth) = (found.to_lowercase(), truth.to_lowercase());
    let (found, truth) = (tokens(&found), tokens(&truth));
    f_measure(
        shared(&found, &truth, order),
        possible(&found, order),
        possible(&truth, order),
    )
}

/// F-measure of the longest common subsequence of all words: `rougeL`.
pub fn rouge_l(found: &str, truth: &str) -> f64 {
    let (found, truth) = (found.to_lowercase(), truth.to_lowercase());
    let (found, truth) = (tokens(&found), tokens(&truth));
    f_measure(
        lcs::length(&truth, &found) as u64,
        found.len() as u64,
        truth.len() as u64,
    )
}

/// F-measure of the words of the reference's lines that lie on a longest common subsequence with some line of the answer:
/// `rougeLsum`.
pub fn rouge_lsum(found: &str, truth: &str) -> f64 {
    let (found, truth) = (found.to_lowercase(), truth.to_lowercase());
    let lines = |text| str::split(text, '\n').map(tokens).collect::<Vec<_>>();
    let (found, truth) = (lines(&found), lines(&truth));
    // Each word counts at most as often as the side that has it less often.
    let (mut left_found, mut left_truth) = (counted(&found), counted(&truth));
    let mut hits = 0;
    for line in &truth {
        let mut on_some: Vec<usize> = found
            .iter()
            .flat_map(|other| lcs::positions(line, other))
            .collect();
        on_some.sort_unstable();
        on_some.dedup();
        for at in on_some {
            let left = (left_found.get_mut(line[at]), left_truth.get_mut(line[at]));
            if let (Some(found), Some(truth)) = left
                && *found > 0
                && *truth > 0
            {
                hits += 1;
                *found -= 1;
                *truth -= 1;
            }
        }
    }
    let words = |lines: &[Vec<&str>]| lines.iter().map(Vec::len).sum::<usize>() as u64;
    f_measure(hits, words(&found), words(&truth))
}

/// Runs of ASCII letters and digits of a text in lower case.
fn tokens(text: &str) -> Vec<&str> {
    text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()))
        .filter(|token| !token.is_empty())
        .collect()
}

fn counted<'a>(lines: &[Vec<&'a str>]) -> HashMap<&'a str, u64> {
    let mut counts = HashMap::new();
    for token in lines.iter().flatten() {
        *counts.entry(*token).or_default() += 1;
    }
    counts
}

fn f_measure(matched: u64, found: u64, truth: u64) -> f64 {
    let (precision, recall) = (
        matched as f64 / found.max(1) as f64,
        matched as f64 / truth.max(1) as f64,
    );
    if matched == 0 {
        0.0
    } else {
        2.0 * precision * recall / (precision + recall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: rouge_score.rouge_scorer.RougeScorer.
    #[test]
    fn measures_are_those_of_rouge_score() {
        let (found, truth) = ("the cat sat on the mat", "The cat is on a mat.");
        assert!((rouge_n(found, truth, 1) - 8.0 / 12.0).abs() < 1e-12);
        assert!((rouge_n(found, truth, 2) - 2.0 / 10.0).abs() < 1e-12);
        assert!((rouge_l(found, truth) - 8.0 / 12.0).abs() < 1e-12);
        // Lines in another order have all their words in common.
        let (found, truth) = ("two words\none line", "one line\ntwo words");
        assert_eq!((rouge_lsum(found, truth), rouge_l(found, truth)), (1.0, 0.5));
    }

    #[test]
    fn only_ascii_letters_and_digits_are_words() {
        assert_eq!(tokens(&"Ünïcode, K9 日本".to_lowercase()), ["n", "code", "k9"]);
        assert_eq!((rouge_lsum("", ""), rouge_n("日本", "日本", 1)), (0.0, 0.0));
    }
}
