//! Figures and how sure they are. Pure, but for the data of METEOR that is read from files: the same input gives the same bits.

mod classes;
mod interval;
mod likelihood;
pub mod ranking;
pub mod regression;
mod roc;
mod text;
mod undefined;

pub use classes::{Confusion, OfClass};
pub use interval::{DRAWS, bootstrap, normal_quantile, wilson};
pub use likelihood::{bits_per_byte, perplexity};
pub use roc::RocAuc;
pub use text::{Contributions, Lexicon, LexiconError, TextMetric};
pub use undefined::Undefined;
