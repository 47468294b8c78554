//! Fine-tunes and measures models: the library behind `slipway-trainer`.

pub mod cli;
pub mod data;
pub mod evaluate;
pub mod host;
pub mod identity;
pub mod metrics;
pub mod output;
pub mod progress;
pub mod report;
pub mod stop;
pub mod terminal;
pub mod train;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use slipway_contract::{Failure, FailureReason, Report, exit, parse};

use crate::cli::{Cli, Command};

/// Does what the command line says; the exit code, see [`exit`].
pub fn run(cli: Cli) -> i32 {
    match cli.command {
        Command::Train(run) => job(&run.config, run.report, |config, _| train::run(&config)),
        Command::Evaluate(run) => job(&run.config, run.report, |config, _| evaluate::run(&config)),
        Command::Convert(convert) => {
            let terminal = terminal::Terminal::default();
            let done = slipway_model::gguf::convert(
                &convert.gguf,
                &convert.directory,
                candle_core::DType::F32,
                |done, all| {
                    terminal.step(done as u64, all as u64, "weights");
                },
            );
            terminal.finish();
            conclude(done.map(|_| ()).map_err(|error| error.failure()))
        }
    }
}

/// Reads the configuration, runs `work` with it, and reports how it ended.
fn job<C: DeserializeOwned, T: Serialize>(
    config: &Path,
    report: Option<PathBuf>,
    work: impl FnOnce(C, &Path) -> Result<T, Failure>,
) -> i32 {
    let destination = report::destination(report);
    let result = parse(config)
        .map_err(|error| Failure::new(FailureReason::InvalidConfig, error.to_string()))
        .and_then(|parsed| work(parsed, config));
    let report = match result {
        Ok(outcome) => Report::Outcome(outcome),
        Err(failure) => Report::Failure(failure),
    };
    report::write(destination.as_deref(), &report);
    conclude(match report {
        Report::Outcome(_) => Ok(()),
        Report::Failure(failure) => Err(failure),
    })
}

fn conclude(result: Result<(), Failure>) -> i32 {
    match result {
        Ok(()) => exit::OK,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.reason.exit_code()
        }
    }
}
