//! Requests that wait for a server, the first of their arm or the next one: a bounded number, for a bounded time, woken
//! and not polled.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures::future::select_all;
use slipway_contract::Hold;
use tokio::time::sleep_until;

use super::asked::Asked;
use super::refusal::{self, Refusal};
use super::series::Series;
use super::table::Table;
use super::variant::{Variant, Waits, Wish};

/// Requests that wait in one router at a time for a server in place of one that an arm lost. More are refused: they
/// hold their bodies in memory.
const MISSED_LIMIT: u32 = 1000;

/// How a request waits. What waits is counted by its arm's series, which outlives tables.
#[derive(Clone, Copy, Debug)]
pub enum Queue {
    /// For the first server of an arm that may have none, as the table says.
    Held(Hold),
    /// Until then, for a server in place of one that was lost a moment ago.
    Missed(Instant),
}

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
    fn enter(self, variant: &Variant, asked: Asked<'_>) -> Result<Place, Refusal> {
        let (limit, until) = match self {
            Self::Held(hold) => (
                hold.limit,
                Instant::now() + Duration::from_secs(hold.seconds.into()),
            ),
            Self::Missed(until) => (MISSED_LIMIT, until),
        };
        let series = &variant.stable.series;
        let more = |waiting: u64| (waiting < u64::from(limit)).then_some(waiting + 1);
        if series.held.waiting.fetch_update(Relaxed, Relaxed, more).is_err() {
            series.held.refused.fetch_add(1, Relaxed);
            return Err(match self {
                Self::Held(_) => refusal::queue_full(&variant.name, limit),
                Self::Missed(_) => asked.unready(),
            });
        }
        Ok(Place {
            series: series.clone(),
            until,
            over: false,
        })
    }

    /// What to say where no server came in time.
    fn expired(self, variant: &Variant, asked: Asked<'_>) -> Refusal {
        match self {
            Self::Held(hold) => refusal::held_too_long(&variant.name, hold.seconds),
            Self::Missed(_) => asked.unready(),
        }
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

/// Waits in the queue of `waits`, at `place` where the request has one already, until a server of `table` can answer
/// or `moved` says that another table is in force. Dropped before that, the request has left the queue.
pub async fn wait(
    table: &Table,
    waits: Waits<'_>,
    wish: &Wish<'_>,
    place: &mut Option<Place>,
    moved: impl Fn() -> bool,
) -> Result<Woken, Refusal> {
    let Waits { variant, queue, .. } = waits;
    let held = match place {
        Some(held) => held,
        None => place.insert(queue.enter(variant, wish.asked)?),
    };
    let mut expired = pin!(sleep_until(held.until.into()));
    loop {
        let revisions = table.revisions().map(|(_, revision)| revision);
        let mut changes: Vec<_> = revisions
            .map(|revision| Box::pin(revision.target.changed()))
            .collect();
        // Counted among the waiting before the looks that follow: a change between look and wait wakes it too.
        for change in &mut changes {
            change.as_mut().enable();
        }
        if moved() {
            return Ok(Woken::Moved);
        }
        if table.has_ready(&waits, wish) {
            return Ok(Woken::Ready);
        }
        tokio::select! {
            _ = select_all(changes) => {}
            () = &mut expired => {
                held.over = true;
                held.series.held.expired.fetch_add(1, Relaxed);
                return Err(queue.expired(variant, wish.asked));
            }
        }
    }
}
