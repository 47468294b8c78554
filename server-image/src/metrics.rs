//! Metrics in Prometheus' format: our own, and those of vLLM's that autoscaling rules commonly read.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An HTTP request's labels.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct HttpLabels {
    /// The route, or `other`.
    pub path: String,
    /// The status, 499 when the client left.
    pub code: u16,
}

/// The name a client asked for: the base's or an adapter's.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ModelLabels {
    /// As vLLM calls it.
    pub model_name: String,
}

/// A finished sequence's labels.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct FinishLabels {
    /// The name asked for.
    pub model_name: String,
    /// `stop`, `length` or `abort`.
    pub finished_reason: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    http_requests: Family<HttpLabels, Counter>,
    http_seconds: Histograms<HttpLabels>,
    running: Gauge,
    waiting: Gauge,
    ready: Gauge,
    prompt_tokens: Family<ModelLabels, Counter>,
    generation_tokens: Family<ModelLabels, Counter>,
    queue_seconds: Histograms<ModelLabels>,
    first_token_seconds: Histograms<ModelLabels>,
    token_seconds: Histograms<ModelLabels>,
    latency_seconds: Histograms<ModelLabels>,
    finished: Family<FinishLabels, Counter>,
    batch_rows: Histogram,
    batch_padding: Counter,
}

fn seconds() -> Histogram {
    // 1 ms to 131 s, each bucket double the one before.
    Histogram::new(exponential_buckets(0.001, 2.0, 18))
}

fn histograms<L: Clone + std::hash::Hash + Eq>() -> Histograms<L> {
    Family::new_with_constructor(seconds as fn() -> Histogram)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            http_requests: Family::default(),
            http_seconds: histograms(),
            running: Gauge::default(),
            waiting: Gauge::default(),
            ready: Gauge::default(),
            prompt_tokens: Family::default(),
            generation_tokens: Family::default(),
            queue_seconds: histograms(),
            first_token_seconds: histograms(),
            token_seconds: histograms(),
            latency_seconds: histograms(),
            finished: Family::default(),
            batch_rows: Histogram::new(exponential_buckets(1.0, 2.0, 8)),
            batch_padding: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "slipway_server_requests",
            "HTTP requests by route and status",
            self.http_requests.clone(),
        );
        r.register(
            "slipway_server_request_duration_seconds",
            "Time from a request's arrival to the last byte of its response",
            self.http_seconds.clone(),
        );
        r.register(
            "slipway_server_ready",
            "1 while the model is loaded and the server is not draining",
            self.ready.clone(),
        );
        r.register(
            "slipway_server_batch_rows",
            "Sequences or texts computed together",
            self.batch_rows.clone(),
        );
        r.register(
            "slipway_server_batch_padding_tokens",
            "Padding computed because texts of one batch differ in length",
            self.batch_padding.clone(),
        );
        r.register(
            "vllm:num_requests_running",
            "Sequences being computed",
            self.running.clone(),
        );
        r.register(
            "vllm:num_requests_waiting",
            "Requests waiting to be computed",
            self.waiting.clone(),
        );
        r.register(
            "vllm:prompt_tokens",
            "Prompt tokens processed",
            self.prompt_tokens.clone(),
        );
        r.register(
            "vllm:generation_tokens",
            "Tokens generated",
            self.generation_tokens.clone(),
        );
        r.register(
            "vllm:request_queue_time_seconds",
            "Time spent waiting",
            self.queue_seconds.clone(),
        );
        r.register(
            "vllm:time_to_first_token_seconds",
            "Time from a request's arrival to its first token",
            self.first_token_seconds.clone(),
        );
        r.register(
            "vllm:time_per_output_token_seconds",
            "Time between tokens of an answer",
            self.token_seconds.clone(),
        );
        r.register(
            "vllm:e2e_request_latency_seconds",
            "Time from a request's arrival to the end of its answer",
            self.latency_seconds.clone(),
        );
        r.register(
            "vllm:request_success",
            "Finished sequences by reason",
            self.finished.clone(),
        );
    }

    /// The text a scrape receives. `waiting` and `ready` are read at that moment.
    pub fn encode(&self, waiting: usize, ready: bool) -> String {
        self.waiting.set(waiting as i64);
        self.ready.set(i64::from(ready));
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a String takes any text");
        out
    }

    /// A response was sent, or its client left.
    pub fn http(&self, path: &str, code: u16, took: Duration) {
        let labels = HttpLabels {
            path: path.into(),
            code,
        };
        self.http_requests.get_or_create(&labels).inc();
        self.http_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// How many sequences are being computed.
    pub fn running(&self, sequences: usize) {
        self.running.set(sequences as i64);
    }

    /// A batch went through the model.
    pub fn batch(&self, rows: usize, padding: usize) {
        self.batch_rows.observe(rows as f64);
        self.batch_padding.inc_by(padding as u64);
    }

    /// A prompt, after `queued` in the queue, was processed.
    pub fn prompt(&self, model: &str, tokens: usize, queued: Duration) {
        let labels = ModelLabels {
            model_name: model.into(),
        };
        self.prompt_tokens.get_or_create(&labels).inc_by(tokens as u64);
        self.queue_seconds
            .get_or_create(&labels)
            .observe(queued.as_secs_f64());
    }

    /// The first token of an answer came `after` the request's arrival.
    pub fn first_token(&self, model: &str, after: Duration) {
        let labels = ModelLabels {
            model_name: model.into(),
        };
        self.generation_tokens.get_or_create(&labels).inc();
        self.first_token_seconds
            .get_or_create(&labels)
            .observe(after.as_secs_f64());
    }

    /// A later token came `after` the one before.
    pub fn next_token(&self, model: &str, after: Duration) {
        let labels = ModelLabels {
            model_name: model.into(),
        };
        self.generation_tokens.get_or_create(&labels).inc();
        self.token_seconds
            .get_or_create(&labels)
            .observe(after.as_secs_f64());
    }

    /// An answer ended `after` the request's arrival.
    pub fn finished(&self, model: &str, reason: &'static str, after: Duration) {
        self.finished
            .get_or_create(&FinishLabels {
                model_name: model.into(),
                finished_reason: reason,
            })
            .inc();
        self.latency_seconds
            .get_or_create(&ModelLabels {
                model_name: model.into(),
            })
            .observe(after.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_what_happened_under_the_names_of_rules() {
        let metrics = Metrics::default();
        metrics.running(3);
        metrics.prompt("m", 10, Duration::from_millis(5));
        metrics.first_token("m", Duration::from_millis(40));
        metrics.finished("m", "stop", Duration::from_millis(90));
        metrics.http("/v1/models", 200, Duration::from_millis(1));
        let text = metrics.encode(2, true);
        for line in [
            "vllm:num_requests_running 3",
            "vllm:num_requests_waiting 2",
            "vllm:prompt_tokens_total{model_name=\"m\"} 10",
            "vllm:time_to_first_token_seconds_count{model_name=\"m\"} 1",
            "vllm:request_success_total{model_name=\"m\",finished_reason=\"stop\"} 1",
            "slipway_server_requests_total{path=\"/v1/models\",code=\"200\"} 1",
            "slipway_server_ready 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
