//! Bodies on their way: passed on frame by frame as they come, with the bookkeeping that ends with them.

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::backend::Busy;
use super::experiment::{Ending, Subject};
use super::local::Kept;
use super::pool::{Pool, Sender};

/// A client that waited longer than this for any answer, and left, has met an error.
const PATIENCE: Duration = Duration::from_secs(30);

/// What goes to a server.
#[derive(Debug)]
pub enum RequestBody {
    /// Read whole, so that it can be sent again.
    Buffered(Option<Bytes>),
    /// Passed on as it comes.
    Streamed(Incoming),
}

impl RequestBody {
    /// Whether it is all here, and on its way at once.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Buffered(_))
    }

    /// The same once more, where it was read whole.
    pub fn again(&self) -> Option<Self> {
        match self {
            Self::Buffered(bytes) => Some(Self::Buffered(bytes.clone())),
            Self::Streamed(_) => None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Buffered(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(incoming) => Pin::new(incoming).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Buffered(bytes) => bytes.is_none(),
            Self::Streamed(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Buffered(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Streamed(incoming) => incoming.size_hint(),
        }
    }
}

/// What goes to a client.
#[derive(Debug)]
pub enum ResponseBody {
    /// The router's own words.
    Own(Option<Bytes>),
    /// A server's answer.
    Passed(Incoming, Exchange),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Passed(incoming, exchange) => {
                let polled = Pin::new(&mut *incoming).poll_frame(context);
                match &polled {
                    Poll::Ready(Some(Ok(_))) => {
                        exchange.first_byte();
                        if incoming.is_end_stream() {
                            exchange.complete();
                        }
                    }
                    Poll::Ready(None) => exchange.complete(),
                    Poll::Ready(Some(Err(_))) => exchange.broken = true,
                    Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Passed(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Passed(incoming, _) => incoming.size_hint(),
        }
    }
}

/// One request at one server, from the choice of the server to the last byte handed on. Dropped before that, for
/// instance because the client left, it takes the connection with it and so ends the server's work.
#[derive(Debug)]
pub struct Exchange {
    revision: Kept,
    /// Whether it counts in the window too.
    in_window: bool,
    busy: Busy,
    pool: Pool,
    started: Instant,
    sender: Option<Sender>,
    /// HTTP status of the answer, once there is one.
    status: Option<u16>,
    first_byte: Option<Instant>,
    /// Its last byte was handed on.
    complete: bool,
    /// What it is scored for, at its end.
    subject: Option<Subject>,
    /// The server's connection ended within the answer.
    broken: bool,
    /// When the server had the request whole, where that is known and it gave no answer yet.
    waiting: Option<Instant>,
}

impl Exchange {
    /// A request that came at `started` goes to a server of `revision`. `in_window`: it counts in the window too.
    pub fn new(revision: Kept, in_window: bool, busy: Busy, pool: Pool, started: Instant) -> Self {
        revision.series.in_flight.fetch_add(1, Relaxed);
        Self {
            revision,
            in_window,
            busy,
            pool,
            started,
            sender: None,
            status: None,
            first_byte: None,
            complete: false,
            subject: None,
            broken: false,
            waiting: None,
        }
    }

    /// The server has the whole request: how long its client then waits in vain is the server's doing.
    pub fn waits(&mut self) {
        self.waiting = Some(Instant::now());
    }

    /// The server did not take the request, and another is asked: it counts there.
    pub fn untouched(&mut self) {
        self.waiting = None;
    }

    /// Its end is what `subject` is scored by.
    pub fn scores(&mut self, subject: Option<Subject>) {
        self.subject = subject;
    }

    /// Another's end is.
    pub fn unscored(&mut self) -> Option<Subject> {
        self.subject.take()
    }

    /// The head of an answer came over `sender`.
    pub fn answered(&mut self, code: u16, sender: Sender, body: &Incoming) {
        self.sender = Some(sender);
        self.failed(code);
        if body.is_end_stream() {
            self.first_byte();
            self.complete();
        }
    }

    /// The server gave no answer; the router says `code` in its place.
    pub fn failed(&mut self, code: u16) {
        self.status = Some(code);
        self.revision.series.answered(code);
    }

    fn first_byte(&mut self) {
        if self.first_byte.is_none() {
            let now = Instant::now();
            self.first_byte = Some(now);
            let elapsed = now.duration_since(self.started);
            self.revision.series.first_byte.observe(elapsed);
            if self.in_window {
                self.revision.window.answered.first_byte.observe(elapsed);
            }
        }
    }

    /// The answer ended as it should: the connection is good for another request.
    fn complete(&mut self) {
        self.complete = true;
        if let Some(sender) = self.sender.take() {
            self.pool.put(self.busy.0.id, sender);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let now = Instant::now();
        let series = &self.revision.series;
        series.ended(now);
        series.in_flight.fetch_sub(1, Relaxed);
        let elapsed = now.saturating_duration_since(self.started);
        // Without a status the client left. A server that hangs has no answers to be judged by.
        let hung = || self.waiting.is_some_and(|since| since.elapsed() > PATIENCE);
        let error = match self.status {
            Some(status) => {
                series.duration.observe(elapsed);
                Some(status >= 500 || self.broken)
            }
            None => hung().then_some(true),
        };
        if let Some(error) = error.filter(|_| self.in_window) {
            self.revision.window.answered.ended(error, elapsed);
        }
        if let Some(subject) = self.subject.take() {
            subject.ended(Ending {
                error,
                complete: self.complete,
                first_byte: self.first_byte,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use slipway_contract::RouteTable;

    use super::super::backend::Backend;
    use super::super::local::Local;
    use super::super::metrics::Metrics;
    use super::super::table::Table;
    use super::super::target::Target;
    use super::*;

    /// Errors and requests of a window in which one request ended without an answer.
    fn counted(end: impl FnOnce(&mut Exchange)) -> (u64, u64) {
        let routes = r#"{"variants":[{"name":"a","weight":1,"url":"http://127.0.0.1:1"}]}"#;
        let routes: RouteTable = serde_json::from_str(routes).unwrap();
        let discover = |authority| Arc::new(Target::new(authority));
        let table = Table::build(&routes, None, &Metrics::default(), &HashMap::new(), discover).unwrap();
        let table = Local::new(Arc::new(table));
        let busy = Busy::new(Arc::new(Backend::new(([127, 0, 0, 1], 1).into(), Arc::default())));
        let arm = &table.variants[0];
        let revision = table.keep(arm, &arm.stable);
        let mut exchange = Exchange::new(revision, true, busy, Pool::default(), Instant::now());
        end(&mut exchange);
        drop(exchange);
        let series = &table.stats().series[0];
        (series.requests, series.errors)
    }

    #[test]
    fn a_client_that_waited_too_long_and_left_met_an_error() {
        let patient = |seconds: u64| Instant::now().checked_sub(Duration::from_secs(seconds));
        assert_eq!(counted(|exchange| exchange.waiting = patient(31)), (1, 1));
        assert_eq!(counted(|exchange| exchange.waiting = patient(29)), (0, 0));
        assert_eq!(counted(Exchange::waits), (0, 0));
        // Its own request took so long.
        assert_eq!(counted(|_| ()), (0, 0));
        // Another server was asked: there it counts.
        let asked_elsewhere = |exchange: &mut Exchange| {
            exchange.waiting = patient(31);
            exchange.untouched();
        };
        assert_eq!(counted(asked_elsewhere), (0, 0));
    }
}
