//! Whether a run's figures are still where the reference run's were. Pure: no client, no clock.
//!
//! A metric has moved when its interval and the reference's have no point in common. Asking only whether the new value
//! is outside the reference's interval would raise a false alarm in about every sixth run on fresh examples, since
//! the reference is itself one draw; of two disjoint 95 % intervals chance makes one in about 180.

use slipway_contract::MetricResult;

use crate::crd::{Answering, ResolvedSource, RunRecord};

/// A metric that moved.
#[derive(Clone, Copy, Debug)]
pub struct Moved<'a> {
    /// Where it was.
    pub before: &'a MetricResult,
    /// Where it is.
    pub after: &'a MetricResult,
}

/// The metrics of `run` that have left the intervals of `reference`.
pub fn moved<'a>(reference: &'a RunRecord, run: &'a RunRecord) -> Vec<Moved<'a>> {
    let find = |after: &'a MetricResult| {
        let before = reference
            .results
            .iter()
            .find(|before| before.metric == after.metric && before.average == after.average)?;
        let (old, new) = (before.confidence_interval, after.confidence_interval);
        (new.high < old.low || new.low > old.high).then_some(Moved { before, after })
    };
    run.results.iter().filter_map(find).collect()
}

/// What moved by how much, and what else is not as it was, in one sentence.
pub fn sentence(moved: &[Moved<'_>], reference: &RunRecord, run: &RunRecord) -> String {
    let figures: Vec<String> = moved.iter().map(describe).collect();
    let changes = changes(reference, run);
    let since = if changes.is_empty() {
        "model and data are those of the reference".to_owned()
    } else {
        format!("since the reference {}", changes.join(", "))
    };
    format!(
        "{} in the reference run of {}; {since}",
        figures.join("; "),
        reference.scheduled_time.0
    )
}

fn describe(Moved { before, after }: &Moved<'_>) -> String {
    let word = if after.value < before.value {
        "fell"
    } else {
        "rose"
    };
    format!(
        "{} {word} to {} from {}",
        after.metric.as_str(),
        figure(after),
        figure(before)
    )
}

fn figure(result: &MetricResult) -> String {
    let interval = result.confidence_interval;
    format!(
        "{:.4} [{:.4}, {:.4}] (n = {})",
        result.value, interval.low, interval.high, result.examples
    )
}

/// What of the model and the data is not what the reference run met.
fn changes(reference: &RunRecord, run: &RunRecord) -> Vec<String> {
    let mut found = Vec::new();
    for after in &run.answering {
        let before = reference
            .answering
            .iter()
            .find(|before| before.variant == after.variant);
        match before {
            Some(before) if before.revision == after.revision => {}
            Some(before) => found.push(format!(
                "variant {} went from revision {} to {}",
                after.variant, before.revision, after.revision
            )),
            None => found.push(format!(
                "variant {} came with revision {}",
                after.variant, after.revision
            )),
        }
    }
    let gone = |before: &&Answering| !run.answering.iter().any(|after| after.variant == before.variant);
    for before in reference.answering.iter().filter(gone) {
        found.push(format!("variant {} went", before.variant));
    }
    for (name, before, after) in [
        ("the model", &reference.target, &run.target),
        ("the dataset", &reference.dataset, &run.dataset),
    ] {
        if before != after {
            found.push(format!(
                "{name} went from {} to {}",
                place(before.as_ref()),
                place(after.as_ref())
            ));
        }
    }
    found
}

fn place(source: Option<&ResolvedSource>) -> String {
    let Some(source) = source else {
        return "none".into();
    };
    if let Some(commit) = &source.commit {
        return format!("commit {}", commit.get(..12).unwrap_or(commit));
    }
    match (&source.claim, &source.path) {
        (Some(claim), Some(path)) => format!("{claim}/{path}"),
        (Some(claim), None) => claim.clone(),
        (None, _) => "a source without commits".into(),
    }
}
