//! Writing results down: in a model card's `model-index` and in `.eval_results/`.

use std::sync::{Mutex, PoisonError};

use jiff::civil::Date;
use slipway_contract::{
    CardCommit, DatasetSource, EvalConfig, Failure, MetricName, MetricResult, ModelCardRecord,
};
use slipway_hub::card::{Card, EvalEntry, EvalResult, eval_results_yaml};
use slipway_hub::source::Pin;
use slipway_hub::{Client, Error, Operation, RepoId, RepoType};

use crate::host::Host;
use crate::identity::run_id;

const CARD: &str = "README.md";

/// What was measured, and on what.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    pub config: &'a EvalConfig,
    pub split: &'a str,
    /// Worked examples shown before each question.
    pub shots: usize,
    pub dataset: Option<&'a Pin>,
    pub model: Option<&'a Pin>,
    pub results: &'a [MetricResult],
    pub today: Date,
}

/// Where the results were written down.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// The commit or pull request; none where there was nothing that could be written to.
    pub commit: Option<CardCommit>,
    /// What was left alone, one sentence each.
    pub notes: Vec<String>,
}

/// Commits the results to the card of `record.repo`, or opens a pull request. Repeating it with the same results
/// changes nothing and makes no commit, and a run that is repeated finds the pull request it opened. A file that
/// cannot be edited stays as it is: the results stand all the same.
pub(super) fn record(
    record: &ModelCardRecord,
    facts: &Facts<'_>,
    host: &Host,
    client: &Client,
) -> Result<Recorded, Failure> {
    let failed = |error: Error| error.failure(RepoType::Model);
    let repo = RepoId::new(RepoType::Model, &record.repo).map_err(failed)?;
    let file = format!(".eval_results/{}.yaml", slug(&dataset_id(facts)));
    let notes = Mutex::new(Vec::new());
    let (file, name) = (&file, &repo.name);
    let done = host.wait(async {
        let change = |reader: slipway_hub::Reader| {
            let notes = &notes;
            async move {
                let (operations, left) = edits(
                    facts,
                    name,
                    file,
                    reader.read(CARD).await?.as_deref(),
                    reader.read(file).await?.as_deref(),
                );
                *notes.lock().unwrap_or_else(PoisonError::into_inner) = left;
                Ok(operations)
            }
        };
        let summary = format!("Record evaluation on {}", dataset_id(facts));
        let done = if record.pull_request {
            let run = run_id(&facts.config.provenance, facts.config);
            client.propose(&repo, "main", &summary, &run, change).await
        } else {
            client.update(&repo, "main", &summary, false, change).await
        };
        done.map_err(failed)
    })?;
    let notes = notes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let files = 1 + usize::from(!entries(facts).is_empty());
    Ok(Recorded {
        commit: (notes.len() < files).then(|| CardCommit {
            repo: record.repo.clone(),
            commit: done.commit,
            url: done.pull_request_url.unwrap_or(done.url),
        }),
        notes,
    })
}

/// The results merged into the card and into the file beside it, and why one of them is left alone. Pure.
fn edits(
    facts: &Facts<'_>,
    name: &str,
    file: &str,
    card: Option<&[u8]>,
    beside: Option<&[u8]>,
) -> (Vec<Operation>, Vec<String>) {
    let (mut operations, mut notes) = (Vec::new(), Vec::new());
    let merged = Card::from_bytes(card.unwrap_or_default()).and_then(|mut card| {
        card.merge_model_index(name, &index_results(facts))?;
        Ok(card.to_string())
    });
    match merged {
        Ok(text) => operations.push(Operation::add(CARD, text)),
        Err(error) => notes.push(error.to_string()),
    }
    let entries = entries(facts);
    if !entries.is_empty() {
        let old = beside.map(std::str::from_utf8).transpose();
        let merged = old
            .map_err(|error| error.to_string())
            .and_then(|old| eval_results_yaml(old, &entries).map_err(|error| error.to_string()));
        match merged {
            Ok(text) => operations.push(Operation::add(file, text)),
            Err(error) => notes.push(format!("{file} is left as it is: {error}")),
        }
    }
    (operations, notes)
}

/// The dataset as people know it: its repository, else its file or address.
fn dataset_id(facts: &Facts<'_>) -> String {
    match (facts.dataset, &facts.config.dataset.source) {
        (Some(pin), _) => pin.repo.clone(),
        (None, DatasetSource::Hub(hub)) => hub.repo.clone(),
        (None, DatasetSource::Url(url)) => url.clone(),
        (None, DatasetSource::Path(path)) => path.file_name().map_or_else(
            || path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        ),
    }
}

