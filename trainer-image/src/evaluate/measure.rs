//! Figures from what a model said, and the comparison of two models. Pure.

use slipway_contract::{Average, Baseline, Comparison, MetricName, MetricResult, MetricSpec};

use crate::metrics::{Confusion, bootstrap, wilson};

/// What a model said about each example.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Observations {
    /// Classes: how many there are, and for each example the true one and the one found.
    Classes { count: usize, pairs: Vec<(u32, u32)> },
    /// For each example its negative log-likelihood in nats, and over how many tokens.
    Likelihoods(Vec<(f64, u64)>),
}

impl Observations {
    /// Examples, whether or not they had something to measure.
    fn len(&self) -> usize {
        match self {
            Self::Classes { pairs, .. } => pairs.len(),
            Self::Likelihoods(terms) => terms.len(),
        }
    }

    /// Examples that had something to measure.
    fn measured(&self) -> u64 {
        match self {
            Self::Classes { pairs, .. } => pairs.len() as u64,
            Self::Likelihoods(terms) => terms.iter().filter(|(_, tokens)| *tokens > 0).count() as u64,
        }
    }

    /// Each metric over the examples at `indices`.
    fn values(&self, specs: &[MetricSpec], indices: impl Iterator<Item = usize>) -> Vec<f64> {
        match self {
            Self::Classes { count, pairs } => {
                let mut confusion = Confusion::new(*count);
                for index in indices {
                    let (truth, found) = pairs[index];
                    confusion.add(truth, found);
                }
                specs
                    .iter()
                    .map(|spec| confusion.score(spec.name, spec.average).unwrap_or(f64::NAN))
                    .collect()
            }
            Self::Likelihoods(terms) => {
                let (sum, tokens) = indices.fold((0.0, 0), |(sum, tokens), index| {
                    (sum + terms[index].0, tokens + terms[index].1)
                });
                vec![(sum / tokens as f64).exp(); specs.len()]
            }
        }
    }

    fn all(&self, specs: &[MetricSpec]) -> Vec<f64> {
        self.values(specs, 0..self.len())
    }
}

/// Averages apply to metrics of single classes; macro unless said otherwise.
fn average(spec: &MetricSpec) -> Option<Average> {
    match spec.name {
        MetricName::Accuracy | MetricName::Perplexity => None,
        MetricName::Precision | MetricName::Recall | MetricName::F1 => {
            Some(spec.average.unwrap_or(Average::Macro))
        }
    }
}

/// Whether the metric is a share of right answers: accuracy, and what equals it.
fn is_share(spec: &MetricSpec) -> bool {
    spec.name == MetricName::Accuracy || average(spec) == Some(Average::Micro)
}

/// Every metric with its interval: Wilson's for shares, else of a bootstrap over examples.
pub(super) fn results(
    specs: &[MetricSpec],
    observations: &Observations,
    confidence: f64,
) -> Vec<MetricResult> {
    let values = observations.all(specs);
    let resampled = if specs.iter().all(is_share) {
        Vec::new()
    } else {
        bootstrap(observations.len(), confidence, |indices| {
            observations.values(specs, indices.iter().map(|&index| index as usize))
        })
    };
    let examples = observations.measured();
    specs
        .iter()
        .zip(values)
        .enumerate()
        .map(|(at, (spec, value))| MetricResult {
            metric: spec.name,
            average: average(spec),
            value,
            confidence_interval: if is_share(spec) {
                wilson((value * examples as f64).round() as u64, examples, confidence)
            } else {
                resampled[at]
            },
            examples,
        })
        .collect()
}

