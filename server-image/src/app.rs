//! What every request handler sees: how far the server is, the model once it is loaded, and the limits.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::http::HeaderValue;

use crate::error::ApiError;
use crate::history::History;
use crate::metrics::Metrics;
use crate::served::Served;

/// How far the server is in its life.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Fetching or loading the model; says which.
    Loading(String),
    /// Answering.
    Ready,
    /// Told to stop: still answering, but asking to be taken out of load balancing.
    Draining,
}

/// As which part of a split the server answers.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The arm.
    pub variant: Option<HeaderValue>,
    /// The revision.
    pub revision: Option<HeaderValue>,
}

/// The state shared by all handlers.
#[derive(Clone, Debug)]
pub struct App {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Mutex<Phase>,
    served: OnceLock<Arc<Served>>,
    metrics: Arc<Metrics>,
    history: Arc<History>,
    identity: Identity,
    max_body_bytes: usize,
}

impl App {
    /// A server that has no model yet.
    pub fn new(metrics: Arc<Metrics>, identity: Identity, max_body_bytes: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                phase: Mutex::new(Phase::Loading("starting".into())),
                served: OnceLock::new(),
                metrics,
                history: Arc::default(),
                identity,
                max_body_bytes,
            }),
        }
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.inner
            .phase
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Says what it is loading. Later phases stay.
    pub fn loading(&self, detail: impl Into<String>) {
        let mut phase = self.inner.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*phase, Phase::Loading(_)) {
            *phase = Phase::Loading(detail.into());
        }
    }

    /// The model is loaded. A server that drains already stays so.
    pub fn ready(&self, served: Served) {
        self.inner.served.get_or_init(|| Arc::new(served));
        let mut phase = self.inner.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*phase, Phase::Loading(_)) {
            *phase = Phase::Ready;
        }
    }

    /// Told to stop.
    pub fn draining(&self) {
        *self.inner.phase.lock().unwrap_or_else(PoisonError::into_inner) = Phase::Draining;
    }

    /// The model; an error while it is loading.
    pub fn served(&self) -> Result<Arc<Served>, ApiError> {
        self.inner
            .served
            .get()
            .cloned()
            .ok_or_else(|| match self.phase() {
                Phase::Loading(detail) => ApiError::loading(&detail),
                _ => ApiError::loading("the server is stopping"),
            })
    }

    /// The process's metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// What was answered lately.
    pub fn history(&self) -> &Arc<History> {
        &self.inner.history
    }

    /// What answers say of who gave them.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Largest request body taken, in bytes.
    pub fn max_body_bytes(&self) -> usize {
        self.inner.max_body_bytes
    }
}
