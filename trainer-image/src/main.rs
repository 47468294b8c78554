//! `slipway-trainer`.

use std::process::ExitCode;

use clap::Parser;
use slipway_trainer::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    slipway_model::one_pool();
    let code = slipway_trainer::run(cli);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
