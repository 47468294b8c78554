//! An arm of a table: its revisions, and which of them answers a request.

use std::iter::once;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;

use hyper::header::HeaderValue;
use slipway_contract::Hold;

use super::asked::Asked;
use super::backend::Backend;
use super::choose::{self, Draws};
use super::hold::Queue;
use super::series::Series;
use super::target::Target;
use super::window::WindowSeries;

/// A revision of an arm with what its requests need.
#[derive(Debug)]
pub struct Revision {
    /// Its name; may be empty.
    pub name: String,
    /// What the ids of its answers say of it.
    pub answerer: u64,
    /// Its servers.
    pub target: Arc<Target>,
    /// Its counts and times since the router started.
    pub series: Arc<Series>,
    /// Its counts and times since the window began.
    pub window: Arc<WindowSeries>,
    /// For `x-slipway-revision`; none where the name is empty.
    pub header: Option<HeaderValue>,
}

impl Revision {
    /// It and the least busy of its servers that can answer.
    pub(super) fn with_server(&self) -> Option<(&Self, Arc<Backend>)> {
        Some((self, self.target.least_busy()?))
    }
}

/// A revision on trial.
#[derive(Debug)]
pub struct Canary {
    /// What answers.
    pub revision: Revision,
    /// Its share of the arm's requests, 0 to 100.
    pub percent: u32,
    /// The share of the arm's other requests that it gets a copy of, 0 to 100.
    pub mirror_percent: u32,
    /// Decides with a client's key whether the client meets it.
    pub(super) salt: String,
}

/// An arm.
#[derive(Debug)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Its share.
    pub weight: u32,
    /// What answers, but for the canary's share.
    pub stable: Revision,
    /// What is being rolled in.
    pub canary: Option<Canary>,
    /// How its requests wait while it has no ready server.
    pub hold: Option<Hold>,
    /// For `x-slipway-variant`.
    pub name_header: HeaderValue,
}

impl Variant {
    /// Its revisions, the canary's last.
    pub fn revisions(&self) -> impl Iterator<Item = &Revision> + Clone {
        once(&self.stable).chain(self.canary.as_ref().map(|canary| &canary.revision))
    }

    /// The canary where the split may choose it at all: at 0 percent nobody meets it who did not ask for it.
    fn open_canary(&self, wish: &Wish<'_>) -> Option<&Canary> {
        self.canary
            .as_ref()
            .filter(|canary| canary.percent > 0 && !wish.spared)
    }

    /// The revisions of which any may answer a request: the one that it asks for, else all that the split may choose.
    fn candidates<'a>(&'a self, wish: &Wish<'a>) -> impl Iterator<Item = &'a Revision> {
        let split = wish.asked.revision.is_none();
        let canary = self.open_canary(wish).map(|canary| &canary.revision);
        let among = once(&self.stable).chain(canary).filter(move |_| split);
        wish.asked.revision.into_iter().chain(among)
    }

    pub(super) fn is_ready(&self, wish: &Wish<'_>) -> bool {
        self.candidates(wish).any(|revision| revision.target.has_ready())
    }

    /// Until when a request waits for a server of it, where it lost its last one a moment ago.
    pub(super) fn missed_until(&self, wish: &Wish<'_>) -> Option<Instant> {
        self.candidates(wish)
            .filter_map(|revision| revision.target.missed_until())
            .max()
    }

    /// Whether a request may go to it: one server answers, or some will be waited for.
    pub(super) fn can_take(&self, wish: &Wish<'_>) -> bool {
        self.hold.is_some() || self.is_ready(wish)
    }

    /// The queue for a request that none of its servers can answer now. Who asks for a canary by name does not wait
    /// for its first server: it is no part of the arm's share.
    pub(super) fn queue(&self, wish: &Wish<'_>) -> Option<Queue> {
        let stable = wish
            .asked
            .revision
            .is_none_or(|revision| ptr::eq(revision, &raw const self.stable));
        let held = self.hold.filter(|_| stable).map(Queue::Held);
        held.or_else(|| self.missed_until(wish).map(Queue::Missed))
    }

    /// The revision of a request and its least busy server: the canary for its share of clients or draws, but
    /// either answers for the other while that has no ready server.
    pub(super) fn choose(&self, wish: &Wish<'_>, draws: &mut Draws) -> Option<(&Revision, Arc<Backend>)> {
        let Some(canary) = self.open_canary(wish) else {
            return self.stable.with_server();
        };
        let bits = wish
            .key
            .map_or_else(|| draws.draw(), |key| choose::hash([key, canary.salt.as_bytes()]));
        let (first, second) = if choose::is_within(canary.percent, bits) {
            (&canary.revision, &self.stable)
        } else {
            (&self.stable, &canary.revision)
        };
        first.with_server().or_else(|| second.with_server())
    }
}

/// What decides who answers a request, beside the table and the servers that are ready.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The arm or revision it asks for.
    pub asked: Asked<'a>,
    /// What its client is told apart by.
    pub key: Option<&'a [u8]>,
    /// The arm that it was sent to before, or waits for, which answers while it can.
    pub held: Option<&'a Variant>,
    /// A canary had its chance and failed: stable revisions alone may answer.
    pub spared: bool,
}

/// Whom a request waits for.
#[derive(Clone, Copy, Debug)]
pub struct Waits<'a> {
    /// The arm.
    pub variant: &'a Variant,
    /// Where it waits.
    pub queue: Queue,
    /// The arm's index, where the split chose it among all arms.
    pub fairly: Option<usize>,
}

/// Who answers a request.
#[derive(Debug)]
pub struct Choice<'a> {
    /// The arm.
    pub variant: &'a Variant,
    /// Its revision.
    pub revision: &'a Revision,
    /// A server of that.
    pub backend: Arc<Backend>,
    /// The arm's index, where the split chose it while every arm could take a request.
    pub fairly: Option<usize>,
}

impl<'a> Choice<'a> {
    /// Whether a revision on trial answers.
    pub fn is_canary(&self) -> bool {
        !ptr::eq(self.revision, &raw const self.variant.stable)
    }

    /// The least busy server of the arm's stable revision.
    pub fn stable(&self) -> Option<Self> {
        let (revision, backend) = self.variant.stable.with_server()?;
        Some(Self {
            variant: self.variant,
            revision,
            backend,
            fairly: None,
        })
    }

    /// The least busy server of its revision: another one, where this one was taken out.
    pub fn fellow(&self) -> Option<Self> {
        let (revision, backend) = self.revision.with_server()?;
        Some(Self {
            variant: self.variant,
            revision,
            backend,
            fairly: None,
        })
    }

    /// The canary that may get a copy of the request: the arm's, where another revision answers.
    pub fn bystander(&self) -> Option<&'a Canary> {
        self.variant.canary.as_ref().filter(|_| !self.is_canary())
    }
}
