//! One server behind an address: whether it can answer, and how much it has to do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::http::uri::Authority;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::probe::{PROBE_TIMEOUT, TIMEOUTS, probe};

/// Before a server that has a request is asked whether it is alive, and between two such questions.
const PATIENCE: Duration = Duration::from_secs(1);
/// For a connection to come up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// What the servers of one address tell those who wait for one.
#[derive(Debug, Default)]
pub struct Standing {
    /// Told when one became ready, or there is another reason to look again.
    pub changed: Notify,
    lost: Mutex<Option<Instant>>,
}

impl Standing {
    /// When one last stopped being ready, if any did.
    pub fn lost(&self) -> Option<Instant> {
        *self.lost.lock().expect("no holder panics")
    }

    fn lose(&self) {
        *self.lost.lock().expect("no holder panics") = Some(Instant::now());
    }
}

/// One server.
#[derive(Debug)]
pub struct Backend {
    /// Tells it from a later server at the same address, so that no connection is mistaken for the other's.
    pub id: u64,
    /// Where it listens.
    pub address: SocketAddr,
    ready: AtomicBool,
    in_flight: AtomicUsize,
    /// That of its address.
    standing: Arc<Standing>,
}

impl Backend {
    /// One about which nothing is known yet. `standing`: that of its address.
    pub fn new(address: SocketAddr, standing: Arc<Standing>) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            address,
            ready: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            standing,
        }
    }

    /// Whether it answered its last probe and took its last connection.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Requests that it works on.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Takes it out until a probe succeeds: a connection to it was refused.
    pub fn refused(&self) {
        self.set_ready(false, "a connection was refused");
    }

    /// Waits for as long as it answers probes, however long its work takes: what hangs without closing its
    /// connections would never be told from what computes.
    pub async fn hangs(&self, authority: &Authority) {
        let mut timeouts = 0;
        while timeouts < TIMEOUTS {
            sleep(PATIENCE).await;
            match timeout(PROBE_TIMEOUT, probe(self, authority, None)).await {
                Ok(_) => timeouts = 0,
                Err(_) => timeouts += 1,
            }
        }
        self.set_ready(false, "it holds requests and does not answer probes");
    }

    pub(super) fn set_ready(&self, ready: bool, cause: &str) {
        if self.ready.swap(ready, Ordering::Relaxed) != ready {
            tracing::info!(address = %self.address, ready, cause, "a server changed");
            if ready {
                self.standing.changed.notify_waiters();
            } else {
                self.standing.lose();
            }
        }
    }
}

/// A request that a server is working on, for the length of this value's life.
#[derive(Debug)]
pub struct Busy(pub Arc<Backend>);

impl Busy {
    /// Counts one more.
    pub fn new(backend: Arc<Backend>) -> Self {
        backend.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(backend)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
