//! Checkpoints: everything that a run needs to go on as if it had not stopped.
//!
//! A checkpoint is a directory `step-00000050` that appears whole or not at all: it is written under another
//! name, synced, and renamed. Its manifest holds the size and SHA-256 of each file, so that one damaged
//! afterwards is told apart and the one before it is used.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slipway_contract::{Failure, FailureReason};

use super::exact;
use super::state::RunState;
use super::tensors::{self, Sealed, Tensors};

const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
/// Trained weights.
const WEIGHTS: &str = "weights.safetensors";
/// AdamW's moving averages.
const MOMENTS: &str = "moments.safetensors";
/// The weights that early stopping would publish, when they are not the newest.
const BEST: &str = "best.safetensors";

/// Everything that changes while training.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Steps, losses, early stopping.
    pub state: RunState,
    /// Trained weights by name.
    pub weights: Tensors,
    /// `first.<name>` and `second.<name>`.
    pub moments: Tensors,
    /// The best weights, while early stopping keeps some.
    pub best: Option<Tensors>,
}

/// What a checkpoint was made with; a run resumes only from its like.
pub(super) type Fingerprint = BTreeMap<String, String>;

/// Where checkpoints of one run are.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    keep: usize,
    fingerprint: Fingerprint,
}

#[derive(Debug, Deserialize, Serialize)]
struct Manifest {
    /// Version of the layout.
    version: u32,
    fingerprint: Fingerprint,
    files: BTreeMap<String, Sealed>,
}

/// Version of the layout.
const VERSION: u32 = 1;

/// Why a checkpoint cannot be read.
#[derive(Debug)]
enum Unreadable {
    /// Cut or altered after it was written: the one before it is used.
    Damaged(String),
    /// Whole, but of another run.
    Mismatch(Failure),
}

impl Store {
    /// Opens `directory`, creating it where needed, and removes what earlier runs left half-written.
    pub fn open(directory: &Path, keep: u32, fingerprint: Fingerprint) -> Result<Self, Failure> {
        let store = Self {
            directory: directory.to_owned(),
            keep: keep.max(1) as usize,
            fingerprint,
        };
        fs::create_dir_all(directory).map_err(|error| store.failure("create", directory, &error))?;
        let entries = fs::read_dir(directory).map_err(|error| store.failure("read", directory, &error))?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".writing-") {
                // What cannot be removed only takes space.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(store)
    }

    /// The newest whole checkpoint. `warn` hears of damaged ones passed over.
    pub fn newest(&self, warn: &mut dyn FnMut(String)) -> Result<Option<Snapshot>, Failure> {
        for (_, path) in self.list()?.into_iter().rev() {
            match self.read(&path) {
                Ok(snapshot) => return Ok(Some(snapshot)),
                Err(Unreadable::Damaged(why)) => {
                    warn(format!(
                        "the checkpoint {} is damaged ({why}) and is passed over",
                        path.display()
                    ));
                }
                Err(Unreadable::Mismatch(failure)) => return Err(failure),
            }
        }
        Ok(None)
    }

    /// Writes a checkpoint, then removes the oldest ones beyond those to keep.
    pub fn write(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        let step = snapshot.state.step;
        let writing = self.directory.join(format!(".writing-{step:08}"));
        let path = self.directory.join(format!("step-{step:08}"));
        self.write_into(&writing, snapshot)
            .and_then(|()| {
                // Only a damaged one of the same step can be in the way: a whole one would have been resumed from.
                match fs::remove_dir_all(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => fs::rename(&writing, &path),
                }
            })
            .and_then(|()| sync(&self.directory))
            .map_err(|error| {
                let _ = fs::remove_dir_all(&writing);
                self.failure("write", &path, &error)
            })?;
        let all = self.list()?;
        for (_, old) in all.iter().take(all.len().saturating_sub(self.keep)) {
            fs::remove_dir_all(old).map_err(|error| self.failure("remove", old, &error))?;
        }
        Ok(())
    }

