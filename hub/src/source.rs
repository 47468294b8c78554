//! From the model or dataset of a configuration to local files.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use slipway_contract::{DatasetSource, HubRef, ModelSource};

use crate::snapshot::is_commit;
use crate::{Client, Error, RepoId, SnapshotProgress};

/// A repository at a commit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pin {
    /// `owner/name`.
    pub repo: String,
    /// 40 hexadecimal digits.
    pub commit: String,
}

/// A model on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalModel {
    /// The base: a directory (`config.json`, safetensors, tokenizer) or a `.gguf` file.
    pub base: PathBuf,
    /// The adapter's directory, when what was asked for is an adapter.
    pub adapter: Option<PathBuf>,
    /// What was asked for, when it is on a Hub.
    pub identity: Option<Pin>,
    /// The base, when it is on a Hub; the same as `identity` without an adapter.
    pub base_identity: Option<Pin>,
}

/// A dataset on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalDataset {
    /// A file, or a directory laid out as a dataset repository.
    pub path: PathBuf,
    /// Where it comes from, when that is a Hub.
    pub identity: Option<Pin>,
}

/// What of `adapter_config.json` leads to the base.
#[derive(Deserialize)]
struct AdapterConfig {
    base_model_name_or_path: Option<String>,
    revision: Option<String>,
}

