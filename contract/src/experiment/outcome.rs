//! What an experiment says so far. Pure.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ratio;
use super::sequence::{Rule, Sequence, Short};
use super::tally::Tally;
use crate::ConfidenceInterval;

/// A sound split is called a mismatch in one experiment of a hundred at most, over all its looks.
const MISMATCH: f64 = 0.01;

/// What an experiment says so far, for a status and a model card.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// What follows from the figures.
    pub verdict: Decision,
    /// The arm that is better than every other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner: Option<String>,
    /// The verdict in a sentence, with its figures or what is missing.
    pub message: String,
    /// Each arm, in the order of the route table.
    pub arms: Vec<ArmOutcome>,
    /// Each pair of arms: a later one minus an earlier one.
    pub differences: Vec<Difference>,
    /// All intervals hold together, at all moments, with this probability.
    pub confidence: f64,
    /// Whether the arms met the users that the split promised.
    pub sample_ratio: SampleRatio,
    /// Seconds since the experiment began.
    pub duration_seconds: u64,
}

/// What follows from the figures.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Decision {
    /// One arm is better than every other: the intervals of its differences lie above zero.
    Winner,
    /// Not enough scores yet, or none that tell the best arms apart.
    NoDifferenceYet,
    /// The arms did not meet the users that the split promised: their scores cannot be compared.
    Inconclusive,
}

/// One arm's figures.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArmOutcome {
    /// The variant's name.
    pub name: String,
    /// Requests that the split sent here.
    pub requests: u64,
    /// How many of them have a score.
    pub scores: u64,
    /// Users who met this arm first: requests where they have no sticky key, else an estimate, with a standard error
    /// of 1.3% at 20,000 users in all and 2.5% at 40,000; beyond 75,000, at least so many.
    pub users: u64,
    /// Mean score. Scores of a time when one arm got few requests weigh less, and the same in every arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
}

/// One arm compared with another.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The arm that is compared.
    pub arm: String,
    /// With this one.
    pub than: String,
    /// Mean score of `arm` minus that of `than`.
    pub difference: f64,
    /// Holds at every moment at once. None before there is enough to say one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence_interval: Option<ConfidenceInterval>,
}

/// Whether the arms met the users that the split promised (Lindon and Malek, arXiv 2011.03567).
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SampleRatio {
    /// They did not.
    pub mismatch: bool,
    /// Valid whenever one looks. A mismatch is 0.01 or less.
    pub p_value: f64,
}

/// Looks at the merged tallies of all routers. `duration_seconds` is how long the experiment has run. May be asked
/// at any moment and any number of times: of the experiments without a difference, a share of 1 − confidence at most
/// ever names a winner. That is asymptotic; `tests/simulated.rs` holds it to that with the starts that [`Rule`] allows.
pub fn decide(tally: &Tally, rule: &Rule, duration_seconds: u64) -> Outcome {
    let p_value = (-ratio::ln_evidence(&tally.users)).exp().min(1.0);
    let sample_ratio = SampleRatio {
        mismatch: p_value <= MISMATCH,
        p_value,
    };
    let rule = &rule.held();
    let sequence = Sequence::new(rule, tally.arms.len());
    let pairs: Vec<Pair> = (1..tally.arms.len())
        .flat_map(|arm| (0..arm).map(move |than| (arm, than)))
        .map(|(arm, than)| Pair {
            arm,
            than,
            look: sequence.look(tally, arm, than),
        })
        .collect();
    let best = best(&pairs, tally.arms.len());
    let (verdict, message) = if sample_ratio.mismatch {
        (Decision::Inconclusive, mismatch(tally, p_value))
    } else if let Some(best) = best {
        (Decision::Winner, won(tally, rule, &pairs, best))
    } else {
        (Decision::NoDifferenceYet, open(tally, rule, &pairs))
    };
    let name = |arm: usize| tally.arms[arm].name.clone();
    let users = tally.users.met(tally.arms.len());
    Outcome {
        verdict,
        winner: best.filter(|_| verdict == Decision::Winner).map(name),
        message,
        arms: (tally.arms.iter().zip(users).enumerate())
            .map(|(arm, (sums, users))| ArmOutcome {
                name: sums.name.clone(),
                requests: sums.requests,
                scores: sums.scores,
                users,
                mean: tally.mean(arm),
            })
            .collect(),
        differences: pairs
            .iter()
            .filter_map(|pair| {
                Some(Difference {
                    arm: name(pair.arm),
                    than: name(pair.than),
                    difference: tally.mean(pair.arm)? - tally.mean(pair.than)?,
                    confidence_interval: pair.look.ok(),
                })
            })
            .collect(),
        confidence: rule.confidence,
        sample_ratio,
        duration_seconds,
    }
}

