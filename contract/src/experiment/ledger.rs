//! What all routers of an experiment counted, those that are gone included. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tally::{MergeError, Tally};

/// Each router counts from zero when its process starts, and says its sum so far each time it is asked. The sums of
/// processes that are gone are added up here; of each other one the last sum is kept, to be replaced by its next.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Ledger {
    /// The processes that are gone; and of all, who came first to each place: to add that twice changes nothing, so
    /// it is kept once.
    gone: Tally,
    /// The process of each router that may be asked again.
    live: BTreeMap<String, Process>,
}

/// A router's process, and its sum when it was last asked. Without places.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    instance: String,
    tally: Tally,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    gone: Tally,
    live: BTreeMap<String, Process>,
}

impl Ledger {
    /// Of an experiment between these arms, in the order of the route table.
    pub fn new(arms: impl IntoIterator<Item = String>) -> Self {
        Self {
            gone: Tally::new(arms),
            live: BTreeMap::new(),
        }
    }

    /// Takes what `router` (a pod, say) has counted since its process `instance` started. Another instance than
    /// before, or a lower sum, is another process: what the one before had counted is kept for good.
    pub fn count(&mut self, router: &str, instance: &str, mut tally: Tally) -> Result<(), MergeError> {
        self.gone.fits(&tally)?;
        self.gone.users.merge_places(&tally.users);
        tally.users.places.clear();
        let (requests, scores) = tally.counted();
        let goes_on = self.live.get(router).is_some_and(|known| {
            let before = known.tally.counted();
            known.instance == instance && before.0 <= requests && before.1 <= scores
        });
        if !goes_on {
            self.retire(router)?;
        }
        let process = Process {
            instance: instance.to_owned(),
            tally,
        };
        self.live.insert(router.to_owned(), process);
        Ok(())
    }

    /// Keeps for good what the routers have counted that are no longer there. One that merely does not answer is.
    pub fn keep(&mut self, is_there: impl Fn(&str) -> bool) -> Result<(), MergeError> {
        let gone: Vec<String> = self
            .live
            .keys()
            .filter(|router| !is_there(router))
            .cloned()
            .collect();
        gone.iter().try_for_each(|router| self.retire(router))
    }

    fn retire(&mut self, router: &str) -> Result<(), MergeError> {
        self.live
            .remove(router)
            .map_or(Ok(()), |process| self.gone.merge(&process.tally))
    }

    /// What all have counted.
    pub fn total(&self) -> Tally {
        let mut total = self.gone.clone();
        for process in self.live.values() {
            total
                .merge(&process.tally)
                .expect("each was held against the arms when it came in");
        }
        total
    }

    /// How many requests and scores all have counted.
    pub fn counted(&self) -> (u64, u64) {
        self.live.values().map(|process| &process.tally).fold(
            self.gone.counted(),
            |(requests, scores), tally| {
                let more = tally.counted();
                (requests + more.0, scores + more.1)
            },
        )
    }

    /// The same without the sums of processes that can be asked again: what remains where there is no room for all.
    #[must_use]
    pub fn without_live(&self) -> Self {
        Self {
            gone: self.gone.clone(),
            live: BTreeMap::new(),
        }
    }
}

impl From<Ledger> for Wire {
    fn from(Ledger { gone, live }: Ledger) -> Self {
        Self { gone, live }
    }
}

impl TryFrom<Wire> for Ledger {
    type Error = MergeError;

    fn try_from(Wire { gone, live }: Wire) -> Result<Self, MergeError> {
        live.values().try_for_each(|process| gone.fits(&process.tally))?;
        Ok(Self { gone, live })
    }
}
