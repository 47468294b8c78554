//! What a Job and its pods say. Pure: no client, no clock.

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ContainerStateTerminated, ContainerStatus, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use slipway_contract::{Failure, FailureReason, Phase, Progress, Report, exit};

use super::CONTAINER;

const INDEX_LABEL: &str = "batch.kubernetes.io/job-completion-index";

/// How a Job ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// Every worker did what it was asked to.
    Complete,
    /// It will not be tried again.
    Failed,
}

/// The pods of the current Job.
#[derive(Clone, Copy, Debug)]
pub struct Pods<'a>(pub &'a [Pod]);

/// What a Job and its pods say, in one word and one sentence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Observed {
    /// There is no Job (yet).
    Absent,
    /// The Job is held: suspended, or not admitted by its queue.
    Held,
    /// Pods are on their way, or held up.
    Waiting {
        /// One word.
        reason: &'static str,
        /// One sentence.
        message: String,
    },
    /// The first worker runs.
    Running {
        /// Since when.
        since: Option<Time>,
    },
    /// An attempt failed and the next one has not started.
    Retrying {
        /// What the attempt failed of.
        reason: String,
        /// The sentence of the attempt.
        message: String,
    },
    /// Done.
    Complete,
    /// Given up.
    Failed {
        /// One word.
        reason: String,
        /// Cause and fix.
        message: String,
    },
}

/// Whether a Job has ended, and how.
pub fn finished(job: &Job) -> Option<Ended> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    conditions
        .iter()
        .filter(|condition| condition.status == "True")
        .find_map(|condition| match condition.type_.as_str() {
            "Complete" => Some(Ended::Complete),
            "Failed" => Some(Ended::Failed),
            _ => None,
        })
}

/// Whether a pod's containers have all ended for good.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == CONTAINER)
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    container(pod)?.state.as_ref()?.terminated.as_ref()
}

impl<'a> Pods<'a> {
    fn first_worker(self) -> impl Iterator<Item = &'a Pod> {
        self.0
            .iter()
            .filter(|pod| pod.labels().get(INDEX_LABEL).is_none_or(|index| index == "0"))
    }

    /// The first worker's pod that runs, whom to ask for progress.
    pub fn running(self) -> Option<&'a Pod> {
        self.first_worker().find(|pod| {
            pod.metadata.deletion_timestamp.is_none()
                && container(pod)
                    .and_then(|status| status.state.as_ref()?.running.as_ref())
                    .is_some()
        })
    }

    /// The last time a container of these ended.
    pub fn last_end(self) -> Option<Time> {
        self.0
            .iter()
            .filter_map(|pod| terminated(pod)?.finished_at.clone())
            .max_by_key(|time| time.0)
    }

    /// The termination message of the first worker that ended well.
    pub fn outcome<T: DeserializeOwned>(self) -> Option<T> {
        let pod = self.first_worker().find(|pod| phase(pod) == "Succeeded")?;
        match serde_json::from_str(terminated(pod)?.message.as_deref()?).ok()? {
            Report::Outcome(outcome) => Some(outcome),
            Report::Failure(_) => None,
        }
    }

    /// Why the last attempt failed. A worker that stopped because another one did is not the cause.
    pub fn failure(self) -> Option<(String, String)> {
        let mut failed: Vec<&Pod> = self.failed().collect();
        failed.sort_by_key(|pod| {
            std::cmp::Reverse(terminated(pod).and_then(|end| Some(end.finished_at.as_ref()?.0)))
        });
        let causes = failed.iter().filter_map(|pod| cause(pod));
        let mut follow_up = None;
        for (reason, message) in causes {
            if reason != "WorkerLost" && reason != "Interrupted" {
                return Some((reason, message));
            }
            follow_up.get_or_insert((reason, message));
        }
        follow_up
    }

    fn failed(self) -> impl Iterator<Item = &'a Pod> {
        self.0.iter().filter(|pod| phase(pod) == "Failed")
    }

    /// How many attempts of a pod failed; one that its node evicted does not count.
    pub fn failed_count(self) -> i32 {
        let counted = self.failed().filter(|pod| !disrupted(pod)).count();
        i32::try_from(counted).unwrap_or(i32::MAX)
    }

    /// Whether one ended with a code that the Job's failure policy does not try again.
    fn beyond_retry(self) -> bool {
        self.failed()
            .filter_map(terminated)
            .any(|end| [exit::CONFIG, exit::INPUT].contains(&end.exit_code))
    }

    fn hindrance(self) -> Option<(&'static str, String)> {
        self.0
            .iter()
            .filter(|pod| phase(pod) == "Pending")
            .find_map(hindrance)
    }
}

