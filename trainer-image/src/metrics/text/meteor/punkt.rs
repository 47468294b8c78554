//! Sentences, by Punkt (Kiss and Strunk, 2006) with a model that nltk trained: `PunktTokenizer`.

mod candidates;
mod words;

use std::collections::{HashMap, HashSet};

use self::candidates::{ENDINGS, candidates};
use self::words::words;
use super::super::strings::{is_space, trim_end};
use super::lexicon::{Files, LexiconError};

/// Sentences do not start with these.
const NO_START: [&str; 6] = [";", ":", ",", ".", "!", "?"];

/// Contexts in which a word occurred in training, as bits.
mod context {
    /// In the middle of a sentence, in upper case.
    pub const MIDDLE_UPPER: u32 = 1 << 2;
    /// At the beginning of a sentence, in lower case.
    pub const BEGINNING_LOWER: u32 = 1 << 4;
    /// Anywhere in upper case.
    pub const UPPER: u32 = 1 << 1 | MIDDLE_UPPER | 1 << 3;
    /// Anywhere in lower case.
    pub const LOWER: u32 = BEGINNING_LOWER | 1 << 5 | 1 << 6;
}

/// What training learned of a language.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Punkt {
    /// Abbreviations, without their full stop.
    pub abbreviations: HashSet<String>,
    /// Pairs of words with a full stop between them that ends no sentence.
    pub collocations: HashSet<(String, String)>,
    /// Words that often begin a sentence.
    pub starters: HashSet<String>,
    /// Bits of [`context`] for each word.
    pub contexts: HashMap<String, u32>,
}

/// A word, and what was decided about the full stop at its end.
#[derive(Debug)]
struct Token<'a> {
    text: &'a str,
    /// In lower case; a number is `##number##`.
    kind: String,
    ends_sentence: bool,
    abbreviation: bool,
    ellipsis: bool,
}

/// Whether a word begins a sentence, going by its case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Begins {
    Yes,
    No,
    Unknown,
}

impl Punkt {
    /// Reads the model.
    pub fn read(files: Files<'_>) -> Result<Self, LexiconError> {
        let word = |line: &str| Some(line.to_owned());
        let abbreviations = files.lines("abbrev_types.txt", word)?;
        let starters = files.lines("sent_starters.txt", word)?;
        let collocations = files.lines("collocations.tab", |line| {
            let (first, second) = line.split_once('\t')?;
            Some((first.to_owned(), second.to_owned()))
        })?;
        let contexts = files.lines("ortho_context.tab", |line| {
            let (word, bits) = line.split_once('\t')?;
            Some((word.to_owned(), bits.parse().ok()?))
        })?;
        Ok(Self {
            abbreviations: abbreviations.into_iter().collect(),
            collocations: collocations.into_iter().collect(),
            starters: starters.into_iter().collect(),
            contexts: contexts.into_iter().collect(),
        })
    }

    /// The sentences of `text`, each with the quotes and brackets that close it.
    pub fn sentences<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut sentences = Vec::new();
        let mut slices = Vec::new();
        let mut start = 0;
        for candidate in candidates(text) {
            if self.ends_sentence(&text[candidate.word..candidate.context_end]) {
                slices.push((start, candidate.at + 1));
                start = candidate.next.unwrap_or(candidate.at + 1);
            }
        }
        slices.push((start, trim_end(text).len().max(start)));
        // Closing marks at the start of a slice belong to the one before.
        let mut taken = 0;
        for (index, &(start, end)) in slices.iter().enumerate() {
            let start = start + taken;
            let closing = slices
                .get(index + 1)
                .and_then(|&(next, end)| closing_marks(&text[next..end]).map(|marks| (next, marks)));
            let end = if let Some((next, (marks, whole))) = closing {
                taken = whole;
                next + marks
            } else {
                taken = 0;
                end
            };
            if start < end {
                sentences.push(&text[start..end]);
            }
        }
        sentences
    }

    /// Whether a sentence ends within `context`, before its last word.
    fn ends_sentence(&self, context: &str) -> bool {
        let mut tokens: Vec<Token<'_>> = context
            .split('\n')
            .filter(|line| !line.chars().all(is_space))
            .flat_map(words)
            .map(|word| self.judged(word))
            .collect();
        for index in 1..tokens.len() {
            let (before, rest) = tokens.split_at_mut(index);
            self.judge_by_next(&mut before[index - 1], &rest[0]);
            if before[index - 1].ends_sentence {
                return true;
            }
        }
        false
    }

    /// What a word alone says about itself.
    fn judged<'a>(&self, text: &'a str) -> Token<'a> {
        let mut token = Token {
            text,
            kind: kind(text),
            ends_sentence: false,
            abbreviation: false,
            ellipsis: false,
        };
        if text.len() == 1 && text.ends_with(ENDINGS) {
            token.ends_sentence = true;
        } else if text.len() > 1 && text.bytes().all(|byte| byte == b'.') {
            token.ellipsis = true;
        } else if let Some(word) = text.strip_suffix('.')
            && !word.ends_with('.')
        {
            let word = word.to_lowercase();
            let last = word.rsplit('-').next().unwrap_or_default();
            token.abbreviation = self.abbreviations.contains(&word) || self.abbreviations.contains(last);
            token.ends_sentence = !token.abbreviation;
        }
        token
    }

    /// What the next word says about a word that ends in a full stop.
    fn judge_by_next(&self, token: &mut Token<'_>, next: &Token<'_>) {
        if !token.text.ends_with('.') {
            return;
        }
        let kind = without_stop(&token.kind);
        let next_kind = next.kind_in_sentence();
        let initial = is_initial(token.text);
        if self
            .collocations
            .contains(&(kind.to_owned(), next_kind.to_owned()))
        {
            (token.ends_sentence, token.abbreviation) = (false, true);
            return;
        }
        let begins = self.begins(next);
        let upper = next.text.starts_with(char::is_uppercase);
        if (token.abbreviation || token.ellipsis)
            && !initial
            && (begins == Begins::Yes || (upper && self.starters.contains(next_kind)))
        {
            token.ends_sentence = true;
            return;
        }
        if initial || kind == "##number##" {
            // J. Bach: a name that is never written in lower case.
            let name = begins == Begins::Unknown
                && initial
                && upper
                && self.context(next_kind) & context::LOWER == 0;
            if begins == Begins::No || name {
                (token.ends_sentence, token.abbreviation) = (false, true);
            }
        }
    }

    fn begins(&self, token: &Token<'_>) -> Begins {
        if NO_START.contains(&token.text) {
            return Begins::No;
        }
        let seen = self.context(token.kind_in_sentence());
        if token.text.starts_with(char::is_uppercase)
            && seen & context::LOWER != 0
            && seen & context::MIDDLE_UPPER == 0
        {
            Begins::Yes
        } else if token.text.starts_with(char::is_lowercase)
            && (seen & context::UPPER != 0 || seen & context::BEGINNING_LOWER == 0)
        {
            Begins::No
        } else {
            Begins::Unknown
        }
    }

    fn context(&self, kind: &str) -> u32 {
        self.contexts.get(kind).copied().unwrap_or_default()
    }
}

