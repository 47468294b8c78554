//! `slipway-router`: splits requests over the arms of an A/B test.
//!
//! A request meets [`table`] (which arm: [`choose`]), [`variant`] (which revision), [`target`] (which server
//! of it, of those that answer their [`probe`]), and [`proxy`], which passes head and body on as they come, or waits for
//! a server ([`hold`]); [`mirror`] sends a canary copies. Each thread has its own connections ([`pool`]); what they share
//! is read without locks: the table, the servers' readiness, the counters ([`series`] since the start, [`window`] since
//! the table said so, a shard of each a thread), the scores of an [`experiment`], one tally a thread, and those of each
//! revision ([`scores`]). [`watch`] follows the table's file.

pub mod admin;
pub mod asked;
pub mod backend;
pub mod body;
pub mod check;
pub mod choose;
pub mod client;
pub mod clock;
pub mod experiment;
pub mod feedback;
pub mod headers;
pub mod hold;
pub mod local;
pub mod metrics;
pub mod mirror;
pub mod pool;
pub mod probe;
pub mod proxy;
pub mod refusal;
pub mod scores;
pub mod series;
pub mod serve;
pub mod sharded;
pub mod table;
pub mod target;
pub mod ticket;
pub mod upstream;
pub mod variant;
pub mod watch;
pub mod window;
