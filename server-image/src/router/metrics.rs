//! Every series, and what `/metrics` says of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::series::{BOUNDS, Held, Histogram, Mirrored, Series};

const INFALLIBLE: &str = "a String takes everything";

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
            for (code, count) in series.codes() {
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
                histogram(&mut out, name, labels, pick(series));
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

fn histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let mut count = 0;
    let buckets = histogram.buckets();
    for (bucket, bound) in buckets.iter().zip(BOUNDS) {
        count += bucket;
        writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}").expect(INFALLIBLE);
    }
    count += buckets[BOUNDS.len()];
    let sum = histogram.seconds();
    writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}").expect(INFALLIBLE);
    writeln!(out, "{name}_sum{{{labels}}} {sum}").expect(INFALLIBLE);
    writeln!(out, "{name}_count{{{labels}}} {count}").expect(INFALLIBLE);
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
    use std::time::Duration;

    use super::*;

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
