//! What a router counted since its window began: `GET /stats` on its metrics listener. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::experiment::Tally;

/// The answer of one router.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouterStats {
    /// Names the router's process: another one each time it starts. All counts below started at zero with it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// [`RouteTable::version`](crate::RouteTable::version) of the table in force.
    pub version: String,
    /// [`RouteTable::window`](crate::RouteTable::window) of the table in force.
    pub window: String,
    /// One for each revision of each arm that a table of this window named.
    pub series: Vec<RevisionStats>,
    /// The experiment of the table in force. None where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ExperimentStats>,
}

/// What one router counted of an experiment since it started or the experiment did.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExperimentStats {
    /// [`RouteExperiment::id`](crate::RouteExperiment::id). Tallies of one id only can be merged.
    pub id: String,
    /// The requests that the split sent to each arm, and their scores. Those that asked for an arm or revision by
    /// name, copies, and what came while an arm could not be chosen are not among them.
    pub tally: Tally,
}

impl RouterStats {
    /// Sums the answers of several routers into one for each variant and revision, ordered by these. Compare
    /// `window` first: answers about different windows have no meaningful sum.
    pub fn merge(answers: impl IntoIterator<Item = Self>) -> Vec<RevisionStats> {
        let mut merged: BTreeMap<(String, String), RevisionStats> = BTreeMap::new();
        for series in answers.into_iter().flat_map(|answer| answer.series) {
            let sum = merged
                .entry((series.variant.clone(), series.revision.clone()))
                .or_insert_with(|| RevisionStats {
                    variant: series.variant.clone(),
                    revision: series.revision.clone(),
                    idle_seconds: u64::MAX,
                    ..RevisionStats::default()
                });
            sum.add(&series);
        }
        merged.into_values().collect()
    }
}

/// What one revision of one arm did in a window. Requests that asked for a variant or revision by name are not
/// among it: they are tests and evaluations, not the traffic that is split.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RevisionStats {
    /// The arm.
    pub variant: String,
    /// The revision.
    pub revision: String,
    /// Answers in this window, each counted when it ends. Mirrored ones are counted apart.
    pub requests: u64,
    /// Answers with a status of 500 or more, connections that broke before or within an answer included, and those
    /// of a canary in whose place the stable revision answered. A client that leaves is no error, unless it had its
    /// request to the server whole and then waited more than 30 s for any answer.
    pub errors: u64,
    /// Requests under way now, whichever window they began in and whether or not they asked for this revision.
    pub in_flight: u64,
    /// Requests that wait now for the arm's first server to become ready: see [`Hold`](crate::Hold).
    pub queued: u64,
    /// Seconds since a request, or a copy of one, was last under way or waiting, since the router's start where none
    /// ever was; 0 while one is.
    pub idle_seconds: u64,
    /// Servers that answer their probe now.
    pub ready_servers: u64,
    /// From the head of a request until the last byte of its answer was handed on, or its client left. Where the
    /// stable revision answers in a canary's place, its seconds begin when it is asked.
    pub latency: Histogram,
    /// From the head of a request until the first byte of its answer's body.
    pub first_byte: Histogram,
    /// What clients posted of its answers in this window, whenever these were given. See
    /// [`RouteFeedback`](crate::RouteFeedback).
    pub scores: Scores,
    /// The same for mirrored requests. None where none was mirrored in this window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirrored: Option<Mirrored>,
}

impl RevisionStats {
    /// Adds what another router says about the same revision. Every router probes the same servers, so
    /// `ready_servers` is the highest number any of them sees, not their sum.
    fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.in_flight = self.in_flight.saturating_add(other.in_flight);
        self.queued = self.queued.saturating_add(other.queued);
        self.idle_seconds = self.idle_seconds.min(other.idle_seconds);
        self.ready_servers = self.ready_servers.max(other.ready_servers);
        self.latency.merge(&other.latency);
        self.first_byte.merge(&other.first_byte);
        self.scores.count = self.scores.count.saturating_add(other.scores.count);
        self.scores.sum += other.scores.sum;
        if let Some(mirrored) = &other.mirrored {
            self.mirrored.get_or_insert_default().add(mirrored);
        }
    }
}

