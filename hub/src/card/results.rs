//! Figures: in a card's `model-index` and in files of `.eval_results/`.

use serde_json::{Map, Value, json};

use super::edit::{Document, Step};
use super::{Card, CardError};

/// A figure for a model card: one metric on one split of one dataset. Those fields that are set, other than the
/// value, tell whether two results are the same measurement (as `metadata_update` of `huggingface_hub` does).
#[derive(Clone, Debug, PartialEq)]
pub struct EvalResult {
    /// For instance `text-classification`.
    pub task_type: String,
    /// Dataset id, for instance `acme/finance-tweets`.
    pub dataset_type: String,
    /// Dataset name for people.
    pub dataset_name: String,
    /// Split, for instance `test`.
    pub dataset_split: Option<String>,
    /// Commit of the dataset.
    pub dataset_revision: Option<String>,
    /// For instance `accuracy`.
    pub metric_type: String,
    /// Metric name for people, for instance `F1 (macro)`.
    pub metric_name: Option<String>,
    /// The value.
    pub value: f64,
    /// Who or what measured it.
    pub source: Option<Source>,
}

/// Where a figure comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// For people.
    pub name: String,
    /// An address a person can open.
    pub url: String,
}

/// One entry of a file in `.eval_results/`.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalEntry {
    /// Dataset id, for instance `acme/finance-tweets`.
    pub dataset_id: String,
    /// Task within the dataset, for instance `accuracy`.
    pub task_id: String,
    /// Commit of the dataset.
    pub revision: Option<String>,
    /// The value.
    pub value: f64,
    /// Day of the measurement, `YYYY-MM-DD`.
    pub date: Option<String>,
    /// Where the figure comes from.
    pub source: Option<Source>,
    /// For people: number of examples, interval.
    pub notes: Option<String>,
}

const INDEX: &str = "model-index";
const RESULTS: &str = "results";
const METRICS: &str = "metrics";
const VALUE: &str = "value";

impl EvalResult {
    /// Everything but the metric: what the metrics of one entry have in common.
    fn setting(&self) -> Map<String, Value> {
        let mut dataset = json!({"name": self.dataset_name, "type": self.dataset_type});
        set_some(&mut dataset, "split", self.dataset_split.as_ref());
        set_some(&mut dataset, "revision", self.dataset_revision.as_ref());
        let mut setting = Map::new();
        setting.insert("task".into(), json!({"type": self.task_type}));
        setting.insert("dataset".into(), dataset);
        if let Some(source) = &self.source {
            setting.insert("source".into(), source.to_value());
        }
        setting
    }

    fn metric(&self) -> Value {
        let mut metric = json!({"type": self.metric_type, "value": self.value});
        set_some(&mut metric, "name", self.metric_name.as_ref());
        metric
    }

    fn entry(&self) -> Value {
        let mut entry = self.setting();
        let source = entry.shift_remove("source");
        entry.insert(METRICS.into(), json!([self.metric()]));
        if let Some(source) = source {
            entry.insert("source".into(), source);
        }
        Value::Object(entry)
    }
}

impl Source {
    fn to_value(&self) -> Value {
        json!({"name": self.name, "url": self.url})
    }
}

fn set_some(value: &mut Value, key: &str, text: Option<&String>) {
    if let Some(text) = text {
        value[key] = json!(text);
    }
}

impl Card {
    /// Merges figures into `model-index` under the model `name` (or the one model that is there under another
    /// name): a figure measured before is replaced, a new one appended, all others stay; true when anything
    /// changed.
    pub fn merge_model_index(&mut self, name: &str, results: &[EvalResult]) -> Result<bool, CardError> {
        let mut changed = false;
        for result in results {
            finite(result.value)?;
            let mut document = self.document()?;
            if merge_one(&mut document, name, result)? {
                self.put_document(&document);
                changed = true;
            }
        }
        Ok(changed)
    }
}

