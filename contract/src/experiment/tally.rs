//! What a router counts of an experiment, and what the counts of several routers say together. Pure.

use serde::{Deserialize, Serialize};

use super::gram::{BUCKETS, Gram};
use super::split::{PLACES, Split, Users};
use super::wire::Wire;

/// Scores beyond this are refused: one of them would drown all others.
const LARGEST_SCORE: f64 = 1e9;

/// What a router has counted of an experiment since it started: requests, users and scores of each arm, enough to
/// take the difference of two arms and its error at any moment. Tallies of several routers, and of one router before
/// and after a restart, are merged; the order does not matter. JSON, with only the buckets and places that were met:
/// at most some 300 KB for two arms, and less than 1 KB where users have no key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Tally {
    pub(super) arms: Vec<ArmTally>,
    pub(super) users: Users,
    pub(super) gram: Gram,
}

/// One arm's sums. A score weighs 1 / probability of its arm when its request was routed, so that each moment counts
/// the same in every arm however the split changes, times the overlap of the arms at that moment
/// ([`Split::weight`]), so that a moment with few requests to one arm does not count beyond what it can tell.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArmTally {
    /// As in the route table.
    pub name: String,
    /// How many were routed here.
    pub requests: u64,
    /// How many of those have a score.
    pub scores: u64,
    /// Σ weight.
    pub weight: f64,
    /// Σ weight².
    pub squared_weight: f64,
    /// Σ weight · score.
    pub weighted: f64,
    /// Σ weight · score².
    pub weighted_square: f64,
    /// Σ weight², Σ weight² · score, Σ weight² · score² of requests without a key, each a user of its own.
    pub alone: [f64; 3],
}

/// How a request came to its arm: all that its score needs to be counted, by any router, at any later time.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Routed {
    /// Index of the arm.
    pub arm: usize,
    /// What its score weighs, by [`Split::weight`]: between 0 and 1.
    pub weight: f64,
    /// The bucket of the user; none for a request without a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<u16>,
}

/// Why a score was not counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ScoreError {
    /// Not a number, infinite, or absurdly large.
    #[error("a score is a number between -1e9 and 1e9; post one of those")]
    Score,
    /// Of another experiment, or invented.
    #[error(
        "no request of this experiment was routed like that; post the score with the id that its answer carried"
    )]
    Routed,
}

/// The tallies are of different experiments.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a tally of arms {theirs:?} cannot join one of arms {ours:?}; start the experiment anew when its arms change"
)]
pub struct MergeError {
    ours: Vec<String>,
    theirs: Vec<String>,
}

/// The difference of two arms as it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Contrast {
    /// Mean score of the first minus mean score of the second.
    pub difference: f64,
    /// The square of its standard error, users being independent. Positive; infinite where there is one user.
    pub variance: f64,
    /// What the scores of both arms are worth, in independent scores of an even split: so many with the spread that
    /// these have would give this variance, 4 · spread / time.
    pub time: f64,
    /// How many independent users the scores of the arm with fewer of them are worth.
    pub fewest: f64,
}

impl Tally {
    /// Of an experiment between these arms, in the order of the route table. Nothing counted.
    pub fn new(arms: impl IntoIterator<Item = String>) -> Self {
        let arms: Vec<ArmTally> = arms
            .into_iter()
            .map(|name| ArmTally {
                name,
                ..ArmTally::default()
            })
            .collect();
        Self {
            gram: Gram::new(arms.len()),
            users: Users::default(),
            arms,
        }
    }

    /// The index of the arm of this name.
    pub fn arm(&self, name: &str) -> Option<usize> {
        self.arms.iter().position(|arm| arm.name == name)
    }

    /// Counts a request that `split` sent to `arm`, `at` milliseconds since 1970. `user` is a hash of the client's
    /// sticky key, another one than that which chose the arm; none where the request was drawn anew. Counts nothing
    /// and returns none where arm or split are not of this experiment.
    pub fn route(&mut self, split: &Split, arm: usize, user: Option<u64>, at: u64) -> Option<Routed> {
        if split.arms() != self.arms.len() {
            return None;
        }
        self.arms.get_mut(arm)?.requests += 1;
        let bucket = if let Some(hash) = user {
            let place = hash as usize % PLACES;
            self.users.add(split, arm, place, at);
            Some((place % BUCKETS) as u16)
        } else {
            self.users.add_alone(split, arm);
            None
        };
        Some(Routed {
            arm,
            weight: split.weight(arm),
            bucket,
        })
    }

    /// Counts the score of a request that some router of this experiment routed. More is better. Counting a score
    /// once is the caller's task.
    pub fn score(&mut self, routed: Routed, score: f64) -> Result<(), ScoreError> {
        if score.is_nan() || score.abs() > LARGEST_SCORE {
            return Err(ScoreError::Score);
        }
        let Routed { arm, weight, bucket } = routed;
        let possible =
            weight > 0.0 && weight < 1.0 && bucket.is_none_or(|bucket| usize::from(bucket) < BUCKETS);
        let Some(sums) = self.arms.get_mut(arm).filter(|_| possible) else {
            return Err(ScoreError::Routed);
        };
        let (square, weighted) = (weight * weight, weight * score);
        sums.scores += 1;
        sums.weight += weight;
        sums.squared_weight += square;
        sums.weighted += weighted;
        sums.weighted_square += weighted * score;
        if let Some(bucket) = bucket {
            self.gram.add(bucket.into(), arm, [weight, weighted]);
        } else {
            let products = [square, square * score, weighted * weighted];
            for (sum, product) in sums.alone.iter_mut().zip(products) {
                *sum += product;
            }
            self.gram.add_alone(arm, products);
        }
        Ok(())
    }