/// Target against baseline on the same examples, by a paired bootstrap. The metric's average is that of `specs`, where it
/// is among them.
pub(super) fn compare(
    baseline: &Baseline,
    specs: &[MetricSpec],
    target: &Observations,
    other: &Observations,
) -> Comparison {
    let known = specs.iter().find(|spec| spec.name == baseline.metric).cloned();
    let spec = [known.unwrap_or(MetricSpec {
        name: baseline.metric,
        average: None,
    })];
    let sign = if baseline.metric.more_is_better() {
        1.0
    } else {
        -1.0
    };
    let (ours, theirs) = (target.all(&spec)[0], other.all(&spec)[0]);
    let interval = bootstrap(target.len(), baseline.confidence, |indices| {
        let indices = || indices.iter().map(|&index| index as usize);
        vec![sign * (target.values(&spec, indices())[0] - other.values(&spec, indices())[0])]
    });
    Comparison {
        metric: baseline.metric,
        difference: sign * (ours - theirs),
        confidence_interval: interval[0],
        baseline_value: theirs,
        min_difference: baseline.min_difference,
    }
}

#[cfg(test)]
mod tests {
    use slipway_contract::ModelSource;

    use super::*;

    fn spec(name: MetricName, average: Option<Average>) -> MetricSpec {
        MetricSpec { name, average }
    }

    fn baseline(metric: MetricName) -> Baseline {
        Baseline {
            model: ModelSource::Path("base".into()),
            metric,
            min_difference: 0.0,
            confidence: 0.95,
        }
    }

    /// Right in all but every `miss`-th of 300 examples.
    fn classes(miss: u32) -> Observations {
        let pairs = (0..300)
            .map(|n| (n % 3, if n % miss == 0 { (n + 1) % 3 } else { n % 3 }))
            .collect();
        Observations::Classes { count: 3, pairs }
    }

    #[test]
    fn shares_get_wilsons_interval_and_others_the_bootstraps() {
        let specs = [
            spec(MetricName::Accuracy, None),
            spec(MetricName::F1, None),
            spec(MetricName::Recall, Some(Average::Micro)),
        ];
        let found = results(&specs, &classes(5), 0.95);
        assert_eq!(
            (found[0].value, found[0].examples, found[0].average),
            (0.8, 300, None)
        );
        assert_eq!(found[0].confidence_interval, wilson(240, 300, 0.95));
        assert_eq!(found[2].confidence_interval, found[0].confidence_interval);
        assert_eq!(found[1].average, Some(Average::Macro));
        let f1 = found[1].confidence_interval;
        assert!(
            f1.low < found[1].value && found[1].value < f1.high && f1.high - f1.low < 0.12,
            "{f1:?}"
        );
    }

    #[test]
    fn pairing_makes_the_difference_surer_than_its_parts() {
        let (good, bad) = (classes(10), classes(5));
        let found = compare(&baseline(MetricName::Accuracy), &[], &good, &bad);
        assert!((found.difference - 0.1).abs() < 1e-12 && (found.baseline_value - 0.8).abs() < 1e-12);
        let width = found.confidence_interval.high - found.confidence_interval.low;
        // The errors of one are among those of the other: n·p(1-p) of the differing tenth only.
        assert!(
            (width - 2.0 * 1.96 * (0.1 * 0.9 / 300.0f64).sqrt()).abs() < 0.01,
            "{width}"
        );
        let same = compare(&baseline(MetricName::F1), &[], &good, &good);
        assert_eq!(
            (same.confidence_interval.low, same.confidence_interval.high),
            (0.0, 0.0)
        );
    }

    #[test]
    fn less_perplexity_is_a_positive_difference() {
        let target = Observations::Likelihoods(vec![(2.0, 2), (0.0, 0), (4.0, 4)]);
        let other = Observations::Likelihoods(vec![(4.0, 2), (0.0, 0), (8.0, 4)]);
        let found = results(&[spec(MetricName::Perplexity, None)], &target, 0.95);
        assert!((found[0].value - 1f64.exp()).abs() < 1e-12 && found[0].examples == 2);
        let compared = compare(&baseline(MetricName::Perplexity), &[], &target, &other);
        assert!((compared.difference - (2f64.exp() - 1f64.exp())).abs() < 1e-12);
    }
}
