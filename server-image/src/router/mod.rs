//! `slipway-router`: splits requests over the arms of an A/B test.
//!
//! A request meets [`table`] (which arm: [`choose`]), [`backend`] (which server of the arm), and [`proxy`], which
//! passes head and body on as they come. Each thread has its own connections ([`pool`]); what they share is read
//! without locks: the table, the servers' readiness, the counters ([`metrics`]). [`watch`] follows the table's
//! file.

pub mod admin;
pub mod backend;
pub mod body;
pub mod choose;
pub mod metrics;
pub mod pool;
pub mod proxy;
pub mod refusal;
pub mod serve;
pub mod table;
pub mod watch;
