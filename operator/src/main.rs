//! The operator's command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Slipway's operator.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes the CRDs as YAML, one file a kind.
    Crds {
        /// The folder to write to.
        #[arg(default_value = "crds")]
        folder: PathBuf,
    },
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Cli::parse().command {
        Command::Crds { folder } => {
            for path in slipway_operator::crd::write(&folder)? {
                println!("{}", path.display());
            }
        }
    }
    Ok(())
}
