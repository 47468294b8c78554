//! The termination message: how a run ended, for whoever started it.

use std::path::{Path, PathBuf};

use serde::Serialize;
use slipway_contract::Report;

/// Where the kubelet reads it.
const DEFAULT: &str = "/dev/termination-log";

/// The file to write to: the one told (by `--report` or `SLIPWAY_TERMINATION_LOG`), else the kubelet's where there is one.
pub fn destination(told: Option<PathBuf>) -> Option<PathBuf> {
    told.or_else(|| Some(PathBuf::from(DEFAULT)).filter(|path| path.exists()))
}

/// Writes `report` to `path`. A report that cannot be written is only said aloud: it must not hide how the run
/// itself ended.
pub fn write<T: Serialize>(path: Option<&Path>, report: &Report<T>) {
    if let Some(path) = path
        && let Err(error) = std::fs::write(path, report.to_message())
    {
        eprintln!("failed to write the report {}: {error}", path.display());
    }
}
