//! The Slipway operator: three controllers that take a model from fine-tuning to production traffic.

pub mod crd;