const ADAPTER_CONFIG: &str = "adapter_config.json";
const DATA_ENDINGS: [&str; 4] = [".parquet", ".jsonl", ".json", ".csv"];
const PICKLE_ENDINGS: [&str; 6] = [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"];
/// Configuration, tokenizer, chat template and card: everything of a model that is no weights.
const COMPANION_ENDINGS: [&str; 5] = [".json", ".txt", ".jinja", ".model", "README.md"];

/// Makes a model local: downloads what its source names (an adapter together with its base), or checks the
/// files of a local one. Only safetensors and GGUF are fetched; a model that has nothing but pickles is refused.
pub async fn fetch_model(
    source: &ModelSource,
    client: &Client,
    cache: &Path,
    mut progress: impl FnMut(SnapshotProgress) + Send,
) -> Result<LocalModel, Error> {
    let asked = fetch_one(source, client, cache, &mut progress).await?;
    let Found::Adapter(adapter) = asked.found else {
        return Ok(LocalModel {
            base: asked.found.into_path(),
            adapter: None,
            base_identity: asked.identity.clone(),
            identity: asked.identity,
        });
    };
    let base = base_of(&adapter, &asked.name, asked.identity.is_none())?;
    let base = fetch_one(&base, client, cache, &mut progress).await?;
    if let Found::Adapter(_) = base.found {
        return Err(Error::InvalidModel {
            model: asked.name,
            message: format!(
                "is an adapter of {}, which is an adapter itself; merge one of them into its base",
                base.name
            ),
        });
    }
    Ok(LocalModel {
        base: base.found.into_path(),
        adapter: Some(adapter),
        identity: asked.identity,
        base_identity: base.identity,
    })
}

/// Makes a dataset local: its data files and card from a Hub, one file from a URL, or what is there already.
pub async fn fetch_dataset(
    source: &DatasetSource,
    client: &Client,
    cache: &Path,
    progress: impl FnMut(SnapshotProgress) + Send,
) -> Result<LocalDataset, Error> {
    match source {
        DatasetSource::Hub(hub) => {
            let repo = RepoId::dataset(&hub.repo)?;
            let commit = pin(client, &repo, hub).await?;
            let patterns: Vec<String> = DATA_ENDINGS.iter().map(|ending| format!("*{ending}")).collect();
            let mut patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            patterns.push("README.md");
            let path = client
                .snapshot(&repo, &commit, &patterns, cache, progress)
                .await?;
            Ok(LocalDataset {
                path,
                identity: Some(Pin {
                    repo: hub.repo.clone(),
                    commit,
                }),
            })
        }
        DatasetSource::Path(path) => {
            if !path.exists() {
                return Err(Error::PathNotFound { path: path.clone() });
            }
            Ok(LocalDataset {
                path: path.clone(),
                identity: None,
            })
        }
        DatasetSource::Url(url) => Ok(LocalDataset {
            path: client.download(url, cache, progress).await?,
            identity: None,
        }),
    }
}

/// One model or adapter on disk.
struct Fetched {
    found: Found,
    identity: Option<Pin>,
    /// For messages.
    name: String,
}

#[derive(Debug, Eq, PartialEq)]
enum Found {
    Directory(PathBuf),
    Gguf(PathBuf),
    Adapter(PathBuf),
}

impl Found {
    fn into_path(self) -> PathBuf {
        match self {
            Self::Directory(path) | Self::Gguf(path) | Self::Adapter(path) => path,
        }
    }
}

async fn fetch_one(
    source: &ModelSource,
    client: &Client,
    cache: &Path,
    progress: &mut (impl FnMut(SnapshotProgress) + Send),
) -> Result<Fetched, Error> {
    match source {
        ModelSource::Path(path) => {
            let name = path.display().to_string();
            if path.is_file() {
                let found = local_file(path, &name)?;
                return Ok(Fetched {
                    found,
                    identity: None,
                    name,
                });
            }
            let files = list_directory(path)?;
            let chosen = choose(&files, &name)?;
            Ok(Fetched {
                found: chosen.locate(path),
                identity: None,
                name,
            })
        }
        ModelSource::Hub(hub) => {
            let repo = RepoId::model(&hub.repo)?;
            let commit = pin(client, &repo, hub).await?;
            let folder = cache.join(repo.folder());
            let files: Vec<String> = client
                .tree(&repo, &commit, &folder)
                .await?
                .into_iter()
                .map(|file| file.path)
                .collect();
            let chosen = choose(&files, &repo.to_string())?;
            let patterns: Vec<&str> = chosen.files.iter().map(String::as_str).collect();
            let path = client
                .snapshot(&repo, &commit, &patterns, cache, progress)
                .await?;
            Ok(Fetched {
                found: chosen.locate(&path),
                identity: Some(Pin {
                    repo: hub.repo.clone(),
                    commit,
                }),
                name: repo.to_string(),
            })
        }
    }
}

/// The commit of a revision. One that is a commit already needs no request.
async fn pin(client: &Client, repo: &RepoId, hub: &HubRef) -> Result<String, Error> {
    if is_commit(&hub.revision) {
        return Ok(hub.revision.clone());
    }
    Ok(client.resolve(repo, &hub.revision).await?.commit)
}

/// What of a model's files is wanted.
#[derive(Debug, Eq, PartialEq)]
struct Chosen {
    kind: Kind,
    files: Vec<String>,
}

#[derive(Debug, Eq, PartialEq)]
enum Kind {
    Directory,
    Gguf(String),
    Adapter,
}

impl Chosen {
    fn locate(self, folder: &Path) -> Found {
        match self.kind {
            Kind::Directory => Found::Directory(folder.to_owned()),
            Kind::Gguf(file) => Found::Gguf(folder.join(file)),
            Kind::Adapter => Found::Adapter(folder.to_owned()),
        }
    }
}

/// Chooses among the files of a model: safetensors before GGUF, pickles never.
fn choose(files: &[String], name: &str) -> Result<Chosen, Error> {
    let invalid = |message: String| Error::InvalidModel {
        model: name.to_owned(),
        message,
    };
    let top = |ending: &str| -> Vec<String> {
        files
            .iter()
            .filter(|file| !file.contains('/') && file.ends_with(ending))
            .cloned()
            .collect()
    };
    let has = |file: &str| files.iter().any(|known| known == file);
    let mut wanted: Vec<String> = COMPANION_ENDINGS.iter().flat_map(|ending| top(ending)).collect();
    // sentence-transformers says there how token vectors become one.
    wanted.extend(
        files
            .iter()
            .filter(|file| file.ends_with("_Pooling/config.json"))
            .cloned(),
    );

    let adapter = has(ADAPTER_CONFIG);
    let safetensors = top(".safetensors");
    let weights: Vec<String> = if adapter {
        // A repository may carry merged weights beside its adapter; those of the base come from the base.
        safetensors
            .into_iter()
            .filter(|file| file == "adapter_model.safetensors")
            .collect()
    } else {
        // Some publishers add the same weights under another name (`consolidated.safetensors`).
        let named: Vec<String> = safetensors
            .iter()
            .filter(|file| file.starts_with("model"))
            .cloned()
            .collect();
        if named.is_empty() { safetensors } else { named }
    };
    if !weights.is_empty() {
        wanted.extend(weights);
        let kind = if adapter { Kind::Adapter } else { Kind::Directory };
        return Ok(Chosen { kind, files: wanted });
    }
    let gguf = if adapter { Vec::new() } else { top(".gguf") };
    match gguf.as_slice() {
        [file] => {
            wanted.push(file.clone());
            return Ok(Chosen {
                kind: Kind::Gguf(file.clone()),
                files: wanted,
            });
        }
        [] => {}
        several => {
            return Err(invalid(format!(
                "has several GGUF files ({}); publish the one to use in a repository of its own",
                several.join(", ")
            )));
        }
    }
    let pickles: Vec<String> = PICKLE_ENDINGS
        .iter()
        .flat_map(|ending| top(ending))
        .filter(|file| file != "training_args.bin")
        .collect();
    if !pickles.is_empty() {
        return Err(Error::UnsafeWeights {
            model: name.to_owned(),
            files: pickles,
        });
    }
    Err(invalid(if adapter {
        "has an adapter_config.json but no adapter_model.safetensors beside it; publish the adapter's weights as safetensors".into()
    } else {
        "has no weights at its top level; it needs safetensors or a .gguf file".into()
    }))
}

fn local_file(path: &Path, name: &str) -> Result<Found, Error> {
    let file = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if path.extension().is_some_and(|ending| ending == "gguf") {
        return Ok(Found::Gguf(path.to_owned()));
    }
    if PICKLE_ENDINGS.iter().any(|ending| file.ends_with(ending)) {
        return Err(Error::UnsafeWeights {
            model: name.to_owned(),
            files: vec![file],
        });
    }
    Err(Error::InvalidModel {
        model: name.to_owned(),
        message: "is a file but no .gguf; name a .gguf file, or the directory that holds config.json and safetensors"
            .into(),
    })
}

/// Paths of a model directory, one level deep, as a repository would list them.
fn list_directory(path: &Path) -> Result<Vec<String>, Error> {
    let read = |directory: &Path| -> Result<Vec<std::fs::DirEntry>, Error> {
        let entries = std::fs::read_dir(directory).and_then(Iterator::collect);
        entries.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::PathNotFound {
                path: directory.to_owned(),
            },
            _ => Error::io("read", directory, error),
        })
    };
    let name = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut files = Vec::new();
    for entry in read(path)? {
        // Follows links: snapshots of other tools, and mounted volumes, are made of them.
        if entry.path().is_dir() {
            if name(&entry).ends_with("_Pooling") {
                files.extend(
                    read(&entry.path())?
                        .iter()
                        .map(|inner| format!("{}/{}", name(&entry), name(inner))),
                );
            }
        } else {
            files.push(name(&entry));
        }
    }
    files.sort();
    Ok(files)
}

