//! Runs a controller: one span, one metric and one log line a reconciliation, errors retried by their kind.
//! Needs a client.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{ApiResource, DeserializeGuard, DynamicObject, error_boundary::InvalidObject},
    runtime::{
        Controller,
        controller::{self, Action},
        reflector::ObjectRef,
    },
};
use serde_json::json;
use tracing::Instrument;

use crate::{
    apply::Child,
    conditions::{self, Summary},
    context::Context,
    crd::Kind,
    error::Error,
};

/// How many objects of a kind are reconciled at once.
const CONCURRENCY: u16 = 8;
/// Changes within this time are reconciled together.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// What goes wrong with one object in the stream of results; logged where it happened.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

/// Runs `reconcile` for each object of `objects` until `shutdown` resolves and the reconciliations under way have
/// ended. An object that does not fit its type is reported in its status and waits for a change.
pub async fn run<K, F, Fut>(
    objects: Controller<DeserializeGuard<K>>,
    context: Arc<Context>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
    reconcile: F,
) where
    K: Child + Kind + Send + Sync + 'static,
    F: Fn(Arc<K>, Arc<Context>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let step = move |object: Arc<DeserializeGuard<K>>, context: Arc<Context>| {
        let reconcile = reconcile.clone();
        let namespace = object.namespace().unwrap_or_default();
        let span =
            tracing::info_span!("reconcile", controller = K::NAME, %namespace, object = %object.name_any());
        async move { one(object, context, reconcile).await }.instrument(span)
    };
    let retry = |object: Arc<DeserializeGuard<K>>, _: &Failed, context: Arc<Context>| {
        Action::requeue(context.backoff.failed(&key(&object)))
    };
    objects
        .with_config(
            controller::Config::default()
                .concurrency(CONCURRENCY)
                .debounce(DEBOUNCE),
        )
        .graceful_shutdown_on(shutdown)
        .run(step, retry, context)
        .for_each(|result| async move {
            // Failures of reconciliations were logged inside their span; what is left concerns the watches.
            if let Err(error) = result {
                match error {
                    controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_) => {}
                    error => {
                        tracing::warn!(controller = K::NAME, %error, "the watch was interrupted and is resumed");
                    }
                }
            }
        })
        .await;
}

fn key<K: Child + Kind>(object: &DeserializeGuard<K>) -> String {
    format!(
        "{}/{}/{}",
        K::NAME,
        object.namespace().unwrap_or_default(),
        object.name_any()
    )
}

async fn one<K, F, Fut>(
    object: Arc<DeserializeGuard<K>>,
    context: Arc<Context>,
    reconcile: F,
) -> Result<Action, Failed>
where
    K: Child + Kind + Send + Sync + 'static,
    F: Fn(Arc<K>, Arc<Context>) -> Fut,
    Fut: Future<Output = Result<Action, Error>>,
{
    let begun = Instant::now();
    let key = key(&object);
    let valid = match &object.0 {
        Ok(valid) => Arc::new(valid.clone()),
        Err(invalid) => {
            context.metrics.reconciled(K::NAME, "invalid", begun.elapsed());
            return report_invalid::<K>(&context, &object, invalid).await;
        }
    };
    match reconcile(valid, context.clone()).await {
        Ok(action) => {
            context.backoff.succeeded(&key);
            context.metrics.reconciled(K::NAME, "success", begun.elapsed());
            tracing::debug!(milliseconds = begun.elapsed().as_millis() as u64, "reconciled");
            Ok(action)
        }
        Err(error) => {
            context.metrics.reconciled(K::NAME, "error", begun.elapsed());
            let sentence = chain(&error);
            tracing::warn!(reason = error.reason(), error = %sentence, "failed to reconcile; trying again");
            Err(Failed(sentence))
        }
    }
}

/// An error with its causes, one after the other.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

/// Says in the status what does not fit. The object cannot be read as its type, so it is read as plain data.
async fn report_invalid<K: Child + Kind>(
    context: &Context,
    object: &DeserializeGuard<K>,
    invalid: &InvalidObject,
) -> Result<Action, Failed> {
    let message = format!(
        "this object does not fit its kind: {}; correct and apply it again",
        invalid.error
    );
    tracing::warn!(%message, "invalid object");
    let summary = Summary::stalled("InvalidObject", message);
    let generation = object.meta().generation;
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        &object.namespace().unwrap_or_default(),
        &ApiResource::erase::<K>(&()),
    );
    let name = object.name_any();
    let failed = |error: kube::Error| Failed(error.to_string());
    let Some(live) = api.get_opt(&name).await.map_err(failed)? else {
        return Ok(Action::await_change());
    };
    let before: Vec<Condition> =
        serde_json::from_value(live.data["status"]["conditions"].clone()).unwrap_or_default();
    let after = conditions::summarize(&before, &summary, generation, jiff::Timestamp::now());
    // Our own write comes back as a change: writing only what is new keeps it from going round.
    if after == before {
        return Ok(Action::await_change());
    }
    let status = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name },
        "status": {
            "observedGeneration": generation,
            "conditions": after,
        },
    });
    let params = PatchParams::apply(K::MANAGER).force();
    api.patch_status(&name, &params, &Patch::Apply(&status))
        .await
        .map_err(failed)?;
    Ok(Action::await_change())
}

/// The owner named by `label` on a child that does not carry an owner reference to it (a Pod of a Job).
pub fn by_label<K, C>(
    label: &'static str,
) -> impl Fn(C) -> Option<ObjectRef<DeserializeGuard<K>>> + Send + Sync + 'static
where
    K: Child + 'static,
    C: Child,
{
    move |child| {
        let name = child.labels().get(label)?.clone();
        Some(ObjectRef::new(&name).within(&child.namespace()?))
    }
}