/// Scores that clients posted, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Scores {
    /// How many.
    pub count: u64,
    /// What they add up to.
    pub sum: f64,
}

impl Scores {
    /// Adds one.
    pub fn add(&mut self, score: f64) {
        self.count += 1;
        self.sum += score;
    }

    /// None of nothing.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// Requests that a canary, or an arm that is mirrored to, was sent a copy of. Its answers reached nobody.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mirrored {
    /// Copies that were sent and are done with, well or badly.
    pub requests: u64,
    /// Of these, answers with a status of 500 or more, and copies without a whole answer within the time limit.
    pub errors: u64,
    /// Copies that were not sent because too many were under way.
    pub dropped: u64,
    /// Copies under way now, whichever window they began in.
    pub in_flight: u64,
    /// From the sending of a copy until the last byte of its answer.
    pub latency: Histogram,
    /// From the sending of a copy until the first byte of its answer's body.
    pub first_byte: Histogram,
}

impl Mirrored {
    fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.dropped = self.dropped.saturating_add(other.dropped);
        self.in_flight = self.in_flight.saturating_add(other.in_flight);
        self.latency.merge(&other.latency);
        self.first_byte.merge(&other.first_byte);
    }
}

/// Histogram of durations with buckets of equal width on a logarithmic scale, eight to a doubling: bucket i covers
/// [10⁻⁴ s · 2^(i/8), 10⁻⁴ s · 2^((i+1)/8)). The first takes everything shorter and the last everything longer.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Histogram {
    /// (bucket, count), ascending by bucket; empty buckets are left out.
    pub buckets: Vec<(u16, u64)>,
}

impl Histogram {
    /// Number of buckets: the last begins just below an hour.
    pub const BUCKETS: u16 = 201;
    /// Seconds where the first bucket begins.
    const FIRST: f64 = 1e-4;
    /// Buckets to a doubling.
    const RESOLUTION: f64 = 8.0;

    /// The bucket of a duration.
    pub fn bucket(duration: Duration) -> u16 {
        let place = (duration.as_secs_f64() / Self::FIRST).log2() * Self::RESOLUTION;
        // A conversion to an integer saturates, so that zero, whose logarithm is −∞, is in the first bucket.
        (place as u16).min(Self::BUCKETS - 1)
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        let mut sums: BTreeMap<u16, u64> = BTreeMap::new();
        for &(bucket, count) in self.buckets.iter().chain(&other.buckets) {
            let sum = sums.entry(bucket).or_default();
            *sum = sum.saturating_add(count);
        }
        self.buckets = sums.into_iter().collect();
    }

    /// Durations counted.
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The `q`-quantile in seconds, `q` within 0 and 1 (nearest rank: the smallest duration that at least `q` of
    /// all do not exceed), as the geometric middle of its bucket: at most 4.5 % off the exact one, 2^(1/16) being
    /// 1.044, for durations from 0.1 ms to an hour. None of nothing.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0u64;
        let bucket = self.buckets.iter().find_map(|&(bucket, count)| {
            seen = seen.saturating_add(count);
            (seen >= rank).then_some(bucket)
        })?;
        Some(Self::FIRST * ((f64::from(bucket) + 0.5) / Self::RESOLUTION).exp2())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: &[(u16, u64)]) -> Histogram {
        Histogram {
            buckets: buckets.to_vec(),
        }
    }

    #[test]
    fn a_bucket_begins_where_the_one_before_ends() {
        for (seconds, bucket) in [
            (0.0, 0),
            (0.000_01, 0),
            (0.000_100_1, 0),
            (0.000_199_9, 7),
            (0.000_200_1, 8),
            (0.1023, 79),
            (0.1025, 80),
            (3600.0, 200),
            (1e9, 200),
        ] {
            let found = Histogram::bucket(Duration::from_secs_f64(seconds));
            assert_eq!(found, bucket, "{seconds} s");
        }
        assert_eq!(Histogram::bucket(Duration::MAX), Histogram::BUCKETS - 1);
    }

