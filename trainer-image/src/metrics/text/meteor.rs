//! METEOR (Lavie and Agarwal, 2007), equal to nltk's `single_meteor_score` of `word_tokenize`d texts. Pure but for
//! [`Lexicon::open`].

mod lexicon;
mod porter;
mod punkt;
mod tokens;
mod wordnet;

use std::collections::HashMap;

pub use self::lexicon::{Lexicon, LexiconError};
use self::porter::stem;

/// How much precision counts against recall.
const ALPHA: f64 = 0.9;
/// How fast the penalty grows with fragmentation.
const BETA: f64 = 3.0;
/// The penalty of words none of which are next to each other on both sides.
const GAMMA: f64 = 0.5;

/// Words with their positions in the text.
type Placed = Vec<(usize, String)>;

/// 0 to 1: the weighted harmonic mean of precision and recall of words that are the same, have the same stem or are
/// synonyms, less a penalty for each break in their order. That of a corpus is the mean.
pub fn meteor(found: &str, truth: &str, lexicon: &Lexicon) -> f64 {
    let placed = |text: &str| -> Placed {
        let tokens = lexicon.tokens(text);
        tokens
            .into_iter()
            .map(|token| token.to_lowercase())
            .enumerate()
            .collect()
    };
    let (mut found, mut truth) = (placed(found), placed(truth));
    let (found_words, truth_words) = (found.len() as f64, truth.len() as f64);
    let mut matches = matched(&mut found, &mut truth, |word| vec![word.to_owned()]);
    // What is left of both sides goes on as its stems, as in nltk.
    for (_, word) in found.iter_mut().chain(&mut truth) {
        *word = stem(word);
    }
    matches.extend(matched(&mut found, &mut truth, |word| vec![word.to_owned()]));
    matches.extend(matched(&mut found, &mut truth, |word| lexicon.synonyms(word)));
    if matches.is_empty() {
        return 0.0;
    }
    matches.sort_unstable();
    let count = matches.len() as f64;
    let (precision, recall) = (count / found_words, count / truth_words);
    let mean = precision * recall / (ALPHA * precision + (1.0 - ALPHA) * recall);
    let breaks = matches
        .windows(2)
        .filter(|pair| (pair[0].0 + 1, pair[0].1 + 1) != pair[1])
        .count();
    let chunks = (breaks + 1) as f64;
    (1.0 - GAMMA * (chunks / count).powf(BETA)) * mean
}

/// Takes out of both sides the words that belong together, from the last to the first word of the answer: each with the
/// last word of the reference that is still free and among its `choices`. Returns their positions in the texts.
fn matched(
    found: &mut Placed,
    truth: &mut Placed,
    choices: impl Fn(&str) -> Vec<String>,
) -> Vec<(usize, usize)> {
    let mut free: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, (_, word)) in truth.iter().enumerate() {
        free.entry(word).or_default().push(index);
    }
    let mut pairs = Vec::new();
    let (mut found_taken, mut truth_taken) = (vec![false; found.len()], vec![false; truth.len()]);
    for (index, (_, word)) in found.iter().enumerate().rev() {
        let last = |choice: &String| free.get(choice.as_str())?.last().copied();
        let best = choices(word).iter().filter_map(last).max();
        if let Some(other) = best {
            free.get_mut(truth[other].1.as_str())
                .expect("the word was found there")
                .pop();
            (found_taken[index], truth_taken[other]) = (true, true);
            pairs.push((found[index].0, truth[other].0));
        }
    }
    retain(found, &found_taken);
    retain(truth, &truth_taken);
    pairs
}

/// Keeps the words that are not taken.
fn retain(words: &mut Placed, taken: &[bool]) {
    let mut taken = taken.iter();
    words.retain(|_| taken.next() == Some(&false));
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: nltk.translate.meteor_score.single_meteor_score with a WordNet of the two synonyms.
    #[test]
    fn words_stems_and_synonyms_match_in_this_order() {
        let lexicon = Lexicon::of_synonyms(&["car", "auto"]);
        let score = |found: &str, truth: &str| meteor(found, truth, &lexicon);
        assert!((score("the cat sat", "The cat sat") - (1.0 - 0.5 / 27.0)).abs() < 1e-12);
        // One chunk of two: "cats" and "cat" by their stem, "auto" and "car" as synonyms.
        assert!((score("cats auto", "cat car") - (1.0 - 0.5 / 8.0)).abs() < 1e-12);
        // The other way round there are two.
        assert!((score("auto cats", "cat car") - 0.5).abs() < 1e-12);
        assert!(score("dog", "cat") == 0.0 && score("", "") == 0.0 && score("", "cat") == 0.0);
    }

    #[test]
    fn a_word_matches_the_last_one_that_is_free() {
        let placed =
            |words: &[&str]| -> Placed { words.iter().map(ToString::to_string).enumerate().collect() };
        let (mut found, mut truth) = (placed(&["a", "b", "a"]), placed(&["a", "a", "c", "a"]));
        let pairs = matched(&mut found, &mut truth, |word| vec![word.to_owned()]);
        assert_eq!(pairs, [(2, 3), (0, 1)]);
        assert_eq!(found, [(1, "b".to_owned())]);
        assert_eq!(truth, [(0, "a".to_owned()), (2, "c".to_owned())]);
    }
}
