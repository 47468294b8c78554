//! Serves one model with many adapters over the OpenAI API.

use std::io::IsTerminal;

use clap::Parser;
use slipway_contract::{Failure, FailureReason};
use slipway_server::cli::{Cli, LogFormat};
use slipway_server::run;
use tracing_subscriber::EnvFilter;

fn main() {
    let cli = Cli::parse();
    slipway_model::one_pool();
    log(cli.log_format);
    if let Err(failure) = serve(cli) {
        tracing::error!(reason = ?failure.reason, "{}", failure.message);
        run::write_report(&failure);
        std::process::exit(failure.reason.exit_code());
    }
    // Not waiting for a model that may still be loading.
    std::process::exit(slipway_contract::exit::OK);
}

fn serve(cli: Cli) -> Result<(), Failure> {
    let settings = cli.settings()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(
                FailureReason::Internal,
                format!("failed to start threads: {error}"),
            )
        })?;
    let result = runtime.block_on(run::run(settings));
    runtime.shutdown_background();
    result
}

fn log(format: Option<LogFormat>) {
    let filter = EnvFilter::try_from_env("SLIPWAY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    match format.unwrap_or(if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    }) {
        LogFormat::Json => subscriber
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init(),
        LogFormat::Text => subscriber.compact().with_ansi(terminal).init(),
    }
}