fn disrupted(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True")
}

/// Why one pod failed.
fn cause(pod: &Pod) -> Option<(String, String)> {
    let name = pod.name_any();
    let Some(end) = terminated(pod) else {
        let status = pod.status.as_ref()?;
        let reason = status.reason.clone().unwrap_or_else(|| "PodFailed".into());
        let message = status
            .message
            .clone()
            .unwrap_or_else(|| "its node gave no reason".into());
        return Some((reason, format!("pod {name} failed: {message}")));
    };
    if end.reason.as_deref() == Some("OOMKilled") {
        return Some(("OutOfMemory".into(), out_of_memory(pod)));
    }
    if let Some(Failure { reason, message }) = end.message.as_deref().and_then(report::<serde_json::Value>) {
        return Some((word(reason), message));
    }
    let reason = end.reason.as_deref().unwrap_or("Error");
    Some((
        "TrainerFailed".into(),
        format!(
            "pod {name} ended with exit code {} ({reason}) and no report; see kubectl logs {name}",
            end.exit_code
        ),
    ))
}

/// The failure in a termination message.
pub fn report<T: DeserializeOwned>(message: &str) -> Option<Failure> {
    match serde_json::from_str::<Report<T>>(message).ok()? {
        Report::Failure(failure) => Some(failure),
        Report::Outcome(_) => None,
    }
}

fn word(reason: FailureReason) -> String {
    serde_json::to_value(reason)
        .ok()
        .and_then(|value| Some(value.as_str()?.to_owned()))
        .unwrap_or_default()
}

fn out_of_memory(pod: &Pod) -> String {
    let limit = pod.spec.as_ref().and_then(|spec| {
        let limits = spec.containers.first()?.resources.as_ref()?.limits.as_ref()?;
        Some(limits.get("memory")?.0.clone())
    });
    let bound = limit.map_or_else(
        || "the node ran out of memory (resources.limits.memory is not set)".into(),
        |limit| format!("it needed more than resources.limits.memory ({limit})"),
    );
    format!(
        "the trainer was killed: {bound}; raise that limit, or lower the batch size or the sequence length"
    )
}

/// What keeps a pod from starting.
fn hindrance(pod: &Pod) -> Option<(&'static str, String)> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        let why = condition.message.as_deref().unwrap_or("no node fits");
        return Some((
            "Unschedulable",
            format!("no node can take pod {name}: {why}; free or add nodes, or ask for less in resources"),
        ));
    }
    let waiting = container(pod)?.state.as_ref()?.waiting.as_ref()?;
    let why = waiting.message.as_deref().unwrap_or_default();
    match waiting.reason.as_deref()? {
        reason @ ("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull") => Some((
            "ImagePullFailed",
            format!(
                "pod {name} cannot get its image ({reason}): {why}; check the operator's --trainer-image"
            ),
        )),
        reason @ ("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => Some((
            "ContainerCannotStart",
            format!("pod {name} cannot start its container ({reason}): {why}"),
        )),
        _ => None,
    }
}

