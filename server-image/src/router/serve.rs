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
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

use super::admin;
use super::metrics::Metrics;
use super::proxy::{Limits, Shared, Worker};
use super::watch::Watcher;

/// How long a client may keep a connection without sending the head of a request.
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

type Accepted = (StdTcpStream, SocketAddr);

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
    let (stop, stopped) = watch::channel(false);
    let mut queues = Vec::new();
    let mut threads = Vec::new();
    for number in 0..options.threads.max(1) {
        let (queue, connections) = mpsc::unbounded_channel();
        queues.push(queue);
        let worker = {
            let (shared, limits) = (shared.clone(), options.limits);
            move || Worker::new(number, shared, limits)
        };
        threads.push(work(number, worker, connections, stopped.clone())?);
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
    drop((listener, queues));
    stop.send_replace(true);
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
async fn accept(listener: &TcpListener, queues: &[mpsc::UnboundedSender<Accepted>]) {
    let mut turn = 0;
    loop {
        let accepted = listener.accept().await;
        let moved = accepted.and_then(|(stream, peer)| {
            stream.set_nodelay(true)?;
            Ok((stream.into_std()?, peer))
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
    mut connections: mpsc::UnboundedReceiver<Accepted>,
    stopped: watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name(format!("router-{number}"))
        .spawn(move || {
            let worker = Rc::new(worker());
            let local = LocalSet::new();
            runtime.block_on(local.run_until(async move {
                let mut open = JoinSet::new();
                while let Some((stream, peer)) = connections.recv().await {
                    match TcpStream::from_std(stream) {
                        Ok(stream) => {
                            open.spawn_local(serve(stream, peer, worker.clone(), stopped.clone()));
                        }
                        Err(error) => tracing::warn!(%error, "a connection could not be taken"),
                    }
                    while open.try_join_next().is_some() {}
                }
                while open.join_next().await.is_some() {}
            }));
        })
}

async fn serve(stream: TcpStream, peer: SocketAddr, worker: Rc<Worker>, mut stopped: watch::Receiver<bool>) {
    let peer = HeaderValue::try_from(peer.ip().to_canonical().to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
    let service = service_fn(move |request| {
        let (worker, peer) = (worker.clone(), peer.clone());
        async move { Ok::<_, Infallible>(worker.answer(request, &peer).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stop = pin!(stopped.wait_for(|stopped| *stopped));
    let mut stopping = false;
    let ended = poll_fn(|context| {
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(ended);
        }
        if !stopping && stop.as_mut().poll(context).is_ready() {
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
