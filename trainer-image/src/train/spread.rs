//! How far the figures of an evaluation may be off: 95 % intervals. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use slipway_contract::ConfidenceInterval;

use super::validation::macro_f1;
use crate::metrics::{bootstrap, wilson};

const CONFIDENCE: f64 = 0.95;
/// Fewer batches say too little about how batches differ.
const BATCHES: usize = 10;

/// 95 % intervals of the figures of an evaluation, by the names they are reported under; those that could be computed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Intervals(pub BTreeMap<String, ConfidenceInterval>);

/// From the summed loss and the number of terms of each batch, and for each example `expected * classes + found`
/// (empty unless the task is classification).
pub(super) fn intervals(sums: &[(f64, u64)], answers: &[usize], classes: usize) -> Intervals {
    let mut found = BTreeMap::new();
    if sums.len() >= BATCHES {
        let mean = |drawn: &[u32]| {
            let (loss, count) = drawn.iter().fold((0.0, 0), |(loss, count), &batch| {
                let (sum, terms) = sums[batch as usize];
                (loss + sum, count + terms)
            });
            vec![loss / count as f64]
        };
        let interval = bootstrap(sums.len(), CONFIDENCE, mean).into_iter().flatten();
        found.extend(interval.map(|interval| ("evalLoss".to_owned(), interval)));
    }
    if !answers.is_empty() {
        let right = answers
            .iter()
            .filter(|answer| *answer % (classes + 1) == 0)
            .count() as u64;
        let interval = wilson(right, answers.len() as u64, CONFIDENCE);
        found.insert("evalAccuracy".to_owned(), interval);
        let f1 = |drawn: &[u32]| {
            let mut confusion = vec![0; classes * classes];
            for &example in drawn {
                confusion[answers[example as usize]] += 1;
            }
            vec![macro_f1(&confusion, classes)]
        };
        let interval = bootstrap(answers.len(), CONFIDENCE, f1).into_iter().flatten();
        found.extend(interval.map(|interval| ("evalF1".to_owned(), interval)));
    }
    Intervals(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_their_figure_and_narrow_with_more_examples() {
        let of = |count: usize| {
            // Of three classes; one answer in five is wrong.
            let answers: Vec<usize> = (0..count)
                .map(|n| {
                    let class = n % 3;
                    class * 3 + if n % 5 == 0 { (class + 1) % 3 } else { class }
                })
                .collect();
            let sums: Vec<(f64, u64)> = (0..count / 10).map(|n| (5.0 + (n % 4) as f64, 10)).collect();
            intervals(&sums, &answers, 3).0
        };
        let (few, many) = (of(150), of(3000));
        for (name, value) in [("evalAccuracy", 0.8), ("evalF1", 0.8), ("evalLoss", 0.65)] {
            let width = |interval: &ConfidenceInterval| interval.high - interval.low;
            assert!(
                many[name].low < value && value < many[name].high,
                "{name}: {:?}",
                many[name]
            );
            assert!(width(&many[name]) < 0.5 * width(&few[name]), "{name}");
        }
    }

    #[test]
    fn what_was_not_measured_has_no_interval() {
        assert_eq!(intervals(&[(1.0, 2); 9], &[], 0), Intervals::default());
        let loss_only = intervals(&[(1.0, 2); 10], &[], 0).0;
        assert_eq!(loss_only.keys().collect::<Vec<_>>(), ["evalLoss"]);
    }
}
