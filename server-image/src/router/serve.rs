//! Threads, connections, and an end without a cut stream.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::admin;
use super::clock::{self, Bell, Clock};
use super::metrics::Metrics;
use super::proxy::{Limits, Shared, Worker};
use super::watch::Watcher;

/// How long a client may keep a connection without sending the head of a request; a little longer by the [`Clock`].
const IDLE: Duration = Duration::from_secs(75);

/// How a router runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The route table's file.
    pub routes: PathBuf,
    /// Where clients come.
    pub listen: SocketAddr,
    /// Where probes and Prometheus come; nowhere without it.
    pub metrics_listen: Option<SocketAddr>,
    /// Threads that answer requests.
    pub threads: usize,
    /// Told to stop, it takes new connections for this long still: until everyone has heard.
    pub shutdown_delay: Duration,
    /// Requests under way may take this long to finish after that.
    pub drain: Duration,
    /// Revisions on trial may take this long.
    pub limits: Limits,
}

/// Why a router did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The route table is missing or wrong.
    #[error("{0}")]
    Routes(String),
    /// An address cannot be listened on.
    #[error("failed to listen on {address}: {source}; choose an address of this machine with a free port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// No threads or no signals.
    #[error("failed to run: {0}")]
    System(#[from] std::io::Error),
}

/// What a thread is told.
enum News {
    /// A connection is its to serve.
    Accepted(StdTcpStream, SocketAddr),
    /// Time went on. Said from without, so that a thread has no timer to look at for each request.
    Step,
}

/// Runs until SIGTERM or SIGINT, and then until the requests under way are answered.
pub async fn run(options: Options) -> Result<(), StartError> {
    let metrics = Metrics::default();
    let (watcher, table) = Watcher::start(&options.routes, &metrics)
        .await
        .map_err(StartError::Routes)?;
    let shared = Arc::new(Shared {
        instance: format!("{:016x}", rand::random::<u64>()),
        table: ArcSwap::from_pointee(table),
        metrics,
    });
    let listener = listen(options.listen).await?;
    let ready = Arc::new(AtomicBool::new(true));
    if let Some(address) = options.metrics_listen {
        tokio::spawn(admin::serve(
            listen(address).await?,
            shared.clone(),
            ready.clone(),
        ));
    }
    tokio::spawn(watcher.follow(shared.clone()));
    let mut queues = Vec::new();
    let mut threads = Vec::new();
    for number in 0..options.threads.max(1) {
        let (queue, connections) = mpsc::unbounded_channel();
        queues.push(queue);
        let worker = {
            let (shared, limits) = (shared.clone(), options.limits);
            move || Worker::new(number, shared, limits)
        };
        threads.push(work(number, worker, connections)?);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(address = %listener.local_addr()?, threads = threads.len(), "listening");
    {
        let mut accepting = pin!(accept(&listener, &queues));
        tokio::select! {
            () = &mut accepting => return Err(StartError::System(std::io::Error::other("a thread ended"))),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        ready.store(false, Ordering::Relaxed);
        tracing::info!(delay_seconds = options.shutdown_delay.as_secs(), "told to stop");
        tokio::select! {
            () = &mut accepting => {}
            () = tokio::time::sleep(options.shutdown_delay) => {}
        }
    }
    // A thread whose queue is gone lets its connections finish.
    drop((listener, queues));
    let deadline = Instant::now() + options.drain;
    while threads.iter().any(|thread| !thread.is_finished()) {
        if Instant::now() > deadline {
            tracing::warn!("some requests did not finish in time and are cut");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tracing::info!("every request is answered");
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })
}

/// Hands connections to the threads in turn, until one of them is gone: left to the threads, the first to wake would take most of them.
async fn accept(listener: &TcpListener, queues: &[mpsc::UnboundedSender<News>]) {
    let mut turn = 0;
    let mut steps = interval(clock::STEP);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = steps.tick() => {
                for queue in queues {
                    if queue.send(News::Step).is_err() {
                        return;
                    }
                }
                continue;
            }
        };
        let moved = accepted.and_then(|(stream, peer)| {
            stream.set_nodelay(true)?;
            Ok(News::Accepted(stream.into_std()?, peer))
        });
        match moved {
            Ok(connection) => {
                turn = (turn + 1) % queues.len();
                if queues[turn].send(connection).is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of file descriptors, for instance: others will be closed.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn work(
    number: usize,
    worker: impl FnOnce() -> Worker + Send + 'static,
    news: mpsc::UnboundedReceiver<News>,
) -> std::io::Result<JoinHandle<()>> {
    let (built, is_built) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("router-{number}"))
        .spawn(move || {
            // Built where it runs: its tasks never leave the thread.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(built.send(Err(error))),
            };
            drop(built.send(Ok(())));
            runtime.block_on(take(news, worker()));
        })?;
    let ended = |_| std::io::Error::other("a thread ended");
    is_built.recv().map_err(ended)??;
    Ok(thread)
}

/// Serves connections until no more come and all are closed.
async fn take(mut news: mpsc::UnboundedReceiver<News>, worker: Worker) {
    let thread = Rc::new(Thread {
        worker,
        clock: Clock::new(),
        bell: Bell::default(),
    });
    let mut open = JoinSet::new();
    while let Some(news) = news.recv().await {
        match news {
            News::Accepted(stream, peer) => match TcpStream::from_std(stream) {
                Ok(stream) => drop(open.spawn_local(serve(stream, peer, thread.clone()))),
                Err(error) => tracing::warn!(%error, "a connection could not be taken"),
            },
            News::Step => thread.step(),
        }
        while open.try_join_next().is_some() {}
    }
    thread.bell.stop();
    let mut steps = interval(clock::STEP);
    while !open.is_empty() {
        tokio::select! {
            _ = open.join_next() => {}
            _ = steps.tick() => thread.step(),
        }
    }
}

/// What the connections of a thread share.
#[derive(Debug)]
struct Thread {
    worker: Worker,
    clock: Clock,
    bell: Bell,
}

impl Thread {
    fn step(&self) {
        self.clock.set(Instant::now());
        self.bell.ring();
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, thread: Rc<Thread>) {
    let peer = HeaderValue::try_from(peer.ip().to_canonical().to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
    let service =
        service_fn(|request| async { Ok::<_, Infallible>(thread.worker.answer(request, &peer).await) });
    let mut builder = http1::Builder::new();
    builder.timer(thread.clock.clone()).header_read_timeout(IDLE);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut listening = None;
    let mut stopping = false;
    let ended = poll_fn(|context| {
        listening.get_or_insert_with(|| thread.bell.listen(context.waker()));
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(ended);
        }
        if !stopping && thread.bell.is_stopping() {
            stopping = true;
            // Closes it when idle, else after the answer under way.
            connection.as_mut().graceful_shutdown();
            return connection.as_mut().poll(context);
        }
        Poll::Pending
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a connection ended");
    }
}
