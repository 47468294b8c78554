//! Logs, metrics and the endpoints that probes and Prometheus ask. Needs no client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Writes JSON lines to standard output, each with the fields of the spans it is in. `filter` is in the form of
/// `RUST_LOG`, for instance `info,slipway_operator=debug`.
pub fn init_logs(filter: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let layer = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false);
    tracing_subscriber::registry()
        .with(EnvFilter::try_new(filter)?)
        .with(layer)
        .init();
    Ok(())
}

/// Labels of a reconciliation.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Reconciliation {
    controller: &'static str,
    outcome: &'static str,
}

/// Labels of a controller.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Of {
    controller: &'static str,
}

/// Labels of a write.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Transition {
    controller: &'static str,
    reason: String,
}

/// The operator's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciliations: Family<Reconciliation, Counter>,
    durations: Family<Of, Histogram, fn() -> Histogram>,
    status_writes: Family<Of, Counter>,
    transitions: Family<Transition, Counter>,
    leader: Gauge<i64, AtomicI64>,
}

fn duration_buckets() -> Histogram {
    Histogram::new([
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("slipway_operator");
        let reconciliations = Family::default();
        let durations = Family::new_with_constructor(duration_buckets as fn() -> Histogram);
        let status_writes = Family::default();
        let transitions = Family::default();
        let leader = Gauge::default();
        registry.register(
            "reconciliations",
            "Reconciliations by outcome",
            reconciliations.clone(),
        );
        registry.register_with_unit(
            "reconciliation_duration",
            "How long a reconciliation took",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("status_writes", "Statuses written", status_writes.clone());
        registry.register(
            "transitions",
            "Transitions of objects by their reason",
            transitions.clone(),
        );
        registry.register("leader", "1 while this process holds the lease", leader.clone());
        Self {
            registry,
            reconciliations,
            durations,
            status_writes,
            transitions,
            leader,
        }
    }
}

impl Metrics {
    /// Counts a reconciliation; `outcome` is `success`, `invalid` or `error`.
    pub fn reconciled(&self, controller: &'static str, outcome: &'static str, took: Duration) {
        self.reconciliations
            .get_or_create(&Reconciliation { controller, outcome })
            .inc();
        self.durations
            .get_or_create(&Of { controller })
            .observe(took.as_secs_f64());
    }

    /// Counts a written status.
    pub fn status_written(&self, controller: &'static str) {
        self.status_writes.get_or_create(&Of { controller }).inc();
    }

    /// Counts a transition of an object.
    pub fn transitioned(&self, controller: &'static str, reason: &str) {
        let reason = reason.to_owned();
        self.transitions
            .get_or_create(&Transition { controller, reason })
            .inc();
    }

    /// Says whether this process leads.
    pub fn lead(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Everything in the text format of OpenMetrics.
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }
}

/// What the endpoints tell.
#[derive(Clone, Debug)]
pub struct Health {
    /// The metrics of `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Whether `/readyz` says yes: the apiserver has answered and shutdown has not begun.
    pub ready: Arc<AtomicBool>,
}

/// `/metrics`, `/healthz` (the process answers) and `/readyz`.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the apiserver has not answered yet, or shutdown has begun\n",
        )
    }
}

async fn metrics(State(health): State<Health>) -> ([(&'static str, &'static str); 1], String) {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([("content-type", kind)], health.metrics.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_carry_controller_and_outcome() {
        let metrics = Metrics::default();
        metrics.reconciled("FineTuneJob", "error", Duration::from_millis(20));
        metrics.transitioned("FineTuneJob", "Running");
        metrics.lead(true);
        let text = metrics.render();
        for line in [
            "slipway_operator_reconciliations_total{controller=\"FineTuneJob\",outcome=\"error\"} 1",
            "slipway_operator_reconciliation_duration_seconds_count{controller=\"FineTuneJob\"} 1",
            "slipway_operator_transitions_total{controller=\"FineTuneJob\",reason=\"Running\"} 1",
            "slipway_operator_leader 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