/// What the Job and its pods say.
pub fn observe(job: Option<&Job>, pods: Pods<'_>) -> Observed {
    let Some(job) = job else { return Observed::Absent };
    match finished(job) {
        Some(Ended::Complete) => return Observed::Complete,
        Some(Ended::Failed) => {
            let (reason, message) = given_up(job, pods);
            return Observed::Failed { reason, message };
        }
        None => {}
    }
    if let Some(pod) = pods.running() {
        let since =
            container(pod).and_then(|status| status.state.as_ref()?.running.as_ref()?.started_at.clone());
        return Observed::Running { since };
    }
    if job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) {
        return Observed::Held;
    }
    if let Some((reason, message)) = pods.hindrance() {
        return Observed::Waiting { reason, message };
    }
    if let Some((reason, message)) = pods.failure() {
        let limit = job.spec.as_ref().and_then(|spec| spec.backoff_limit);
        // The Job's own verdict follows in a second; until then "retrying" would be untrue.
        return if pods.beyond_retry() {
            Observed::Failed { reason, message }
        } else if limit.is_some_and(|limit| pods.failed_count() > limit) {
            let (reason, message) = last_try((reason, message));
            Observed::Failed { reason, message }
        } else {
            Observed::Retrying { reason, message }
        };
    }
    if pods.0.iter().any(|pod| phase(pod) == "Succeeded") {
        return Observed::Waiting {
            reason: "Finishing",
            message: "its pods have ended; waits for its Job to count them".into(),
        };
    }
    Observed::Waiting {
        reason: "Starting",
        message: "waits for its pods to start".into(),
    }
}

fn last_try((reason, message): (String, String)) -> (String, String) {
    (
        reason,
        format!("{message} (the last try that backoffLimit allows)"),
    )
}

/// Why a Job was given up: the Job's own reason where it has one, with the last attempt's sentence.
fn given_up(job: &Job, pods: Pods<'_>) -> (String, String) {
    let condition = job
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .find(|condition| condition.type_ == "Failed" && condition.status == "True");
    let reason = condition
        .and_then(|condition| condition.reason.as_deref())
        .unwrap_or("Failed");
    if reason == "DeadlineExceeded" {
        let limit = job
            .spec
            .as_ref()
            .and_then(|spec| spec.active_deadline_seconds)
            .unwrap_or_default();
        return (
            reason.into(),
            format!(
                "it ran longer than activeDeadlineSeconds ({limit} s); create it anew with a longer one, or with less to do"
            ),
        );
    }
    match (pods.failure(), reason) {
        (Some(cause), "BackoffLimitExceeded") => last_try(cause),
        (Some(cause), _) => cause,
        (None, reason) => {
            let message = condition
                .and_then(|condition| condition.message.clone())
                .unwrap_or_default();
            (reason.into(), format!("the Job failed: {message}"))
        }
    }
}

/// `3m20s`, rounded to what matters.
pub fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

