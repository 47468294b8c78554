//! Models: what trainer and server share.
//!
//! [`ModelFiles`] says which files make up a model, [`Architecture`] what they describe, and a [`Network`] computes with it:
//! one decoder and one encoder, with fused operations when serving and differentiable ones when training.

mod adapter;
mod attention;
mod batch;
pub mod chat;
mod decoder;
mod device;
mod encoder;
mod error;
mod files;
pub mod gguf;
mod head;
mod kv_cache;
mod linear;
mod loss;
mod network;
mod ops;
mod param;
mod pass;
pub mod registry;
mod threads;
pub mod tokenizer;
pub mod weights;

pub use batch::Batch;
pub use device::device;
pub use error::ModelError;
pub use files::ModelFiles;
pub use kv_cache::KvCache;
pub use network::{AdapterId, Head, LoadOptions, LossSum, Mode, Network, Rows};
pub use registry::Architecture;
pub use threads::one_pool;
