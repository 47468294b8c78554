//! Which arm of an experiment is better, asked at every moment without losing the answer's confidence. Pure.
//!
//! Each router counts what it routed and which scores came back in a [`Tally`]; the operator keeps the tallies of all
//! routers in a [`Ledger`] and calls [`decide`] on their sum as often as it likes. docs/experiments.md says what is computed, from which
//! papers, what it finds in simulation, and where it ends.

mod boundary;
mod gram;
mod ledger;
mod outcome;
mod ratio;
mod sequence;
mod special;
mod split;
mod tally;
#[cfg(test)]
mod tests;
mod wire;

pub use ledger::Ledger;
pub use outcome::{ArmOutcome, Decision, Difference, Outcome, SampleRatio, decide};
pub use sequence::Rule;
pub use split::Split;
pub use tally::{MergeError, Routed, ScoreError, Tally};
