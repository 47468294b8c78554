//! What a training run was: everything its card says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use slipway_contract::{ConfidenceInterval, DatasetSource, Method, Metric, Task, TrainConfig};
use slipway_hub::license::License;
use slipway_hub::source::Pin;

use super::curve::{self, Point};
use super::hardware::Hardware;

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
    /// What one worker computed on.
    pub hardware: Hardware,
    /// Whether the tokenizer renders conversations.
    pub chat: bool,
    /// What the base's card says about its licence.
    pub license: License,
    /// What the dataset's card says about its licence.
    pub dataset_license: License,
    /// The Hub's address, for links.
    pub endpoint: String,
    /// Optimizer steps taken.
    pub steps: u64,
    /// Passes over the data.
    pub epochs: f64,
    /// The step whose weights are published, when early stopping chose it.
    pub best_step: Option<u64>,
    /// Tokens learned from.
    pub tokens: u64,
    /// Seconds of optimizer steps, over every restart.
    pub seconds: f64,
    /// Seconds from the start, evaluation and checkpoints included, time between restarts not.
    pub elapsed: f64,
    /// `loss`, `evalLoss`, `evalAccuracy`…
    pub metrics: Vec<Metric>,
    /// Their 95 % intervals, by the same names, where there is one.
    pub intervals: BTreeMap<String, ConfidenceInterval>,
    /// The course of the loss.
    pub course: Vec<Point>,
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

    /// The course of the loss as an SVG; `None` for a run of a single step.
    pub(super) fn curve(&self) -> Option<String> {
        let unit = match self.config.task {
            Task::CausalLM => "token",
            _ => "example",
        };
        curve::svg(&self.course, unit, self.best_step)
    }

    /// Where the text of the base's licence is.
    pub(super) fn license_link(&self) -> Option<String> {
        self.link(&self.license, self.base.as_ref(), "")
    }

    /// Where the text of the dataset's licence is.
    pub(super) fn dataset_license_link(&self) -> Option<String> {
        self.link(&self.dataset_license, self.dataset.as_ref(), "datasets/")
    }

    /// An address as the card gives it; a path is one within its repository, at the commit that was used.
    fn link(&self, license: &License, pin: Option<&Pin>, prefix: &str) -> Option<String> {
        let link = license.link.as_deref()?;
        if link.starts_with("https://") || link.starts_with("http://") {
            return Some(link.to_owned());
        }
        let Pin { repo, commit } = pin?;
        let path = link.trim_start_matches(['.', '/']);
        Some(format!("{}/{prefix}{repo}/blob/{commit}/{path}", self.endpoint))
    }

    /// A figure by name.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics
            .iter()
            .find(|metric| metric.name == name)
            .map(|metric| metric.value)
    }
}

/// The licence that the card beside local files states; none where there is no card.
pub fn local_license(directory: &Path) -> License {
    std::fs::read_to_string(directory.join("README.md"))
        .map_or_else(|_| License::default(), |text| License::of_card(&text))
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}
