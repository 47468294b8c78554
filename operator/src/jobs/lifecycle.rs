//! Carries out what [`super::plan`] decides about a Job, and hands a finished one over to its time to live. Needs a
//! client.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::ResourceExt;
use serde_json::json;

use super::{Plan, plan};
use crate::apply::{Applier, ApplyError};

/// Brings the Job nearer to `desired`, from `live` and the pods that carry its labels.
pub async fn bring_about(
    applier: &Applier<'_>,
    desired: &Job,
    live: Option<&Job>,
    live_pods: &[Pod],
    suspend: bool,
) -> Result<(), ApplyError> {
    match plan(desired, live, live_pods, suspend) {
        Plan::Create => drop(applier.create_once::<Job>(desired).await?),
        Plan::Adjust(change) => {
            if let Some(live) = live {
                applier.adjust::<Job>(live.clone(), &change).await?;
            }
        }
        Plan::Delete => applier.delete::<Job>(&desired.name_any()).await?,
        Plan::Keep | Plan::Wait => {}
    }
    Ok(())
}

/// Hands the time to live to a finished Job. Only once its end was recorded, since a Job that was removed before
/// would look like one that never ran.
pub async fn expire(applier: &Applier<'_>, job: Job, seconds: i32) -> Result<(), ApplyError> {
    let change = json!({ "spec": { "ttlSecondsAfterFinished": seconds } });
    applier.adjust::<Job>(job, &change).await.map(drop)
}
