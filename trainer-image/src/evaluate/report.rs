//! What a person gets: a table.

use std::fmt::Write as _;

use slipway_contract::EvalOutcome;

use super::record::metric_name;

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
    if let Some(predictions) = &outcome.predictions {
        let _ = writeln!(text, "predictions: {}", predictions.url);
    }
    text
}
