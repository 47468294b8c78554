//! What clients say of each revision's answers, whatever is compared otherwise: `feedback` of a table.

use std::iter::empty;
use std::sync::{Arc, Mutex, PoisonError};

use slipway_contract::RouteFeedback;

use super::choose;
use super::experiment::{NotCounted, Scored};
use super::ticket::{self, Seal};
use super::variant::Revision;

/// Gives answers ids, and takes their scores.
#[derive(Debug)]
pub struct Scores {
    key: [u8; 32],
    seal: Seal,
    /// Outlives the table: an answer is scored once.
    scored: Arc<Mutex<Scored>>,
}

/// What an id says of the revision that answered: the same in every router and table.
pub fn answerer(variant: &str, revision: &str) -> u64 {
    choose::hash([variant.as_bytes(), revision.as_bytes()])
}

impl Scores {
    /// As a table, checked before, says; the table `before` may have taken some of the same.
    pub fn following(before: Option<&Self>, route: &RouteFeedback) -> Option<Self> {
        let key = ticket::key(&route.key)?;
        let before = before.filter(|before| before.key == key);
        Some(Self {
            // No experiment has an empty id, so that an id of one is none here.
            seal: Seal::new(&key, "", empty()),
            key,
            scored: before.map_or_else(Arc::default, |before| before.scored.clone()),
        })
    }

    /// The id of an answer. `nonce`: another number each time.
    pub fn id(&self, revision: &Revision, nonce: u64) -> String {
        self.seal.sign(revision.answerer, nonce)
    }

    /// Counts what a client says of the answer with `id`, once, for that of `revisions` which gave it.
    pub fn take<'a>(
        &self,
        id: &str,
        score: f64,
        mut revisions: impl Iterator<Item = &'a Revision>,
    ) -> Result<(), NotCounted> {
        let (answerer, tag) = self.seal.signed(id).ok_or(NotCounted::Unknown)?;
        let revision = revisions.find(|revision| revision.answerer == answerer);
        let revision = revision.ok_or(NotCounted::Unknown)?;
        let mut scored = self.scored.lock().unwrap_or_else(PoisonError::into_inner);
        if !scored.insert(tag) {
            return Err(NotCounted::Twice);
        }
        drop(scored);
        revision.window.scored(score);
        Ok(())
    }
}
