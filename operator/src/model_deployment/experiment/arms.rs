//! Which two models an experiment compares: each arm must be of one revision. Pure: no client.

use k8s_openapi::api::core::v1::Pod;

use super::super::{
    plan::{self, Planned},
    server,
    status::{is_ready, revision_label},
};
use crate::crd::ModelDeployment;

/// The revision of each arm, in the order of the spec; or what must happen before each has one: the end of a
/// sentence that begins with "once".
pub fn settled(object: &ModelDeployment, arms: &[Planned<'_>]) -> Result<Vec<(String, String)>, String> {
    if let Some(arm) = arms.iter().find(|arm| arm.under_way().is_some()) {
        return Err(format!("the rollout of variant {} is over", arm.input.spec.name));
    }
    arms.iter()
        .map(|arm| {
            let name = &arm.input.spec.name;
            revision(object, arm).map(|revision| (name.clone(), revision))
        })
        .collect()
}

fn revision(object: &ModelDeployment, arm: &Planned<'_>) -> Result<String, String> {
    let name = &arm.input.spec.name;
    let live = arm.input.server.as_ref().map(server::revision_of);
    // An arm that was rolled back, or whose model is missing, stays what it is.
    let wanted = if arm.held { None } else { arm.wanted.clone() };
    let serves = || format!("variant {name} serves");
    let revision = wanted
        .or(live)
        .filter(|revision| !revision.is_empty())
        .ok_or_else(serves)?;
    let mut answering = arm.input.pods.iter().filter(|pod| answers(pod));
    if answering.any(|pod| revision_label(pod) != revision) {
        return Err(format!("all pods of variant {name} are of one revision"));
    }
    // Its pods may all be away for a moment; it is the same revision that they come back as.
    let served = plan::known(object, name).is_some_and(|known| known.revision == revision);
    if served || arm.input.pods.iter().any(is_ready) {
        Ok(revision)
    } else {
        Err(serves())
    }
}

/// Whether requests may meet the pod: also one that was told to stop, until it no longer says that it is ready.
fn answers(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}
