//! The tokenizer of BLEU: `Tokenizer13a` of sacrebleu, which does as mteval-v13a of WMT does. Pure.

use std::sync::LazyLock;

use regex::Regex;

use super::strings::words;

/// What is replaced by what, in this order.
static RULES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    let rule = |pattern, replacement| {
        (
            Regex::new(pattern).expect("the pattern is a constant"),
            replacement,
        )
    };
    [
        // ASCII punctuation but the apostrophe, comma, hyphen and full stop.
        rule(r"([{-~\[-` -&(-+:-@/])", " $1 "),
        // Comma and full stop, unless a digit comes before…
        rule(r"([^0-9])([.,])", "$1 $2 "),
        // …and after.
        rule(r"([.,])([^0-9])", " $1 $2"),
        // A hyphen after a digit.
        rule(r"([0-9])(-)", "$1 $2 "),
    ]
});

/// `text` with its tokens separated by white space, see [`words`].
pub(super) fn separated(text: &str) -> String {
    let mut text = text
        .replace("<skipped>", "")
        .replace("-\n", "")
        .replace('\n', " ");
    for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(entity, character);
    }
    text = format!(" {text} ");
    for (pattern, replacement) in RULES.iter() {
        text = pattern.replace_all(&text, *replacement).into_owned();
    }
    text
}

/// The tokens of what [`separated`] returned.
pub(super) fn tokens(separated: &str) -> Vec<&str> {
    words(separated).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: sacrebleu.tokenizers.tokenizer_13a.Tokenizer13a.
    #[test]
    fn tokens_are_those_of_mteval() {
        for (text, expected) in [
            ("Hello, world!", "Hello , world !"),
            ("It's 3.14-ish, 1,000.", "It's 3.14 - ish , 1,000 ."),
            ("a-\nb &lt;i&gt; &amp;quot;", "ab < i > & quot ;"),
            ("日本語、です。", "日本語、です。"),
            ("", ""),
        ] {
            assert_eq!(tokens(&separated(text)).join(" "), expected);
        }
    }
}
