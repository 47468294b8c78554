//! The compute thread. One thread owns the network, so that computation never competes with itself for cores;
//! handlers reach it through a bounded queue.

pub mod encoding;
pub mod generation;
pub mod output;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use candle_core::Tensor;
use slipway_model::ModelError;
use tokio::sync::mpsc;

use crate::error::ApiError;
use crate::queue::Queue;

/// Where handlers hand in work: what a model does decides which kind.
#[derive(Clone, Debug)]
pub enum Engine {
    /// Continues text.
    Generation(Arc<Queue<generation::Request>>),
    /// Turns texts into vectors or scores.
    Encoding(Arc<Queue<encoding::Request>>),
}

impl Engine {
    /// Requests waiting.
    pub fn waiting(&self) -> usize {
        match self {
            Self::Generation(queue) => queue.len(),
            Self::Encoding(queue) => queue.len(),
        }
    }
}

/// Starts the compute thread. Should it ever panic, `fatal` says why: without it the process is of no use.
pub fn spawn(
    fatal: mpsc::UnboundedSender<String>,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("compute".into())
        .spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                let message = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                // Without a receiver the process is ending anyway.
                let _ = fatal.send(format!("the compute thread failed: {message}"));
            }
        })?;
    Ok(())
}

fn failed(error: &ModelError) -> ApiError {
    ApiError::internal(format!("the model failed to compute this request: {error}"))
}

fn rows(tensor: &Tensor) -> Result<Vec<Vec<f32>>, ModelError> {
    Ok(tensor.to_dtype(candle_core::DType::F32)?.to_vec2()?)
}