/// Where the base of the adapter in `directory` is. `local`: the adapter itself is a local directory, so its
/// base may be one too; an adapter from a Hub must not make this process read local paths.
fn base_of(directory: &Path, name: &str, local: bool) -> Result<ModelSource, Error> {
    let invalid = |message: String| Error::InvalidModel {
        model: name.to_owned(),
        message,
    };
    let path = directory.join(ADAPTER_CONFIG);
    let text = std::fs::read(&path).map_err(|error| Error::io("read", &path, error))?;
    let config: AdapterConfig = serde_json::from_slice(&text).map_err(|error| {
        invalid(format!(
            "has an {ADAPTER_CONFIG} that is not valid: {error}; write it again"
        ))
    })?;
    let base = config
        .base_model_name_or_path
        .filter(|base| !base.is_empty())
        .ok_or_else(|| {
            invalid(format!(
                "does not say what it adapts; set base_model_name_or_path in its {ADAPTER_CONFIG}"
            ))
        })?;
    if local {
        let beside = directory.join(&base);
        if let Some(path) = [PathBuf::from(&base), beside]
            .into_iter()
            .find(|path| path.exists())
        {
            return Ok(ModelSource::Path(path));
        }
    }
    if RepoId::model(&base).is_err() {
        return Err(invalid(format!(
            "names {base:?} as its base, which is no repository{}; set base_model_name_or_path in its {ADAPTER_CONFIG} to owner/name",
            if local { " and no path here" } else { "" }
        )));
    }
    Ok(ModelSource::Hub(HubRef {
        repo: base,
        revision: config
            .revision
            .filter(|revision| !revision.is_empty())
            .unwrap_or_else(|| "main".into()),
    }))
}

#[cfg(test)]
mod tests;
