//! The Slipway operator: three controllers that take a model from fine-tuning to production traffic.
//!
//! A controller is a folder of steps: `inputs` reads what the object refers to, `desired` builds its children,
//! [`apply`] brings them into being, `status` derives what a person is told. Only `inputs` and `apply` need a
//! client; the rest is pure and takes the time as an argument.

pub mod apply;
pub mod backoff;
pub mod conditions;
pub mod context;
pub mod controllers;
pub mod crd;
pub mod error;
pub mod eval_run;
pub mod fine_tune_job;
pub mod gateway_api;
pub mod jobs;
pub mod lineage;
pub mod model_deployment;
pub mod names;
pub mod pods;
pub mod runner;
pub mod settings;
pub mod sources;
pub mod telemetry;
