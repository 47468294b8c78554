//! Which files make which split, as the Hub's dataset viewer and `datasets` tell them: the card's `configs`,
//! else the names of files and directories.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use slipway_contract::DataFormat;

use super::DataError;
use super::card::DatasetCard;
use super::rows::format_of;

/// A dataset on disk: a file, or a directory laid out as a dataset repository.
#[derive(Clone, Debug)]
pub struct Layout {
    splits: BTreeMap<String, Vec<PathBuf>>,
    card: DatasetCard,
    /// Every data file, beside those of splits.
    files: Vec<PathBuf>,
    /// A single file answers to whatever split is asked for first, since it has no name of its own.
    single: Option<PathBuf>,
}

/// The files of one split, in reading order.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Its name.
    pub name: String,
    /// Its files.
    pub files: Vec<PathBuf>,
}

impl Layout {
    /// Looks at `path` without reading any data.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let metadata = std::fs::metadata(path).map_err(|source| DataError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        if metadata.is_file() {
            return Ok(Self {
                splits: BTreeMap::new(),
                card: DatasetCard::default(),
                files: Vec::new(),
                single: Some(path.to_owned()),
            });
        }
        let mut files = Vec::new();
        collect(path, path, &mut files)?;
        files.sort();
        let card = DatasetCard::read(path);
        let splits = if card.files.is_empty() {
            by_name(&files)
        } else {
            by_card(&card, &files)
        };
        if splits.is_empty() {
            return Err(DataError::NoFiles {
                path: path.to_owned(),
            });
        }
        let splits = splits
            .into_iter()
            .map(|(split, files)| (split, files.into_iter().map(|file| path.join(file)).collect()))
            .collect();
        Ok(Self {
            splits,
            card,
            files: files.iter().map(|file| path.join(file)).collect(),
            single: None,
        })
    }

    /// The split called `name`. A dataset that is a single file answers with that file.
    pub fn split(&self, name: &str) -> Result<Split, DataError> {
        let files = match &self.single {
            Some(file) => vec![file.clone()],
            None => self.splits.get(name).cloned().ok_or_else(|| DataError::NoSplit {
                split: name.to_owned(),
                available: self.splits.keys().cloned().collect(),
            })?,
        };
        Ok(Split {
            name: name.to_owned(),
            files,
        })
    }

    /// The split called `name`, where a directory has one of that name. A single file has none beside itself.
    pub fn other_split(&self, name: &str) -> Result<Split, DataError> {
        if self.single.is_some() {
            return Err(DataError::NoSplit {
                split: name.to_owned(),
                available: Vec::new(),
            });
        }
        self.split(name)
    }

    /// The split called `name`, else the files of that name or in a folder of it: collections for retrieval keep `corpus` and
    /// `queries` so.
    pub fn part(&self, name: &str) -> Result<Split, DataError> {
        if let Some(files) = self.splits.get(name) {
            return Ok(Split {
                name: name.to_owned(),
                files: files.clone(),
            });
        }
        let called = |path: &Path| {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let folder = path.parent().and_then(Path::file_name);
            stem.is_some_and(|stem| stem == name || stem.starts_with(&format!("{name}-")))
                || folder.is_some_and(|folder| folder.to_string_lossy() == name)
        };
        let files: Vec<PathBuf> = self.files.iter().filter(|file| called(file)).cloned().collect();
        if files.is_empty() {
            return Err(DataError::NoPart {
                part: name.to_owned(),
            });
        }
        Ok(Split {
            name: name.to_owned(),
            files,
        })
    }

    /// Class names that the dataset card gives for `column`.
    pub fn class_names(&self, column: &str) -> Option<Vec<String>> {
        let (_, names) = self.card.classes.iter().find(|(name, _)| name == column)?;
        Some(names.clone())
    }
}

/// Paths relative to `root` of every data file below `directory`. Hidden files and directories (caches, `.git`,
/// half-written downloads) are not data.
fn collect(root: &Path, directory: &Path, into: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let unreadable = |source| DataError::Unreadable {
        path: directory.to_owned(),
        source,
    };
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with(['.', '_']));
        if hidden {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, into)?;
        } else if format_of(&path, None).is_ok() && !is_metadata(&path) {
            into.push(path.strip_prefix(root).unwrap_or(&path).to_owned());
        }
    }
    Ok(())
}

/// JSON files that describe a dataset instead of holding rows.
fn is_metadata(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    matches!(
        name.as_deref(),
        Some("dataset_info.json" | "dataset_infos.json" | "dataset_dict.json" | "state.json" | "config.json")
    )
}

fn by_card(card: &DatasetCard, files: &[PathBuf]) -> BTreeMap<String, Vec<PathBuf>> {
    let mut splits: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (split, pattern) in &card.files {
        let matching = files.iter().filter(|file| {
            let path = file.to_string_lossy();
            glob(pattern, &path)
                || path
                    .strip_prefix(pattern.trim_end_matches('/'))
                    .is_some_and(|rest| rest.starts_with('/'))
        });
        for file in matching {
            let entry = splits.entry(split.clone()).or_default();
            if !entry.contains(file) {
                entry.push(file.clone());
            }
        }
    }
    splits
}