impl Token<'_> {
    /// Its kind, without the full stop that ends a sentence.
    fn kind_in_sentence(&self) -> &str {
        if self.ends_sentence {
            without_stop(&self.kind)
        } else {
            &self.kind
        }
    }
}

fn without_stop(kind: &str) -> &str {
    match kind.strip_suffix('.') {
        Some(word) if !word.is_empty() => word,
        _ => kind,
    }
}

/// In lower case, numbers all alike: `^-?[\.,]?\d[\d,\.-]*\.?$`.
fn kind(text: &str) -> String {
    let lower = text.to_lowercase();
    let digits = lower.strip_prefix('-').unwrap_or(&lower);
    let digits = digits.strip_prefix(['.', ',']).unwrap_or(digits);
    let number = digits.starts_with(words::is_digit)
        && digits
            .chars()
            .all(|c| words::is_digit(c) || matches!(c, ',' | '.' | '-'));
    if number { "##number##".to_owned() } else { lower }
}

/// One letter and a full stop.
fn is_initial(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(words::is_letter) && letters.as_str() == "."
}

/// The lengths of the closing quotes and brackets that `text` starts with, without and with the white space after them;
/// None unless white space, a dash `--` or the end follows.
fn closing_marks(text: &str) -> Option<(usize, usize)> {
    let marks = |c| {
        matches!(
            c,
            '"' | '\'' | ')' | ']' | '}' | '‘' | '’' | '“' | '”' | '«' | '»'
        )
    };
    let rest = text.trim_start_matches(marks);
    let length = text.len() - rest.len();
    let spaces = rest.len() - rest.trim_start_matches(char::is_whitespace).len();
    let closes = spaces > 0 || rest.is_empty() || rest.starts_with("--");
    (length > 0 && closes).then_some((length, length + spaces))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn punkt() -> Punkt {
        let mut punkt = Punkt::default();
        punkt.abbreviations.extend(["dr".to_owned(), "u.s".to_owned()]);
        punkt.collocations.insert(("##number##".into(), "may".into()));
        punkt.starters.insert("he".into());
        punkt.contexts.insert("the".into(), 1 << 1 | 1 << 5);
        punkt
    }

    #[test]
    fn sentences_end_where_words_say_so() {
        for (text, expected) in [
            (
                "One here. Two there! Three?",
                vec!["One here.", "Two there!", "Three?"],
            ),
            ("Dr. Smith left. He ran.", vec!["Dr. Smith left.", "He ran."]),
            (
                "In the U.S. The law. In the U.S. he",
                vec!["In the U.S.", "The law.", "In the U.S. he"],
            ),
            (
                "(A thing.) \"Another.\" End",
                vec!["(A thing.)", "\"Another.\"", "End"],
            ),
            (
                "J. Bach on 5. May came. Really!!! Yes",
                vec!["J. Bach on 5. May came.", "Really!!!", "Yes"],
            ),
            ("  no end \n", vec!["  no end"]),
            ("", vec![]),
        ] {
            assert_eq!(punkt().sentences(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_all_of_one_kind() {
        let kinds = ["-1,000.5", ".5", "5.", "5a", "-", "1."].map(kind);
        let number = "##number##";
        assert_eq!(kinds, [number, number, number, "5a", "-", number]);
    }
}
