//! The controllers, side by side. Needs a client.

use std::{future::Future, sync::Arc};

use crate::{context::Context, eval_run, fine_tune_job, model_deployment};

/// Runs every controller until `shutdown` resolves and what is under way has ended.
pub async fn run(context: Arc<Context>, shutdown: impl Future<Output = ()> + Clone + Send + Sync + 'static) {
    tokio::join!(
        fine_tune_job::run(context.clone(), shutdown.clone()),
        eval_run::run(context.clone(), shutdown.clone()),
        model_deployment::run(context, shutdown),
    );
}
