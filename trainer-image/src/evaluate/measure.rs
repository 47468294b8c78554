//! Figures from what a model said, and the comparison of two models. Pure.

mod figures;

use slipway_contract::{
    Average, Baseline, Comparison, ConfidenceInterval, Failure, FailureReason, MetricName, MetricResult,
    MetricSpec,
};

pub(super) use self::figures::Chosen;
use self::figures::{mean, of_numbers, of_rankings};
use super::likelihood::Likelihood;
use crate::metrics::{
    Confusion, Contributions, OfClass, RocAuc, TextMetric, Undefined, bits_per_byte, bootstrap, perplexity,
    ranking::Retrieval, wilson,
};

/// What a model said about each example.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Observations {
    /// Classes.
    Classes {
        /// How many there are.
        count: usize,
        /// For each example the true class and the one found.
        pairs: Vec<(u32, u32)>,
        /// The examples by the likelihood of each class, if that is asked for.
        area: Option<RocAuc>,
    },
    /// Language, as far as it is asked for.
    Language {
        /// How likely each reference is.
        likelihoods: Vec<Likelihood>,
        /// What each answer contributes to each metric.
        answers: Vec<(MetricName, Contributions)>,
    },
    /// Choices.
    Choices(Vec<Chosen>),
    /// Numbers.
    Numbers {
        /// For each example the true number.
        truth: Vec<f64>,
        /// For each example the one found.
        found: Vec<f64>,
    },
    /// Rankings of documents, one a query.
    Rankings(Vec<Retrieval>),
}

impl Observations {
    /// Examples, whether or not they had something to measure.
    fn len(&self) -> usize {
        match self {
            Self::Classes { pairs, .. } => pairs.len(),
            Self::Language { likelihoods, answers } => {
                answers.first().map_or(likelihoods.len(), |(_, each)| each.len())
            }
            Self::Choices(each) => each.len(),
            Self::Numbers { truth, .. } => truth.len(),
            Self::Rankings(each) => each.len(),
        }
    }

    /// Examples that had something to measure.
    fn measured(&self, metric: MetricName) -> u64 {
        match self {
            Self::Language { likelihoods, .. } if likelihood(metric).is_some() => {
                likelihoods.iter().filter(|one| one.tokens > 0).count() as u64
            }
            _ => self.len() as u64,
        }
    }

    /// Each metric over the examples at `indices`.
    fn values(&self, specs: &[MetricSpec], indices: &[u32]) -> Vec<Result<f64, Undefined>> {
        match self {
            Self::Classes { count, pairs, area } => {
                let mut confusion = Confusion::new(*count);
                for &index in indices {
                    let (truth, found) = pairs[index as usize];
                    confusion.add(truth, found);
                }
                let one = |spec: &MetricSpec| match (of_class(spec.name), area) {
                    (Some(figure), _) => confusion.averaged(figure, spec.average.unwrap_or(Average::Macro)),
                    (None, Some(area)) if spec.name == MetricName::RocAuc => area.resampled(indices),
                    _ if spec.name == MetricName::MatthewsCorrelation => confusion.matthews(),
                    _ => confusion.accuracy(),
                };
                specs.iter().map(one).collect()
            }
            Self::Language { likelihoods, answers } => {
                let of_answers = |name: MetricName| {
                    let (_, each) = answers
                        .iter()
                        .find(|(other, _)| *other == name)
                        .ok_or(Undefined::NoExamples)?;
                    each.score(indices.iter().map(|&index| index as usize))
                };
                let one = |spec: &MetricSpec| match likelihood(spec.name) {
                    Some(figure) => {
                        let sum = indices
                            .iter()
                            .map(|&index| likelihoods[index as usize])
                            .fold(Likelihood::default(), Likelihood::and);
                        figure(sum)
                    }
                    None => of_answers(spec.name),
                };
                specs.iter().map(one).collect()
            }
            Self::Choices(each) => {
                let right = |spec: &MetricSpec, one: &Chosen| match spec.name {
                    MetricName::AccNorm => one.normalised == one.right,
                    _ => one.choice == one.right,
                };
                let one =
                    |spec: &MetricSpec| mean(indices, |index| f64::from(u8::from(right(spec, &each[index]))));
                specs.iter().map(one).collect()
            }
            Self::Numbers { truth, found } => {
                let drawn = |values: &[f64]| -> Vec<f64> {
                    indices.iter().map(|&index| values[index as usize]).collect()
                };
                let (truth, found) = (drawn(truth), drawn(found));
                let one = |spec: &MetricSpec| of_numbers(spec.name)(&truth, &found);
                specs.iter().map(one).collect()
            }
            Self::Rankings(each) => {
                let one = |spec: &MetricSpec| {
                    let figure = of_rankings(spec.name);
                    mean(indices, |index| figure(&each[index]))
                };
                specs.iter().map(one).collect()
            }
        }
    }

    /// Each metric over all examples; the first that has no value ends the run.
    fn all(&self, specs: &[MetricSpec]) -> Result<Vec<f64>, Failure> {
        let indices: Vec<u32> = (0..self.len() as u32).collect();
        self.values(specs, &indices)
            .into_iter()
            .zip(specs)
            .map(|(value, spec)| value.map_err(|why| undefined(spec.name, &why)))
            .collect()
    }

