//! Evaluation on held-out examples while training.

use candle_core::Device;
use serde::{Deserialize, Serialize};
use slipway_contract::{Failure, Metric};
use slipway_model::Network;

use super::compute::{failure, judge};
use super::corpus::{Corpus, Targets};
use super::spread::{Intervals, intervals};
use crate::stop::Stop;

/// What an evaluation found.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Scores {
    /// Mean over learned tokens or examples.
    pub loss: f64,
    /// Share of examples answered right (classification).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// F1, mean over classes (classification).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
    /// Examples it comes from.
    pub examples: u64,
    /// How far the figures may be off.
    #[serde(default)]
    pub intervals: Intervals,
}

impl Scores {
    /// As reported: `evalLoss`, `evalAccuracy`, `evalF1`.
    pub fn metrics(&self) -> Vec<Metric> {
        [
            ("evalLoss", Some(self.loss)),
            ("evalAccuracy", self.accuracy),
            ("evalF1", self.f1),
        ]
        .into_iter()
        .filter_map(|(name, value)| {
            Some(Metric {
                name: name.into(),
                value: value?,
            })
        })
        .collect()
    }
}

impl std::fmt::Display for Scores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "loss {:.4}", self.loss)?;
        if let (Some(accuracy), Some(f1)) = (self.accuracy, self.f1) {
            write!(f, ", accuracy {accuracy:.4}, f1 {f1:.4}")?;
        }
        write!(f, " on {} examples", self.examples)
    }
}

/// Evaluates `corpus`; None when a signal came before the end.
pub(super) fn evaluate(
    network: &mut Network,
    corpus: &Corpus,
    batch_size: usize,
    classes: usize,
    device: &Device,
    stop: &Stop,
) -> Result<Option<Scores>, Failure> {
    network.set_evaluation();
    let (mut loss, mut count) = (0.0, 0);
    let mut confusion = vec![0u64; classes * classes];
    let (mut sums, mut answers) = (Vec::new(), Vec::new());
    let rows: Vec<usize> = (0..corpus.rows()).collect();
    for chunk in rows.chunks(batch_size) {
        if stop.told() {
            return Ok(None);
        }
        let batch = corpus.batch(chunk);
        let judged = judge(network, &batch, device).map_err(|error| error.failure())?;
        let sum = f64::from(judged.loss.to_scalar::<f32>().map_err(failure)?);
        sums.push((sum, judged.count));
        loss += sum;
        count += judged.count;
        if let (Some(found), Targets::Classes(expected)) = (judged.classes, &batch.targets) {
            for (found, expected) in found.iter().zip(expected) {
                let answer = *expected as usize * classes + *found as usize;
                confusion[answer] += 1;
                answers.push(answer);
            }
        }
    }
    let classified = classes > 0;
    Ok(Some(Scores {
        loss: loss / count.max(1) as f64,
        accuracy: classified.then(|| accuracy(&confusion, classes)),
        f1: classified.then(|| macro_f1(&confusion, classes)),
        examples: corpus.examples() as u64,
        intervals: intervals(&sums, &answers, classes),
    }))
}

fn accuracy(confusion: &[u64], classes: usize) -> f64 {
    let right: u64 = (0..classes).map(|class| confusion[class * classes + class]).sum();
    right as f64 / confusion.iter().sum::<u64>().max(1) as f64
}

/// scikit-learn's `f1_score(average="macro")`: the mean over classes that occur in truth or prediction.
pub(super) fn macro_f1(confusion: &[u64], classes: usize) -> f64 {
    let scores: Vec<f64> = (0..classes)
        .filter_map(|class| {
            let right = confusion[class * classes + class];
            let expected: u64 = (0..classes).map(|other| confusion[class * classes + other]).sum();
            let found: u64 = (0..classes).map(|other| confusion[other * classes + class]).sum();
            (expected + found > 0).then(|| 2.0 * right as f64 / (expected + found) as f64)
        })
        .collect();
    scores.iter().sum::<f64>() / scores.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: scikit-learn on y_true = [0,0,0,1,1,2], y_pred = [0,0,1,1,2,2].
    #[test]
    fn accuracy_and_f1_are_those_of_scikit_learn() {
        let confusion = [2, 1, 0, 0, 1, 1, 0, 0, 1];
        assert!((accuracy(&confusion, 3) - 4.0 / 6.0).abs() < 1e-12);
        assert!((macro_f1(&confusion, 3) - (0.8 + 0.5 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn classes_that_never_occur_do_not_count() {
        assert!((macro_f1(&[2, 0, 0, 0, 1, 0, 0, 0, 0], 3) - 1.0).abs() < 1e-12);
    }
}
