//! Punkt's words: runs between white space, less the punctuation at their ends other than full stops. Pure.

use std::sync::LazyLock;

use regex::Regex;

/// A character that is within no word.
pub(in super::super) fn is_no_word(c: char) -> bool {
    matches!(
        c,
        ')' | '"'
            | ';'
            | '}'
            | ']'
            | '*'
            | ':'
            | '@'
            | '\''
            | '('
            | '{'
            | '['
            | '‘'
            | '’'
            | '“'
            | '”'
            | '«'
            | '»'
            | '?'
            | '!'
    )
}

/// A character that a word does not start with.
fn starts_no_word(c: char) -> bool {
    matches!(
        c,
        '(' | '"' | '`' | '{' | '[' | ':' | ';' | '&' | '#' | '*' | '@' | ')' | '}' | ']' | '-' | ','
    )
}

/// A decimal digit of any script.
pub(super) fn is_digit(c: char) -> bool {
    static CLASS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\d").expect("the pattern is a constant"));
    CLASS.is_match(c.encode_utf8(&mut [0; 4]))
}

/// `[^\W\d]`: what words are made of, less digits.
pub(super) fn is_letter(c: char) -> bool {
    static CLASS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[\w--\d]").expect("the pattern is a constant"));
    CLASS.is_match(c.encode_utf8(&mut [0; 4]))
}

/// The words of a line.
pub(super) fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line.trim_start_matches(char::is_whitespace);
    while let Some(first) = rest.chars().next() {
        let length = marks(rest).unwrap_or_else(|| {
            if starts_no_word(first) {
                first.len_utf8()
            } else {
                word(rest, first)
            }
        });
        words.push(&rest[..length]);
        rest = rest[length..].trim_start_matches(char::is_whitespace);
    }
    words
}

/// The length of the word that `text` starts with.
fn word(text: &str, first: char) -> usize {
    let ends = |rest: &str| match rest.chars().next() {
        None => true,
        Some(',') => ends_word(&rest[1..]),
        Some(_) => ends_word(rest),
    };
    text.char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .find(|&end| ends(&text[end..]))
        .unwrap_or(first.len_utf8())
}

fn ends_word(rest: &str) -> bool {
    rest.chars()
        .next()
        .is_none_or(|c| c.is_whitespace() || is_no_word(c))
        || marks(rest).is_some()
}

/// The length of the run of hyphens or of full stops that `text` starts with, if there are two at least. White space may
/// stand between three full stops or more.
fn marks(text: &str) -> Option<usize> {
    let run = |mark: char| text.len() - text.trim_start_matches(mark).len();
    let length = run('-').max(run('.'));
    if length > 1 {
        return Some(length);
    }
    let mut end = 0;
    let mut stops = 0;
    while let Some(after) = text[end..].strip_prefix('.') {
        stops += 1;
        let Some(space) = after.chars().next().filter(|c| c.is_whitespace()) else {
            end += 1;
            break;
        };
        // White space after the last full stop is not of the run.
        if !after[space.len_utf8()..].starts_with('.') {
            end += 1;
            break;
        }
        end += 1 + space.len_utf8();
    }
    (stops > 2).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: nltk.tokenize.punkt.PunktLanguageVars().word_tokenize.
    #[test]
    fn words_are_those_of_punkt() {
        for (line, expected) in [
            ("(See p. 5, e.g., it's.)", "( See p. 5 , e.g. , it 's. )"),
            ("wait... what -- no", "wait ... what -- no"),
            ("so . . . well. . no", "so . . . well. . no"),
            ("«Ünïcödé»!", "«Ünïcödé » !"),
            ("", ""),
        ] {
            assert_eq!(words(line).join(" "), expected);
        }
    }
}
