//! Repositories and what the Hub says about them.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Error;

/// What a repository holds.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RepoType {
    /// Weights and a model card.
    Model,
    /// Rows and a dataset card.
    Dataset,
}

impl RepoType {
    /// `models` or `datasets`, as in `/api/models/…`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// What precedes `owner/name` in page, resolve and git addresses.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}

impl fmt::Display for RepoType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
        })
    }
}

/// A repository: its type, owner and name.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RepoId {
    /// What it holds.
    pub kind: RepoType,
    /// User or organisation.
    pub owner: String,
    /// Name within the owner's namespace.
    pub name: String,
}

impl RepoId {
    /// Parses `owner/name`.
    pub fn new(kind: RepoType, id: &str) -> Result<Self, Error> {
        let well_formed = |part: &str| {
            (1..=96).contains(&part.len())
                && part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                && !part.contains("..")
        };
        match id.split_once('/') {
            Some((owner, name)) if well_formed(owner) && well_formed(name) => Ok(Self {
                kind,
                owner: owner.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(Error::InvalidRepo { id: id.to_owned() }),
        }
    }

    /// A model repository `owner/name`.
    pub fn model(id: &str) -> Result<Self, Error> {
        Self::new(RepoType::Model, id)
    }

    /// A dataset repository `owner/name`.
    pub fn dataset(id: &str) -> Result<Self, Error> {
        Self::new(RepoType::Dataset, id)
    }

    /// `owner/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// `models--owner--name`: its folder in a cache, named as the Hub's own clients name it.
    pub fn folder(&self) -> String {
        format!("{}--{}--{}", self.kind.plural(), self.owner, self.name)
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.owner, self.name)
    }
}

/// What the Hub says about a repository at a revision.
#[derive(Clone, Debug, PartialEq)]
pub struct RepoInfo {
    /// The commit that the revision stands for, 40 hexadecimal digits.
    pub commit: String,
    /// Hidden from those whose token does not open it.
    pub private: bool,
    /// Opened only to those who accepted its terms.
    pub gated: bool,
    /// Every file at that commit.
    pub siblings: Vec<Sibling>,
    /// Tags, those derived from the card included.
    pub tags: Vec<String>,
    /// The task, for instance `text-classification`.
    pub pipeline_tag: Option<String>,
    /// The library its weights are for, for instance `peft`.
    pub library_name: Option<String>,
    /// The card's front matter.
    pub card_data: Map<String, Value>,
}

/// A file of a repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sibling {
    /// Path within the repository.
    pub path: String,
    /// Bytes, where the Hub said so.
    pub size: Option<u64>,
    /// SHA-256 of its content, for files in large file storage.
    pub sha256: Option<String>,
}

/// The wire form of [`RepoInfo`].
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RepoInfoWire {
    sha: Option<String>,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    gated: Value,
    #[serde(default)]
    siblings: Vec<SiblingWire>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(rename = "pipeline_tag")]
    pipeline_tag: Option<String>,
    #[serde(rename = "library_name")]
    library_name: Option<String>,
    #[serde(default)]
    card_data: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct SiblingWire {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<LfsWire>,
}

#[derive(Deserialize)]
struct LfsWire {
    sha256: Option<String>,
}

impl RepoInfoWire {
    /// `None` when the answer names no commit: an empty repository.
    pub(crate) fn into_info(self) -> Option<RepoInfo> {
        Some(RepoInfo {
            commit: self.sha?,
            private: self.private,
            gated: !matches!(self.gated, Value::Null | Value::Bool(false)),
            siblings: self
                .siblings
                .into_iter()
                .map(|file| Sibling {
                    path: file.rfilename,
                    size: file.size,
                    sha256: file.lfs.and_then(|lfs| lfs.sha256),
                })
                .collect(),
            tags: self.tags,
            pipeline_tag: self.pipeline_tag,
            library_name: self.library_name,
            card_data: self.card_data.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_id_is_owner_slash_name() {
        let repo = RepoId::model("acme/finance-sentiment").unwrap();
        assert_eq!(
            (repo.owner.as_str(), repo.name.as_str()),
            ("acme", "finance-sentiment")
        );
        assert_eq!(repo.folder(), "models--acme--finance-sentiment");
    }

    #[test]
    fn ids_that_could_change_the_address_are_refused() {
        for id in [
            "bert",
            "a/b/c",
            "../etc",
            "acme/..",
            "acme/x?y",
            "acme/x%2f",
            "acme/",
            "/x",
            "acme/x y",
        ] {
            let error = RepoId::model(id).unwrap_err().to_string();
            assert!(error.contains("owner/name"), "{id}: {error}");
        }
    }

    #[test]
    fn gated_is_false_or_a_kind_of_gate() {
        let info = |gated: &str| {
            let text = format!(r#"{{"sha":"{}","gated":{gated},"siblings":[]}}"#, "a".repeat(40));
            serde_json::from_str::<RepoInfoWire>(&text)
                .unwrap()
                .into_info()
                .unwrap()
                .gated
        };
        assert_eq!(
            [info("false"), info("\"auto\""), info("\"manual\"")],
            [false, true, true]
        );
    }
}
