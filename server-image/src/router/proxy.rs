//! One request: an arm, a revision, a server, an answer passed on.

use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{HOST, HeaderValue, SET_COOKIE};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout;

use super::asked::Asked;
use super::backend::Busy;
use super::body::{Exchange, RequestBody, ResponseBody};
use super::choose::Draws;
use super::client::Client;
use super::experiment::Subject;
use super::feedback;
use super::headers::{self, ID, REVISION, VARIANT};
use super::hold::{self, Place, Woken};
use super::local::Local;
use super::metrics::Metrics;
use super::mirror::Mirror;
use super::pool::Pool;
use super::refusal::{self, Refusal};
use super::table::Table;
use super::upstream::{self, Failed, Tries};
use super::variant::{Choice, Revision, Wish};

/// Bodies up to this size are read whole before a server is asked, so that another can be asked instead, or too.
const REPLAYABLE: u64 = 1 << 20;

/// What all threads share.
#[derive(Debug)]
pub struct Shared {
    /// Names this process in `/stats`.
    pub instance: String,
    /// The table in force.
    pub table: ArcSwap<Table>,
    /// Counts and times.
    pub metrics: Metrics,
}

/// How long revisions on trial may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A copy of a request, until the last byte of its answer.
    pub mirror: Duration,
    /// A request, until its answer begins. The stable revision's own pace raises it.
    pub canary: Duration,
}

/// A thread that answers requests.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    table: RefCell<Local>,
    pool: Pool,
    mirror: Mirror,
    draws: RefCell<Draws>,
    /// Apart from `draws`: clients see them, and could tell which come next.
    nonces: RefCell<Draws>,
    number: usize,
    canary_limit: Duration,
}

/// A request on its way: its head, as a server gets it, and its body.
type Message = (Parts, RequestBody);

/// What became of a request under one table.
enum Outcome {
    /// A server answered.
    Answered(Response<ResponseBody>),
    /// It waited, and another table is in force; it is as good as new.
    Moved(Message),
}

impl Worker {
    /// The thread `number`, without connections yet.
    pub fn new(number: usize, shared: Arc<Shared>, limits: Limits) -> Self {
        Self {
            table: RefCell::new(Local::new(shared.table.load_full())),
            shared,
            pool: Pool::default(),
            mirror: Mirror::new(limits.mirror),
            draws: RefCell::default(),
            nonces: RefCell::default(),
            number,
            canary_limit: limits.canary,
        }
    }

    /// Answers one request of the client at `peer`.
    pub async fn answer(&self, request: Request<Incoming>, peer: &HeaderValue) -> Response<ResponseBody> {
        if request.uri().path() == feedback::PATH {
            let table = self.shared.table.load_full();
            let (parts, body) = request.into_parts();
            let taken = feedback::take(&table, &parts.method, body, self.number).await;
            return taken.unwrap_or_else(Refusal::into_response);
        }
        match self.route(request, peer).await {
            Ok(response) => response,
            Err(refusal) => {
                if refusal.counts_as_unrouted() {
                    self.shared.metrics.unrouted.fetch_add(1, Relaxed);
                }
                refusal.into_response()
            }
        }
    }

    /// The table in force.
    fn table(&self) -> Local {
        let current = self.shared.table.load();
        let mut own = self.table.borrow_mut();
        if !own.is(&current) {
            *own = Local::new(Guard::into_inner(current));
        }
        own.clone()
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        peer: &HeaderValue,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let started = Instant::now();
        let mut table = self.table();
        let (mut parts, body) = request.into_parts();
        if parts.method == Method::CONNECT {
            return Err(refusal::connect());
        }
        let mut asked = Asked::read(&table, &parts.headers)?;
        let client = Client::read(&table.key, &parts.headers, &mut self.draws.borrow_mut());
        let body = readable(body).await?;
        headers::prepare(&mut parts, peer);
        let mut message = (parts, body);
        let mut place = None;
        loop {
            let passed = self.pass(&table, asked, client.as_ref(), message, started, &mut place);
            match passed.await? {
                Outcome::Answered(response) => return Ok(response),
                Outcome::Moved(back) => message = back,
            }
            table = self.table();
            asked = Asked::read(&table, &message.0.headers)?;
        }
    }

