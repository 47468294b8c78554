//! Figures and how sure they are. Pure: the same input gives the same bits.

mod classes;
mod interval;

pub use classes::Confusion;
pub use interval::{DRAWS, bootstrap, normal_quantile, wilson};
