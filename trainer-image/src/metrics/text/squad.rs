//! Exact match, and the F1 of SQuAD 1.1's evaluation script (Rajpurkar et al., 2016). Pure.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::ngrams::shared;
use super::strings::words;

/// A run of what Python's `\w` matches; Rust's would take combining marks with it.
static RUN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+").expect("the pattern is a constant"));

/// 1 where the answer is its reference, character by character, else 0: Hugging Face's `exact_match`.
pub fn exact_match(found: &str, truth: &str) -> f64 {
    f64::from(found == truth)
}

/// 0 to 100: F1 of the words that answer and reference share, after case, ASCII punctuation and English articles are taken
/// away. 0 where either has none left.
pub fn squad_f1(found: &str, truth: &str) -> f64 {
    let (found, truth) = (normalised(found), normalised(truth));
    let (found, truth): (Vec<&str>, Vec<&str>) = (words(&found).collect(), words(&truth).collect());
    let same = shared(&found, &truth, 1);
    100.0 * 2.0 * same as f64 / (found.len() + truth.len()).max(1) as f64
}

fn normalised(text: &str) -> String {
    let plain: String = text
        .to_lowercase()
        .chars()
        .filter(|c| !c.is_ascii_punctuation())
        .collect();
    RUN.replace_all(&plain, |run: &Captures<'_>| match &run[0] {
        "a" | "an" | "the" => " ".to_owned(),
        other => other.to_owned(),
    })
    .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_punctuation_and_articles_do_not_count() {
        let scores = (squad_f1("The cat!", "a cat"), squad_f1("big cat", "the cat"));
        assert_eq!(scores, (100.0, 200.0 / 3.0));
        assert_eq!((exact_match("cat", "cat"), exact_match("Cat", "cat")), (1.0, 0.0));
    }

    #[test]
    fn nothing_left_scores_0_even_against_itself() {
        assert_eq!(
            (squad_f1("", ""), squad_f1("the", "the"), squad_f1("x", "")),
            (0.0, 0.0, 0.0)
        );
    }

    #[test]
    fn an_article_ends_where_a_combining_mark_follows() {
        // To Python `a` and U+0301 are an article and a mark.
        assert_eq!(normalised("a\u{301}"), " \u{301}");
    }
}
