//! What one server answered lately: `GET /stats?seconds=N`. Pure.

use serde::{Deserialize, Serialize};

use crate::Histogram;

/// Requests that arrived within the last so many seconds and are answered. As for a router's
/// [`RevisionStats`](crate::RevisionStats), those that asked for a variant or revision by name, copies, probes and
/// scrapes are not among them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerStats {
    /// Answers.
    pub requests: u64,
    /// Answers with a status of 500 or more, and clients that left after more than 30 s without any. Another client that
    /// leaves is no error.
    pub errors: u64,
    /// From a request's arrival until the last byte of its answer was sent, or its client left.
    pub latency: Histogram,
    /// From a request's arrival until the first byte of its answer's body.
    pub first_byte: Histogram,
}

impl ServerStats {
    /// Adds what was counted elsewhere, or in another time.
    pub fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.latency.merge(&other.latency);
        self.first_byte.merge(&other.first_byte);
    }
}
