//! The result of a training run: files in a directory, and a commit on the Hub.

mod card;

use std::fs;
use std::path::{Path, PathBuf};

use slipway_contract::{
    DatasetSource, Failure, FailureReason, Method, Metric, OutputHub, Published, TrainConfig,
};
use slipway_hub::source::{LocalModel, Pin};
use slipway_hub::{Client, Operation, RepoId, RepoType};
use slipway_model::{ModelError, ModelFiles, Network};

use crate::host::Host;

/// What a run was, for its card.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its configuration.
    pub config: TrainConfig,
    /// The base model, when it is on a Hub.
    pub base: Option<Pin>,
    /// The base model on disk.
    pub base_path: PathBuf,
    /// The dataset, when it is on a Hub.
    pub dataset: Option<Pin>,
    /// The dataset on disk.
    pub dataset_path: PathBuf,
    /// Names of the classes (classification).
    pub labels: Vec<String>,
    /// Examples learned from.
    pub training_examples: u64,
    /// Examples of the validation split that the figures come from.
    pub evaluation_examples: Option<u64>,
    /// Numbers trained.
    pub trainable: u64,
    /// Optimizer steps taken.
    pub steps: u64,
    /// Passes over the data.
    pub epochs: f64,
    /// The step whose weights are published, when early stopping chose it.
    pub best_step: Option<u64>,
    /// Tokens learned from.
    pub tokens: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// `loss`, `evalLoss`, `evalAccuracy`…
    pub metrics: Vec<Metric>,
}

impl Facts {
    /// The base as people know it: its repository, else the name of its directory or file.
    pub fn base_name(&self) -> String {
        self.base
            .as_ref()
            .map_or_else(|| file_name(&self.base_path), |pin| pin.repo.clone())
    }

    /// The dataset as people know it.
    pub fn dataset_name(&self) -> String {
        match (&self.dataset, &self.config.dataset.source) {
            (Some(pin), _) => pin.repo.clone(),
            (None, DatasetSource::Url(url)) => url.clone(),
            (None, _) => file_name(&self.dataset_path),
        }
    }

    /// Whether an adapter is published, and not whole weights.
    pub fn is_adapter(&self) -> bool {
        matches!(self.config.method, Method::Lora(_)) && !self.config.output.merge
    }

    /// A figure by name.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics
            .iter()
            .find(|metric| metric.name == name)
            .map(|metric| metric.value)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

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
    let license = base_license(files);
    let card = card::fresh(facts, license.as_ref())
        .map_err(|error| Failure::new(FailureReason::Internal, error.to_string()))?;
    for (name, text) in [
        ("training_config.yaml", settings),
        ("training_log.jsonl", log),
        (CARD, card),
    ] {
        let path = directory.join(name);
        fs::write(&path, text).map_err(io(&path))?;
    }
    let mut names: Vec<String> = fs::read_dir(directory)
        .map_err(io(directory))?
        .flatten()
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    Ok(Written {
        directory: directory.clone(),
        files: names,
    })
}

/// The licence that the base's card names.
fn base_license(files: &ModelFiles) -> Option<serde_json::Value> {
    let text = files.document(CARD).ok()??;
    slipway_hub::card::Card::parse(&text).ok()?.get("license")
}

/// Weights of the other kind, which an earlier run may have left in the repository: with both there, a reader
/// could not tell what the model is.
const OF_AN_ADAPTER: &[&str] = &["adapter_config.json", "adapter_model.safetensors"];
const OF_WHOLE_WEIGHTS: &[&str] = &["model.safetensors", "model.safetensors.index.json"];

/// Publishes the output directory as one commit. A card that is there keeps what people wrote.
pub fn publish(
    host: &Host,
    client: &Client,
    target: &OutputHub,
    written: &Written,
    facts: &Facts,
) -> Result<Published, Failure> {
    let failure = |error: slipway_hub::Error| error.failure(RepoType::Model);
    let repo = RepoId::model(&target.repo).map_err(failure)?;
    let summary = format!("Fine-tune {} on {}", facts.base_name(), facts.dataset_name());
    let stale = if facts.is_adapter() {
        OF_WHOLE_WEIGHTS
    } else {
        OF_AN_ADAPTER
    };
    host.wait(async {
        client.create_repo(&repo, target.private).await.map_err(failure)?;
        let change = |reader: slipway_hub::Reader| async move {
            let mut operations = Vec::new();
            for name in &written.files {
                let path = written.directory.join(name);
                if name != CARD {
                    operations.push(Operation::add_file(name.clone(), path));
                }
            }
            let text = fs::read_to_string(written.directory.join(CARD)).unwrap_or_default();
            // A card that cannot be edited safely is left as people wrote it.
            let card = match reader.read(CARD).await? {
                Some(existing) => std::str::from_utf8(&existing)
                    .ok()
                    .and_then(|existing| card::merged(existing, &text, facts).ok()),
                None => Some(text),
            };
            match card {
                Some(card) => operations.push(Operation::add(CARD, card)),
                None => host
                    .terminal
                    .say("warning: the repository's README.md has no valid front matter and stays as it is"),
            }
            for name in stale {
                if reader.read(name).await?.is_some() {
                    operations.push(Operation::delete(*name));
                }
            }
            Ok(operations)
        };
        let info = client
            .update(&repo, "main", &summary, target.pull_request, change)
            .await
            .map_err(failure)?;
        Ok(Published {
            repo: target.repo.clone(),
            commit: info.commit,
            url: info.pull_request_url.unwrap_or_else(|| client.url(&repo)),
        })
    })
}
