//! Splits requests over the arms of an A/B test.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use slipway_server::router::proxy::Limits;
use slipway_server::router::serve::{self, Options, StartError};
use tracing_subscriber::EnvFilter;

/// Splits requests over the variants of a route table.
///
/// Each request goes to a variant by weight, or always to the same one for a client told apart by a header or
/// cookie; `x-slipway-variant: NAME` asks for one by name. Only servers that answer `GET /health` get traffic. The
/// table is read again when its file changes, without a cut request. SIGTERM ends the router once the requests
/// under way are answered.
///
/// A variant may have a canary: a revision that answers `percent` of the variant's requests, and of its clients
/// always the same, and is sent a copy of `mirrorPercent` of the others, whose answers nobody gets.
/// `x-slipway-revision: NAME` asks for one revision. `GET /stats` says, for each revision, how many requests,
/// errors and seconds there were since the table's `window` last changed, for a decision on the canary; requests
/// that ask for a variant or revision by name are not among them.
///
/// While no server of a variant with a `hold` is ready, because it is scaled to zero, its requests wait for the first
/// one: `limit` of them at most, for `seconds` at most, then 503 with Retry-After. Where no variant has a ready server
/// any more, requests wait until five seconds after the last was lost.
///
/// Exit codes: 0 stopped as told; 2 the command line or the route table is wrong; 4 the address cannot be used or
/// the system refused something.
#[derive(Debug, Parser)]
#[command(name = "slipway-router", version)]
struct Cli {
    /// Route table, YAML or JSON: variants (name, weight, url, revision, canary (url, revision, percent,
    /// mirrorPercent), hold (seconds, limit)), sticky (header or cookie), mirror (variant, percent),
    /// version and window.
    #[arg(long, value_name = "FILE")]
    routes: PathBuf,
    /// Address for clients.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Address for /healthz, /readyz, /metrics and /stats [default: none].
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,
    /// Threads that answer requests [default: one a core].
    #[arg(long, value_name = "N", env = "TOKIO_WORKER_THREADS")]
    threads: Option<usize>,
    /// Seconds after SIGTERM in which new connections are still taken, until every client has heard.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    shutdown_delay_seconds: u64,
    /// Seconds that requests under way may take to finish after that.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    drain_seconds: u64,
    /// Seconds that a copy of a request for a canary may take, before it counts as an error.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    mirror_seconds: u64,
    /// Seconds in which a canary must begin its answer to a request that can be sent again; then the variant's stable
    /// revision is asked instead, and it counts as an error of the canary. Twice the seconds in which the stable
    /// revision begins 99 of 100 answers, where that is longer.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86400))]
    canary_seconds: u64,
    /// How log lines look [default: text on a terminal, else json].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    log(cli.log_format);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options {
        routes: cli.routes,
        listen: cli.listen,
        metrics_listen: cli.metrics_listen,
        threads: cli.threads.unwrap_or(cores),
        shutdown_delay: Duration::from_secs(cli.shutdown_delay_seconds),
        drain: Duration::from_secs(cli.drain_seconds),
        limits: Limits {
            mirror: Duration::from_secs(cli.mirror_seconds),
            canary: Duration::from_secs(cli.canary_seconds),
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(serve::run(options)),
        Err(error) => Err(StartError::System(error)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            let code = match error {
                StartError::Routes(_) => slipway_contract::exit::CONFIG,
                StartError::Listen { .. } | StartError::System(_) => slipway_contract::exit::TRANSIENT,
            };
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
    }
}

/// `RUST_LOG` chooses what is logged, `info` by default.
fn log(format: Option<LogFormat>) {
    let terminal = std::io::stderr().is_terminal();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format.unwrap_or(if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    }) {
        LogFormat::Text => lines.with_ansi(terminal).with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}