    /// Each metric over the examples at `indices`, NaN where it has no value.
    fn resampled(&self, specs: &[MetricSpec], indices: &[u32]) -> Vec<f64> {
        self.values(specs, indices)
            .into_iter()
            .map(|value| value.unwrap_or(f64::NAN))
            .collect()
    }
}

/// The figure that a class has of its own.
fn of_class(metric: MetricName) -> Option<OfClass> {
    match metric {
        MetricName::Precision => Some(OfClass::Precision),
        MetricName::Recall => Some(OfClass::Recall),
        MetricName::F1 => Some(OfClass::F1),
        _ => None,
    }
}

/// The figure of likelihoods.
fn likelihood(metric: MetricName) -> Option<fn(Likelihood) -> Result<f64, Undefined>> {
    match metric {
        MetricName::Perplexity => Some(|sum| perplexity(sum.nats, sum.tokens)),
        MetricName::BitsPerByte => Some(|sum| bits_per_byte(sum.nats, sum.bytes)),
        _ => None,
    }
}

/// The metric of answers against references.
pub(super) fn of_answers(metric: MetricName) -> Option<TextMetric> {
    Some(match metric {
        MetricName::ExactMatch => TextMetric::ExactMatch,
        MetricName::SquadF1 => TextMetric::SquadF1,
        MetricName::Bleu => TextMetric::Bleu,
        MetricName::Sacrebleu => TextMetric::SacreBleu,
        MetricName::Chrf => TextMetric::Chrf,
        MetricName::Ter => TextMetric::Ter,
        MetricName::Rouge1 => TextMetric::Rouge1,
        MetricName::Rouge2 => TextMetric::Rouge2,
        MetricName::RougeL => TextMetric::RougeL,
        MetricName::RougeLsum => TextMetric::RougeLsum,
        MetricName::Meteor => TextMetric::Meteor,
        _ => return None,
    })
}

/// What a metric without a value means for the run.
pub(super) fn undefined(metric: MetricName, why: &Undefined) -> Failure {
    let reason = match why {
        Undefined::NotBinary(_) | Undefined::NoLexicon => FailureReason::InvalidConfig,
        _ => FailureReason::EmptyDataset,
    };
    Failure::new(reason, format!("{} has no value: {why}", metric.as_str()))
}

/// Averages apply to metrics of single classes; macro unless said otherwise.
fn average(spec: &MetricSpec) -> Option<Average> {
    spec.name
        .averages()
        .then(|| spec.average.unwrap_or(Average::Macro))
}

/// Whether the metric is a share of right answers: accuracy, and what equals it.
fn is_share(spec: &MetricSpec) -> bool {
    matches!(
        spec.name,
        MetricName::Accuracy | MetricName::ExactMatch | MetricName::Acc | MetricName::AccNorm
    ) || average(spec) == Some(Average::Micro)
}

fn interval(metric: MetricName, found: Option<ConfidenceInterval>) -> Result<ConfidenceInterval, Failure> {
    found.ok_or_else(|| {
        Failure::new(
            FailureReason::EmptyDataset,
            format!(
                "there are too few examples for a confidence interval of {}: it has no value for most resamples of them; add examples",
                metric.as_str()
            ),
        )
    })
}

/// Every metric with its interval: Wilson's for shares, else of a bootstrap over examples.
pub(super) fn results(
    specs: &[MetricSpec],
    observations: &Observations,
    confidence: f64,
) -> Result<Vec<MetricResult>, Failure> {
    let values = observations.all(specs)?;
    let resampled = if specs.iter().all(is_share) {
        vec![None; specs.len()]
    } else {
        bootstrap(observations.len(), confidence, |indices| {
            observations.resampled(specs, indices)
        })
    };
    specs
        .iter()
        .zip(values)
        .zip(resampled)
        .map(|((spec, value), resampled)| {
            let examples = observations.measured(spec.name);
            Ok(MetricResult {
                metric: spec.name,
                average: average(spec),
                value,
                confidence_interval: if is_share(spec) {
                    wilson((value * examples as f64).round() as u64, examples, confidence)
                } else {
                    interval(spec.name, resampled)?
                },
                examples,
            })
        })
        .collect()
}

/// The metric that a baseline is compared by; its average is that of `specs`, where it is among them.
pub(super) fn compared(baseline: &Baseline, specs: &[MetricSpec]) -> MetricSpec {
    let known = specs.iter().find(|spec| spec.name == baseline.metric).cloned();
    known.unwrap_or(MetricSpec {
        name: baseline.metric,
        average: None,
    })
}

/// Target against baseline on the same examples, by a paired bootstrap.
pub(super) fn compare(
    baseline: &Baseline,
    specs: &[MetricSpec],
    target: &Observations,
    other: &Observations,
) -> Result<Comparison, Failure> {
    let spec = [compared(baseline, specs)];
    let sign = if baseline.metric.more_is_better() {
        1.0
    } else {
        -1.0
    };
    let (ours, theirs) = (target.all(&spec)?[0], other.all(&spec)?[0]);
    let intervals = bootstrap(target.len(), baseline.confidence, |indices| {
        let one = |model: &Observations| model.resampled(&spec, indices)[0];
        vec![sign * (one(target) - one(other))]
    });
    Ok(Comparison {
        metric: baseline.metric,
        difference: sign * (ours - theirs),
        confidence_interval: interval(baseline.metric, intervals[0])?,
        baseline_value: theirs,
        min_difference: baseline.min_difference,
    })
}

#[cfg(test)]
mod tests;