/// Progress in a few words (`45% 3m20s left`) and in one sentence.
pub fn describe(progress: &Progress, unit: &str) -> (String, String) {
    let doing = match progress.phase {
        Phase::Starting => "starting",
        Phase::Downloading => "downloading model and data",
        Phase::Tokenizing => "tokenizing",
        Phase::Training => "training",
        Phase::Evaluating => "evaluating",
        Phase::Publishing => "publishing",
        Phase::Done => "finishing",
    };
    if progress.total_steps == 0 {
        return (
            doing.split(' ').next().unwrap_or(doing).to_owned(),
            doing.to_owned(),
        );
    }
    let left = progress
        .estimated_remaining_seconds
        .map(|seconds| format!(" {} left", duration(seconds)));
    let left = left.unwrap_or_default();
    (
        format!("{}%{left}", progress.percentage),
        format!(
            "{doing}: {unit} {} of {}{left}",
            progress.step, progress.total_steps
        ),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(conditions: &serde_json::Value) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": "j"}, "spec": {"template": {}, "activeDeadlineSeconds": 60},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    fn failed(message: &str, reason: &str, code: i32, at: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "trainer", "resources": {"limits": {"memory": "2Gi"}}}]},
            "status": {"phase": "Failed", "containerStatuses": [{
                "name": "trainer", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": at}},
            }]},
        }))
        .unwrap()
    }

    fn pending(status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap()
    }

    #[test]
    fn the_trainers_own_sentence_is_what_a_person_reads() {
        let message =
            r#"{"failure":{"reason":"InvalidRow","message":"row 7 of train.csv has 3 fields, not 2"}}"#;
        let pods = [failed(message, "Error", 3, "2026-01-01T00:00:00Z")];
        let job = job(&json!([{"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}]));
        assert_eq!(
            observe(Some(&job), Pods(&pods)),
            Observed::Failed {
                reason: "InvalidRow".into(),
                message: "row 7 of train.csv has 3 fields, not 2".into()
            }
        );
    }

    #[test]
    fn what_no_retry_can_mend_is_never_called_a_retry() {
        let message = r#"{"failure":{"reason":"ColumnNotFound","message":"no column label"}}"#;
        let input = [failed(message, "Error", 3, "2026-01-01T00:00:00Z")];
        let Observed::Failed { reason, .. } = observe(Some(&job(&json!([]))), Pods(&input)) else {
            panic!("exit code 3 ends the Job");
        };
        assert_eq!(reason, "ColumnNotFound");

        let mut once = job(&json!([]));
        once.spec.as_mut().unwrap().backoff_limit = Some(0);
        let lost = failed("", "Error", 4, "2026-01-01T00:00:00Z");
        let Observed::Failed { message, .. } = observe(Some(&once), Pods(std::slice::from_ref(&lost))) else {
            panic!("there is no try left");
        };
        assert!(
            message.ends_with("(the last try that backoffLimit allows)"),
            "{message}"
        );

        let mut evicted = lost;
        evicted.status.as_mut().unwrap().conditions =
            serde_json::from_value(json!([{"type": "DisruptionTarget", "status": "True"}])).unwrap();
        let Observed::Retrying { .. } = observe(Some(&once), Pods(&[evicted])) else {
            panic!("an eviction does not count");
        };
    }

    #[test]
    fn a_kill_for_memory_names_the_limit_and_the_fix() {
        let pods = [failed("", "OOMKilled", 137, "2026-01-01T00:00:00Z")];
        let Observed::Retrying { reason, message } = observe(Some(&job(&json!([]))), Pods(&pods)) else {
            panic!("an attempt failed and the job goes on");
        };
        assert_eq!(reason, "OutOfMemory");
        assert!(
            message.contains("(2Gi)") && message.contains("raise that limit"),
            "{message}"
        );
    }

    #[test]
    fn the_cause_is_not_the_worker_that_stopped_after_it() {
        let lost = r#"{"failure":{"reason":"WorkerLost","message":"worker 1 went away"}}"#;
        let full = r#"{"failure":{"reason":"OutOfDisk","message":"the disk is full"}}"#;
        let pods = [
            failed(lost, "Error", 4, "2026-01-01T00:00:09Z"),
            failed(full, "Error", 4, "2026-01-01T00:00:00Z"),
        ];
        assert_eq!(Pods(&pods).failure().unwrap().0, "OutOfDisk");
        assert_eq!(Pods(&pods[..1]).failure().unwrap().0, "WorkerLost");
    }

    #[test]
    fn a_deadline_says_which_one() {
        let job = job(&json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]));
        let Observed::Failed { reason, message } = observe(Some(&job), Pods(&[])) else {
            panic!()
        };
        assert_eq!(reason, "DeadlineExceeded");
        assert!(message.contains("(60 s)"), "{message}");
    }

    #[test]
    fn a_gpu_shortage_and_a_wrong_image_are_told() {
        let gpu = pending(&json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."}]}));
        let image = pending(&json!({"phase": "Pending", "containerStatuses": [{
            "name": "trainer", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image x"}}}]}));
        for (pod, reason, words) in [
            (gpu, "Unschedulable", "Insufficient nvidia.com/gpu"),
            (image, "ImagePullFailed", "Back-off pulling image x"),
        ] {
            let Observed::Waiting {
                reason: found,
                message,
            } = observe(Some(&job(&json!([]))), Pods(&[pod]))
            else {
                panic!("{reason}");
            };
            assert_eq!(found, reason);
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn progress_reads_at_a_glance() {
        let progress = Progress {
            phase: Phase::Training,
            step: 45,
            total_steps: 100,
            percentage: 45,
            estimated_remaining_seconds: Some(200),
            ..Progress::default()
        };
        let (short, sentence) = describe(&progress, "step");
        assert_eq!(short, "45% 3m20s left");
        assert_eq!(sentence, "training: step 45 of 100 3m20s left");
        assert_eq!(describe(&Progress::default(), "step").0, "starting");
        assert_eq!([5, 65, 3700, 90000].map(duration), ["5s", "1m5s", "1h1m", "1d1h"]);
    }
}
