//! Where sentences may end. Pure.

use super::words::is_no_word;

/// Characters that may end a sentence.
pub(super) const ENDINGS: [char; 3] = ['.', '?', '!'];

/// A character that may end a sentence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Where the word before it starts.
    pub word: usize,
    /// Where it is itself.
    pub at: usize,
    /// Where the context to look at ends: after a punctuation mark or after the next word.
    pub context_end: usize,
    /// Where the next sentence starts, if it starts with a word.
    pub next: Option<usize>,
}

/// The candidates of which each has a word of its own before it: of `!!!` only the last.
pub(super) fn candidates(text: &str) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for (at, _) in text.match_indices(ENDINGS) {
        let after = &text[at + 1..];
        let word = after.trim_start_matches(char::is_whitespace);
        let (context_end, next) = match after.chars().next() {
            Some(c) if is_no_word(c) => (at + 1 + c.len_utf8(), None),
            Some(c) if c.is_whitespace() && !word.is_empty() => {
                let length = word.find(char::is_whitespace).unwrap_or(word.len());
                let start = text.len() - word.len();
                (start + length, Some(start))
            }
            _ => continue,
        };
        let (last_start, last_at) = found.last().map_or((0, 0), |last| (last.word, last.at));
        // The word before it starts after the last ASCII white space since the last candidate, else where its word did.
        let word = match text[last_at..at].rfind([' ', '\t', '\n', '\r', '\x0b', '\x0c']) {
            None | Some(0) => last_start,
            Some(space) => last_at + space + 1,
        };
        if found.last().is_some_and(|last| last.at > word) {
            found.pop();
        }
        found.push(Candidate {
            word,
            at,
            context_end,
            next,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_marks_after_one_word_the_last_counts() {
        let text = "Very bad acting!!! I (yes.) stop";
        let found: Vec<(&str, &str, Option<usize>)> = candidates(text)
            .into_iter()
            .map(|one| (&text[one.word..one.context_end], &text[..=one.at], one.next))
            .collect();
        assert_eq!(
            found,
            [
                ("acting!!! I", "Very bad acting!!!", Some(19)),
                ("(yes.)", "Very bad acting!!! I (yes.", None),
            ]
        );
    }

    #[test]
    fn a_mark_at_the_end_of_the_text_decides_nothing() {
        assert!(candidates("The end. ").is_empty());
    }
}
