//! The life of the process: listen, load, serve, drain.

use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use slipway_contract::{Failure, FailureReason, Report};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::app::App;
use crate::cli::Settings;
use crate::metrics::Metrics;
use crate::{http, startup};

/// Serves until a signal says stop. Listens before the model is there, so that probes see it loading.
pub async fn run(settings: Settings) -> Result<(), Failure> {
    let mut stops = Stops::new()?;
    let app = App::new(
        Arc::new(Metrics::default()),
        settings.identity.clone(),
        settings.max_body_bytes,
    );
    let listener = bind(&settings.config.listen).await?;
    let address = listener.local_addr().map_err(|error| internal(&error))?;
    tracing::info!(%address, "listening");
    // Chunks of a stream are small and must not wait for one another.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "failed to set TCP_NODELAY");
        }
    });
    let (close, mut closed) = watch::channel(false);
    let service = http::router(app.clone());
    let mut server = tokio::spawn(
        axum::serve(listener, service)
            .with_graceful_shutdown(async move {
                // A closed channel means the process is ending too.
                let _ = closed.changed().await;
            })
            .into_future(),
    );

    let limits = settings.config.limits.clone();
    let lame_duck = settings.lame_duck;
    let (fatal, mut failures) = mpsc::unbounded_channel();
    let started = std::time::Instant::now();
    tokio::select! {
        served = startup::load(settings, app.clone(), fatal) => {
            let served = served?;
            let names: Vec<&str> = served.names.iter().map(|name| &*name.name).collect();
            tracing::info!(models = names.join(", "), task = ?served.task, max_tokens = served.max_tokens,
                seconds = started.elapsed().as_secs_f64(), "ready");
            app.ready(served);
        }
        () = stops.next() => {
            tracing::info!("stopped while loading");
            return Ok(());
        }
    }
    tokio::select! {
        () = stops.next() => {}
        Some(message) = failures.recv() => return Err(Failure::new(FailureReason::Internal, message)),
        ended = &mut server => {
            return Err(internal(&format!("the HTTP server ended: {ended:?}")));
        }
    }

    app.draining();
    tracing::info!(
        seconds = lame_duck.as_secs_f64(),
        "stopping: not ready any more, still answering"
    );
    tokio::select! {
        () = tokio::time::sleep(lame_duck) => {}
        () = stops.next() => {}
    }
    let _ = close.send(true);
    let limit = Duration::from_secs(limits.drain_seconds.into());
    tokio::select! {
        _ = &mut server => tracing::info!("every request is answered"),
        () = tokio::time::sleep(limit) => {
            tracing::warn!(seconds = limit.as_secs(), "requests are cut: they took longer than drainSeconds");
        }
        () = stops.next() => tracing::warn!("requests are cut: told to stop again"),
        Some(message) = failures.recv() => return Err(Failure::new(FailureReason::Internal, message)),
    }
    Ok(())
}

async fn bind(address: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let (reason, fix) = match error.kind() {
            std::io::ErrorKind::AddrInUse => (
                FailureReason::EndpointUnavailable,
                "stop what uses it or choose another port",
            ),
            _ => (
                FailureReason::InvalidConfig,
                "write it as HOST:PORT, for instance 0.0.0.0:8080",
            ),
        };
        Failure::new(reason, format!("failed to listen on {address:?}: {error}; {fix}"))
    })
}

fn internal(error: &impl std::fmt::Display) -> Failure {
    Failure::new(FailureReason::Internal, error.to_string())
}

/// SIGTERM and SIGINT.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(|error| internal(&error))?,
            interrupt: signal(SignalKind::interrupt()).map_err(|error| internal(&error))?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Leaves the reason of a failure where the kubelet finds it.
pub fn write_report(failure: &Failure) {
    let path = std::env::var_os("SLIPWAY_TERMINATION_LOG")
        .map(std::path::PathBuf::from)
        .or_else(|| {
            let default = std::path::PathBuf::from("/dev/termination-log");
            default.exists().then_some(default)
        });
    let Some(path) = path else { return };
    let report: Report<()> = Report::Failure(failure.clone());
    if let Err(error) = std::fs::write(&path, report.to_message()) {
        tracing::warn!(%error, path = %path.display(), "failed to write the termination message");
    }
}
