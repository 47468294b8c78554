//! Copies of requests, for a canary or another arm, whose answers nobody gets: they cost the caller nothing and are measured apart.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use tokio::time::timeout;

use super::backend::Busy;
use super::body::RequestBody;
use super::choose::{self, Draws};
use super::headers::MIRROR;
use super::pool::Pool;
use super::series::Series;
use super::target::Target;
use super::upstream::{self, ATTEMPTS, Failed};
use super::variant::Revision;
use super::window::WindowSeries;

/// Copies under way for one thread. More are dropped: a canary that hangs must not fill the router's memory.
const UNDER_WAY: usize = 64;

/// The copies of one thread, over connections of their own.
#[derive(Debug)]
pub struct Mirror {
    pool: Pool,
    under_way: Rc<Cell<usize>>,
    limit: Duration,
}

/// A copy of a request, and where it goes.
#[derive(Debug)]
pub struct Copy {
    parts: Parts,
    body: RequestBody,
    target: Arc<Target>,
    series: Arc<Series>,
    window: Arc<WindowSeries>,
    _place: Place,
}

/// One of the places for copies under way, for the length of this value's life.
#[derive(Debug)]
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(under_way: &Rc<Cell<usize>>) -> Option<Self> {
        let taken = under_way.get();
        (taken < UNDER_WAY).then(|| {
            under_way.set(taken + 1);
            Self(under_way.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A copy that is under way, for the length of this value's life.
#[derive(Debug)]
struct Copied(Arc<Series>);

impl Copied {
    fn new(series: Arc<Series>) -> Self {
        series.mirrored.in_flight.fetch_add(1, Relaxed);
        Self(series)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.0.ended(Instant::now());
        self.0.mirrored.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Mirror {
    /// A thread without copies yet. `limit`: for a copy, from its sending to the last byte of its answer.
    pub fn new(limit: Duration) -> Self {
        Self {
            pool: Pool::default(),
            under_way: Rc::default(),
            limit,
        }
    }

    /// Draws whether `revision` gets a copy of a request that another answers, by its share of 0 to 100. None where it has no ready
    /// server, where the body is passed on as it comes and was never held whole, and where no place is free.
    pub fn copy(
        &self,
        revision: &Revision,
        percent: u32,
        parts: &Parts,
        body: &RequestBody,
        draws: &mut Draws,
    ) -> Option<Copy> {
        let RequestBody::Buffered(bytes) = body else {
            return None;
        };
        if percent == 0 || !choose::is_within(percent, draws.draw()) || !revision.target.has_ready() {
            return None;
        }
        let Some(place) = Place::take(&self.under_way) else {
            revision.series.mirrored.dropped.fetch_add(1, Relaxed);
            revision.window.dropped.fetch_add(1, Relaxed);
            return None;
        };
        let mut parts = parts.clone();
        parts.headers.insert(MIRROR, HeaderValue::from_static("1"));
        Some(Copy {
            parts,
            body: RequestBody::Buffered(bytes.clone()),
            target: revision.target.clone(),
            series: revision.series.clone(),
            window: revision.window.clone(),
            _place: place,
        })
    }

    /// Sends a copy, beside the task that calls this and after what that has sent before.
    pub fn send(&self, copy: Copy) {
        tokio::task::spawn_local(copy.run(self.pool.clone(), self.limit));
    }
}

impl Copy {
    async fn run(self, pool: Pool, limit: Duration) {
        let Self {
            parts,
            body,
            target,
            series,
            window,
            _place,
        } = self;
        let _copied = Copied::new(series.clone());
        let started = Instant::now();
        let first_byte = || window.mirrored.first_byte.observe(started.elapsed());
        let exchange = exchange(&pool, &target, parts, body, first_byte);
        let well = timeout(limit, exchange).await.unwrap_or(false);
        window.mirrored.ended(!well, started.elapsed());
        let count = if well {
            &series.mirrored.answered
        } else {
            &series.mirrored.failed
        };
        count.fetch_add(1, Relaxed);
    }
}

/// Whether a server answers whole and with a status below 500. Calls `first_byte` when a body's first bytes come,
/// or at its end where it is empty.
async fn exchange(
    pool: &Pool,
    target: &Target,
    mut parts: Parts,
    mut body: RequestBody,
    first_byte: impl FnOnce(),
) -> bool {
    for _ in 0..ATTEMPTS {
        let Some(backend) = target.least_busy() else {
            return false;
        };
        let _busy = Busy::new(backend.clone());
        let kept = body.again().map(|body| (parts.clone(), body));
        match upstream::send(pool, &backend, parts, body, || ()).await {
            Ok((response, sender)) => {
                let well = !response.status().is_server_error();
                let mut answer = response.into_body();
                let mut first_byte = Some(first_byte);
                loop {
                    let Ok(frame) = answer.frame().await.transpose() else {
                        return false;
                    };
                    if let Some(first_byte) = first_byte.take() {
                        first_byte();
                    }
                    if frame.is_none() {
                        break;
                    }
                }
                pool.put(backend.id, sender);
                return well;
            }
            Err(Failed::Untouched(message)) => (parts, body) = *message,
            Err(Failed::Stale) => match kept {
                Some(message) => (parts, body) = message,
                None => return false,
            },
            Err(Failed::Spent | Failed::Late | Failed::Abandoned) => return false,
        }
    }
    false
}
