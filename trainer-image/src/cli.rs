//! The command line of `slipway-trainer`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Fine-tunes and measures language models.
#[derive(Debug, Parser)]
#[command(name = "slipway-trainer", version, about, after_long_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    everything was done
  2    the command line or the configuration is wrong; a retry cannot help
  3    the model or the data is wrong; a retry cannot help
  4    something outside failed (the Hub, the disk, another worker); a retry may help
  143  told to stop by SIGTERM or SIGINT; a checkpoint was written and a retry resumes from it

Environment:
  HF_ENDPOINT, HF_TOKEN    the Hub and its token, where the configuration names none
  SLIPWAY_CACHE_DIR        where downloads are kept (default: $XDG_CACHE_HOME/slipway, ~/.cache/slipway)
  JOB_COMPLETION_INDEX     this worker's rank, where several train together
  RAYON_NUM_THREADS        threads to compute with (default: all cores)
  CANDLE_NUM_THREADS       threads for element-wise operations (default: 1; more helps on idle cores only)";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fine-tunes a model: trains, checkpoints, evaluates, writes the result and publishes it.
    ///
    /// A run that finds a checkpoint in its checkpoint directory resumes from it and ends with the same weights
    /// as one that was never stopped.
    Train(Run),
    /// Measures a model, compares it with a baseline, and records the result.
    ///
    /// The verdict is part of the result: a model that fails its thresholds is measured, and the exit code is 0.
    Evaluate(Run),
    /// Turns a GGUF file into a directory of safetensors, tokenizer and configuration.
    Convert(Convert),
}

/// A run by a configuration file.
#[derive(Args, Debug)]
pub struct Run {
    /// Configuration file, YAML or JSON.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Receives how the run ended, as JSON (default: /dev/termination-log, where there is one).
    #[arg(long, value_name = "FILE", env = "SLIPWAY_TERMINATION_LOG")]
    pub report: Option<PathBuf>,
}

/// A conversion.
#[derive(Args, Debug)]
pub struct Convert {
    /// The GGUF file.
    pub gguf: PathBuf,
    /// Directory to write to; must be empty or not there.
    pub directory: PathBuf,
}
