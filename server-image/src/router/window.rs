//! Counts and times since a window began: what `/stats` says, and what a canary is judged by.
//!
//! A window belongs to its table. A request counts in the window of the table it was routed by, even when it ends
//! after another was put in force, so that no answer of before is counted after.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use slipway_contract::{Histogram, Mirrored, RevisionStats, RouterStats, Scores};

use super::series::Series;
use super::sharded::Sharded;

/// A [`Histogram`] that threads count into together.
#[derive(Debug)]
pub struct Times(Sharded<Box<[AtomicU64]>>);

impl Default for Times {
    fn default() -> Self {
        Self(Sharded::from_fn(|| {
            (0..Histogram::BUCKETS).map(|_| AtomicU64::new(0)).collect()
        }))
    }
}

impl Times {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        self.0.mine()[usize::from(Histogram::bucket(duration))].fetch_add(1, Relaxed);
    }

    fn read(&self) -> Histogram {
        let count = |bucket: u16| {
            let counts = self
                .0
                .all()
                .map(|counts| counts[usize::from(bucket)].load(Relaxed));
            (bucket, counts.sum())
        };
        let buckets = (0..Histogram::BUCKETS)
            .map(count)
            .filter(|&(_, count): &(u16, u64)| count > 0);
        Histogram {
            buckets: buckets.collect(),
        }
    }
}

/// Answers of one kind.
#[derive(Debug, Default)]
pub struct Answers {
    errors: AtomicU64,
    latency: Times,
    /// Until the first byte of the body came.
    pub first_byte: Times,
}

impl Answers {
    /// Counts an answer that ended, or was given up, `duration` after its request came.
    pub fn ended(&self, error: bool, duration: Duration) {
        self.latency.observe(duration);
        if error {
            self.errors.fetch_add(1, Release);
        }
    }

    /// Errors first, then everything: who reads an error also reads the answer that it was.
    fn read(&self) -> (u64, Histogram, Histogram) {
        let errors = self.errors.load(Acquire);
        (errors, self.latency.read(), self.first_byte.read())
    }
}

/// What one revision of one arm did in one window.
#[derive(Debug)]
pub struct WindowSeries {
    lifetime: Arc<Series>,
    /// Answers to clients.
    pub answered: Answers,
    /// Answers to copies, which nobody got.
    pub mirrored: Answers,
    /// Copies that were not sent because too many were under way.
    pub dropped: AtomicU64,
    scores: Mutex<Scores>,
}

impl WindowSeries {
    fn new(lifetime: Arc<Series>) -> Self {
        Self {
            lifetime,
            answered: Answers::default(),
            mirrored: Answers::default(),
            dropped: AtomicU64::new(0),
            scores: Mutex::default(),
        }
    }

    /// Counts what a client said of one of its answers.
    pub fn scored(&self, score: f64) {
        self.scores
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(score);
    }

    fn read(&self, variant: &str, revision: &str, ready_servers: u64) -> RevisionStats {
        let (errors, latency, first_byte) = self.answered.read();
        RevisionStats {
            variant: variant.to_owned(),
            revision: revision.to_owned(),
            requests: latency.count(),
            errors,
            in_flight: self.lifetime.in_flight.load(Relaxed),
            queued: self.lifetime.held.waiting.load(Relaxed),
            idle_seconds: self.lifetime.idle().as_secs(),
            ready_servers,
            latency,
            first_byte,
            scores: *self.scores.lock().unwrap_or_else(PoisonError::into_inner),
            mirrored: self.read_mirrored(),
        }
    }

    fn read_mirrored(&self) -> Option<Mirrored> {
        let (errors, latency, first_byte) = self.mirrored.read();
        let (requests, dropped) = (latency.count(), self.dropped.load(Relaxed));
        let in_flight = self.lifetime.mirrored.in_flight.load(Relaxed);
        (requests + dropped + in_flight > 0).then_some(Mirrored {
            requests,
            errors,
            dropped,
            in_flight,
            latency,
            first_byte,
        })
    }
}

/// The series of a window.
#[derive(Clone, Debug, Default)]
pub struct Window {
    name: String,
    series: BTreeMap<(String, String), Arc<WindowSeries>>,
}

