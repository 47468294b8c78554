//! Synonyms from WordNet's database files (wndb(5WN)), found as nltk's `WordNetCorpusReader` finds them.

use std::collections::{HashMap, HashSet};

use super::lexicon::{Files, LexiconError};

/// Parts of speech: the names of their files, and endings that lead to a base form.
const PARTS: [(&str, &[(&str, &str)]); 4] = [
    (
        "noun",
        &[
            ("s", ""),
            ("ses", "s"),
            ("ves", "f"),
            ("xes", "x"),
            ("zes", "z"),
            ("ches", "ch"),
            ("shes", "sh"),
            ("men", "man"),
            ("ies", "y"),
        ],
    ),
    (
        "verb",
        &[
            ("s", ""),
            ("ies", "y"),
            ("es", "e"),
            ("es", ""),
            ("ed", "e"),
            ("ed", ""),
            ("ing", "e"),
            ("ing", ""),
        ],
    ),
    ("adj", &[("er", ""), ("est", ""), ("er", "e"), ("est", "e")]),
    ("adv", &[]),
];

/// Words by meaning.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct WordNet {
    parts: Vec<Part>,
}

/// One part of speech.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Part {
    endings: &'static [(&'static str, &'static str)],
    /// The meanings of each word: offsets in the data file.
    meanings: HashMap<String, Vec<u64>>,
    /// The words of each meaning, as they are written; compounds left out.
    words: HashMap<u64, Vec<String>>,
    /// Base forms of irregular forms.
    irregular: HashMap<String, Vec<String>>,
}

impl WordNet {
    /// Reads the database.
    pub fn read(files: Files<'_>) -> Result<Self, LexiconError> {
        let mut parts = Vec::new();
        for (name, endings) in PARTS {
            parts.push(Part {
                endings,
                words: files
                    .lines(&format!("data.{name}"), meaning)?
                    .into_iter()
                    .collect(),
                meanings: files
                    .lines(&format!("index.{name}"), meanings)?
                    .into_iter()
                    .collect(),
                irregular: files.lines(&format!("{name}.exc"), bases)?.into_iter().collect(),
            });
        }
        Ok(Self { parts })
    }

    /// Single words that share a meaning with `word`, and itself.
    pub fn synonyms(&self, word: &str) -> Vec<String> {
        let lower = word.to_lowercase();
        let mut found = HashSet::from([word]);
        for part in &self.parts {
            for form in part.forms(&lower) {
                let meanings = part.meanings.get(&form).into_iter().flatten();
                let words = meanings.filter_map(|offset| part.words.get(offset)).flatten();
                found.extend(words.map(String::as_str));
            }
        }
        found.into_iter().map(ToOwned::to_owned).collect()
    }

    /// A language of one meaning.
    #[cfg(test)]
    pub fn of_synonyms(words: &[&str]) -> Self {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let part = Part {
            endings: &[],
            meanings: words.iter().map(|word| (word.clone(), vec![1])).collect(),
            words: HashMap::from([(1, words)]),
            irregular: HashMap::new(),
        };
        Self { parts: vec![part] }
    }
}

impl Part {
    /// The word and its base forms, as far as they are in the database: WordNet's `morphy`.
    fn forms(&self, word: &str) -> Vec<String> {
        let mut forms = vec![word.to_owned()];
        match self.irregular.get(word) {
            Some(bases) => forms.extend_from_slice(bases),
            None => forms.extend(
                self.endings
                    .iter()
                    .filter_map(|(ending, base)| Some(format!("{}{base}", word.strip_suffix(ending)?))),
            ),
        }
        forms.retain(|form| self.meanings.contains_key(form));
        forms
    }
}

/// A line of a data file, `offset file type count {word id}…` with the count in hexadecimal: the meaning, and its words.
fn meaning(line: &str) -> Option<(u64, Vec<String>)> {
    let mut fields = line.split_ascii_whitespace();
    let offset = fields.next()?.parse().ok()?;
    let count = usize::from_str_radix(fields.nth(2)?, 16).ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        let word = fields.next()?;
        fields.next()?;
        // An adjective may end in its place in a sentence: `(p)`.
        let word = match word.rsplit_once('(') {
            Some((word, place)) if place.ends_with(')') => word,
            _ => word,
        };
        if !word.contains('_') {
            words.push(word.to_owned());
        }
    }
    Some((offset, words))
}

/// A line of an index file, `word type count pointers {pointer}… senses tagged {offset}…`: the word, and its meanings.
fn meanings(line: &str) -> Option<(String, Vec<u64>)> {
    let mut fields = line.split_ascii_whitespace();
    let word = fields.next()?;
    let count: usize = fields.nth(1)?.parse().ok()?;
    let pointers: usize = fields.next()?.parse().ok()?;
    let offsets: Vec<u64> = fields
        .skip(pointers + 2)
        .map_while(|offset| offset.parse().ok())
        .collect();
    (offsets.len() == count).then(|| (word.to_owned(), offsets))
}

/// A line of a file of exceptions: an irregular form, and its base forms.
fn bases(line: &str) -> Option<(String, Vec<String>)> {
    let mut fields = line.split_ascii_whitespace().map(ToOwned::to_owned);
    let form = fields.next()?;
    Some((form, fields.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_one_meaning_are_synonyms() {
        let folder = tempfile::tempdir().unwrap();
        for (part, _) in PARTS {
            for file in [
                format!("data.{part}"),
                format!("index.{part}"),
                format!("{part}.exc"),
            ] {
                let text = match file.as_str() {
                    "data.noun" => {
                        "  1 licence\n00000010 06 n 03 car 0 auto 0 motor_car 0 000 | a car\n00000099 06 n 01 goose 0 000 | a bird\n"
                    }
                    "index.noun" => "car n 1 2 @ ~ 1 1 00000010\ngoose n 1 0 1 1 00000099\n",
                    "noun.exc" => "geese goose\n",
                    "data.adj" => "00000007 00 s 02 ready(p) 0 Set 1 000 | ready\n",
                    "index.adj" => "ready a 1 0 1 0 00000007\n",
                    _ => "",
                };
                std::fs::write(folder.path().join(file), text).unwrap();
            }
        }
        let files = Files {
            folder: folder.path(),
            part: "",
        };
        let wordnet = WordNet::read(files).unwrap();
        let synonyms = |word: &str| {
            let mut found = wordnet.synonyms(word);
            found.sort();
            found
        };
        assert_eq!(synonyms("cars"), ["auto", "car", "cars"]);
        assert_eq!(synonyms("geese"), ["geese", "goose"]);
        assert_eq!(synonyms("readyer"), ["Set", "ready", "readyer"]);
        assert_eq!(synonyms("unknown"), ["unknown"]);
    }

    #[test]
    fn a_line_with_too_few_meanings_is_refused() {
        assert_eq!(meanings("car n 2 0 2 1 00000010"), None);
        assert_eq!(meaning("00000010 06 n 02 car 0"), None);
    }
}
