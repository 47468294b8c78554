//! The result of a training run: files in a directory, and a commit on the Hub.

mod card;
mod curve;
mod facts;
mod hardware;
mod permission;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use slipway_contract::{Failure, FailureReason, OutputHub, Published, TrainConfig};
use slipway_hub::source::LocalModel;
use slipway_hub::{Client, Operation, RepoId, RepoType};
use slipway_model::{ModelError, ModelFiles, Network};

use crate::host::Host;
use crate::identity::run_id;

pub use curve::Point;
pub use facts::{Facts, local_license};
pub use hardware::Hardware;
pub use permission::check as check_license;

/// Files in the output directory.
#[derive(Debug)]
pub struct Written {
    directory: PathBuf,
    files: Vec<String>,
}

/// Documents that make a tokenizer.
const TOKENIZER: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];
/// Documents that belong to whole weights only.
const WHOLE: &[&str] = &["generation_config.json"];
/// The model card.
const CARD: &str = "README.md";
/// The course of the loss, as the card shows it.
const CURVE: &str = "training/loss.svg";

/// Writes weights, tokenizer, configuration, log and card.
pub fn write(
    config: &TrainConfig,
    network: &Network,
    files: &ModelFiles,
    model: &LocalModel,
    facts: &Facts,
    log: String,
) -> Result<Written, Failure> {
    let directory = &config.output.directory;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source: std::io::Error| ModelError::Write { path, source }.failure()
    };
    fs::create_dir_all(directory).map_err(io(directory))?;
    let mut documents = TOKENIZER.to_vec();
    if facts.is_adapter() {
        let base = facts
            .base
            .as_ref()
            .map_or_else(|| model.base.display().to_string(), |pin| pin.repo.clone());
        let commit = facts.base.as_ref().map(|pin| pin.commit.as_str());
        network
            .save_adapter(directory, &base, commit)
            .map_err(|error| error.failure())?;
    } else {
        network.save_full(directory).map_err(|error| error.failure())?;
        documents.extend(WHOLE);
    }
    for name in documents {
        if let Some(text) = files.document(name).map_err(|error| error.failure())? {
            let path = directory.join(name);
            fs::write(&path, text).map_err(io(&path))?;
        }
    }
    let settings = serde_saphyr::to_string(config).map_err(|error| {
        Failure::new(
            FailureReason::Internal,
            format!("failed to write the configuration: {error}"),
        )
    })?;
    let card =
        card::fresh(facts).map_err(|error| Failure::new(FailureReason::Internal, error.to_string()))?;
    for (name, text) in [
        ("training_config.yaml", settings),
        ("training_log.jsonl", log),
        (CARD, card),
    ] {
        let path = directory.join(name);
        fs::write(&path, text).map_err(io(&path))?;
    }
    let curve = facts.curve();
    if let Some(curve) = &curve {
        let path = directory.join(CURVE);
        let folder = path.parent().unwrap_or(directory);
        fs::create_dir_all(folder).map_err(io(folder))?;
        fs::write(&path, curve).map_err(io(&path))?;
    }
    let mut names: Vec<String> = fs::read_dir(directory)
        .map_err(io(directory))?
        .flatten()
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.extend(curve.map(|_| CURVE.to_owned()));
    names.sort();
    Ok(Written {
        directory: directory.clone(),
        files: names,
    })
}

/// Weights of the other kind, which an earlier run may have left in the repository: with both there, a reader
/// could not tell what the model is.
const OF_AN_ADAPTER: &[&str] = &["adapter_config.json", "adapter_model.safetensors"];
const OF_WHOLE_WEIGHTS: &[&str] = &["model.safetensors", "model.safetensors.index.json"];

/// Publishes the output directory as one commit, or as a pull request that a repeated run finds again. A card that
/// is there keeps what people wrote; one that cannot be edited stays as it is, which the note returned says.
pub fn publish(
    host: &Host,
    client: &Client,
    target: &OutputHub,
    written: &Written,
    facts: &Facts,
) -> Result<(Published, Option<String>), Failure> {
    let failure = |error: slipway_hub::Error| error.failure(RepoType::Model);
    let repo = RepoId::model(&target.repo).map_err(failure)?;
    let summary = format!("Fine-tune {} on {}", facts.base_name(), facts.dataset_name());
    let stale = if facts.is_adapter() {
        OF_WHOLE_WEIGHTS
    } else {
        OF_AN_ADAPTER
    };
    let note = Mutex::new(None);
    let info = host.wait(async {
        client.create_repo(&repo, target.private).await.map_err(failure)?;
        let change = |reader: slipway_hub::Reader| {
            let note = &note;
            async move {
                let mut operations = Vec::new();
                for name in &written.files {
                    let path = written.directory.join(name);
                    if name != CARD {
                        operations.push(Operation::add_file(name.clone(), path));
                    }
                }
                let card = match reader.read(CARD).await? {
                    Some(existing) => card::merged(&existing, facts),
                    None => card::fresh(facts),
                };
                let left = match card {
                    Ok(card) => {
                        operations.push(Operation::add(CARD, card));
                        None
                    }
                    Err(error) => Some(error.to_string()),
                };
                *note.lock().unwrap_or_else(PoisonError::into_inner) = left;
                let stale = stale.iter().filter(|name| reader.has(name));
                operations.extend(stale.map(|name| Operation::delete(*name)));
                Ok(operations)
            }
        };
        let info = if target.pull_request {
            let run = run_id(&facts.config.provenance, &facts.config);
            client.propose(&repo, "main", &summary, &run, change).await
        } else {
            client.update(&repo, "main", &summary, false, change).await
        };
        info.map_err(failure)
    })?;
    let published = Published {
        repo: target.repo.clone(),
        commit: info.commit,
        url: info.pull_request_url.unwrap_or_else(|| client.url(&repo)),
    };
    Ok((
        published,
        note.into_inner().unwrap_or_else(PoisonError::into_inner),
    ))
}
