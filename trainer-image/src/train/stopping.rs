//! Early stopping: which evaluation was the best, and how long ago.

use serde::{Deserialize, Serialize};
use slipway_contract::{EarlyStopping, Failure, FailureReason, Task};

use super::validation::Scores;

/// What is watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Watched {
    /// Less is better.
    Loss,
    /// More is better.
    Accuracy,
    /// More is better.
    F1,
}

/// The rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stopping {
    watched: Watched,
    patience: u32,
    min_delta: f64,
}

/// How far along it is; part of a checkpoint.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Best {
    /// The best evaluation so far and the step it was made at.
    pub scores: Option<(u64, Scores)>,
    /// Evaluations since then.
    pub stale: u32,
}

impl Stopping {
    /// Checks the configuration.
    pub fn new(config: &EarlyStopping, task: Task) -> Result<Self, Failure> {
        let watched = match (config.metric.as_str(), task) {
            ("loss", _) => Watched::Loss,
            ("accuracy", Task::SequenceClassification) => Watched::Accuracy,
            ("f1", Task::SequenceClassification) => Watched::F1,
            (other, Task::SequenceClassification) => {
                return Err(invalid(format!(
                    "`{other}` cannot be watched; set evaluation.earlyStopping.metric to loss, accuracy or f1"
                )));
            }
            (other, _) => {
                return Err(invalid(format!(
                    "`{other}` cannot be watched for {task:?}; set evaluation.earlyStopping.metric to loss"
                )));
            }
        };
        Ok(Self {
            watched,
            patience: config.patience.max(1),
            min_delta: config.min_delta,
        })
    }

    /// Takes in an evaluation; true when it is the best so far.
    pub fn observe(&self, best: &mut Best, step: u64, scores: &Scores) -> bool {
        let improved = match &best.scores {
            None => true,
            Some((_, before)) => self.goodness(scores) > self.goodness(before) + self.min_delta,
        };
        if improved {
            best.scores = Some((step, scores.clone()));
            best.stale = 0;
        } else {
            best.stale += 1;
        }
        improved
    }

    /// Whether patience is at its end.
    pub fn stops(&self, best: &Best) -> bool {
        best.stale >= self.patience
    }

    fn goodness(&self, scores: &Scores) -> f64 {
        match self.watched {
            Watched::Loss => -scores.loss,
            Watched::Accuracy => scores.accuracy.unwrap_or(f64::NEG_INFINITY),
            Watched::F1 => scores.f1.unwrap_or(f64::NEG_INFINITY),
        }
    }
}

fn invalid(message: String) -> Failure {
    Failure::new(FailureReason::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(loss: f64) -> Scores {
        Scores {
            loss,
            ..Scores::default()
        }
    }

    #[test]
    fn patience_counts_evaluations_without_enough_improvement() {
        let config = EarlyStopping {
            metric: "loss".into(),
            patience: 2,
            min_delta: 0.1,
        };
        let stopping = Stopping::new(&config, Task::CausalLM).unwrap();
        let mut best = Best::default();
        let seen: Vec<(bool, bool)> = [1.0, 0.95, 0.8, 0.79, 0.75]
            .iter()
            .zip(1..)
            .map(|(&loss, step)| {
                (
                    stopping.observe(&mut best, step, &scores(loss)),
                    stopping.stops(&best),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (true, false),
                (false, false),
                (true, false),
                (false, false),
                (false, true)
            ]
        );
        assert_eq!(best.scores.map(|(step, _)| step), Some(3));
    }

    #[test]
    fn a_metric_that_the_task_lacks_is_refused() {
        let config = EarlyStopping {
            metric: "f1".into(),
            patience: 2,
            min_delta: 0.0,
        };
        assert!(Stopping::new(&config, Task::SequenceClassification).is_ok());
        let failure = Stopping::new(&config, Task::CausalLM).unwrap_err();
        assert!(
            failure.message.contains("`f1` cannot be watched for CausalLM"),
            "{failure}"
        );
    }
}
