//! Counts and times for each arm and revision, without a lock on a request's way.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Upper bounds of the buckets in seconds: from a classifier's answer to a long generation.
const BOUNDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];
const CODES: std::ops::Range<u16> = 100..600;

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|&bound| bound < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(duration.as_nanos() as u64, Relaxed);
    }

    fn p99(&self) -> Option<Duration> {
        let counts = self.buckets.each_ref().map(|count| count.load(Relaxed));
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

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut count = 0;
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS) {
            count += bucket.load(Relaxed);
            writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}").expect(INFALLIBLE);
        }
        count += self.buckets[BOUNDS.len()].load(Relaxed);
        let sum = self.nanoseconds.load(Relaxed) as f64 / 1e9;
        writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}").expect(INFALLIBLE);
        writeln!(out, "{name}_sum{{{labels}}} {sum}").expect(INFALLIBLE);
        writeln!(out, "{name}_count{{{labels}}} {count}").expect(INFALLIBLE);
    }
}

const INFALLIBLE: &str = "a String takes everything";

/// What one revision of one arm did.
#[derive(Debug)]
pub struct Series {
    codes: Box<[AtomicU64]>,
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
            codes: CODES.map(|_| AtomicU64::new(0)).collect(),
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
        self.last_end.fetch_max(since.as_millis() as u64, Relaxed);
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
            self.codes[usize::from(code - CODES.start)].fetch_add(1, Relaxed);
        }
    }
}

type Key = (String, String);

/// All series: they outlive route tables, so that counters never go back.
#[derive(Debug, Default)]
pub struct Metrics {
    series: Mutex<BTreeMap<Key, Arc<Series>>>,
    /// Requests that no arm could take.
    pub unrouted: AtomicU64,
    /// Route tables that were refused.
    pub invalid_tables: AtomicU64,
}

impl Metrics {
    /// The series of a revision of an arm. Looked up when a table is built, never for a request.
    pub fn series(&self, variant: &str, revision: &str) -> Arc<Series> {
        let mut series = self.series.lock().expect("no holder panics");
        series
            .entry((variant.to_owned(), revision.to_owned()))
            .or_default()
            .clone()
    }

