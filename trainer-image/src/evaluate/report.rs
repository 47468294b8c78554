//! What a person gets: a table, and one line for each prediction.

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use serde_json::{Map, Value, json};
use slipway_contract::{EvalOutcome, Failure, FailureReason};

use super::examples::Examples;
use super::measure::Observations;
use super::record::metric_name;
use super::{Measured, shown};

/// Results, comparison and verdict as lines of text.
pub(super) fn table(outcome: &EvalOutcome) -> String {
    let mut text = format!(
        "{:<22} {:>10}  {:<23} {:>8}\n",
        "metric", "value", "confidence interval", "examples"
    );
    for result in &outcome.results {
        let interval = result.confidence_interval;
        let _ = writeln!(
            text,
            "{:<22} {:>10.4}  {:<23} {:>8}",
            metric_name(result),
            result.value,
            format!("{:.4} to {:.4}", interval.low, interval.high),
            result.examples
        );
    }
    if let Some(comparison) = &outcome.comparison {
        let interval = comparison.confidence_interval;
        let _ = writeln!(
            text,
            "{:<22} {:>+10.4}  {:<23} baseline {:.4}",
            format!("{} difference", comparison.metric.as_str()),
            comparison.difference,
            format!("{:+.4} to {:+.4}", interval.low, interval.high),
            comparison.baseline_value
        );
    }
    for finding in &outcome.findings {
        let _ = writeln!(text, "{finding}");
    }
    let _ = writeln!(text, "verdict: {:?}", outcome.verdict);
    if let Some(record) = &outcome.record {
        let _ = writeln!(text, "recorded: {}", record.url);
    }
    text
}

/// Writes one JSON object a line: what was asked, what is right, and what the models said.
pub(super) fn predictions(
    path: &Path,
    examples: &Examples,
    target: &Measured,
    baseline: Option<&Measured>,
) -> Result<(), Failure> {
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
    let mut file = BufWriter::new(std::fs::File::create(path).map_err(failed)?);
    for (index, example) in examples.items.iter().enumerate() {
        let mut line = Map::new();
        line.insert("index".into(), json!(index));
        if let Some(text) = shown(example) {
            line.insert("text".into(), json!(text));
        }
        said(&mut line, target, index);
        if let Some(baseline) = baseline {
            let mut theirs = Map::new();
            said(&mut theirs, baseline, index);
            line.insert("baseline".into(), Value::Object(theirs));
        }
        serde_json::to_writer(&mut file, &line).map_err(|error| failed(error.into()))?;
        file.write_all(b"\n").map_err(failed)?;
    }
    file.flush().map_err(failed)
}

fn said(line: &mut Map<String, Value>, model: &Measured, index: usize) {
    let mut set = |name: &str, value: Value| line.insert(name.to_owned(), value);
    match &model.observations {
        Observations::Classes { pairs, .. } => {
            let (truth, found) = pairs[index];
            let scores = &model.answers[index].scores;
            set("label", json!(model.names[truth as usize]));
            set("prediction", json!(model.names[found as usize]));
            set("score", json!(scores[found as usize]));
            let named = model
                .names
                .iter()
                .cloned()
                .zip(scores.iter().map(|score| json!(score)));
            set("scores", Value::Object(named.collect()));
        }
        Observations::Language { likelihoods, .. } => {
            if let Some(one) = likelihoods.get(index) {
                set("negativeLogLikelihood", json!(one.nats));
                set("tokens", json!(one.tokens));
                set("bytes", json!(one.bytes));
            }
            if let Some(one) = model.spoken.get(index) {
                set("answer", json!(one.answer));
                set("reference", json!(one.reference));
            }
        }
    }
}
