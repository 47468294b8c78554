//! `slipway-trainer`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Parser;
use slipway_trainer::cli::Cli;

/// Threads of candle's own pool for element-wise operations.
const POOL: &str = "CANDLE_NUM_THREADS";

fn main() -> ExitCode {
    let cli = Cli::parse();
    one_pool();
    let code = slipway_trainer::run(cli);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Starts this program again with candle's pool switched off, unless somebody chose its size.
///
/// That pool spins while it waits, beside the threads of matrix products: where cores are shared, as on most
/// nodes, a step took 1.8 times as long with it. It is read from the environment only, which a process cannot
/// change safely for itself. Where starting again fails, training is slower and right all the same.
fn one_pool() {
    if std::env::var_os(POOL).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        let _ = Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(POOL, "1")
            .exec();
    }
}
