//! The words of a sentence: nltk's `NLTKWordTokenizer`, an improved Treebank tokenizer. Pure.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::super::strings::{is_space, words};

/// What is replaced by what.
type Rule = (Regex, &'static str);

fn rule(pattern: &str, replacement: &'static str) -> Rule {
    (
        Regex::new(pattern).expect("the pattern is a constant"),
        replacement,
    )
}

static OPENING_QUOTES: LazyLock<[Rule; 4]> = LazyLock::new(|| {
    [
        rule("([«“‘„]|`+)", " $1 "),
        rule(r#"^""#, "``"),
        rule("(``)", " $1 "),
        rule(r#"([ (\[{<])("|'{2})"#, "$1 `` "),
    ]
});

/// A clitic: its apostrophe is no opening quote.
static CLITIC: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(?i:re|ve|ll|m|t|s|d|n)\b").expect("the pattern is a constant"));

static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\w").expect("the pattern is a constant"));

static PUNCTUATION: LazyLock<[Rule; 12]> = LazyLock::new(|| {
    [
        // The full stop at the end.
        rule(r#"([^.])(\.)([\])}>"'»”’ ]*)\s*$"#, "$1 $2 $3 "),
        rule(r"([:,])(\D)", " $1 $2"),
        // Python's $ is before a last line feed, too.
        rule(r"([:,])(\n?)$", " $1 $2"),
        rule(r"(\.{2,})", " $1 "),
        rule(r"([;@#$%&])", " $1 "),
        rule(r"([\u{2012}-\u{2015}])", " $1 "),
        rule(r#"([^.])(\.)([\])}>"']*)\s*$"#, "$1 $2$3 "),
        rule(r"([?!])", " $1 "),
        rule(r"([^'])' ", "$1 ' "),
        rule(r"(\*)", " $1 "),
        rule(r"([\]\[(){}<>])", " $1 "),
        rule(r"(--)", " $1 "),
    ]
});

static CLOSING_QUOTES: LazyLock<[Rule; 6]> = LazyLock::new(|| {
    [
        rule(r"([»”’])", " $1 "),
        rule(r"('')", " $1 "),
        rule(r#"""#, " '' "),
        rule(r"\s+", " "),
        rule(r"([^' ])('[sS]|'[mM]|'[dD]|') ", "$1 $2 "),
        rule(r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "$1 $2 "),
    ]
});

/// Two words written as one (Robert MacIntyre's list). Each must stand between characters that are of no word.
static CONTRACTIONS: LazyLock<[Regex; 10]> = LazyLock::new(|| {
    [
        "(can)(not)",
        "(d)('ye)",
        "(gim)(me)",
        "(gon)(na)",
        "(got)(ta)",
        "(lem)(me)",
        "(more)('n)",
        "(wan)(na)",
        " ('t)(is)",
        " ('t)(was)",
    ]
    .map(|pattern| Regex::new(&format!("(?i){pattern}")).expect("the pattern is a constant"))
});

/// The words of `sentence`.
pub(super) fn tokens(sentence: &str) -> Vec<String> {
    let text = replaced(sentence.to_owned(), OPENING_QUOTES.as_slice());
    let text = replaced(opening_apostrophes(&text), PUNCTUATION.as_slice());
    let mut text = replaced(format!(" {text} "), CLOSING_QUOTES.as_slice());
    for contraction in CONTRACTIONS.iter() {
        text = apart(&text, contraction);
    }
    words(&text).map(ToOwned::to_owned).collect()
}

fn replaced(mut text: String, rules: &[Rule]) -> String {
    for (pattern, replacement) in rules {
        text = pattern.replace_all(&text, *replacement).into_owned();
    }
    text
}

/// Sets apart an apostrophe that begins a word, unless it begins a clitic.
fn opening_apostrophes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        out.push(c);
        if c == '\'' {
            let (before, after) = (&text[..at], &text[at + 1..]);
            let in_word = before
                .char_indices()
                .next_back()
                .is_some_and(|(last, _)| WORD.is_match(&before[last..]));
            if !in_word && WORD.is_match(after) && !CLITIC.is_match(after) {
                out.push(' ');
            }
        }
    }
    out
}

/// Sets apart the parts of a contraction.
fn apart(text: &str, contraction: &Regex) -> String {
    contraction
        .replace_all(text, |found: &Captures<'_>| {
            let (start, end) = found.get(0).map_or((0, 0), |all| (all.start(), all.end()));
            let (before, after) = (text[..start].chars().next_back(), text[end..].chars().next());
            // `wanna` has to be followed by white space, the others by anything but a letter.
            let ends = if found[1].eq_ignore_ascii_case("wan") {
                after.is_some_and(is_space)
            } else {
                !after.is_some_and(is_word)
            };
            let begins = found[0].starts_with(' ') || !before.is_some_and(is_word);
            if begins && ends {
                format!(" {} {} ", &found[1], &found[2])
            } else {
                found[0].to_owned()
            }
        })
        .into_owned()
}

/// Python's `\w`, which leaves out combining marks where Rust's does not.
fn is_word(c: char) -> bool {
    static CLASS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]").expect("the pattern is a constant"));
    CLASS.is_match(c.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: nltk.tokenize.NLTKWordTokenizer().tokenize.
    #[test]
    fn words_are_those_of_nltk() {
        for (sentence, expected) in [
            (
                "Good muffins cost $3.88 (roughly 3,36 euros)\nin New York.",
                "Good muffins cost $ 3.88 ( roughly 3,36 euros ) in New York .",
            ),
            (
                "I can't, cannot; 'tis \"it's\".",
                "I ca n't , can not ; ' tis `` it 's '' .",
            ),
            (
                "He said 'yes' -- they'll wanna go...",
                "He said ' yes ' -- they 'll wan na go ...",
            ),
            ("Wanna?", "Wan na ?"),
            ("«日本語»", "« 日本語 »"),
            ("", ""),
        ] {
            assert_eq!(tokens(sentence).join(" "), expected);
        }
    }
}
