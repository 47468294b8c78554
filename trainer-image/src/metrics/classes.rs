//! Metrics of classification, each equal to scikit-learn's.

use slipway_contract::{Average, MetricName};

/// How often each class was found for each true class.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Confusion {
    classes: usize,
    /// `counts[truth · classes + found]`.
    counts: Vec<u64>,
}

/// What one class contributes.
#[derive(Clone, Copy, Debug)]
struct Tally {
    right: u64,
    /// Examples of the class.
    truth: u64,
    /// Examples taken for the class.
    found: u64,
}

impl Confusion {
    /// No examples yet.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            counts: vec![0; classes * classes],
        }
    }

    /// Counts one example by the ids of its class and of the class found for it.
    pub fn add(&mut self, truth: u32, found: u32) {
        self.counts[truth as usize * self.classes + found as usize] += 1;
    }

    /// Examples.
    pub fn examples(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Examples answered right.
    pub fn right(&self) -> u64 {
        (0..self.classes)
            .map(|class| self.counts[class * self.classes + class])
            .sum()
    }

    /// The metric over all examples, None without any. Classes that occur neither as truth nor as answer do not count,
    /// and a class with an empty denominator scores 0, as in scikit-learn. `average` defaults to macro and means nothing
    /// to accuracy. Perplexity is no metric of classes: None.
    pub fn score(&self, metric: MetricName, average: Option<Average>) -> Option<f64> {
        let examples = self.examples();
        if examples == 0 {
            return None;
        }
        let one: fn(Tally) -> f64 = match metric {
            MetricName::Accuracy => return Some(ratio(self.right(), examples)),
            MetricName::Precision => |tally| ratio(tally.right, tally.found),
            MetricName::Recall => |tally| ratio(tally.right, tally.truth),
            MetricName::F1 => |tally| ratio(2 * tally.right, tally.truth + tally.found),
            MetricName::Perplexity => return None,
        };
        let tallies = (0..self.classes)
            .map(|class| self.tally(class))
            .filter(|tally| tally.truth + tally.found > 0);
        Some(match average.unwrap_or(Average::Macro) {
            Average::Macro => {
                let (sum, count) =
                    tallies.fold((0.0, 0u32), |(sum, count), tally| (sum + one(tally), count + 1));
                sum / f64::from(count)
            }
            Average::Weighted => {
                tallies.map(|tally| tally.truth as f64 * one(tally)).sum::<f64>() / examples as f64
            }
            Average::Micro => one(Tally {
                right: self.right(),
                truth: examples,
                found: examples,
            }),
        })
    }

    fn tally(&self, class: usize) -> Tally {
        let at = |truth: usize, found: usize| self.counts[truth * self.classes + found];
        Tally {
            right: at(class, class),
            truth: (0..self.classes).map(|other| at(class, other)).sum(),
            found: (0..self.classes).map(|other| at(other, class)).sum(),
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confusion(pairs: &[(u32, u32)]) -> Confusion {
        let mut confusion = Confusion::new(4);
        for &(truth, found) in pairs {
            confusion.add(truth, found);
        }
        confusion
    }

    // Expected values: sklearn.metrics on y_true = [0,0,0,1,1,2], y_pred = [0,0,1,1,2,2]; class 3 never occurs.
    #[test]
    fn averages_are_those_of_scikit_learn() {
        let all = confusion(&[(0, 0), (0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]);
        for (metric, average, expected) in [
            (MetricName::Accuracy, None, 4.0 / 6.0),
            (MetricName::Precision, None, (1.0 + 0.5 + 0.5) / 3.0),
            (
                MetricName::Recall,
                Some(Average::Macro),
                (2.0 / 3.0 + 0.5 + 1.0) / 3.0,
            ),
            (
                MetricName::F1,
                Some(Average::Macro),
                (0.8 + 0.5 + 2.0 / 3.0) / 3.0,
            ),
            (
                MetricName::F1,
                Some(Average::Weighted),
                (3.0 * 0.8 + 2.0 * 0.5 + 2.0 / 3.0) / 6.0,
            ),
            (MetricName::Precision, Some(Average::Micro), 4.0 / 6.0),
        ] {
            let score = all.score(metric, average).unwrap();
            assert!(
                (score - expected).abs() < 1e-12,
                "{metric:?} {average:?}: {score}"
            );
        }
    }

    #[test]
    fn nothing_has_no_score_and_one_class_has() {
        assert_eq!(confusion(&[]).score(MetricName::F1, None), None);
        assert_eq!(
            confusion(&[(2, 2), (2, 2)]).score(MetricName::F1, None),
            Some(1.0)
        );
        // Never right: no class has a numerator.
        assert_eq!(
            confusion(&[(0, 1), (1, 0)]).score(MetricName::Precision, Some(Average::Weighted)),
            Some(0.0)
        );
    }
}
