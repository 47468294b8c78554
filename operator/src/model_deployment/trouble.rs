//! Why a pod's server does not answer, and whether that may mend itself. Pure: no client.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStateTerminated, ContainerStatus, Pod},
};
use kube::ResourceExt;
use slipway_contract::{Failure, FailureReason, Report, exit};

use super::SERVER_CONTAINER;

/// Restarts after which a server is not waited for any longer.
const RESTARTS: i32 = 3;

/// Why no node takes a pod.
pub fn unscheduled(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled")?;
    (scheduled.status == "False")
        .then(|| scheduled.message.clone())
        .flatten()
}

/// Why a pod's server will not come to serve: what is wrong with it does not mend itself, or it has failed often.
pub fn given_up(pod: &Pod) -> Option<String> {
    let container = server_container(pod)?;
    let hopeless =
        terminations(container).any(|ended| [exit::CONFIG, exit::INPUT].contains(&ended.exit_code));
    // A Hub that is away says nothing of the revision, however often that ended its server.
    let waits = || {
        let last = terminations(container).find_map(told);
        last.is_some_and(|failure| failure.reason == FailureReason::HubUnavailable)
    };
    (hopeless || container.restart_count >= RESTARTS && !waits())
        .then(|| failure(pod))
        .flatten()
}

/// Why the pods of a Deployment are not even made: an admission rule, a quota, resources that contradict each other.
pub fn refused(server: &Deployment) -> Option<String> {
    let conditions = server.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions
        .iter()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
    let message = failure.message.as_deref()?;
    Some(format!("no pod can be made: {message}"))
}

fn server_container(pod: &Pod) -> Option<&ContainerStatus> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    containers
        .iter()
        .find(|container| container.name == SERVER_CONTAINER)
}

/// How its server ended, the last time first.
fn terminations(container: &ContainerStatus) -> impl Iterator<Item = &ContainerStateTerminated> {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    states
        .into_iter()
        .flatten()
        .filter_map(|state| state.terminated.as_ref())
}

/// What a server left in its termination message.
fn told(ended: &ContainerStateTerminated) -> Option<Failure> {
    match serde_json::from_str::<Report<()>>(ended.message.as_deref()?).ok()? {
        Report::Failure(failure) => Some(failure),
        Report::Outcome(()) => None,
    }
}

/// Why a pod's server ended, in its own words where it left some.
pub fn failure(pod: &Pod) -> Option<String> {
    let container = server_container(pod)?;
    if let Some(ended) = terminations(container)
        .next()
        .filter(|ended| ended.exit_code != 0)
    {
        if ended.reason.as_deref() == Some("OOMKilled") {
            return Some(format!(
                "server {} was killed for memory; raise resources.limits.memory of its variant",
                pod.name_any()
            ));
        }
        return Some(match told(ended) {
            Some(Failure { message, .. }) => message,
            None => format!(
                "server {} ended with exit code {}; see its logs",
                pod.name_any(),
                ended.exit_code
            ),
        });
    }
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    matches!(
        reason,
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "CreateContainerConfigError"
    )
    .then(|| {
        format!(
            "server {} cannot start: {reason}: {}",
            pod.name_any(),
            waiting.message.as_deref().unwrap_or("")
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A pod whose server ended `restarts` times, the last time so.
    fn ended(restarts: i32, code: i32, message: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1"},
            "status": {"containerStatuses": [{
                "name": "server", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": code, "message": message}},
            }]},
        }))
        .unwrap()
    }

    const AWAY: &str = r#"{"failure":{"reason":"HubUnavailable","message":"the Hub is away"}}"#;
    const OURS: &str = r#"{"failure":{"reason":"Internal","message":"a fault of ours"}}"#;

    #[test]
    fn a_hub_that_is_away_is_waited_for_however_often_that_ends_a_server() {
        let pod = ended(9, exit::TRANSIENT, AWAY);
        assert_eq!(given_up(&pod), None);
        assert_eq!(failure(&pod).as_deref(), Some("the Hub is away"));
    }

    #[test]
    fn a_server_that_ends_again_and_again_is_given_up() {
        assert_eq!(given_up(&ended(RESTARTS - 1, 137, "")), None);
        assert!(
            given_up(&ended(RESTARTS, 137, ""))
                .unwrap()
                .contains("exit code 137")
        );
        assert_eq!(
            given_up(&ended(RESTARTS, exit::TRANSIENT, OURS)).as_deref(),
            Some("a fault of ours")
        );
        assert!(given_up(&ended(1, exit::INPUT, "")).is_some());
    }

    #[test]
    fn pods_that_may_not_be_made_are_told_with_the_reason() {
        let server: Deployment = serde_json::from_value(json!({
            "status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                "message": "exceeded quota: small"}]},
        }))
        .unwrap();
        assert_eq!(
            refused(&server).unwrap(),
            "no pod can be made: exceeded quota: small"
        );
        assert_eq!(refused(&Deployment::default()), None);
    }
}
