//! What the split's requests score, counted for the comparison of the arms.
//!
//! Each thread counts by itself, and what they counted is added up when `/stats` asks: no request waits for another
//! thread's.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use slipway_contract::experiment::{Routed, Split, Tally};
use slipway_contract::{ExperimentMetric, ExperimentStats, RouteExperiment, RouteVariant, Within};

use super::choose;
use super::ticket::{self, Seal, Tag};

/// Tallies of one experiment. Threads beyond so many share them.
const TALLIES: usize = 16;
/// Scored ids that are remembered, a few MiB.
const REMEMBERED: usize = 1 << 17;

/// An experiment in force, or about to be.
#[derive(Debug)]
pub struct Experiment {
    counts: Arc<Counts>,
    /// The probabilities while every arm has a ready server. None where an arm has no share.
    split: Option<Split>,
    /// For the ids of answers, where their scores come from clients.
    seal: Option<Seal>,
}

/// What outlives the table: the counts go on while tables of the same experiment follow each other.
#[derive(Debug)]
struct Counts {
    id: String,
    metric: ExperimentMetric,
    arms: Vec<String>,
    tallies: [Mutex<Tally>; TALLIES],
    scored: Mutex<Scored>,
    /// Says of which user a request is, by another hash than that which chose the arm: no name of an arm has a line
    /// break.
    salt: String,
}

/// The ids scored last.
#[derive(Debug, Default)]
pub(super) struct Scored {
    tags: HashSet<Tag>,
    order: VecDeque<Tag>,
}

impl Scored {
    /// Whether it was not there yet.
    pub(super) fn insert(&mut self, tag: Tag) -> bool {
        if !self.tags.insert(tag) {
            return false;
        }
        self.order.push_back(tag);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.tags.remove(&oldest);
        }
        true
    }
}

/// Why a posted score was not counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotCounted {
    /// No router gave out the id, for this experiment or a revision that is there.
    Unknown,
    /// It has its score.
    Twice,
}

impl Experiment {
    /// The experiment of a table, checked before. Its counts go on where the table before it had the same.
    pub fn following(before: Option<&Self>, route: &RouteExperiment, variants: &[RouteVariant]) -> Self {
        let names = || variants.iter().map(|variant| variant.name.as_str());
        let goes_on = |counts: &&Arc<Counts>| {
            counts.id == route.id && counts.metric == route.metric && names().eq(&counts.arms)
        };
        let known = before.map(|before| &before.counts).filter(goes_on).cloned();
        let weights: Vec<u32> = variants.iter().map(|variant| variant.weight).collect();
        let key = ticket::key(&route.key);
        Self {
            counts: known.unwrap_or_else(|| Arc::new(Counts::new(route, names().map(String::from)))),
            split: Split::new(&weights),
            seal: key
                .filter(|_| matches!(route.metric, ExperimentMetric::FeedbackScore(_)))
                .map(|key| Seal::new(&key, &route.id, names())),
        }
    }

    /// Whether clients post the scores.
    pub fn takes_feedback(&self) -> bool {
        self.seal.is_some()
    }

    /// Counts a request that came at `started` and that the split, with every arm ready, sent to `arm`. `key`: what
    /// its client is told apart by. `thread`: which of the router's it is.
    pub fn meet(&self, arm: usize, key: Option<&[u8]>, started: Instant, thread: usize) -> Option<Subject> {
        let split = self.split.as_ref()?;
        let user = key.map(|key| choose::hash([key, self.counts.salt.as_bytes()]));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut tally = self.counts.tally(thread);
        let routed = tally.route(split, arm, user, now.as_millis() as u64)?;
        drop(tally);
        Some(Subject {
            counts: self.counts.clone(),
            routed,
            started,
            thread,
        })
    }

    /// The id of an answer, where its client is to score it. `nonce`: another number each time.
    pub fn id(&self, subject: &Subject, nonce: impl FnOnce() -> u64) -> Option<String> {
        Some(self.seal.as_ref()?.write(subject.routed, nonce()))
    }

    /// Counts what a client says of the answer with `id`, once.
    pub fn feedback(&self, id: &str, score: f64, thread: usize) -> Result<(), NotCounted> {
        let opened = self.seal.as_ref().and_then(|seal| seal.read(id));
        let (routed, tag) = opened.ok_or(NotCounted::Unknown)?;
        let mut scored = self.counts.scored.lock().unwrap_or_else(PoisonError::into_inner);
        if !scored.insert(tag) {
            return Err(NotCounted::Twice);
        }
        drop(scored);
        let counted = self.counts.tally(thread).score(routed, score);
        counted.map_err(|_| NotCounted::Unknown)
    }

    /// What `/stats` says.
    pub fn stats(&self) -> ExperimentStats {
        let mut sum = Tally::new(self.counts.arms.iter().cloned());
        for tally in &self.counts.tallies {
            let tally = tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
            sum.merge(&tally).expect("all tallies are of the same arms");
        }
        ExperimentStats {
            id: self.counts.id.clone(),
            tally: sum,
        }
    }
}