    #[test]
    fn a_quantile_is_the_middle_of_the_bucket_of_its_rank() {
        let counts = histogram(&[(0, 50), (80, 49), (160, 1)]);
        let middle = |bucket: f64| 1e-4 * ((bucket + 0.5) / 8.0).exp2();
        for (q, bucket) in [
            (0.0, 0.0),
            (0.5, 0.0),
            (0.51, 80.0),
            (0.99, 80.0),
            (0.991, 160.0),
            (1.0, 160.0),
        ] {
            assert_eq!(counts.quantile(q), Some(middle(bucket)), "{q}");
        }
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(histogram(&[(3, 0)]).quantile(0.5), None);
    }

    #[test]
    fn histograms_add_up_bucket_by_bucket() {
        let mut sum = histogram(&[(1, 2), (5, 1)]);
        sum.merge(&histogram(&[(0, 4), (5, 3), (9, 1)]));
        assert_eq!(sum, histogram(&[(0, 4), (1, 2), (5, 4), (9, 1)]));
        assert_eq!(sum.count(), 11);
    }

    #[test]
    fn routers_add_up_by_variant_and_revision() {
        let router = |scale: u64| {
            let series = |revision: &str, requests: u64| RevisionStats {
                variant: "a".into(),
                revision: revision.into(),
                requests,
                errors: scale,
                in_flight: 2 * scale,
                queued: 4 * scale,
                idle_seconds: 10 - scale,
                ready_servers: scale,
                latency: histogram(&[(scale as u16, requests)]),
                scores: Scores {
                    count: scale,
                    sum: 0.5 * scale as f64,
                },
                ..RevisionStats::default()
            };
            let canary = RevisionStats {
                mirrored: Some(Mirrored {
                    requests: 5 * scale,
                    dropped: scale,
                    ..Mirrored::default()
                }),
                ..series("r2", 10 * scale)
            };
            RouterStats {
                instance: String::new(),
                version: "7".into(),
                window: "w".into(),
                series: vec![canary, series("r1", 100 * scale)],
                experiment: None,
            }
        };
        let third = RouterStats {
            series: vec![RevisionStats {
                variant: "b".into(),
                ..RevisionStats::default()
            }],
            ..router(0)
        };
        let merged = RouterStats::merge([router(1), router(2), third]);
        let names: Vec<_> = merged
            .iter()
            .map(|series| (series.variant.as_str(), series.revision.as_str()))
            .collect();
        assert_eq!(names, [("a", "r1"), ("a", "r2"), ("b", "")]);
        let [stable, canary, _] = merged.as_slice() else {
            panic!("{merged:?}");
        };
        assert_eq!((stable.requests, canary.requests), (300, 30));
        assert_eq!((canary.errors, canary.in_flight, canary.ready_servers), (3, 6, 2));
        assert_eq!((canary.queued, canary.idle_seconds), (12, 8));
        assert_eq!(canary.latency, histogram(&[(1, 10), (2, 20)]));
        let mirrored = canary.mirrored.as_ref().unwrap();
        assert_eq!((mirrored.requests, mirrored.dropped), (15, 3));
        assert_eq!(stable.mirrored, None);
        assert_eq!((canary.scores.count, canary.scores.mean()), (3, Some(0.5)));
        assert_eq!(Scores::default().mean(), None);
    }

    #[test]
    fn an_answer_reads_as_documented() {
        let stats = RouterStats {
            series: vec![RevisionStats {
                variant: "a".into(),
                in_flight: 1,
                latency: histogram(&[(80, 2)]),
                ..RevisionStats::default()
            }],
            ..RouterStats::default()
        };
        let text = serde_json::to_value(&stats).unwrap();
        assert_eq!(text["series"][0]["inFlight"], 1);
        assert_eq!(text["series"][0]["latency"], serde_json::json!([[80, 2]]));
        assert!(text.get("experiment").is_none());
        let read: RouterStats = serde_json::from_value(text).unwrap();
        assert_eq!(read.series, stats.series);
    }
}
