//! Step: what the servers of an arm's revisions answered, where requests pass the routers by. Reads; changes nothing.

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use slipway_contract::{RevisionStats, ServerStats};

use super::{
    SERVER_CONTAINER,
    desired::HTTP_PORT,
    plan, rollout,
    status::{is_ready, revision_label},
};
use crate::{
    crd::{ModelDeployment, RolloutStatus},
    names,
};

/// The figures of two revisions of an arm since an analysis of one of them began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Served {
    /// [`rollout::window`] that they belong to.
    pub window: String,
    /// One for each revision. None while a server that takes requests has not answered.
    pub series: Option<Vec<RevisionStats>>,
    /// Why there were requests that no server counted.
    pub uncounted: Option<String>,
}

/// Asks the servers of the arm's two revisions, where `traffic.gateway` is set and an analysis is under way; nothing
/// else has a use for it. `pods`: the arm's own, and those beside them.
pub async fn ask(
    http: &reqwest::Client,
    object: &ModelDeployment,
    variant: &str,
    pods: impl Iterator<Item = &Pod>,
    now: Timestamp,
) -> Served {
    let rollout = plan::known(object, variant).and_then(|known| known.rollout.as_ref());
    let Some(rollout) = rollout.filter(|_| object.spec.traffic.gateway.is_some()) else {
        return Served::default();
    };
    let window = rollout::window(rollout, &object.spec.strategy);
    if window.is_empty() {
        return Served::default();
    }
    let pods: Vec<&Pod> = pods
        .filter(|pod| [&rollout.revision, &rollout.from].contains(&&revision_label(pod)))
        .collect();
    let age = now.duration_since(rollout.step_started.0).as_secs();
    let seconds = u64::try_from(age).unwrap_or(0);
    let answers = join_all(pods.iter().map(|pod| lately(http, pod, seconds))).await;
    Served {
        window,
        uncounted: ended(rollout, &pods),
        series: sum(variant, pods.into_iter().zip(answers)),
    }
}

async fn lately(http: &reqwest::Client, pod: &Pod, seconds: u64) -> Option<ServerStats> {
    let url = names::pod_url(pod, u16::try_from(HTTP_PORT).ok()?)?;
    let answer = http.get(format!("{url}/stats?seconds={seconds}")).send().await;
    let text = answer.ok()?.error_for_status().ok()?.bytes().await.ok()?;
    serde_json::from_slice(&text).ok()
}

/// Sums what the pods say by their revisions. None where one that takes requests said nothing.
fn sum<'a>(
    variant: &str,
    answers: impl Iterator<Item = (&'a Pod, Option<ServerStats>)>,
) -> Option<Vec<RevisionStats>> {
    let mut sums: Vec<(String, ServerStats)> = Vec::new();
    for (pod, answer) in answers {
        let Some(answer) = answer else {
            if is_ready(pod) {
                return None;
            }
            continue;
        };
        let revision = revision_label(pod);
        match sums.iter_mut().find(|(known, _)| *known == revision) {
            Some((_, sum)) => sum.merge(&answer),
            None => sums.push((revision, answer)),
        }
    }
    let series = sums.into_iter().map(|(revision, sum)| RevisionStats {
        variant: variant.to_owned(),
        revision,
        requests: sum.requests,
        errors: sum.errors,
        latency: sum.latency,
        first_byte: sum.first_byte,
        ..RevisionStats::default()
    });
    Some(series.collect())
}

/// A server of the new revision that ended since the step began: what it had not answered failed, and what it had
/// counted is lost.
fn ended(rollout: &RolloutStatus, pods: &[&Pod]) -> Option<String> {
    let own = pods.iter().filter(|pod| revision_label(pod) == rollout.revision);
    own.flat_map(|pod| pod.status.iter().flat_map(|status| &status.container_statuses))
        .flatten()
        .filter(|container| container.name == SERVER_CONTAINER)
        .find_map(|container| {
            let states = [container.last_state.as_ref(), container.state.as_ref()];
            let ends = states.into_iter().flatten().filter_map(|state| state.terminated.as_ref());
            let end = ends.into_iter().find(|end| {
                end.finished_at.as_ref().is_some_and(|at| at.0 >= rollout.step_started.0)
            })?;
            let code = end.exit_code;
            Some(format!(
                "a server of the new revision ended with code {code} meanwhile, and nobody counted the requests that failed \
                 with it"
            ))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(revision: &str, ready: bool) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {"slipway.dev/revision": revision}},
            "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .unwrap()
    }

    fn stats(requests: u64, errors: u64) -> ServerStats {
        let json = json!({"requests": requests, "errors": errors, "latency": [[8, requests]], "firstByte": [[4, requests]]});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn servers_are_summed_by_revision_and_one_that_takes_requests_must_answer() {
        let (new, old, gone) = (pod("new", true), pod("old", true), pod("new", false));
        let answers = |of_old| {
            let answers = [
                (&new, Some(stats(5, 1))),
                (&old, of_old),
                (&new, Some(stats(7, 2))),
                (&gone, None),
            ];
            sum("main", answers.into_iter())
        };
        let series = answers(Some(stats(90, 0))).unwrap();
        let told: Vec<_> = (series.iter())
            .map(|series| {
                (
                    series.revision.as_str(),
                    series.requests,
                    series.errors,
                    series.latency.count(),
                )
            })
            .collect();
        assert_eq!(told, [("new", 12, 3, 12), ("old", 90, 0, 90)]);
        assert!(series.iter().all(|series| series.variant == "main"));
        assert_eq!(answers(None), None, "a server that takes requests said nothing");
        assert_eq!(sum("main", std::iter::once((&gone, None))), Some(Vec::new()));
    }

    #[test]
    fn a_server_that_ended_since_the_step_began_is_told() {
        let rollout: RolloutStatus = serde_json::from_value(json!({
            "revision": "new", "from": "old", "phase": "Progressing", "step": 1, "sources": {"asked": "x", "model": {}},
            "stepStarted": "2026-01-01T00:01:00Z", "started": "2026-01-01T00:00:00Z"}))
        .unwrap();
        let told = |revision: &str, finished: &str| {
            let mut pod = pod(revision, true);
            let status = json!([{"name": "server", "ready": true, "restartCount": 1, "image": "", "imageID": "",
                "lastState": {"terminated": {"exitCode": 137, "finishedAt": finished}}}]);
            pod.status.as_mut().unwrap().container_statuses = serde_json::from_value(status).unwrap();
            ended(&rollout, &[&pod])
        };
        let said = told("new", "2026-01-01T00:01:30Z").unwrap();
        assert!(said.contains("ended with code 137"), "{said}");
        assert_eq!(told("new", "2026-01-01T00:00:30Z"), None, "before the step");
        assert_eq!(told("old", "2026-01-01T00:01:30Z"), None, "the other revision");
    }
}
