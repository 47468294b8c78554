//! The controllers, side by side. Needs a client.

use std::{future::Future, sync::Arc};

use crate::context::Context;

/// Runs every controller until `shutdown` resolves and what is under way has ended.
pub async fn run(context: Arc<Context>, shutdown: impl Future<Output = ()> + Clone + Send + Sync + 'static) {
    drop(context);
    shutdown.await;
}
