//! The interval of a difference, at whatever moment one looks, or what it still lacks. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::boundary::Boundary;
use super::tally::{Contrast, Tally};
use crate::ConfidenceInterval;

/// Each arm's scores must be worth this many independent users before anything is said: the variance is estimated
/// from users, and from fewer it is too often far too small.
const FEWEST_USERS: f64 = 100.0;

/// When and how surely an experiment speaks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// All intervals of the experiment hold together, at all moments, with this probability: above 0.5 and below 1.
    #[serde(default = "confidence")]
    #[schemars(range(min = 0.5, max = 0.9999))]
    pub confidence: f64,
    /// Nothing is said before each arm has so many scores, and before they are worth as many independent ones. More
    /// make for a later but surer start: intervals are a little shorter from then on.
    #[serde(default = "min_requests")]
    #[schemars(range(min = 100, max = 1_000_000_000))]
    pub min_requests: u64,
}

fn confidence() -> f64 {
    0.95
}

fn min_requests() -> u64 {
    500
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            confidence: confidence(),
            min_requests: min_requests(),
        }
    }
}

impl Rule {
    /// Within the bounds of the schema, which a rule made in code has not seen.
    pub(super) fn held(&self) -> Self {
        Self {
            confidence: self.confidence.clamp(0.5, 0.9999),
            min_requests: self.min_requests.max(100),
        }
    }
}

/// The intervals of all pairs of arms, which hold together: each pair has its part of the error (Bonferroni).
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    boundary: Boundary,
    rule: Rule,
}

impl Sequence {
    /// Of an experiment with this many arms.
    pub fn new(rule: &Rule, arms: usize) -> Self {
        let rule = rule.held();
        let pairs = (arms * arms.saturating_sub(1) / 2).max(1);
        let alpha = (1.0 - rule.confidence) / pairs as f64;
        Self {
            boundary: Boundary::new(alpha, 2.0 * rule.min_requests as f64),
            rule,
        }
    }

    /// The interval of the mean score of `arm` minus that of `than`, or what it waits for.
    pub fn look(&self, tally: &Tally, arm: usize, than: usize) -> Result<ConfidenceInterval, Short> {
        let contrast = self.contrast(tally, arm, than)?;
        let Some(at) = self.boundary.at(contrast.time) else {
            return Err(Short::Time {
                worth: contrast.time,
                needed: self.boundary.start(),
            });
        };
        let margin = at * contrast.variance.sqrt();
        Ok(ConfidenceInterval {
            low: contrast.difference - margin,
            high: contrast.difference + margin,
        })
    }

    /// Whether the interval that `look` would find leaves out `difference`, in less time.
    #[cfg(test)]
    pub fn excludes(&self, tally: &Tally, [arm, than]: [usize; 2], difference: f64) -> bool {
        self.contrast(tally, arm, than).is_ok_and(|contrast| {
            let off = contrast.difference - difference;
            self.boundary
                .crossed(off * off / contrast.variance, contrast.time)
        })
    }

    fn contrast(&self, tally: &Tally, arm: usize, than: usize) -> Result<Contrast, Short> {
        for arm in [arm, than] {
            if tally.arms[arm].scores < self.rule.min_requests {
                return Err(Short::Scores {
                    arm,
                    needed: self.rule.min_requests,
                });
            }
        }
        let contrast = tally.contrast(arm, than).ok_or(Short::Spread)?;
        if contrast.fewest < FEWEST_USERS {
            let fewer = tally.effective_users(arm) > tally.effective_users(than);
            return Err(Short::Users {
                arm: if fewer { than } else { arm },
            });
        }
        Ok(contrast)
    }
}

/// What there is too little of to say an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Short {
    /// An arm has fewer scores than the rule asks for.
    Scores {
        /// Which arm.
        arm: usize,
        /// How many it needs.
        needed: u64,
    },
    /// An arm's scores come from too few users.
    Users {
        /// Which arm.
        arm: usize,
    },
    /// All scores are the same.
    Spread,
    /// Scores of the same users repeat each other, or the arms are uneven.
    Time {
        /// How many independent scores of an even split they are worth.
        worth: f64,
        /// How many they need to be.
        needed: f64,
    },
}

impl Short {
    /// What is missing, in a sentence.
    pub fn sentence(self, tally: &Tally) -> String {
        let name = |arm: usize| &tally.arms[arm].name;
        match self {
            Self::Scores { arm, needed } => format!(
                "too early: {} has {} of the {needed} scores that each arm needs",
                name(arm),
                tally.arms[arm].scores
            ),
            Self::Users { arm } => format!(
                "too early: the scores of {} are worth those of {:.0} users, of the {FEWEST_USERS} that each arm \
                 needs; few users send most of them",
                name(arm),
                tally.effective_users(arm)
            ),
            Self::Spread => "too early: all scores are the same so far".into(),
            Self::Time { worth, needed } => format!(
                "too early: the scores of both arms are worth {:.0} of the {needed} independent ones they need to \
                 be; users who repeat themselves count less",
                worth.floor()
            ),
        }
    }
}
