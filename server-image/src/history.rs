//! What was answered lately: whoever decides about a rollout asks for the time that matters to it, and the server keeps
//! nothing for anybody. The further back, the coarser.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use slipway_contract::{Histogram, ServerStats};

/// Spans kept. The newest are a second each; with one more than this, neighbours in the older half become one.
const SPANS: usize = 1024;

/// Answers by the second in which their request arrived.
#[derive(Debug)]
pub struct History {
    began: Instant,
    spans: Mutex<Spans>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            spans: Mutex::default(),
        }
    }
}

impl History {
    /// A request that `arrived` was answered, `error` or not, or given up, after `latency`.
    pub fn answered(&self, arrived: Instant, error: bool, latency: Duration, first_byte: Option<Duration>) {
        let second = arrived.saturating_duration_since(self.began).as_secs();
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = spans.at(second);
        stats.requests += 1;
        stats.errors += u64::from(error);
        count(&mut stats.latency, latency);
        if let Some(first_byte) = first_byte {
            count(&mut stats.first_byte, first_byte);
        }
        spans.shorten();
    }

    /// What arrived within the last so many seconds and is answered: at most a second less of it, or, long ago, what one
    /// span then covers.
    pub fn lately(&self, seconds: u64) -> ServerStats {
        let age = self.began.elapsed();
        // A second that is only partly within that time began before it.
        let first = age
            .checked_sub(Duration::from_secs(seconds))
            .map_or(0, |start| start.as_secs() + u64::from(start.subsec_nanos() > 0));
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.since(first)
    }
}

fn count(histogram: &mut Histogram, duration: Duration) {
    let bucket = Histogram::bucket(duration);
    let place = histogram
        .buckets
        .binary_search_by_key(&bucket, |(bucket, _)| *bucket);
    match place {
        Ok(index) => histogram.buckets[index].1 += 1,
        Err(index) => histogram.buckets.insert(index, (bucket, 1)),
    }
}

/// Some seconds, and what arrived in them.
#[derive(Debug, Default)]
struct Span {
    first: u64,
    last: u64,
    stats: ServerStats,
}

/// Ascending, without overlap; seconds in which nothing arrived may be in none.
#[derive(Debug, Default)]
struct Spans(VecDeque<Span>);

impl Spans {
    /// The figures of the span that a second belongs to.
    fn at(&mut self, second: u64) -> &mut ServerStats {
        let index = self.0.partition_point(|span| span.last < second);
        if self.0.get(index).is_none_or(|span| span.first > second) {
            let (first, last) = (second, second);
            let stats = ServerStats::default();
            self.0.insert(index, Span { first, last, stats });
        }
        &mut self.0[index].stats
    }

    /// Those that began at `first` or later.
    fn since(&self, first: u64) -> ServerStats {
        let index = self.0.partition_point(|span| span.first < first);
        let mut sum = ServerStats::default();
        for span in self.0.range(index..) {
            sum.merge(&span.stats);
        }
        sum
    }

    fn shorten(&mut self) {
        if self.0.len() <= SPANS {
            return;
        }
        let newer = self.0.split_off(SPANS / 2);
        let mut older = std::mem::replace(&mut self.0, VecDeque::with_capacity(SPANS + 1)).into_iter();
        while let Some(mut span) = older.next() {
            if let Some(next) = older.next() {
                span.last = next.last;
                span.stats.merge(&next.stats);
            }
            self.0.push_back(span);
        }
        self.0.extend(newer);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_counts_where_it_arrived_and_with_what_became_of_it() {
        let history = History::default();
        let (fast, slow) = (Duration::from_millis(3), Duration::from_secs(2));
        history.answered(history.began, false, fast, Some(fast));
        history.answered(history.began, true, slow, None);
        history.answered(history.began + Duration::from_secs(9), false, fast, Some(fast));
        let all = history.lately(u64::MAX);
        assert_eq!((all.requests, all.errors), (3, 1));
        assert_eq!((all.latency.count(), all.first_byte.count()), (3, 2));
        let spans = history.spans.lock().unwrap();
        let late = spans.since(1);
        assert_eq!((late.requests, late.errors), (1, 0));
        assert_eq!(late.latency.buckets, [(Histogram::bucket(fast), 1)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_what_is_told_is_never_older_than_asked(
            steps in proptest::collection::vec(0u64..4, 1..6000),
            first in 0u64..9000,
        ) {
            let mut spans = Spans::default();
            let (mut second, mut seconds) = (0, Vec::new());
            for (index, step) in steps.iter().enumerate() {
                second += step;
                // Some end long after they arrived.
                let arrived = if index % 7 == 0 { second / 2 } else { second };
                spans.at(arrived).requests += 1;
                seconds.push(arrived);
                spans.shorten();
                prop_assert!(spans.0.len() <= SPANS);
            }
            let ordered = spans.0.iter().zip(spans.0.iter().skip(1)).all(|(a, b)| a.first <= a.last && a.last < b.first);
            prop_assert!(ordered);
            prop_assert_eq!(spans.since(0).requests, seconds.len() as u64);
            let exact = seconds.iter().filter(|second| **second >= first).count() as u64;
            let told = spans.since(first).requests;
            prop_assert!(told <= exact);
            let newest = spans.0.len().saturating_sub(SPANS / 2);
            if spans.0.get(newest).is_some_and(|span| span.first <= first) {
                prop_assert_eq!(told, exact);
            }
        }
    }
}
