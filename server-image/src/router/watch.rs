//! The route table's file: read again when it changes, taken when it is right.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use hyper::http::uri::Authority;
use slipway_contract::RouteTable;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::metrics::Metrics;
use super::proxy::Shared;
use super::table::Table;
use super::target::Target;
use super::variant::Variant;

/// Between two looks at the file.
const POLL: Duration = Duration::from_millis(250);
/// Servers that a new table brings may take this long to be found and probed before it takes effect.
const SETTLE: Duration = Duration::from_secs(3);

/// Follows the file of a route table and the addresses in it.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    /// What was read last, right or wrong.
    seen: Vec<u8>,
    targets: HashMap<Authority, (Arc<Target>, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Watcher {
    /// Reads the table at `path` for the first time; returns it once its servers were looked at.
    pub async fn start(path: &Path, metrics: &Metrics) -> Result<(Self, Table), String> {
        let mut watcher = Self {
            path: path.to_owned(),
            seen: Vec::new(),
            targets: HashMap::new(),
            tasks: JoinSet::new(),
        };
        watcher.seen = std::fs::read(path).map_err(|error| {
            format!(
                "failed to read the route table {}: {error}; pass --routes with its path",
                path.display()
            )
        })?;
        let (table, found) = watcher.load(None, metrics)?;
        settle(&found).await;
        watcher.forget(&table);
        Ok((watcher, table))
    }

    /// Puts each right table in force as the file changes, for ever. A wrong one leaves the old in force.
    pub async fn follow(mut self, shared: Arc<Shared>) {
        loop {
            sleep(POLL).await;
            // The content is compared, not the time: a ConfigMap is swapped by a symbolic link, a file system may
            // keep whole seconds only, and an editor may leave the file missing for a moment.
            let Ok(text) = std::fs::read(&self.path) else {
                continue;
            };
            if text == self.seen {
                continue;
            }
            self.seen = text;
            let before = shared.table.load_full();
            match self.load(Some(&before), &shared.metrics) {
                Ok((table, found)) => {
                    settle(&found).await;
                    self.forget(&table);
                    let weights: Vec<String> = table.variants.iter().map(share).collect();
                    tracing::info!(weights = weights.join(" "), "a new route table is in force");
                    shared.table.store(Arc::new(table));
                    for (_, revision) in before.revisions() {
                        revision.target.wake();
                    }
                }
                Err(error) => {
                    shared.metrics.invalid_tables.fetch_add(1, Relaxed);
                    tracing::error!("{error}; the table before it stays in force");
                }
            }
        }
    }

    /// The table as the file has it now, and the addresses in it that are new.
    fn load(
        &mut self,
        before: Option<&Table>,
        metrics: &Metrics,
    ) -> Result<(Table, Vec<Arc<Target>>), String> {
        let routes: RouteTable = slipway_contract::parse(&self.path).map_err(|error| error.to_string())?;
        let known: HashMap<Authority, Arc<Target>> = self
            .targets
            .iter()
            .map(|(authority, (target, _))| (authority.clone(), target.clone()))
            .collect();
        let mut found = Vec::new();
        let table = Table::build(&routes, before, metrics, &known, |authority| {
            let target = Arc::new(Target::new(authority));
            found.push(target.clone());
            target
        })
        .map_err(|error| format!("the route table {} cannot be used: {error}", self.path.display()))?;
        for target in &found {
            let task = self.tasks.spawn(target.clone().watch());
            self.targets
                .insert(target.authority().clone(), (target.clone(), task));
        }
        Ok((table, found))
    }

    /// Stops probing what the table no longer names.
    fn forget(&mut self, table: &Table) {
        self.targets.retain(|_, (target, task)| {
            let named = table
                .revisions()
                .any(|(_, revision)| Arc::ptr_eq(&revision.target, target));
            if !named {
                task.abort();
            }
            named
        });
    }
}

/// Waits for the servers of new addresses, so that a table does not take effect before they can take traffic.
/// Servers of known addresses have been looked at: no answer of theirs is worth holding up a table, which may be
/// the one that takes traffic off them.
async fn settle(found: &[Arc<Target>]) {
    let deadline = Instant::now() + SETTLE;
    while Instant::now() < deadline && !found.iter().all(|target| target.has_ready()) {
        sleep(Duration::from_millis(10)).await;
    }
}

/// A variant's share in the log.
fn share(variant: &Variant) -> String {
    let own = format!("{}={}", variant.name, variant.weight);
    match &variant.canary {
        None => own,
        Some(canary) => format!("{own} ({}={}%)", canary.revision.name, canary.percent),
    }
}
