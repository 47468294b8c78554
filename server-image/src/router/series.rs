//! What one revision of one arm did since the router started: counts and times, without a lock on a request's way.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::sharded::Sharded;

/// Upper bounds of the buckets in seconds: from a classifier's answer to a long generation.
pub const BOUNDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];
const BUCKETS: usize = BOUNDS.len() + 1;
/// Every HTTP status.
pub const CODES: std::ops::Range<u16> = 100..600;

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Histogram(Sharded<Counts>);

/// What one thread counted into a histogram.
#[derive(Debug, Default)]
struct Counts {
    buckets: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|&bound| bound < seconds);
        let counts = self.0.mine();
        counts.buckets[bucket].fetch_add(1, Relaxed);
        counts.nanoseconds.fetch_add(duration.as_nanos() as u64, Relaxed);
    }

    /// How many there were in each bucket, the last one without a bound.
    pub fn buckets(&self) -> [u64; BUCKETS] {
        let mut sum = [0; BUCKETS];
        for counts in self.0.all() {
            for (sum, count) in sum.iter_mut().zip(&counts.buckets) {
                *sum += count.load(Relaxed);
            }
        }
        sum
    }

    /// The sum of all durations in seconds.
    pub fn seconds(&self) -> f64 {
        let nanoseconds = self.0.all().map(|counts| counts.nanoseconds.load(Relaxed));
        nanoseconds.sum::<u64>() as f64 / 1e9
    }

    fn p99(&self) -> Option<Duration> {
        let counts = self.buckets();
        let total: u64 = counts.iter().sum();
        let mut above = total;
        let bucket = counts.iter().position(|count| {
            above -= count;
            above.saturating_mul(100) <= total
        })?;
        (total > 0).then(|| {
            BOUNDS
                .get(bucket)
                .map_or(Duration::MAX, |&bound| Duration::from_secs_f64(bound))
        })
    }
}

/// What one revision of one arm did.
#[derive(Debug)]
pub struct Series {
    codes: Sharded<Box<[AtomicU64]>>,
    /// Until the last byte was handed on, or the client left.
    pub duration: Histogram,
    /// Until the first byte of the body came.
    pub first_byte: Histogram,
    /// Requests under way.
    pub in_flight: AtomicU64,
    /// Requests that wait for the arm's first server.
    pub held: Held,
    /// Since when there is something to be idle.
    begun: Instant,
    /// Milliseconds from there until a request or copy last ended.
    last_end: AtomicU64,
    /// Connections to a server that were refused or broke before an answer, or that a canary did not begin one on in
    /// time.
    pub upstream_failures: AtomicU64,
    /// Copies of requests.
    pub mirrored: Mirrored,
}

/// Requests that waited for their arm's first server, and what became of them.
#[derive(Debug, Default)]
pub struct Held {
    /// Waiting now.
    pub waiting: AtomicU64,
    /// Sent to a server, or routed anew because the table changed.
    pub released: AtomicU64,
    /// Answered by 503 after the longest wait.
    pub expired: AtomicU64,
    /// Answered by 503 because too many waited.
    pub refused: AtomicU64,
    /// Its client left.
    pub left: AtomicU64,
}

/// What became of the copies of requests that a canary was to get.
#[derive(Debug, Default)]
pub struct Mirrored {
    /// Answered whole, with a status below 500.
    pub answered: AtomicU64,
    /// Answered otherwise, or not at all.
    pub failed: AtomicU64,
    /// Not sent, because too many were under way.
    pub dropped: AtomicU64,
    /// Under way now.
    pub in_flight: AtomicU64,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            codes: Sharded::from_fn(|| CODES.map(|_| AtomicU64::new(0)).collect()),
            duration: Histogram::default(),
            first_byte: Histogram::default(),
            in_flight: AtomicU64::new(0),
            held: Held::default(),
            begun: Instant::now(),
            last_end: AtomicU64::new(0),
            upstream_failures: AtomicU64::new(0),
            mirrored: Mirrored::default(),
        }
    }
}

impl Series {
    /// A request, or a copy of one, ended.
    pub fn ended(&self, now: Instant) {
        let since = now.saturating_duration_since(self.begun);
        let milliseconds = since.as_millis() as u64;
        // Of thousands in a millisecond, one writes.
        if self.last_end.load(Relaxed) < milliseconds {
            self.last_end.fetch_max(milliseconds, Relaxed);
        }
    }

    /// How long nothing was under way or waiting; since the series began where nothing ever was.
    pub fn idle(&self) -> Duration {
        // Read before the counts: what ends between the two reads shows in one of them.
        let elapsed = self.begun.elapsed();
        let counts = [&self.in_flight, &self.held.waiting, &self.mirrored.in_flight];
        if counts.iter().any(|count| count.load(Relaxed) > 0) {
            return Duration::ZERO;
        }
        elapsed.saturating_sub(Duration::from_millis(self.last_end.load(Relaxed)))
    }

    /// How soon this revision begins nearly all of its answers, as far as its counts tell: the upper bound of the
    /// bucket that holds the 99th of a hundred. None where it answered nothing yet, [`Duration::MAX`] beyond the
    /// last bound.
    pub fn usual_first_byte(&self) -> Option<Duration> {
        self.first_byte.p99()
    }

    /// Counts an answer with HTTP status `code`.
    pub fn answered(&self, code: u16) {
        if CODES.contains(&code) {
            self.codes.mine()[usize::from(code - CODES.start)].fetch_add(1, Relaxed);
        }
    }

    /// How many answers had each of the [`CODES`].
    pub fn codes(&self) -> impl Iterator<Item = (u16, u64)> {
        CODES.zip(0..).map(|(code, place): (u16, usize)| {
            let counts = self.codes.all().map(|counts| counts[place].load(Relaxed));
            (code, counts.sum())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_first_byte_is_that_of_nearly_all_answers() {
        let series = Series::default();
        assert_eq!(series.usual_first_byte(), None);
        for _ in 0..99 {
            series.first_byte.observe(Duration::from_millis(3));
        }
        series.first_byte.observe(Duration::from_secs(20));
        assert_eq!(series.usual_first_byte(), Some(Duration::from_millis(5)));
        series.first_byte.observe(Duration::from_secs(20));
        assert_eq!(series.usual_first_byte(), Some(Duration::from_secs(30)));
        for _ in 0..2 {
            series.first_byte.observe(Duration::from_mins(3));
        }
        assert_eq!(series.usual_first_byte(), Some(Duration::MAX));
    }

    #[test]
    fn a_series_is_idle_while_nothing_is_under_way_or_waits() {
        let series = Series::default();
        for count in [
            &series.in_flight,
            &series.held.waiting,
            &series.mirrored.in_flight,
        ] {
            std::thread::sleep(Duration::from_millis(2));
            assert!(series.idle() >= Duration::from_millis(2));
            count.fetch_add(1, Relaxed);
            assert_eq!(series.idle(), Duration::ZERO);
            series.ended(Instant::now());
            count.fetch_sub(1, Relaxed);
            assert!(series.idle() < Duration::from_secs(1));
        }
    }
}
