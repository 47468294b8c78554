//! What was said about each example: a file of JSON lines or Parquet, and a dataset repository with a card.

mod table;

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};
use slipway_contract::{CardCommit, EvalTarget, Failure, FailureReason, PredictionsHub};
use slipway_hub::card::Card;
use slipway_hub::source::Pin;
use slipway_hub::{Client, Operation, Reader, RepoId, RepoType};

use super::examples::{Examples, Items};
use super::measure::Observations;
use super::{Measured, Question};
use crate::host::Host;

const CARD: &str = "README.md";

/// One row for each example: what was asked, what is right, and what the models said.
pub(super) fn rows(
    examples: &Examples,
    target: &Measured,
    baseline: Option<&Measured>,
) -> Vec<Map<String, Value>> {
    (0..examples.len())
        .map(|index| {
            let mut row = Map::new();
            row.insert("index".into(), json!(index));
            if let Some(text) = examples.shown(index) {
                row.insert("text".into(), json!(text));
            }
            said(&mut row, examples, target, index);
            if let Some(baseline) = baseline {
                let mut theirs = Map::new();
                said(&mut theirs, examples, baseline, index);
                row.insert("baseline".into(), Value::Object(theirs));
            }
            row
        })
        .collect()
}

fn said(row: &mut Map<String, Value>, examples: &Examples, model: &Measured, index: usize) {
    let mut set = |name: &str, value: Value| row.insert(name.to_owned(), value);
    match &model.observations {
        Observations::Classes { pairs, .. } => {
            let (truth, found) = pairs[index];
            let scores = &model.answers[index].scores;
            set("prediction", json!(model.names[found as usize]));
            set("reference", json!(model.names[truth as usize]));
            set("score", json!(scores[found as usize]));
            let named = model
                .names
                .iter()
                .cloned()
                .zip(scores.iter().map(|score| json!(score)));
            set("scores", Value::Object(named.collect()));
        }
        Observations::Language { likelihoods, .. } => {
            if let Some(one) = model.spoken.get(index) {
                set("prediction", json!(one.answer));
                set("reference", json!(one.reference));
            }
            if let Some(one) = likelihoods.get(index) {
                set("negativeLogLikelihood", json!(one.nats));
                set("tokens", json!(one.tokens));
                set("bytes", json!(one.bytes));
            }
        }
        Observations::Choices(each) => {
            let one = &each[index];
            if let Items::Choices { questions, .. } = &examples.items {
                let choices = &questions[index].choices;
                set("prediction", json!(choices[one.choice]));
                set("predictionNorm", json!(choices[one.normalised]));
                set("reference", json!(choices[one.right]));
                set("choices", json!(choices));
            }
            set("logLikelihoods", json!(one.likelihoods));
        }
        Observations::Numbers { truth, found } => {
            set("prediction", json!(found[index]));
            set("reference", json!(truth[index]));
        }
        Observations::Rankings(each) => {
            let ranks = each[index].hits.iter().enumerate().filter(|(_, hit)| **hit);
            set("relevant", json!(each[index].relevant));
            set(
                "relevantRanks",
                json!(ranks.map(|(rank, _)| rank + 1).collect::<Vec<_>>()),
            );
        }
    }
}

/// Writes `rows` to `path`: Parquet where it ends so, else one JSON object a line.
pub(super) fn write(path: &Path, rows: &[Map<String, Value>]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let reason = match error.kind() {
            std::io::ErrorKind::StorageFull => FailureReason::OutOfDisk,
            _ => FailureReason::InvalidConfig,
        };
        Failure::new(
            reason,
            format!(
                "failed to write the predictions {}: {error}; set predictions to a file that can be written",
                path.display()
            ),
        )
    };
    let bytes = if path
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"))
    {
        parquet(rows)?
    } else {
        let mut lines = String::new();
        for row in rows {
            let _ = writeln!(lines, "{}", json!(row));
        }
        lines.into_bytes()
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    // A reader never meets half a file, nor does a failed retry destroy a whole one.
    let mut half = path.as_os_str().to_owned();
    half.push(".part");
    std::fs::write(&half, bytes).map_err(failed)?;
    std::fs::rename(&half, path).map_err(failed)
}

