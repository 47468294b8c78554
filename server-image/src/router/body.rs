//! Bodies on their way: passed on frame by frame as they come, with the bookkeeping that ends with them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::backend::Busy;
use super::metrics::Series;
use super::pool::{Pool, Sender};

/// What goes to a server.
#[derive(Debug)]
pub enum RequestBody {
    /// Read whole, so that it can be sent again.
    Buffered(Option<Bytes>),
    /// Passed on as it comes.
    Streamed(Incoming),
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
                    Poll::Ready(Some(Err(_))) | Poll::Pending => {}
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
    series: Arc<Series>,
    busy: Busy,
    pool: Pool,
    started: Instant,
    sender: Option<Sender>,
    answered: bool,
    first_byte: bool,
}

impl Exchange {
    /// A request that came at `started` goes to a server.
    pub fn new(series: Arc<Series>, busy: Busy, pool: Pool, started: Instant) -> Self {
        series.in_flight.fetch_add(1, Relaxed);
        Self {
            series,
            busy,
            pool,
            started,
            sender: None,
            answered: false,
            first_byte: false,
        }
    }

    /// The head of an answer came over `sender`.
    pub fn answered(&mut self, code: u16, sender: Sender, body: &Incoming) {
        self.answered = true;
        self.sender = Some(sender);
        self.series.answered(code);
        if body.is_end_stream() {
            self.first_byte();
            self.complete();
        }
    }

    /// The server gave no answer; the router says `code` in its place.
    pub fn failed(&mut self, code: u16) {
        self.answered = true;
        self.series.answered(code);
    }

    fn first_byte(&mut self) {
        if !self.first_byte {
            self.first_byte = true;
            self.series.first_byte.observe(self.started.elapsed());
        }
    }

    /// The answer ended as it should: the connection is good for another request.
    fn complete(&mut self) {
        if let Some(sender) = self.sender.take() {
            self.pool.put(self.busy.0.id, sender);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.series.in_flight.fetch_sub(1, Relaxed);
        if self.answered {
            self.series.duration.observe(self.started.elapsed());
        }
    }
}
