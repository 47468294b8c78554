//! Datasets: which files make a split ([`layout`]), rows out of them ([`rows`]), what their columns mean
//! ([`columns`]), examples ([`examples`]) and the set of labels ([`labels`]).
//!
//! Nothing here knows models or tokens, so training and evaluation read data the same way.

mod card;
mod columns;
mod error;
mod examples;
mod labels;
mod layout;
mod reading;
mod rows;

pub use columns::{Roles, resolve};
pub use error::DataError;
pub use examples::{Example, Turns, read};
pub use labels::{LabelSet, LabelValue};
pub use layout::{Layout, Split};
pub use reading::{Reading, Rejected, read_rows};
pub use rows::{Row, columns_of};
