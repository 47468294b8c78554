//! From a configuration to a network with its training set, before any step is taken.

use candle_core::{DType, Device};
use slipway_contract::{
    Failure, FailureReason, Method, Objective, Phase, Precision, Task, TrainConfig, Validation,
};
use slipway_hub::Client;
use slipway_hub::source::{LocalDataset, LocalModel, Pin};
use slipway_model::tokenizer::Tokenizer;
use slipway_model::{Head, LoadOptions, Mode, ModelError, ModelFiles, Network};

use super::checkpoint::Fingerprint;
use super::corpus::{self, Corpora};
use crate::data::Layout;
use crate::host::Host;
use crate::output::check_license;

/// What a run trains, and on what.
#[derive(Debug)]
pub(super) struct Prepared {
    pub model: LocalModel,
    pub dataset: LocalDataset,
    pub files: ModelFiles,
    pub corpora: Corpora,
    pub network: Network,
    pub device: Device,
}

/// Refuses what cannot work whatever model and data are.
pub(super) fn check(config: &TrainConfig) -> Result<(), Failure> {
    let invalid = |message: String| Err(Failure::new(FailureReason::InvalidConfig, message));
    let hyper = &config.hyperparameters;
    if config.task == Task::Embedding {
        return invalid(
            "task Embedding is for serving only; train with task CausalLM or SequenceClassification".into(),
        );
    }
    if !(hyper.learning_rate.is_finite() && hyper.learning_rate >= 0.0) {
        return invalid(format!(
            "hyperparameters.learningRate is {}; set a number of at least 0, for instance 0.0002",
            hyper.learning_rate
        ));
    }
    if hyper.max_steps.is_none() && !(hyper.epochs.is_finite() && hyper.epochs > 0.0) {
        return invalid(format!(
            "hyperparameters.epochs is {}; set a number above 0, or maxSteps",
            hyper.epochs
        ));
    }
    for (name, value) in [
        ("batchSize", u64::from(hyper.batch_size)),
        (
            "gradientAccumulationSteps",
            u64::from(hyper.gradient_accumulation_steps),
        ),
        ("maxSequenceLength", u64::from(hyper.max_sequence_length)),
        ("maxSteps", hyper.max_steps.unwrap_or(1)),
    ] {
        if value == 0 {
            return invalid(format!("hyperparameters.{name} is 0; set it to at least 1"));
        }
    }
    if config.checkpoint.every_steps == 0 || config.evaluation.every_steps == Some(0) {
        return invalid("everySteps is 0; set it to at least 1".into());
    }
    if let Some(Validation::Fraction(fraction)) = config.dataset.validation
        && !(fraction > 0.0 && fraction <= 0.5)
    {
        return invalid(format!(
            "dataset.validation.fraction is {fraction}; set it above 0 and up to 0.5"
        ));
    }
    let Objective::Sft(sft) = &config.objective;
    if sft.packing && config.task != Task::CausalLM {
        return invalid(format!(
            "objective.sft.packing is for task CausalLM only; leave it out for {:?}",
            config.task
        ));
    }
    Ok(())
}

/// Fetches model and data, tokenizes, and builds the network.
pub(super) fn prepare(config: &TrainConfig, host: &Host, client: &Client) -> Result<Prepared, Failure> {
    let model = host.fetch_model(&config.model, client)?;
    if model.adapter.is_some() && matches!(config.method, Method::Lora(_)) && !config.output.merge {
        return Err(Failure::new(
            FailureReason::InvalidConfig,
            "the model to start from is an adapter, and an adapter of an adapter has no base to name; set output.merge: true, use method full, or start from the adapter's base",
        ));
    }
    check_license(config, &model, host, client)?;
    let dataset = host.fetch_dataset(&config.dataset.source, client)?;
    host.board.update(|progress| progress.phase = Phase::Tokenizing);
    host.terminal.say("reading and tokenizing the data");
    let files = ModelFiles::open(&model.base).map_err(|error| error.failure())?;
    let tokenizer = Tokenizer::of(&files).map_err(|error| corpus::tokenizer_failure(&error))?;
    let corpora = corpus::load(config, &Layout::open(&dataset.path)?, &tokenizer)?;
    corpora
        .notes
        .iter()
        .for_each(|note| host.terminal.say(&format!("note: {note}")));
    if config.evaluation.early_stopping.is_some() && corpora.validation.is_none() {
        return Err(Failure::new(
            FailureReason::InvalidConfig,
            "evaluation.earlyStopping needs held-out examples; set dataset.validation to a fraction or a split",
        ));
    }
    host.stop.check()?;
    let device = slipway_model::device().map_err(|error| error.failure())?;
    let network = network(config, &model, &files, &corpora, &device)?;
    Ok(Prepared {
        model,
        dataset,
        files,
        corpora,
        network,
        device,
    })
}

fn network(
    config: &TrainConfig,
    model: &LocalModel,
    files: &ModelFiles,
    corpora: &Corpora,
    device: &Device,
) -> Result<Network, Failure> {
    let head = match config.task {
        Task::SequenceClassification => Head::SequenceClassification {
            labels: corpora.labels.clone(),
        },
        Task::CausalLM | Task::Embedding => Head::CausalLm,
    };
    let Precision::F32 = config.hyperparameters.precision;
    let seed = config.hyperparameters.seed;
    let options = LoadOptions {
        device: device.clone(),
        dtype: DType::F32,
        mode: Mode::Train,
        seed,
        head_from_adapter: false,
    };
    let build = || -> Result<Network, ModelError> {
        let mut network = Network::load(files, head, options)?;
        if let Some(adapter) = &model.adapter {
            let id = network.add_adapter("base", adapter)?;
            network.merge_adapter(Some(id))?;
        }
        match &config.method {
            Method::Full(_) => network.unfreeze()?,
            Method::Lora(lora) => network.attach_lora(lora, seed)?,
        }
        Ok(network)
    };
    let network = build().map_err(|error| error.failure())?;
    let (asked, limit) = (
        config.hyperparameters.max_sequence_length as usize,
        network.max_sequence_length(),
    );
    if asked > limit {
        return Err(Failure::new(
            FailureReason::SequenceTooLong,
            format!(
                "hyperparameters.maxSequenceLength is {asked}, but the model can attend to {limit} tokens; set it to at most {limit}"
            ),
        ));
    }
    Ok(network)
}

/// What a checkpoint and every worker of this run must share.
pub(super) fn fingerprint(config: &TrainConfig, prepared: &Prepared) -> Fingerprint {
    let hyper = &config.hyperparameters;
    let pin = |pin: &Option<Pin>| pin.as_ref().map(|pin| format!("{}@{}", pin.repo, pin.commit));
    let entries = [
        // A local model is known by its path: hashing its weights would cost more than it tells.
        (
            "model",
            pin(&prepared.model.identity).unwrap_or_else(|| prepared.model.base.display().to_string()),
        ),
        (
            "dataset",
            pin(&prepared.dataset.identity).unwrap_or_else(|| "local".into()),
        ),
        (
            "examples (SHA-256 of their tokens)",
            prepared.corpora.training.digest(),
        ),
        ("task", json(&config.task)),
        ("method", json(&config.method)),
        ("objective", json(&config.objective)),
        ("batchSize", hyper.batch_size.to_string()),
        (
            "gradientAccumulationSteps",
            hyper.gradient_accumulation_steps.to_string(),
        ),
        ("maxSequenceLength", hyper.max_sequence_length.to_string()),
        ("precision", json(&hyper.precision)),
        ("seed", hyper.seed.to_string()),
        ("workers.count", config.workers.count.to_string()),
    ];
    entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