    /// The Prometheus text format. `ready`: for each variant and revision of the table in force, its ready servers.
    pub fn render<'a>(&self, ready: impl Iterator<Item = (&'a str, &'a str, usize)>) -> String {
        let series = self.series.lock().expect("no holder panics").clone();
        let labelled: Vec<(String, Arc<Series>)> = series
            .into_iter()
            .map(|((variant, revision), series)| (labels(&variant, &revision), series))
            .collect();
        let mut out = String::new();
        head(
            &mut out,
            "slipway_router_requests_total",
            "counter",
            "Answers by HTTP status.",
        );
        for (labels, series) in &labelled {
            for (code, count) in CODES.zip(&series.codes) {
                let count = count.load(Relaxed);
                if count > 0 {
                    writeln!(
                        out,
                        "slipway_router_requests_total{{{labels},code=\"{code}\"}} {count}"
                    )
                    .expect(INFALLIBLE);
                }
            }
        }
        for (name, help, pick) in [
            (
                "slipway_router_request_duration_seconds",
                "Until the last byte was handed on, or the client left.",
                (|series: &Series| &series.duration) as fn(&Series) -> &Histogram,
            ),
            (
                "slipway_router_time_to_first_byte_seconds",
                "Until the first byte of the body came.",
                |series: &Series| &series.first_byte,
            ),
        ] {
            head(&mut out, name, "histogram", help);
            for (labels, series) in &labelled {
                pick(series).write(&mut out, name, labels);
            }
        }
        head(
            &mut out,
            "slipway_router_in_flight",
            "gauge",
            "Requests under way.",
        );
        for (labels, series) in &labelled {
            let count = series.in_flight.load(Relaxed);
            writeln!(out, "slipway_router_in_flight{{{labels}}} {count}").expect(INFALLIBLE);
        }
        let name = "slipway_router_queued";
        head(
            &mut out,
            name,
            "gauge",
            "Requests that wait for the first server of their arm.",
        );
        for (labels, series) in &labelled {
            let count = series.held.waiting.load(Relaxed);
            writeln!(out, "{name}{{{labels}}} {count}").expect(INFALLIBLE);
        }
        let name = "slipway_router_held_total";
        head(
            &mut out,
            name,
            "counter",
            "Requests that waited so: released, expired (503), refused (503, too many waited), left (their client did).",
        );
        for (labels, series) in &labelled {
            let Held {
                waiting: _,
                released,
                expired,
                refused,
                left,
            } = &series.held;
            for (result, count) in [
                ("released", released),
                ("expired", expired),
                ("refused", refused),
                ("left", left),
            ] {
                let count = count.load(Relaxed);
                writeln!(out, "{name}{{{labels},result=\"{result}\"}} {count}").expect(INFALLIBLE);
            }
        }
        let name = "slipway_router_upstream_failures_total";
        head(
            &mut out,
            name,
            "counter",
            "Connections that were refused or broke before an answer, and canaries that did not begin one in time.",
        );
        for (labels, series) in &labelled {
            let count = series.upstream_failures.load(Relaxed);
            writeln!(out, "{name}{{{labels}}} {count}").expect(INFALLIBLE);
        }
        let name = "slipway_router_mirrored_total";
        head(
            &mut out,
            name,
            "counter",
            "Copies of requests for a canary: answered, failed (status 500 or more, or no whole answer), dropped.",
        );
        for (labels, series) in &labelled {
            let Mirrored {
                answered,
                failed,
                dropped,
                in_flight: _,
            } = &series.mirrored;
            for (result, count) in [("answered", answered), ("failed", failed), ("dropped", dropped)] {
                let count = count.load(Relaxed);
                writeln!(out, "{name}{{{labels},result=\"{result}\"}} {count}").expect(INFALLIBLE);
            }
        }
        let name = "slipway_router_ready_backends";
        head(&mut out, name, "gauge", "Servers that answer their probe.");
        for (variant, revision, count) in ready {
            writeln!(out, "{name}{{{}}} {count}", labels(variant, revision)).expect(INFALLIBLE);
        }
        for (name, help, value) in [
            (
                "slipway_router_unrouted_total",
                "Requests that no arm could take.",
                &self.unrouted,
            ),
            (
                "slipway_router_invalid_tables_total",
                "Route tables that were refused.",
                &self.invalid_tables,
            ),
        ] {
            head(&mut out, name, "counter", help);
            writeln!(out, "{name} {}", value.load(Relaxed)).expect(INFALLIBLE);
        }
        out
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect(INFALLIBLE);
}

fn labels(variant: &str, revision: &str) -> String {
    format!(
        "variant=\"{}\",revision=\"{}\"",
        escaped(variant),
        escaped(revision)
    )
}

fn escaped(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
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

    #[test]
    fn a_series_outlives_its_table_and_is_told_by_revision() {
        let metrics = Metrics::default();
        let one = metrics.series("a", "1");
        one.answered(200);
        metrics.series("a", "1").answered(200);
        metrics.series("a", "2").answered(503);
        metrics.series("a", "2").mirrored.dropped.fetch_add(1, Relaxed);
        one.first_byte.observe(Duration::from_millis(3));
        one.first_byte.observe(Duration::from_mins(5));
        let text = metrics.render([("a", "2", 2)].into_iter());
        for line in [
            "slipway_router_requests_total{variant=\"a\",revision=\"1\",code=\"200\"} 2",
            "slipway_router_requests_total{variant=\"a\",revision=\"2\",code=\"503\"} 1",
            "slipway_router_time_to_first_byte_seconds_bucket{variant=\"a\",revision=\"1\",le=\"0.0025\"} 0",
            "slipway_router_time_to_first_byte_seconds_bucket{variant=\"a\",revision=\"1\",le=\"0.005\"} 1",
            "slipway_router_time_to_first_byte_seconds_bucket{variant=\"a\",revision=\"1\",le=\"120\"} 1",
            "slipway_router_time_to_first_byte_seconds_bucket{variant=\"a\",revision=\"1\",le=\"+Inf\"} 2",
            "slipway_router_time_to_first_byte_seconds_count{variant=\"a\",revision=\"1\"} 2",
            "slipway_router_mirrored_total{variant=\"a\",revision=\"2\",result=\"dropped\"} 1",
            "slipway_router_ready_backends{variant=\"a\",revision=\"2\"} 2",
        ] {
            assert!(
                text.lines().any(|known| known == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
