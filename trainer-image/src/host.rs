//! What every run has around it: signals, progress, terminal, caches, and the Hub.

use std::path::{Path, PathBuf};

use slipway_contract::{DatasetSource, Failure, FailureReason, HubAccess, ModelSource, Phase};
use slipway_hub::source::{LocalDataset, LocalModel, fetch_dataset, fetch_model};
use slipway_hub::{Client, RepoType, SnapshotProgress};
use tokio::runtime::Runtime;

use crate::progress::Board;
use crate::stop::{Stop, interrupted};
use crate::terminal::Terminal;

/// Surroundings of one run.
#[derive(Debug)]
pub struct Host {
    runtime: Runtime,
    /// Whether it was told to stop.
    pub stop: Stop,
    /// What it is doing.
    pub board: Board,
    /// What a person sees.
    pub terminal: Terminal,
    cache: PathBuf,
}

impl Host {
    /// Installs signal handlers and serves progress at `listen`, where it is set.
    pub fn new(listen: Option<&str>) -> Result<Self, Failure> {
        let internal = |error: std::io::Error| {
            Failure::new(FailureReason::Internal, format!("failed to start: {error}"))
        };
        // Computation has the cores; this waits for sockets.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(internal)?;
        let stop = Stop::listen(&runtime).map_err(internal)?;
        let host = Self {
            stop,
            board: Board::default(),
            terminal: Terminal::default(),
            cache: cache_directory(),
            runtime,
        };
        if let Some(address) = listen {
            let bound = host.board.serve(address, &host.runtime)?;
            host.terminal.say(&format!("progress at http://{bound}/progress"));
        }
        Ok(host)
    }

    /// Waits for `future`, or until a signal comes.
    pub fn wait<T>(&self, future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.runtime.block_on(async {
            tokio::select! {
                result = future => result,
                () = self.stop.wait() => Err(interrupted("a download or upload under way was left")),
            }
        })
    }

    /// A client of the Hub. Without one, only what needs the Hub fails, and says why.
    pub fn client(&self, access: &HubAccess) -> Result<Client, Failure> {
        Client::from_access(access).map_err(|error| error.failure(RepoType::Model))
    }

    /// Makes a model local.
    pub fn fetch_model(&self, source: &ModelSource, client: &Client) -> Result<LocalModel, Failure> {
        self.board.update(|progress| progress.phase = Phase::Downloading);
        let cache = self.cache.join("hub");
        self.wait(async {
            let fetched = fetch_model(source, client, &cache, |progress| self.downloading(&progress)).await;
            fetched.map_err(|error| error.failure(RepoType::Model))
        })
    }

    /// Makes a dataset local.
    pub fn fetch_dataset(&self, source: &DatasetSource, client: &Client) -> Result<LocalDataset, Failure> {
        self.board.update(|progress| progress.phase = Phase::Downloading);
        let cache = self.cache.join("hub");
        self.wait(async {
            let fetched = fetch_dataset(source, client, &cache, |progress| self.downloading(&progress)).await;
            fetched.map_err(|error| error.failure(RepoType::Dataset))
        })
    }

    /// Where downloads are kept.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    fn downloading(&self, progress: &SnapshotProgress) {
        self.terminal.step(
            progress.bytes_done,
            progress.bytes_total,
            &format!("bytes, {}", progress.file),
        );
    }
}

/// `SLIPWAY_CACHE_DIR`, else `$XDG_CACHE_HOME/slipway`, else `~/.cache/slipway`, else a directory for temporary files.
fn cache_directory() -> PathBuf {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("SLIPWAY_CACHE_DIR")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("slipway")))
        .or_else(|| Some(variable("HOME")?.join(".cache/slipway")))
        .unwrap_or_else(|| std::env::temp_dir().join("slipway"))
}
