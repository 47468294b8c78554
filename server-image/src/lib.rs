//! Serving: `slipway-server` answers requests with one model and its adapters.
//!
//! A request passes [`http`] (routes), [`openai`] (strict reading of parameters) and [`served`] (names,
//! tokens, limits), waits in a bounded [`queue`] and is computed by the one thread of [`engine`], which batches
//! all that are under way.
//!
//! [`router`] is `slipway-router`, which splits requests over several such servers.

pub mod app;
pub mod cli;
pub mod engine;
pub mod error;
pub mod history;
pub mod http;
pub mod metrics;
pub mod openai;
pub mod queue;
pub mod router;
pub mod run;
pub mod sampling;
pub mod served;
pub mod sse;
pub mod startup;
pub mod stop;
pub mod token_text;