fn index_results(facts: &Facts<'_>) -> Vec<EvalResult> {
    let id = dataset_id(facts);
    facts
        .results
        .iter()
        .map(|result| EvalResult {
            task_type: facts.config.task.card_type().into(),
            dataset_type: id.clone(),
            dataset_name: id.clone(),
            dataset_split: Some(facts.split.to_owned()),
            dataset_revision: facts.dataset.map(|pin| pin.commit.clone()),
            metric_type: result.metric.card_type().into(),
            // What was measured otherwise is another result.
            metric_name: Some(match facts.shots {
                0 => metric_name(result),
                shots => format!("{}, {shots}-shot", metric_name(result)),
            }),
            value: rounded(result.value),
            source: None,
        })
        .collect()
}

/// Entries of `.eval_results/` name datasets of a Hub only.
fn entries(facts: &Facts<'_>) -> Vec<EvalEntry> {
    let Some(dataset) = facts.dataset else {
        return Vec::new();
    };
    let model = facts
        .model
        .map_or(String::new(), |pin| format!("{} at {}; ", pin.repo, pin.commit));
    facts
        .results
        .iter()
        .map(|result| EvalEntry {
            dataset_id: dataset.repo.clone(),
            task_id: task_id(facts, result),
            revision: Some(dataset.commit.clone()),
            value: rounded(result.value),
            date: Some(facts.today.to_string()),
            source: None,
            notes: Some(format!(
                "{model}split {}, {} examples, {} % confidence interval {:.4} to {:.4}",
                facts.split,
                result.examples,
                rounded(100.0 * facts.config.confidence),
                result.confidence_interval.low,
                result.confidence_interval.high
            )),
        })
        .collect()
}

/// Six digits: more would suggest what no test set can tell.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// For people, for instance `F1 (macro)`.
pub(super) fn metric_name(result: &MetricResult) -> String {
    let name = match result.metric {
        MetricName::Accuracy | MetricName::Acc => "Accuracy",
        MetricName::Precision => "Precision",
        MetricName::Recall => "Recall",
        MetricName::F1 => "F1",
        MetricName::MatthewsCorrelation => "Matthews correlation",
        MetricName::RocAuc => "ROC AUC",
        MetricName::Perplexity => "Perplexity",
        MetricName::BitsPerByte => "Bits per byte",
        MetricName::ExactMatch => "Exact match",
        MetricName::SquadF1 => "SQuAD F1",
        MetricName::Bleu => "BLEU",
        MetricName::Sacrebleu => "sacreBLEU",
        MetricName::Chrf => "chrF",
        MetricName::Ter => "TER",
        MetricName::Rouge1 => "ROUGE-1",
        MetricName::Rouge2 => "ROUGE-2",
        MetricName::RougeL => "ROUGE-L",
        MetricName::RougeLsum => "ROUGE-Lsum",
        MetricName::Meteor => "METEOR",
        MetricName::Mse => "MSE",
        MetricName::Rmse => "RMSE",
        MetricName::Mae => "MAE",
        MetricName::R2 => "R²",
        MetricName::Pearson => "Pearson",
        MetricName::Spearman => "Spearman",
        MetricName::AccNorm => "Normalised accuracy",
        MetricName::RecallAt1 => "Recall@1",
        MetricName::RecallAt5 => "Recall@5",
        MetricName::RecallAt10 => "Recall@10",
        MetricName::RecallAt100 => "Recall@100",
        MetricName::NdcgAt10 => "nDCG@10",
        MetricName::MrrAt10 => "MRR@10",
    };
    result
        .average
        .map_or_else(|| name.to_owned(), |kind| format!("{name} ({})", kind.as_str()))
}

fn task_id(facts: &Facts<'_>, result: &MetricResult) -> String {
    let mut id = format!("{}/{}", facts.split, result.metric.as_str());
    if let Some(kind) = result.average {
        id = format!("{id}_{}", kind.as_str());
    }
    if facts.shots > 0 {
        id = format!("{id}_{}shot", facts.shots);
    }
    id
}

fn slug(id: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '-'
        }
    };
    id.replace('/', "--")
        .chars()
        .map(plain)
        .collect::<String>()
        .trim_start_matches('.')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_with_and_without_worked_examples_stand_beside_each_other() {
        let config: EvalConfig = serde_json::from_value(serde_json::json!({
            "target": { "model": { "path": "model" } },
            "task": "MultipleChoice",
            "dataset": { "source": { "path": "data/rows.csv" } },
        }))
        .unwrap();
        let result: MetricResult = serde_json::from_value(serde_json::json!({
            "metric": "acc", "value": 0.5, "confidenceInterval": { "low": 0.4, "high": 0.6 }, "examples": 9,
        }))
        .unwrap();
        let said = |shots| {
            let facts = Facts {
                config: &config,
                split: "test",
                shots,
                dataset: None,
                model: None,
                results: std::slice::from_ref(&result),
                today: Date::constant(2026, 1, 1),
            };
            let name = index_results(&facts)[0].metric_name.clone();
            (name.unwrap(), task_id(&facts, &result))
        };
        assert_eq!(said(0), ("Accuracy".into(), "test/acc".into()));
        assert_eq!(said(5), ("Accuracy, 5-shot".into(), "test/acc_5shot".into()));
    }
}
