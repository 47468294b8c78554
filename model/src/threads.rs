//! One thread pool for a whole process.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Threads of candle's own pool for element-wise operations.
const POOL: &str = "CANDLE_NUM_THREADS";

/// Starts this program again with candle's pool switched off, unless somebody chose its size. To be called before
/// anything else of `main`.
///
/// That pool spins while it waits, beside the threads of matrix products: where cores are shared, as on most
/// nodes, a training step took 1.8 times as long with it. It is read from the environment only, which a process
/// cannot change safely for itself. Where starting again fails, work is slower and right all the same.
pub fn one_pool() {
    if std::env::var_os(POOL).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        let _ = Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(POOL, "1")
            .exec();
    }
}