    fn write_into(&self, directory: &Path, snapshot: &Snapshot) -> io::Result<()> {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir(directory)?;
        let mut files = BTreeMap::new();
        let mut seal = |name: &str, sealed: Sealed| files.insert(name.to_owned(), sealed);
        seal(
            WEIGHTS,
            tensors::write(&directory.join(WEIGHTS), &snapshot.weights)?,
        );
        seal(
            MOMENTS,
            tensors::write(&directory.join(MOMENTS), &snapshot.moments)?,
        );
        if let Some(best) = &snapshot.best {
            seal(BEST, tensors::write(&directory.join(BEST), best)?);
        }
        seal(
            STATE,
            tensors::write_bytes(&directory.join(STATE), &exact::to_vec(&snapshot.state)?)?,
        );
        let manifest = Manifest {
            version: VERSION,
            fingerprint: self.fingerprint.clone(),
            files,
        };
        tensors::write_bytes(&directory.join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?)?;
        sync(directory)
    }

    fn read(&self, path: &Path) -> Result<Snapshot, Unreadable> {
        let damaged =
            |what: &str, error: &dyn std::fmt::Display| Unreadable::Damaged(format!("{what}: {error}"));
        let text = fs::read(path.join(MANIFEST)).map_err(|error| damaged(MANIFEST, &error))?;
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| damaged(MANIFEST, &error))?;
        // Other fingerprints before other contents: a run with another configuration must not start over silently.
        self.matches(path, &manifest).map_err(Unreadable::Mismatch)?;
        let mut contents = BTreeMap::new();
        for (name, sealed) in &manifest.files {
            let bytes =
                tensors::read_sealed(&path.join(name), sealed).map_err(|error| damaged(name, &error))?;
            contents.insert(name.as_str(), bytes);
        }
        let bytes = |name: &str| contents.get(name).ok_or_else(|| damaged(name, &"not there"));
        let tensors = |name: &str| tensors::parse(bytes(name)?).map_err(|error| damaged(name, &error));
        Ok(Snapshot {
            state: exact::from_slice(bytes(STATE)?).map_err(|error| damaged(STATE, &error))?,
            weights: tensors(WEIGHTS)?,
            moments: tensors(MOMENTS)?,
            best: manifest
                .files
                .contains_key(BEST)
                .then(|| tensors(BEST))
                .transpose()?,
        })
    }

    fn matches(&self, path: &Path, manifest: &Manifest) -> Result<(), Failure> {
        let mut differences = Vec::new();
        if manifest.version != VERSION {
            differences.push(format!(
                "layout version {} instead of {VERSION}",
                manifest.version
            ));
        }
        for (name, now) in &self.fingerprint {
            match manifest.fingerprint.get(name) {
                Some(then) if then == now => {}
                then => differences.push(format!(
                    "{name} was {}, now {now}",
                    then.map_or("not there", String::as_str)
                )),
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            FailureReason::CheckpointMismatch,
            format!(
                "the checkpoint {} belongs to another run ({}); restore that configuration, or point checkpoint.directory at an empty directory",
                path.display(),
                differences.join("; ")
            ),
        ))
    }

    /// Steps and paths of the checkpoints, oldest first.
    fn list(&self) -> Result<Vec<(u64, PathBuf)>, Failure> {
        let entries =
            fs::read_dir(&self.directory).map_err(|error| self.failure("read", &self.directory, &error))?;
        let mut found: Vec<(u64, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                Some((
                    entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?,
                    entry.path(),
                ))
            })
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    fn failure(&self, action: &str, path: &Path, error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::StorageFull || error.kind() == io::ErrorKind::QuotaExceeded {
            return Failure::new(
                FailureReason::OutOfDisk,
                format!(
                    "the disk of {} is full; the checkpoint before this one is kept: give the volume more space, or lower checkpoint.keep",
                    self.directory.display()
                ),
            );
        }
        Failure::new(
            FailureReason::Internal,
            format!(
                "failed to {action} {}: {error}; check that the checkpoint volume can be written",
                path.display()
            ),
        )
    }
}

/// Makes a directory's entries survive a loss of power.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