    /// Adds what another router, or this one before it restarted, has counted.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        self.fits(other)?;
        for (index, (ours, theirs)) in self.arms.iter_mut().zip(&other.arms).enumerate() {
            ours.requests += theirs.requests;
            ours.scores += theirs.scores;
            ours.weight += theirs.weight;
            ours.squared_weight += theirs.squared_weight;
            ours.weighted += theirs.weighted;
            ours.weighted_square += theirs.weighted_square;
            for (sum, more) in ours.alone.iter_mut().zip(theirs.alone) {
                *sum += more;
            }
            self.gram.add_alone(index, theirs.alone);
            for (bucket, cell) in other.gram.filled(index) {
                self.gram.add(bucket, index, cell);
            }
        }
        self.users.merge(&other.users);
        Ok(())
    }

    /// Whether `other` is of the same arms, so that it can be merged.
    pub(super) fn fits(&self, other: &Self) -> Result<(), MergeError> {
        let names = |tally: &Self| tally.arms.iter().map(|arm| arm.name.clone()).collect::<Vec<_>>();
        let (ours, theirs) = (names(self), names(other));
        if ours == theirs {
            Ok(())
        } else {
            Err(MergeError { ours, theirs })
        }
    }

    /// How many requests and scores are in it.
    pub fn counted(&self) -> (u64, u64) {
        self.arms.iter().fold((0, 0), |(requests, scores), arm| {
            (requests + arm.requests, scores + arm.scores)
        })
    }

    /// The mean score of an arm, weighted; none before its first.
    pub(super) fn mean(&self, arm: usize) -> Option<f64> {
        let sums = &self.arms[arm];
        (sums.scores > 0).then(|| sums.weighted / sums.weight)
    }

    /// How many independent users an arm's scores are worth (Kish's effective size): fewer than there are, where few
    /// send most requests, and [`BUCKETS`] at most where they have keys.
    pub(super) fn effective_users(&self, arm: usize) -> f64 {
        let sums = &self.arms[arm];
        if sums.scores == 0 {
            0.0
        } else {
            sums.weight * sums.weight / self.gram.squared_weight(arm)
        }
    }

    /// The difference `a` − `b` as it stands; none while one has no score or all scores are the same.
    pub(super) fn contrast(&self, a: usize, b: usize) -> Option<Contrast> {
        let (mean_a, mean_b) = (self.mean(a)?, self.mean(b)?);
        let (sums_a, sums_b) = (&self.arms[a], &self.arms[b]);
        let difference = mean_a - mean_b;

        // Each arm's variance from its own users. A user who met both arms is one.
        let residual = |(i, mean_i), (j, mean_j)| {
            self.gram.residual((i, mean_i), (j, mean_j)) / (self.arms[i].weight * self.arms[j].weight)
        };
        let own_a = residual((a, mean_a), (a, mean_a));
        let own_b = residual((b, mean_b), (b, mean_b));
        let separate = own_a + own_b - 2.0 * residual((a, mean_a), (b, mean_b));

        // And what it would be if the arms were alike: how a score varies, repeated users included, is taken from
        // both arms together and around their common mean. Where one arm has few scores, and by chance all of them
        // the same, its own variance is zero and anything would look like a difference.
        let (n_a, n_b) = (sums_a.effective_scores(), sums_b.effective_scores());
        let n = n_a + n_b;
        let between = difference * difference * n_a * n_b / (n * n);
        let pooled = |a: f64, b: f64| (n_a * a + n_b * b) / n + between;
        let alike = pooled(n_a * own_a, n_b * own_b) * (n_a.recip() + n_b.recip());

        // The means that errors are measured from were moved by the same users. Of one user nothing is known.
        let fewest = self.effective_users(a).min(self.effective_users(b));
        let variance = if fewest > 1.0 {
            separate.max(alike) * fewest / (fewest - 1.0)
        } else {
            f64::INFINITY
        };
        let spread = pooled(sums_a.spread(mean_a), sums_b.spread(mean_b));
        let rounding = 1e-12 * (mean_a * mean_a).max(mean_b * mean_b);
        (spread > rounding && variance > 0.0).then(|| Contrast {
            difference,
            variance,
            time: 4.0 * spread / variance,
            fewest,
        })
    }
}

impl ArmTally {
    /// How many equally weighted scores its scores are worth (Kish's effective size).
    fn effective_scores(&self) -> f64 {
        self.weight * self.weight / self.squared_weight
    }

    /// The variance of its scores around their mean.
    fn spread(&self, mean: f64) -> f64 {
        (self.weighted_square / self.weight - mean * mean).max(0.0)
    }
}