fn parquet(rows: &[Map<String, Value>]) -> Result<Vec<u8>, Failure> {
    table::parquet(rows).map_err(|error| {
        Failure::new(
            FailureReason::Internal,
            format!("failed to encode the predictions: {error}"),
        )
    })
}

/// What the predictions are of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub question: &'a Question<'a>,
    pub dataset: Option<&'a Pin>,
    pub model: Option<&'a Pin>,
}

/// Commits `rows` to the dataset repository `target`, under a name for the run, with a configuration of that name in its
/// card. Other configurations and a person's prose stay; the same rows again make no commit.
pub(super) fn publish(
    target: &PredictionsHub,
    rows: &[Map<String, Value>],
    facts: Facts<'_>,
    host: &Host,
    client: &Client,
) -> Result<CardCommit, Failure> {
    let failed = |error: slipway_hub::Error| error.failure(RepoType::Dataset);
    let repo = RepoId::dataset(&target.repo).map_err(failed)?;
    let bytes = parquet(rows)?;
    let columns: Vec<&str> = rows
        .first()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    let run = run_name(facts.question);
    let split = &facts.question.examples.split;
    let file = format!("{run}/{split}-00000-of-00001.parquet");
    let (bytes, columns, run, file) = (&bytes, &columns, &run, &file);
    let done = host.wait(async {
        client.create_repo(&repo, target.private).await.map_err(failed)?;
        let change = |reader: Reader| async move {
            let old = reader.read(CARD).await?;
            let mut operations = vec![Operation::add(file.as_str(), bytes.clone())];
            // A card that is no UTF-8 is left as it is.
            if let Ok(old) = old.as_ref().map_or(Ok(""), |old| std::str::from_utf8(old)) {
                let card = card(old, run, split, file, columns, facts)?;
                operations.push(Operation::add(CARD, card));
            }
            Ok(operations)
        };
        let summary = format!("Keep the predictions of {run}");
        client
            .update(&repo, "main", &summary, false, change)
            .await
            .map_err(failed)
    })?;
    Ok(CardCommit {
        repo: target.repo.clone(),
        commit: done.commit,
        url: client.url(&repo),
    })
}

/// The run's name: the object's without its namespace, in characters that paths and configurations may have.
fn run_name(question: &Question<'_>) -> String {
    let name = question
        .config
        .provenance
        .name
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    if plain.is_empty() {
        "predictions".into()
    } else {
        plain
    }
}

/// The card with a configuration for the run; without a card, one that says what the data are.
fn card(
    old: &str,
    run: &str,
    split: &str,
    file: &str,
    columns: &[&str],
    facts: Facts<'_>,
) -> Result<String, slipway_hub::card::CardError> {
    let mut card = Card::parse(old)?;
    let mut configs = match card.get("configs") {
        Some(Value::Array(configs)) => configs,
        _ => Vec::new(),
    };
    configs.retain(|config| config["config_name"] != run);
    configs.push(json!({ "config_name": run, "data_files": [{ "split": split, "path": file }] }));
    configs.sort_by(|a, b| a["config_name"].as_str().cmp(&b["config_name"].as_str()));
    card.set("configs", &Value::Array(configs))?;
    card.extend("tags", &["predictions"])?;
    if card.body().trim().is_empty() {
        card.set_body(&prose(columns, facts));
    }
    Ok(card.to_string())
}

fn prose(columns: &[&str], facts: Facts<'_>) -> String {
    let at = |pin: &Pin| format!("{} at commit {}", pin.repo, pin.commit);
    let config = facts.question.config;
    let model = match (&config.target, facts.model) {
        (_, Some(pin)) => at(pin),
        (EvalTarget::Endpoint { url, .. }, None) => url.clone(),
        (EvalTarget::Model(_), None) => "a model that is on no Hub".into(),
    };
    let data = facts
        .dataset
        .map_or_else(|| "a dataset that is on no Hub".into(), at);
    let columns: Vec<String> = columns.iter().map(|name| format!("`{name}`")).collect();
    format!(
        "\n# Predictions\n\nWhat a model said to each example of an evaluation, one configuration a run. The first run, of task \
         {}, measured {model} on {data}.\n\nColumns of that run: {}. `index` is the example's place in its split, from 0.\n",
        config.task.as_str(),
        columns.join(", ")
    )
}