/// Two arms and the interval of their difference.
struct Pair {
    arm: usize,
    than: usize,
    look: Result<ConfidenceInterval, Short>,
}

impl Pair {
    /// The one whose scores are better, if the interval tells.
    fn better(&self) -> Option<usize> {
        let interval = self.look.ok()?;
        if interval.low > 0.0 {
            Some(self.arm)
        } else {
            (interval.high < 0.0).then_some(self.than)
        }
    }
}

/// The arm that is better than each of the others.
fn best(pairs: &[Pair], arms: usize) -> Option<usize> {
    (0..arms)
        .find(|&arm| arms > 1 && pairs.iter().filter(|pair| pair.better() == Some(arm)).count() == arms - 1)
}

fn won(tally: &Tally, rule: &Rule, pairs: &[Pair], best: usize) -> String {
    let mut message = format!("{} is better:", tally.arms[best].name);
    let beaten = pairs.iter().filter(|pair| pair.arm == best || pair.than == best);
    for (index, pair) in beaten.enumerate() {
        let other = if pair.arm == best { pair.than } else { pair.arm };
        let separator = if index == 0 { " " } else { "; " };
        let figures = figures(tally, rule, pair, best, other);
        let _ = write!(message, "{separator}{figures}");
    }
    message
}

/// "0.031 more than control (95% interval 0.004 to 0.058, 4120 and 4083 scores)"; signs as `first` sees them.
fn figures(tally: &Tally, rule: &Rule, pair: &Pair, first: usize, second: usize) -> String {
    let mean = |arm| tally.mean(arm).unwrap_or_default();
    let difference = mean(first) - mean(second);
    let interval = pair.look.ok().map_or_else(String::new, |interval| {
        let (low, high) = if pair.arm == first {
            (interval.low, interval.high)
        } else {
            (-interval.high, -interval.low)
        };
        format!(
            "{}% interval {low:.4} to {high:.4}, ",
            (rule.confidence * 1e4).round() / 1e2
        )
    });
    format!(
        "{:.4} {} than {} ({interval}{} and {} scores)",
        difference.abs(),
        if difference < 0.0 { "less" } else { "more" },
        tally.arms[second].name,
        tally.arms[first].scores,
        tally.arms[second].scores,
    )
}

fn open(tally: &Tally, rule: &Rule, pairs: &[Pair]) -> String {
    let Some(pair) = pairs.iter().max_by_key(|pair| pair.look.is_err()) else {
        return "there is nothing to compare: an experiment needs two arms with a share of the traffic"
            .into();
    };
    match pair.look {
        Err(short) => short.sentence(tally),
        Ok(_) if pairs.len() == 1 => format!(
            "no difference yet: {} scores {}; more scores tell, if there is one",
            tally.arms[pair.arm].name,
            figures(tally, rule, pair, pair.arm, pair.than)
        ),
        Ok(_) => "no arm is better than every other yet; the differences say which of them are apart".into(),
    }
}

fn mismatch(tally: &Tally, p_value: f64) -> String {
    let arms = ratio::promised(&tally.users, tally.arms.len());
    let users: Vec<String> = (tally.arms.iter().zip(arms))
        .map(|(arm, (promised, came))| format!("{} met {came} users where {promised:.0} were due", arm.name))
        .collect();
    format!(
        "the split was not kept: {} (p = {p_value:.1e}), so the arms' users differ and their scores cannot be \
         compared; find what keeps users from an arm (clients that share or lose their sticky key, a proxy that \
         retries elsewhere), then start the experiment anew",
        users.join(", ")
    )
}