impl Window {
    /// The window `name`: it goes on where the table before was in it too, else it begins.
    pub fn following(before: Option<&Self>, name: &str) -> Self {
        before
            .filter(|before| before.name == name)
            .cloned()
            .unwrap_or_else(|| Self {
                name: name.to_owned(),
                series: BTreeMap::new(),
            })
    }

    /// The series of a revision of an arm. Looked up when a table is built, never for a request.
    pub fn series(&mut self, variant: &str, revision: &str, lifetime: &Arc<Series>) -> Arc<WindowSeries> {
        self.series
            .entry((variant.to_owned(), revision.to_owned()))
            .or_insert_with(|| Arc::new(WindowSeries::new(lifetime.clone())))
            .clone()
    }

    /// The answer of `/stats`. `ready`: servers of a revision of an arm that answer their probe now.
    pub fn stats(&self, version: &str, ready: impl Fn(&str, &str) -> u64) -> RouterStats {
        let series = self.series.iter();
        RouterStats {
            instance: String::new(),
            version: version.to_owned(),
            window: self.name.clone(),
            series: series
                .map(|((variant, revision), series)| series.read(variant, revision, ready(variant, revision)))
                .collect(),
            experiment: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_window_goes_on_under_its_name_and_begins_again_under_another() {
        let lifetime = Arc::new(Series::default());
        let mut first = Window::following(None, "1");
        let series = first.series("a", "r", &lifetime);
        series.answered.ended(false, Duration::from_millis(3));
        let mut same = Window::following(Some(&first), "1");
        assert!(Arc::ptr_eq(&series, &same.series("a", "r", &lifetime)));
        let mut next = Window::following(Some(&same), "2");
        next.series("a", "r", &lifetime);
        // Begun in the window before, ended in this.
        series.answered.ended(true, Duration::from_secs(3));
        let requests = |window: &Window| window.stats("", |_, _| 0).series[0].requests;
        assert_eq!((requests(&same), requests(&next)), (2, 0));
    }

    #[test]
    fn what_was_counted_is_what_is_told() {
        let lifetime = Arc::new(Series::default());
        lifetime.in_flight.fetch_add(4, Relaxed);
        let mut window = Window::following(None, "w");
        let series = window.series("a", "r", &lifetime);
        assert!(window.stats("v", |_, _| 0).series[0].mirrored.is_none());
        series.answered.ended(false, Duration::from_millis(10));
        series.answered.ended(true, Duration::from_millis(10));
        series.answered.first_byte.observe(Duration::from_millis(5));
        series.mirrored.ended(true, Duration::from_secs(30));
        series.dropped.fetch_add(2, Relaxed);
        let stats = window.stats("v", |variant, revision| {
            assert_eq!((variant, revision), ("a", "r"));
            3
        });
        assert_eq!((stats.version.as_str(), stats.window.as_str()), ("v", "w"));
        let told = &stats.series[0];
        assert_eq!((told.requests, told.errors), (2, 1));
        assert_eq!((told.in_flight, told.ready_servers), (4, 3));
        assert_eq!((told.latency.count(), told.first_byte.count()), (2, 1));
        let mirrored = told.mirrored.as_ref().unwrap();
        assert_eq!((mirrored.requests, mirrored.errors, mirrored.dropped), (1, 1, 2));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_5_percent_of_the_exact(
            // Logarithms of seconds: from 0.1 ms to half an hour, each scale as likely as the other.
            logarithms in proptest::collection::vec(-9.2f64..7.5, 1..400),
            split in 0usize..400,
            q in 0.0f64..=1.0,
        ) {
            let mut exact: Vec<f64> = logarithms.iter().map(|logarithm| logarithm.exp()).collect();
            // Two routers saw them.
            let routers = [Times::default(), Times::default()];
            for (index, &seconds) in exact.iter().enumerate() {
                routers[usize::from(index < split)].observe(Duration::from_secs_f64(seconds));
            }
            let mut merged = routers[0].read();
            merged.merge(&routers[1].read());
            prop_assert_eq!(merged.count(), exact.len() as u64);
            exact.sort_by(f64::total_cmp);
            let rank = (q * exact.len() as f64).ceil().max(1.0) as usize;
            let (told, exact) = (merged.quantile(q).unwrap(), exact[rank - 1]);
            prop_assert!((told / exact - 1.0).abs() < 0.05, "{told} for {exact}");
        }
    }
}
