//! The data that METEOR needs of a language, read from a folder laid out as nltk's.

use std::path::{Path, PathBuf};

use super::punkt::Punkt;
use super::tokens::tokens;
use super::wordnet::WordNet;

/// WordNet's synonyms and Punkt's model of English sentences.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lexicon {
    wordnet: WordNet,
    punkt: Punkt,
}

/// Why there is no lexicon.
#[derive(Debug, thiserror::Error)]
pub enum LexiconError {
    /// A file is not there, or may not be read.
    #[error(
        "failed to read {path}, which METEOR needs: {error}; put nltk's data there, unpacked: python -m nltk.downloader -d {folder} wordnet punkt_tab"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The folder that was given.
        folder: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file is there, and is none of nltk's.
    #[error("line {line} of {path} is malformed; put nltk's own file there")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
}

/// A part of the folder that was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files<'a> {
    /// The folder that was given.
    pub folder: &'a Path,
    /// Where in it the files are.
    pub part: &'static str,
}

impl Files<'_> {
    /// Parses each line of a file that is neither empty nor, as in WordNet's licence, indented.
    pub fn lines<T>(self, file: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, LexiconError> {
        let path = self.folder.join(self.part).join(file);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                return Err(LexiconError::Unreadable {
                    path,
                    folder: self.folder.to_owned(),
                    error,
                });
            }
        };
        let mut parsed = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            if text.is_empty() || text.starts_with(' ') {
                continue;
            }
            match parse(text) {
                Some(entry) => parsed.push(entry),
                None => return Err(LexiconError::Malformed { path, line }),
            }
        }
        Ok(parsed)
    }
}

impl Lexicon {
    /// Reads `corpora/wordnet` and `tokenizers/punkt_tab/english` in `folder`.
    pub fn open(folder: &Path) -> Result<Self, LexiconError> {
        let files = |part| Files { folder, part };
        Ok(Self {
            wordnet: WordNet::read(files("corpora/wordnet"))?,
            punkt: Punkt::read(files("tokenizers/punkt_tab/english"))?,
        })
    }

    /// The words of a text, sentence by sentence: nltk's `word_tokenize`.
    pub(super) fn tokens(&self, text: &str) -> Vec<String> {
        self.punkt.sentences(text).into_iter().flat_map(tokens).collect()
    }

    /// Single words that share a meaning with `word`, and itself.
    pub(super) fn synonyms(&self, word: &str) -> Vec<String> {
        self.wordnet.synonyms(word)
    }

    /// A language of one meaning.
    #[cfg(test)]
    pub(in super::super) fn of_synonyms(words: &[&str]) -> Self {
        Self {
            wordnet: WordNet::of_synonyms(words),
            punkt: Punkt::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named_with_what_fetches_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = Lexicon::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("corpora/wordnet/data.noun, which METEOR needs"),
            "{error}"
        );
        assert!(error.ends_with("wordnet punkt_tab"), "{error}");
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("numbers"), "  licence\n1\n\nx\n").unwrap();
        let files = Files {
            folder: folder.path(),
            part: "",
        };
        let error = files
            .lines("numbers", |line| line.parse::<u32>().ok())
            .unwrap_err();
        assert!(
            matches!(&error, LexiconError::Malformed { line: 4, .. }),
            "{error}"
        );
    }
}
