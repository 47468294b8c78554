//! SIGTERM and SIGINT: noticed at once, obeyed between steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use slipway_contract::{Failure, FailureReason};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Whether this process was told to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    told: Arc<AtomicBool>,
    notify: Arc<Notify>,
}

impl Stop {
    /// Listens for SIGTERM and SIGINT. A second signal ends the process at once.
    pub fn listen(runtime: &Runtime) -> std::io::Result<Self> {
        let stop = Self::default();
        let heard = stop.clone();
        let _guard = runtime.enter();
        // As process 1 of a container nothing stops us unless a handler is installed, so this comes first.
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if heard.told.swap(true, Ordering::SeqCst) {
                    std::process::exit(slipway_contract::exit::INTERRUPTED);
                }
                heard.notify.notify_waiters();
            }
        });
        Ok(stop)
    }

    /// Whether a signal came.
    pub fn told(&self) -> bool {
        self.told.load(Ordering::SeqCst)
    }

    /// An error once a signal came; for places with nothing to save.
    pub fn check(&self) -> Result<(), Failure> {
        if self.told() {
            Err(interrupted("nothing was computed yet"))
        } else {
            Ok(())
        }
    }

    /// Comes back when a signal comes.
    pub async fn wait(&self) {
        let notified = self.notify.notified();
        if !self.told() {
            notified.await;
        }
    }
}

/// The failure of a run that was told to stop; `saved` says what a retry starts from.
pub fn interrupted(saved: &str) -> Failure {
    Failure::new(
        FailureReason::Interrupted,
        format!("told to stop by a signal; {saved}, start again to go on"),
    )
}
