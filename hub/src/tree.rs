//! The list of a commit's files. A commit never changes, so neither does its list: it is asked for once.

use std::path::{Path, PathBuf};

use reqwest::header::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::client::{About, quoted};
use crate::transport::Call;
use crate::{Client, Error, RepoId};

/// A file of a commit, with what is needed to check it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct TreeFile {
    pub path: String,
    /// Bytes of the content (not of the pointer, for large files).
    pub size: u64,
    pub digest: Digest,
}

/// What the content must hash to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Digest {
    /// Large files.
    Sha256(String),
    /// Files in git: the object id of the blob.
    GitBlob(String),
}

impl Digest {
    pub(crate) fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitBlob(hex) => hex,
        }
    }
}

#[derive(Deserialize)]
struct EntryWire {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<LfsWire>,
}

#[derive(Deserialize)]
struct LfsWire {
    oid: String,
    size: u64,
}

impl Client {
    /// Every file of `commit`, from `<folder>/<commit>.json` where it was kept.
    pub(crate) async fn tree(
        &self,
        repo: &RepoId,
        commit: &str,
        folder: &Path,
    ) -> Result<Vec<TreeFile>, Error> {
        let kept = folder.join(format!("{commit}.json"));
        if let Ok(text) = tokio::fs::read(&kept).await
            && let Ok(files) = serde_json::from_slice(&text)
        {
            return Ok(files);
        }
        let files = self.list(repo, commit).await?;
        let text = serde_json::to_vec(&files).expect("a list of files is plain data");
        write_atomically(&kept, &text).await?;
        Ok(files)
    }

    async fn list(&self, repo: &RepoId, commit: &str) -> Result<Vec<TreeFile>, Error> {
        let mut files = Vec::new();
        let mut next = Some(format!(
            "{}/tree/{}?recursive=true&expand=false",
            self.api(repo),
            quoted(commit)
        ));
        while let Some(url) = next {
            let call = Call::get(url, format!("list the files of the {repo}"));
            let answer = self.transport.ask(&call).await?;
            let answer = self.check(answer, &call, About::revision(repo, commit))?;
            let entries: Vec<EntryWire> = self.parsed(&answer.body, &call)?;
            for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
                if !stays_inside(&entry.path) {
                    return Err(Error::UnsafePath {
                        repo: repo.clone(),
                        path: entry.path,
                    });
                }
                let (size, digest) = match entry.lfs {
                    Some(lfs) => (lfs.size, Digest::Sha256(lfs.oid)),
                    None => (entry.size, Digest::GitBlob(entry.oid)),
                };
                // The digest becomes part of a file name.
                if digest.hex().len() < 40 || !digest.hex().bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(Error::Protocol {
                        endpoint: self.endpoint().to_owned(),
                        action: call.action.clone(),
                        message: format!("it gave {:?} as the checksum of {}", digest.hex(), entry.path),
                    });
                }
                files.push(TreeFile {
                    path: entry.path,
                    size,
                    digest,
                });
            }
            next = next_page(&answer.headers, &call.url);
        }
        Ok(files)
    }
}

/// The address after which a `Link` header says `rel="next"`.
fn next_page(headers: &HeaderMap, base: &str) -> Option<String> {
    let link = headers
        .get_all("link")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find(|link| link.contains("rel=\"next\""))?;
    let target = link.split_once('<')?.1.split_once('>')?.0;
    Some(url::Url::parse(base).ok()?.join(target).ok()?.into())
}

/// Whether a path that a server names stays in the folder it is joined to.
fn stays_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\0', '\\'])
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Writes beside the target and renames, so that a reader sees the whole file or none.
pub(crate) async fn write_atomically(target: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{:016x}", rand::random::<u64>()));
    let beside = PathBuf::from(name);
    let written = async {
        if let Some(folder) = target.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        tokio::fs::write(&beside, bytes).await?;
        tokio::fs::rename(&beside, target).await
    };
    if let Err(error) = written.await {
        tokio::fs::remove_file(&beside).await.ok();
        return Err(Error::io("write", target, error));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn paths_that_leave_the_folder_are_told() {
        for path in [
            "../x",
            "a/../../x",
            "/etc/passwd",
            "a//b",
            "",
            "a/..",
            "a\\..\\b",
            "x\0",
        ] {
            assert!(!stays_inside(path), "{path:?}");
        }
        for path in [
            "config.json",
            ".gitattributes",
            "a/b..c/d",
            "1_Pooling/config.json",
            "...",
        ] {
            assert!(stays_inside(path), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn a_path_that_passes_joins_below_the_folder(path in "[./a\\\\-c]{0,12}") {
            if stays_inside(&path) {
                let joined = Path::new("/cache/x").join(&path);
                prop_assert!(joined.starts_with("/cache/x"));
                prop_assert!(joined.components().all(|part| part != std::path::Component::ParentDir));
            }
        }
    }

    #[test]
    fn pages_are_followed_by_their_link() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "link",
            HeaderValue::from_static("</api/x?cursor=2>; rel=\"next\""),
        );
        assert_eq!(
            next_page(&headers, "http://h:1/api/x"),
            Some("http://h:1/api/x?cursor=2".into())
        );
        headers.insert("link", HeaderValue::from_static("<http://h/y>; rel=\"prev\""));
        assert_eq!(next_page(&headers, "http://h:1/api/x"), None);
    }
}
