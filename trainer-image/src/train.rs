//! `slipway-trainer train`: its steps in order.

mod adamw;
mod checkpoint;
mod compute;
mod corpus;
mod exact;
mod group;
mod packing;
mod plan;
mod prepare;
mod schedule;
mod session;
mod shown;
mod spread;
mod state;
mod stopping;
mod tensors;
mod validation;

use slipway_contract::{Failure, FailureReason, Method, Metric, Phase, Task, TrainConfig, TrainOutcome};
use slipway_model::ModelFiles;
use slipway_model::tokenizer::Tokenizer;

pub(crate) use self::compute::failure as compute_failure;
pub(crate) use self::corpus::{Encoder, chat_rejected, tokenizer_failure};
pub(crate) use self::shown::{Piece, Shown};

use self::checkpoint::Store;
use self::group::Group;
use self::prepare::{Prepared, check, fingerprint, prepare};
use self::session::Session;
use crate::host::Host;
use crate::output::{Facts, Hardware, Point, local_license, publish, write};

/// Trains as configured.
pub fn run(config: &TrainConfig) -> Result<TrainOutcome, Failure> {
    check(config)?;
    let host = Host::new(config.listen.as_deref())?;
    let outcome = train(config, &host);
    host.terminal.finish();
    if outcome.is_ok() {
        host.board.update(|progress| progress.phase = Phase::Done);
    }
    outcome
}

fn train(config: &TrainConfig, host: &Host) -> Result<TrainOutcome, Failure> {
    let client = host.client(&config.hub)?;
    let prepared = prepare(config, host, &client)?;
    let fingerprint = fingerprint(config, &prepared);
    let digest = serde_json::to_string(&fingerprint).unwrap_or_default();
    let group = Group::gather(&config.workers, rank()?, &digest, &host.stop)?;
    let store = if group.leads() {
        Some(Store::open(
            &config.checkpoint.directory,
            config.checkpoint.keep,
            fingerprint,
        )?)
    } else {
        None
    };
    let mut session = Session::new(host, config, prepared, group, store)?;
    session.resume()?;
    host.terminal.say(&session.summary());
    host.board.update(|progress| progress.phase = Phase::Training);
    session.run()?;
    let facts = facts(config, &session, client.endpoint());
    let mut outcome = TrainOutcome {
        steps: session.state.step,
        stopped_early: session.state.stopped_early,
        published: None,
        notes: Vec::new(),
        metrics: facts.metrics.clone(),
        last_checkpoint: host.board.now().last_checkpoint,
    };
    if !session.group.leads() {
        return Ok(outcome);
    }
    host.board.update(|progress| progress.phase = Phase::Publishing);
    let Session { prepared, state, .. } = session;
    let log = state
        .log
        .iter()
        .map(|line| serde_json::to_string(line).unwrap_or_default() + "\n")
        .collect();
    let Prepared {
        model,
        files,
        mut network,
        ..
    } = prepared;
    if config.output.merge && matches!(config.method, Method::Lora(_)) {
        network.merge_adapter(None).map_err(|error| error.failure())?;
    }
    let written = write(config, &network, &files, &model, &facts, log)?;
    host.terminal
        .say(&format!("wrote {}", config.output.directory.display()));
    if let Some(target) = &config.output.hub {
        let (published, note) = publish(host, &client, target, &written, &facts)?;
        host.terminal.say(&format!("published {}", published.url));
        if let Some(note) = &note {
            host.terminal.say(&format!("warning: {note}"));
        }
        outcome.published = Some(published);
        outcome.notes.extend(note);
    }
    Ok(outcome)
}

/// This worker's rank, by the variable that an Indexed Job sets.
fn rank() -> Result<usize, Failure> {
    match std::env::var("JOB_COMPLETION_INDEX") {
        Ok(text) => text.parse().map_err(|_| {
            Failure::new(
                FailureReason::InvalidConfig,
                format!("JOB_COMPLETION_INDEX is `{text}`, which is no number; set it to this worker's rank"),
            )
        }),
        Err(_) => Ok(0),
    }
}

/// What the card and the outcome say about the run.
fn facts(config: &TrainConfig, session: &Session<'_>, endpoint: &str) -> Facts {
    let Session { prepared, state, .. } = session;
    // With early stopping the weights are those of the best evaluation, and so are the figures.
    let evaluated = match &state.best.scores {
        Some((_, scores)) => Some(scores),
        None => state.evaluated.as_ref().map(|(_, scores)| scores),
    };
    let loss = state.log.iter().rev().find_map(|line| line.loss);
    let mut metrics: Vec<Metric> = loss
        .map(|value| Metric {
            name: "loss".into(),
            value,
        })
        .into_iter()
        .collect();
    metrics.extend(evaluated.map(validation::Scores::metrics).unwrap_or_default());
    let model = &prepared.model;
    // A single file of one's own stands beside anything.
    let base_folder = match (model.base.is_file(), &model.base_identity) {
        (true, Some(_)) => model.base.parent(),
        (true, None) => None,
        (false, _) => Some(model.base.as_path()),
    };
    Facts {
        config: config.clone(),
        base: prepared
            .model
            .base_identity
            .clone()
            .or_else(|| prepared.model.identity.clone()),
        base_path: prepared.model.base.clone(),
        dataset: prepared.dataset.identity.clone(),
        dataset_path: prepared.dataset.path.clone(),
        labels: prepared.corpora.labels.clone(),
        training_examples: prepared.corpora.training.examples() as u64,
        evaluation_examples: evaluated.map(|scores| scores.examples),
        trainable: session.trainable() as u64,
        hardware: Hardware::here(!prepared.device.is_cpu()),
        chat: config.task == Task::CausalLM && has_template(&prepared.files),
        license: base_folder.map(local_license).unwrap_or_default(),
        dataset_license: local_license(&prepared.dataset.path),
        endpoint: endpoint.to_owned(),
        steps: state.step,
        epochs: state.step as f64 / session.plan.steps_per_epoch as f64,
        best_step: state.best.scores.as_ref().map(|(step, _)| *step),
        tokens: state.tokens,
        seconds: state.seconds,
        elapsed: state.elapsed,
        metrics,
        intervals: evaluated
            .map(|scores| scores.intervals.0.clone())
            .unwrap_or_default(),
        course: state
            .log
            .iter()
            .map(|line| Point {
                step: line.step,
                loss: line.loss,
                evaluation: line.evaluation.as_ref().map(|scores| scores.loss),
            })
            .collect(),
    }
}

/// Whether the tokenizer renders conversations.
fn has_template(files: &ModelFiles) -> bool {
    Tokenizer::of(files).is_ok_and(|tokenizer| tokenizer.chat_template().is_some())
}