impl Counts {
    fn new(route: &RouteExperiment, arms: impl Iterator<Item = String>) -> Self {
        let arms: Vec<String> = arms.collect();
        Self {
            tallies: std::array::from_fn(|_| Mutex::new(Tally::new(arms.iter().cloned()))),
            id: route.id.clone(),
            metric: route.metric,
            arms,
            scored: Mutex::default(),
            salt: format!("user\n{}", route.id),
        }
    }

    fn tally(&self, thread: usize) -> std::sync::MutexGuard<'_, Tally> {
        self.tallies[thread % TALLIES]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request of an experiment, from the choice of its arm to its score.
#[derive(Debug)]
pub struct Subject {
    counts: Arc<Counts>,
    routed: Routed,
    started: Instant,
    thread: usize,
}

/// What became of a request's answer.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Whether it was an error; none where its client left before it could be told.
    pub error: Option<bool>,
    /// Whether its last byte was handed on. Else its client left.
    pub complete: bool,
    /// When its first byte came.
    pub first_byte: Option<Instant>,
}

impl Subject {
    /// Its arm gave no answer.
    pub fn failed(self) {
        self.ended(Ending {
            error: Some(true),
            complete: false,
            first_byte: None,
        });
    }

    /// Its answer ended now.
    pub fn ended(self, ending: Ending) {
        let since = |end: Instant| end.saturating_duration_since(self.started);
        let first_byte = ending.first_byte.map(since);
        if let Some(score) = score(self.counts.metric, ending, first_byte, self.started.elapsed()) {
            let scored = self.counts.tally(self.thread).score(self.routed, score);
            scored.expect("0 and 1 are scores, and the tally itself routed the request");
        }
    }
}

/// What a request scores by its answer. None where the client left before it could be told, and where clients score.
fn score(
    metric: ExperimentMetric,
    ending: Ending,
    first_byte: Option<Duration>,
    elapsed: Duration,
) -> Option<f64> {
    let in_time = |Within { seconds }: Within, end: Option<Duration>| match end {
        Some(end) => Some(end.as_secs_f64() <= seconds),
        // It had not come when the client left: too late already, or nobody knows.
        None => (elapsed.as_secs_f64() > seconds).then_some(false),
    };
    let well = match metric {
        ExperimentMetric::FeedbackScore(_) => return None,
        _ if ending.error == Some(true) => Some(false),
        ExperimentMetric::Success(_) => ending.error.map(|error| !error),
        ExperimentMetric::LatencyWithin(within) => in_time(within, ending.complete.then_some(elapsed)),
        ExperimentMetric::FirstByteWithin(within) => {
            in_time(within, first_byte.or(ending.complete.then_some(elapsed)))
        }
    };
    well.map(|well| if well { 1.0 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_contract::{FeedbackScore, Success};

    #[test]
    fn a_request_scores_by_what_became_of_its_answer() {
        let within = Within { seconds: 1.0 };
        let success = ExperimentMetric::Success(Success {});
        let latency = ExperimentMetric::LatencyWithin(within);
        let first = ExperimentMetric::FirstByteWithin(within);
        let feedback = ExperimentMetric::FeedbackScore(FeedbackScore {});
        let (fine, error, unknown) = (Some(false), Some(true), None);
        let (yes, no) = (Some(1.0), Some(0.0));
        // Error, complete, seconds to the first byte, seconds in all; success, latency, first byte.
        for (error, complete, byte, seconds, scores) in [
            (fine, true, Some(0.5), 0.9, [yes, yes, yes]),
            (fine, true, Some(0.5), 1.1, [yes, no, yes]),
            (fine, true, Some(1.1), 1.2, [yes, no, no]),
            (fine, true, None, 0.9, [yes, yes, yes]),
            (error, true, Some(0.1), 0.2, [no, no, no]),
            (error, false, Some(0.1), 0.2, [no, no, no]),
            // The client left.
            (fine, false, Some(0.1), 0.2, [yes, None, yes]),
            (fine, false, Some(0.1), 1.1, [yes, no, yes]),
            (unknown, false, None, 0.2, [None, None, None]),
            (unknown, false, None, 1.1, [None, no, no]),
        ] {
            let ending = Ending {
                error,
                complete,
                first_byte: None,
            };
            let scored = [success, latency, first].map(|metric| {
                let [byte, elapsed] = [byte, Some(seconds)].map(|end| end.map(Duration::from_secs_f64));
                score(metric, ending, byte, elapsed.unwrap())
            });
            assert_eq!(scored, scores, "{ending:?} {byte:?} {seconds}");
            assert_eq!(score(feedback, ending, None, Duration::ZERO), None);
        }
    }

    #[test]
    fn ids_are_remembered_up_to_a_bound() {
        let mut scored = Scored::default();
        let tag = |number: usize| (number as u128).to_be_bytes();
        for number in 0..REMEMBERED {
            assert!(scored.insert(tag(number)));
        }
        assert!(!scored.insert(tag(0)));
        assert!(scored.insert(tag(REMEMBERED)));
        assert!(!scored.insert(tag(1)));
        assert!(scored.insert(tag(0)), "the oldest is forgotten");
        assert_eq!((scored.tags.len(), scored.order.len()), (REMEMBERED, REMEMBERED));
    }
}
