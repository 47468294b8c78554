//! `slipway-trainer`.

use std::process::ExitCode;

use clap::Parser;
use slipway_trainer::cli::Cli;

fn main() -> ExitCode {
    let code = slipway_trainer::run(Cli::parse());
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