    /// Answers a request that came at `started`, by one table. `place`: where it waits for a server of its arm.
    async fn pass(
        &self,
        table: &Local,
        asked: Asked<'_>,
        client: Option<&Client>,
        message: Message,
        started: Instant,
        place: &mut Option<Place>,
    ) -> Result<Outcome, Refusal> {
        let nameless = !message.0.headers.contains_key(HOST);
        let mut carried = message;
        // Whether its copy is sent, or not to be: decided once, with the first server that takes the request.
        let mut mirrored = asked.is_some();
        let mut wish = Wish {
            asked,
            key: client.map(Client::key),
            held: None,
            spared: false,
        };
        // What the arm is scored for, until an answer takes it along.
        let mut subject: Option<Subject> = None;
        let mut met = false;
        // The arm that the split chose, while no server of it could answer.
        let mut fairly = None;
        // The server that is asked because a canary failed. What time that took is not this server's.
        let mut instead: Option<Choice<'_>> = None;
        let mut since = started;
        let mut tries = Tries::default();
        // Whether a stable server ended while it had the request: that may be the request's doing.
        let mut repeated = false;
        loop {
            let chosen = match instead.take() {
                Some(stable) => Ok(stable),
                None => table.choose(&wish, &mut self.draws.borrow_mut()),
            };
            let choice = match chosen {
                Ok(choice) => choice,
                Err(None) => {
                    if let Some(subject) = subject {
                        subject.failed();
                    }
                    return Err(asked.unready());
                }
                Err(Some(waits)) => {
                    fairly = fairly.or(waits.fairly);
                    wish.held = Some(waits.variant);
                    let moved = || !met && !table.is(&self.shared.table.load());
                    match hold::wait(table, waits, &wish, place, moved).await {
                        Ok(Woken::Ready) => continue,
                        Ok(Woken::Moved) => return Ok(Outcome::Moved(carried)),
                        Err(refusal) => {
                            if !met {
                                subject = self.meet(table, fairly, wish.key, started);
                            }
                            if let Some(subject) = subject {
                                subject.failed();
                            }
                            return Err(refusal);
                        }
                    }
                }
            };
            let before = wish.held.replace(choice.variant);
            if !met {
                met = true;
                subject = self.meet(table, choice.fairly.or(fairly), wish.key, started);
            } else if before.is_none_or(|before| !std::ptr::eq(before, choice.variant)) {
                // Another arm's answer says nothing of this one, but that it gave none.
                if let Some(subject) = subject.take() {
                    subject.failed();
                }
            }
            let revision = choice.revision;
            let on_trial = choice.is_canary() && asked.revision.is_none();
            let last_try = tries.count(on_trial);
            wish.spared |= on_trial && last_try;
            let (mut parts, body) = carried;
            if nameless {
                let host = HeaderValue::from_str(revision.target.authority().as_str());
                parts
                    .headers
                    .insert(HOST, host.map_err(|_| refusal::no_server())?);
            }
            let copies: Vec<_> = table
                .bystanders(&choice)
                .filter(|_| !mirrored)
                .filter_map(|(revision, percent)| {
                    let mut draws = self.draws.borrow_mut();
                    self.mirror.copy(revision, percent, &parts, &body, &mut draws)
                })
                .collect();
            // For another server, should this one fail.
            let kept = body.again().map(|body| (parts.clone(), body));
            let busy = Busy::new(choice.backend.clone());
            let answering = table.keep(choice.variant, revision);
            let mut exchange = Exchange::new(answering, !asked.is_some(), busy, self.pool.clone(), since);
            if body.is_whole() {
                exchange.waits();
            }
            if let Some(place) = place.take() {
                place.release();
            }
            let answers = (!asked.is_some()).then_some(revision);
            let id = self.id(table, subject.as_ref(), answers);
            exchange.scores(subject.take());
            let sent = || {
                mirrored = true;
                for copy in copies {
                    self.mirror.send(copy);
                }
            };
            let mut sending = pin!(upstream::send(&self.pool, &choice.backend, parts, body, sent));
            let answer = if on_trial && kept.is_some() {
                let hangs = choice.backend.hangs(revision.target.authority());
                let in_time = async {
                    tokio::select! {
                        answer = sending.as_mut() => answer,
                        () = hangs => Err(Failed::Spent),
                    }
                };
                match timeout(self.patience(&choice.variant.stable), in_time).await {
                    Ok(answer) => answer,
                    // Nobody else could answer: late is better than never.
                    Err(_) if choice.stable().is_none() => sending.await,
                    Err(_) => Err(Failed::Late),
                }
            } else {
                sending.await
            };
            let (answer, kept) = match (answer, kept) {
                // Says nothing about the request, which is sent once more.
                (Err(Failed::Stale), Some(message)) => (Err(Failed::Untouched(Box::new(message))), None),
                (Err(Failed::Stale), None) => (Err(Failed::Spent), None),
                // For another server once in an arm's stable revision.
                (answer, kept) => (answer, kept.filter(|_| on_trial || !repeated)),
            };
            match answer {
                Ok((mut response, sender)) => {
                    exchange.answered(response.status().as_u16(), sender, response.body());
                    if on_trial
                        && response.status().is_server_error()
                        && let Some((message, stable)) = kept.zip(choice.stable())
                    {
                        subject = exchange.unscored();
                        carried = message;
                        instead = Some(stable);
                        since = Instant::now();
                        wish.spared = true;
                        continue;
                    }
                    headers::strip(response.headers_mut());
                    let headers = response.headers_mut();
                    headers.insert(VARIANT, choice.variant.name_header.clone());
                    headers.remove(ID);
                    if let Some(id) = id {
                        headers.insert(ID, id);
                    }
                    if let Some(name) = &revision.header {
                        headers.insert(REVISION, name.clone());
                    }
                    if let Some(cookie) = client.and_then(Client::cookie) {
                        headers.append(SET_COOKIE, cookie);
                    }
                    let response = response.map(|body| ResponseBody::Passed(body, exchange));
                    return Ok(Outcome::Answered(response));
                }
                Err(Failed::Untouched(message)) => {
                    revision.series.upstream_failures.fetch_add(1, Relaxed);
                    if last_try && !on_trial {
                        exchange.failed(StatusCode::BAD_GATEWAY.as_u16());
                        return Err(refusal::broken());
                    }
                    exchange.untouched();
                    subject = exchange.unscored();
                    carried = *message;
                }
                Err(failed @ (Failed::Spent | Failed::Stale | Failed::Late)) => {
                    revision.series.upstream_failures.fetch_add(1, Relaxed);
                    exchange.failed(match failed {
                        Failed::Late => StatusCode::GATEWAY_TIMEOUT.as_u16(),
                        _ => StatusCode::BAD_GATEWAY.as_u16(),
                    });
                    let other = if on_trial {
                        choice.stable()
                    } else {
                        choice.fellow()
                    };
                    let Some((message, other)) = kept.zip(other) else {
                        return Err(refusal::broken());
                    };
                    subject = exchange.unscored();
                    carried = message;
                    instead = Some(other);
                    since = Instant::now();
                    wish.spared |= on_trial;
                    repeated |= !on_trial;
                }
                Err(Failed::Abandoned) => {
                    exchange.untouched();
                    exchange.unscored();
                    return Err(refusal::incomplete());
                }
            }
        }
    }

