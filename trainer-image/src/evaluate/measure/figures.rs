//! Figures of choices, of numbers and of rankings. Pure.

use slipway_contract::MetricName;

use crate::metrics::ranking::Retrieval;
use crate::metrics::{Undefined, regression};

/// How likely each choice of a question is.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::evaluate) struct Chosen {
    /// Log-likelihoods, in nats.
    pub likelihoods: Vec<f64>,
    /// The likeliest choice.
    pub choice: usize,
    /// The likeliest by its log-likelihood divided by its number of characters.
    pub normalised: usize,
    /// The right one.
    pub right: usize,
}

impl Chosen {
    /// Of `choices` with these log-likelihoods; of equal ones the first is taken, as numpy does.
    pub fn new(choices: &[String], likelihoods: Vec<f64>, right: usize) -> Self {
        let first_best = |values: &mut dyn Iterator<Item = f64>| {
            let best = values.enumerate().reduce(|best, one| {
                if one.1.total_cmp(&best.1).is_gt() {
                    one
                } else {
                    best
                }
            });
            best.map_or(0, |(index, _)| index)
        };
        let mut normalised = likelihoods
            .iter()
            .zip(choices)
            .map(|(nats, choice)| nats / choice.chars().count() as f64);
        Self {
            choice: first_best(&mut likelihoods.iter().copied()),
            normalised: first_best(&mut normalised),
            likelihoods,
            right,
        }
    }
}

/// The mean of `figure` over the examples at `indices`.
pub(super) fn mean(indices: &[u32], figure: impl Fn(usize) -> f64) -> Result<f64, Undefined> {
    if indices.is_empty() {
        return Err(Undefined::NoExamples);
    }
    let sum: f64 = indices.iter().map(|&index| figure(index as usize)).sum();
    Ok(sum / indices.len() as f64)
}

/// The figure of true numbers and those found.
pub(super) fn of_numbers(metric: MetricName) -> fn(&[f64], &[f64]) -> Result<f64, Undefined> {
    match metric {
        MetricName::Rmse => regression::root_mean_squared_error,
        MetricName::Mae => regression::mean_absolute_error,
        MetricName::R2 => regression::r2,
        MetricName::Pearson => regression::pearson,
        MetricName::Spearman => regression::spearman,
        _ => regression::mean_squared_error,
    }
}

/// The figure of one query's ranking.
pub(super) fn of_rankings(metric: MetricName) -> fn(&Retrieval) -> f64 {
    match metric {
        MetricName::RecallAt1 => |one| one.recall(1),
        MetricName::RecallAt5 => |one| one.recall(5),
        MetricName::RecallAt10 => |one| one.recall(10),
        MetricName::RecallAt100 => |one| one.recall(100),
        MetricName::MrrAt10 => |one| one.reciprocal_rank(10),
        _ => |one| one.ndcg(10),
    }
}
