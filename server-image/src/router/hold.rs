//! Requests that wait for the first server of their arm: a bounded number, for a bounded time, woken and not polled.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use slipway_contract::Hold;
use tokio::time::sleep_until;

use super::metrics::Series;
use super::refusal::{self, Refusal};
use super::variant::{Variant, Waits, Wish};

/// The queue of an arm. What waits in it is counted by the arm's series, which outlives tables.
#[derive(Clone, Copy, Debug)]
pub struct Queue(Hold);

/// A request that waits, for the length of this value's life.
#[derive(Debug)]
pub struct Place {
    series: Arc<Series>,
    until: Instant,
    /// Whether the wait came to an end, which its client did not wait for otherwise.
    over: bool,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Woken {
    /// Some server can answer.
    Ready,
    /// Another table is in force.
    Moved,
}

impl Queue {
    /// As the table says.
    pub fn new(hold: Hold) -> Self {
        Self(hold)
    }

    fn enter(self, variant: &Variant) -> Result<Place, Refusal> {
        let series = &variant.stable.series;
        let more = |waiting: u64| (waiting < u64::from(self.0.limit)).then_some(waiting + 1);
        if series.held.waiting.fetch_update(Relaxed, Relaxed, more).is_err() {
            series.held.refused.fetch_add(1, Relaxed);
            return Err(refusal::queue_full(&variant.name, self.0.limit));
        }
        Ok(Place {
            series: series.clone(),
            until: Instant::now() + Duration::from_secs(self.0.seconds.into()),
            over: false,
        })
    }
}

impl Place {
    /// Leaves the queue for a server, or for another table.
    pub fn release(mut self) {
        self.over = true;
        self.series.held.released.fetch_add(1, Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.over {
            self.series.held.left.fetch_add(1, Relaxed);
        }
        self.series.ended(Instant::now());
        self.series.held.waiting.fetch_sub(1, Relaxed);
    }
}

/// Waits in the queue of `waits`, at `place` where the request has one already, until a server of the arm can answer
/// or `moved` says that another table is in force. Dropped before that, the request has left the queue.
pub async fn wait(
    waits: Waits<'_>,
    wish: &Wish<'_>,
    place: &mut Option<Place>,
    moved: impl Fn() -> bool,
) -> Result<Woken, Refusal> {
    let Waits { variant, queue, .. } = waits;
    let held = match place {
        Some(held) => held,
        None => place.insert(queue.enter(variant)?),
    };
    let mut expired = pin!(sleep_until(held.until.into()));
    loop {
        let mut stable = pin!(variant.stable.target.changed());
        let canary = variant.canary.as_ref();
        let mut canary = pin!(canary.map(|canary| canary.revision.target.changed()));
        // Counted among the waiting before the looks that follow: a change between look and wait wakes it too.
        stable.as_mut().enable();
        if let Some(canary) = canary.as_mut().as_pin_mut() {
            canary.enable();
        }
        if moved() {
            return Ok(Woken::Moved);
        }
        if can_answer(variant, wish) {
            return Ok(Woken::Ready);
        }
        let canary = async {
            match canary.as_pin_mut() {
                Some(canary) => canary.await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = stable => {}
            () = canary => {}
            () = &mut expired => {
                held.over = true;
                held.series.held.expired.fetch_add(1, Relaxed);
                return Err(refusal::held_too_long(&variant.name, queue.0.seconds));
            }
        }
    }
}

fn can_answer(variant: &Variant, wish: &Wish<'_>) -> bool {
    match wish.asked.revision {
        Some(revision) => revision.target.has_ready(),
        None => variant.is_ready(wish),
    }
}