    /// Counts a request that the split sent to the arm `fairly`, where that is part of an experiment.
    fn meet(
        &self,
        table: &Table,
        fairly: Option<usize>,
        key: Option<&[u8]>,
        started: Instant,
    ) -> Option<Subject> {
        let experiment = table.experiment.as_ref()?;
        experiment.meet(fairly?, key, started, self.number)
    }

    /// How long a canary may keep a request before its answer begins: an arm whose answers usually begin late, for
    /// instance because they are generated whole, gives twice as long as nearly all of those take.
    fn patience(&self, stable: &Revision) -> Duration {
        let usual = stable.series.usual_first_byte().unwrap_or_default();
        self.canary_limit.max(usual.saturating_mul(2))
    }

    /// What the answer's client names it by when it posts a score. `answers`: the revision that the split chose.
    fn id(
        &self,
        table: &Table,
        subject: Option<&Subject>,
        answers: Option<&Revision>,
    ) -> Option<HeaderValue> {
        let nonce = || self.nonces.borrow_mut().draw();
        let id = match (&table.scores, answers) {
            (Some(scores), Some(revision)) => scores.id(revision, nonce()),
            _ => table.experiment.as_ref()?.id(subject?, nonce)?,
        };
        HeaderValue::try_from(id).ok()
    }
}

/// Reads a small body whole; leaves a large one, or one of unknown length, to be passed on as it comes.
async fn readable(body: Incoming) -> Result<RequestBody, Refusal> {
    if body.is_end_stream() {
        return Ok(RequestBody::Buffered(None));
    }
    match body.size_hint().exact() {
        Some(size) if size <= REPLAYABLE => match body.collect().await {
            Ok(collected) => Ok(RequestBody::Buffered(Some(collected.to_bytes()))),
            Err(_) => Err(refusal::incomplete()),
        },
        _ => Ok(RequestBody::Streamed(body)),
    }
}