fn merge_one(document: &mut Document, name: &str, result: &EvalResult) -> Result<bool, CardError> {
    let index = document.value().get(INDEX).cloned().unwrap_or(Value::Null);
    let fresh = || json!({"name": name, RESULTS: [result.entry()]});
    let models = match &index {
        Value::Null => &Vec::new(),
        Value::Array(models) => models,
        _ => return Err(shape("a list of models")),
    };
    if models.is_empty() {
        document.set(INDEX, &json!([fresh()]))?;
        return Ok(true);
    }
    let model = models.iter().position(|model| model["name"] == name);
    let model = model.or((models.len() == 1).then_some(0));
    let Some(model) = model else {
        document.append(&[Step::Key(INDEX)], &fresh())?;
        return Ok(true);
    };
    let to_results = vec![Step::Key(INDEX), Step::Item(model), Step::Key(RESULTS)];
    let known = match &models[model][RESULTS] {
        Value::Array(known) => known,
        Value::Null => {
            let mut models = models.clone();
            models[model][RESULTS] = json!([result.entry()]);
            document.set(INDEX, &Value::Array(models))?;
            return Ok(true);
        }
        _ => return Err(shape("a list of models with a list of results each")),
    };
    let setting = result.setting();
    let mut same_setting = None;
    let mut found = false;
    let mut stale = Vec::new();
    for (at, entry) in known.iter().enumerate() {
        if !same(entry, &setting) {
            continue;
        }
        let Some(metrics) = entry[METRICS].as_array() else {
            continue;
        };
        same_setting.get_or_insert(at);
        for (position, metric) in metrics.iter().enumerate() {
            if same_metric(metric, result) {
                found = true;
                if metric[VALUE].as_f64() != Some(result.value) {
                    stale.push((at, position));
                }
            }
        }
    }
    for &(at, position) in &stale {
        let mut path = to_results.clone();
        path.extend([
            Step::Item(at),
            Step::Key(METRICS),
            Step::Item(position),
            Step::Key(VALUE),
        ]);
        document.replace(&path, &json!(result.value))?;
    }
    if found {
        return Ok(!stale.is_empty());
    }
    match same_setting {
        Some(at) => {
            let mut path = to_results;
            path.extend([Step::Item(at), Step::Key(METRICS)]);
            document.append(&path, &result.metric())?;
        }
        None => document.append(&to_results, &result.entry())?,
    }
    Ok(true)
}

/// Whether an entry was measured in the same setting: task, dataset and source agree in every field, where an
/// absent field equals null.
fn same(entry: &Value, setting: &Map<String, Value>) -> bool {
    const FIELDS: [(&str, &[&str]); 3] = [
        ("task", &["type", "name"]),
        (
            "dataset",
            &["type", "name", "config", "split", "revision", "args"],
        ),
        ("source", &["name", "url"]),
    ];
    FIELDS.iter().all(|(group, fields)| {
        let ours = setting.get(*group).unwrap_or(&Value::Null);
        fields
            .iter()
            .all(|field| loosely_equal(&entry[*group][*field], &ours[*field]))
    })
}

fn same_metric(metric: &Value, result: &EvalResult) -> bool {
    let ours = result.metric();
    ["type", "name", "config", "args", "verified"]
        .iter()
        .all(|field| loosely_equal(&metric[*field], &ours[*field]))
}

/// A revision of digits alone, or a split named `no`, is no text to YAML where a person left the quotes out.
fn loosely_equal(theirs: &Value, ours: &Value) -> bool {
    match (theirs, ours) {
        (Value::Number(theirs), Value::String(ours)) => theirs.to_string() == *ours,
        _ => theirs == ours,
    }
}

fn finite(value: f64) -> Result<(), CardError> {
    if value.is_finite() {
        return Ok(());
    }
    Err(CardError::Shape {
        key: VALUE.into(),
        expected: "a finite number",
    })
}

fn shape(expected: &'static str) -> CardError {
    CardError::Shape {
        key: INDEX.into(),
        expected,
    }
}

impl EvalEntry {
    fn to_value(&self) -> Value {
        let mut dataset = json!({"id": self.dataset_id, "task_id": self.task_id});
        set_some(&mut dataset, "revision", self.revision.as_ref());
        let mut entry = json!({"dataset": dataset, "value": self.value});
        set_some(&mut entry, "date", self.date.as_ref());
        if let Some(source) = &self.source {
            entry["source"] = json!({"url": source.url, "name": source.name});
        }
        set_some(&mut entry, "notes", self.notes.as_ref());
        entry
    }
}

/// The text of a file in `.eval_results/` with `entries` merged into what it holds (`None`: no file yet). An
/// entry for the same dataset, task and source replaces the one before it; one with the same value too is left
/// as it is, date and all.
pub fn eval_results_yaml(existing: Option<&str>, entries: &[EvalEntry]) -> Result<String, CardError> {
    let text = existing.unwrap_or_default();
    let line_break = super::line_break(text);
    let mut document = Document::parse(text, line_break)?;
    for entry in entries {
        finite(entry.value)?;
        let new = entry.to_value();
        let known = match document.value() {
            Value::Null => Vec::new(),
            Value::Array(known) => known,
            _ => {
                return Err(CardError::Invalid {
                    message: "a file in .eval_results/ must be a list of results".into(),
                });
            }
        };
        let place = known.iter().position(|old| {
            ["id", "task_id", "revision"]
                .iter()
                .all(|field| loosely_equal(&old["dataset"][*field], &new["dataset"][*field]))
                && old["source"]["url"] == new["source"]["url"]
        });
        match place {
            Some(at) if known[at]["value"].as_f64() == Some(entry.value) => {}
            Some(at) => document.replace_item(&[Step::Item(at)], &new)?,
            None if known.is_empty() => {
                let text = super::render::after_key(&json!([new]), 0);
                let text = format!("{}\n", text.trim_start()).replace('\n', line_break);
                document = Document::parse(&format!("{}{text}", document.text()), line_break)?;
            }
            None => document.append(&[], &new)?,
        }
    }
    Ok(document.text().to_owned())
}