fn by_name(files: &[PathBuf]) -> BTreeMap<String, Vec<PathBuf>> {
    let mut splits: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    // A repository often holds the same rows twice (CSV for people, Parquet for machines): one format is read.
    let order = [DataFormat::Parquet, DataFormat::Jsonl, DataFormat::Csv];
    let Some(format) = order.into_iter().find(|format| {
        files
            .iter()
            .any(|file| format_of(file, None).ok() == Some(*format))
    }) else {
        return splits;
    };
    for file in files
        .iter()
        .filter(|file| format_of(file, None).ok() == Some(format))
    {
        if let Some(split) = split_of(file) {
            splits.entry(split).or_default().push(file.clone());
        }
    }
    if splits.is_empty() {
        let all = files
            .iter()
            .filter(|file| format_of(file, None).ok() == Some(format));
        splits.insert("train".into(), all.cloned().collect());
    }
    splits
}

/// The split that a path names: `<split>-00000-of-00001`, or a usual word in the file's name, else in the
/// nearest directory's.
fn split_of(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy().into_owned();
    let mut parts: Vec<&str> = stem.split('-').collect();
    if parts.len() >= 4 && parts[parts.len() - 2] == "of" {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits(parts[parts.len() - 1]) && digits(parts[parts.len() - 3]) {
            parts.truncate(parts.len() - 3);
            let name = parts.join("-");
            return Some(usual(&name).unwrap_or(&name).to_owned());
        }
    }
    std::iter::once(stem.clone())
        .chain(
            path.ancestors()
                .skip(1)
                .filter_map(|directory| Some(directory.file_name()?.to_string_lossy().into_owned())),
        )
        .find_map(|name| {
            name.split(|c: char| !c.is_ascii_alphanumeric())
                .find_map(|word| usual(&word.to_ascii_lowercase()).map(str::to_owned))
        })
}

/// The canonical name of a usual word for a split.
fn usual(word: &str) -> Option<&'static str> {
    Some(match word {
        "train" | "training" => "train",
        "validation" | "valid" | "val" | "dev" => "validation",
        "test" | "testing" | "eval" | "evaluation" => "test",
        _ => return None,
    })
}

/// `*` and `?` within a path component, `**` over components.
fn glob(pattern: &str, path: &str) -> bool {
    fn matches(pattern: &[u8], path: &[u8]) -> bool {
        match pattern {
            [] => path.is_empty(),
            [b'*', b'*', b'/', rest @ ..] => {
                matches(rest, path)
                    || path
                        .iter()
                        .enumerate()
                        .any(|(at, byte)| *byte == b'/' && matches(rest, &path[at + 1..]))
            }
            [b'*', b'*', rest @ ..] => (0..=path.len()).any(|at| matches(rest, &path[at..])),
            [b'*', rest @ ..] => {
                let component = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
                (0..=component).any(|at| matches(rest, &path[at..]))
            }
            [b'?', rest @ ..] => path.first().is_some_and(|byte| *byte != b'/') && matches(rest, &path[1..]),
            [byte, rest @ ..] => path.first() == Some(byte) && matches(rest, &path[1..]),
        }
    }
    matches(pattern.as_bytes(), path.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        directory
    }

    fn splits(files: &[&str]) -> Vec<(String, usize)> {
        let directory = directory(files);
        let layout = Layout::open(directory.path()).unwrap();
        layout
            .splits
            .into_iter()
            .map(|(name, files)| (name, files.len()))
            .collect()
    }

    #[test]
    fn splits_are_told_from_names() {
        let expected = |pairs: &[(&str, usize)]| -> Vec<(String, usize)> {
            pairs
                .iter()
                .map(|(name, files)| ((*name).to_owned(), *files))
                .collect()
        };
        assert_eq!(
            splits(&[
                "data/train-00000-of-00002.parquet",
                "data/train-00001-of-00002.parquet",
                "data/test_sft-00000-of-00001.parquet"
            ]),
            expected(&[("test_sft", 1), ("train", 2)])
        );
        assert_eq!(
            splits(&["train.jsonl", "dev.jsonl", "my_test.jsonl"]),
            expected(&[("test", 1), ("train", 1), ("validation", 1)])
        );
        assert_eq!(
            splits(&["validation/a.csv", "training/b.csv"]),
            expected(&[("train", 1), ("validation", 1)])
        );
        assert_eq!(splits(&["reviews.csv"]), expected(&[("train", 1)]));
        assert_eq!(
            splits(&["train.csv", "train.parquet", ".cache/test.parquet"]),
            expected(&[("train", 1)])
        );
    }

    #[test]
    fn the_card_outweighs_names() {
        let directory = directory(&["a/x.csv", "b/train.csv"]);
        std::fs::write(
            directory.path().join("README.md"),
            "---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: 'a/*'}\n---\n",
        )
        .unwrap();
        let layout = Layout::open(directory.path()).unwrap();
        assert_eq!(
            layout.split("train").unwrap().files,
            [directory.path().join("a/x.csv")]
        );
    }

    #[test]
    fn a_missing_split_is_named_with_those_there() {
        let directory = directory(&["train.csv", "test.csv"]);
        let error = Layout::open(directory.path()).unwrap().split("dev").unwrap_err();
        assert!(
            error.to_string().contains("`dev`; it has `test`, `train`"),
            "{error}"
        );
    }

    #[test]
    fn a_directory_without_data_is_refused() {
        let directory = directory(&["notes.txt"]);
        assert!(matches!(
            Layout::open(directory.path()),
            Err(DataError::NoFiles { .. })
        ));
    }

    #[test]
    fn globs() {
        assert!(glob("data/train-*", "data/train-00000-of-00001.parquet"));
        assert!(glob("**/*.csv", "a/b/c.csv") && glob("**/*.csv", "c.csv"));
        assert!(!glob("data/*", "data/sub/x.csv") && glob("a?.csv", "ab.csv"));
    }
}
