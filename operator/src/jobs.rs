//! Jobs of the trainer image, shared by FineTuneJob and EvalRun: how one is built, what to do about a live one,
//! and what it and its pods say. Pure but for [`progress`], which asks the trainer,
//! and `lifecycle`.

mod lifecycle;
mod observe;

use k8s_openapi::api::{
    batch::v1::{
        Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
        PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
    },
    core::v1::{Container, ContainerPort, Pod, PodSpec, PodTemplateSpec},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde_json::{Value, json};
use slipway_contract::{Progress, exit};

use crate::{names, pods, pods::Mounts, settings::Settings};
pub use lifecycle::{bring_about, expire};
pub use observe::{Ended, Observed, Pods, describe, duration, finished, is_finished, observe, report};

/// The container that trains or evaluates.
pub const CONTAINER: &str = "trainer";
/// Port of `/progress`.
pub const PROGRESS_PORT: u16 = 8080;
/// Address the trainer listens on.
pub const LISTEN: &str = "0.0.0.0:8080";
/// Seconds from SIGTERM to SIGKILL: time to finish a step and write a checkpoint.
const GRACE_SECONDS: i64 = 120;
/// Annotation of a Job: digest of its template, since a live template is full of defaults.
pub const TEMPLATE_ANNOTATION: &str = "slipway.dev/template";
/// Label by which Kueue finds a Job.
pub const QUEUE_LABEL: &str = "kueue.x-k8s.io/queue-name";

/// What a Job is made of.
#[derive(Debug)]
pub struct Blueprint {
    /// Name, namespace, owner and labels of the Job; its pods get the same labels.
    pub meta: ObjectMeta,
    /// `train` or `evaluate`.
    pub subcommand: &'static str,
    /// Volumes and mounts, the configuration's included.
    pub mounts: Mounts,
    /// What the container may use.
    pub resources: k8s_openapi::api::core::v1::ResourceRequirements,
    /// Where the pods may run.
    pub scheduling: PodSpec,
    /// Pods that run together.
    pub workers: u32,
    /// How often an attempt of all workers may fail and be tried again.
    pub backoff_limit: i32,
    /// Seconds that it may run.
    pub active_deadline_seconds: Option<i64>,
    /// The Kueue queue that admits it.
    pub queue: Option<String>,
}

/// Builds the Job.
pub fn job(blueprint: Blueprint, settings: &Settings) -> Job {
    let Blueprint {
        mut meta,
        subcommand,
        mounts,
        resources,
        scheduling,
        workers,
        backoff_limit,
        active_deadline_seconds,
        queue,
    } = blueprint;
    let name = meta.name.clone().unwrap_or_default();
    let workers = i32::try_from(workers).unwrap_or(i32::MAX);
    let container = Container {
        name: CONTAINER.into(),
        image: Some(settings.trainer_image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        command: Some(vec!["/slipway-trainer".into()]),
        args: Some(vec![
            subcommand.into(),
            "--config".into(),
            format!("{}/{}", pods::CONFIG, pods::CONFIG_FILE),
        ]),
        env: Some(vec![
            pods::variable("SLIPWAY_CACHE_DIR", pods::CACHE),
            pods::variable("HOME", "/tmp"),
        ]),
        ports: Some(vec![ContainerPort {
            name: Some("http".into()),
            container_port: PROGRESS_PORT.into(),
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        resources: Some(resources),
        security_context: Some(pods::container_security()),
        volume_mounts: Some(mounts.mounts),
        ..Container::default()
    };
    let pod = PodSpec {
        containers: vec![container],
        volumes: Some(mounts.volumes),
        restart_policy: Some("Never".into()),
        subdomain: (workers > 1).then(|| name.clone()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        node_selector: scheduling.node_selector,
        tolerations: scheduling.tolerations,
        priority_class_name: scheduling.priority_class_name,
        ..pods::restricted()
    };
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: meta.labels.clone(),
            ..ObjectMeta::default()
        }),
        spec: Some(pod),
    };
    meta.annotations
        .get_or_insert_default()
        .insert(TEMPLATE_ANNOTATION.into(), names::digest(&template));
    if let Some(queue) = &queue {
        meta.labels
            .get_or_insert_default()
            .insert(QUEUE_LABEL.into(), queue.clone());
    }
    Job {
        metadata: meta,
        spec: Some(JobSpec {
            completion_mode: Some("Indexed".into()),
            completions: Some(workers),
            parallelism: Some(workers),
            // When one worker fails the others stop too, and each of them counts.
            backoff_limit: Some(backoff_limit.saturating_mul(workers)),
            active_deadline_seconds,
            pod_failure_policy: Some(failure_policy()),
            // Two pods of one index would write the same checkpoints: the old one ends first.
            pod_replacement_policy: Some("Failed".into()),
            // Kueue takes it from here; a Job that started by itself would not be held.
            suspend: Some(queue.is_some()),
            template,
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// A failure that a retry cannot mend ends the Job; an eviction does not count as a failure.
fn failure_policy() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "Ignore".into(),
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".into(),
                    status: "True".into(),
                }]),
                on_exit_codes: None,
            },
            PodFailurePolicyRule {
                action: "FailJob".into(),
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: Some(CONTAINER.into()),
                    operator: "In".into(),
                    values: vec![exit::CONFIG, exit::INPUT],
                }),
                on_pod_conditions: None,
            },
        ],
    }
}

/// The pods that `job` created; those of a namesake that was removed are not its own.
pub fn pods_of(job: Option<&Job>, pods: &[Pod]) -> Vec<Pod> {
    let Some(uid) = job.and_then(|job| job.metadata.uid.as_deref()) else {
        return Vec::new();
    };
    let of_job = |pod: &&Pod| pod.owner_references().iter().any(|owner| owner.uid == uid);
    pods.iter().filter(of_job).cloned().collect()
}

/// Asks the first worker how far it is. A trainer that does not answer says nothing; the next time it may.
pub async fn progress(http: &reqwest::Client, pods: Pods<'_>) -> Option<Progress> {
    let url = names::pod_url(pods.running()?, PROGRESS_PORT)?;
    let answer = http.get(format!("{url}/progress")).send().await.ok()?;
    let text = answer.error_for_status().ok()?.bytes().await.ok()?;
    serde_json::from_slice(&text).ok()
}

/// What to do about a Job.
#[derive(Debug, PartialEq)]
pub enum Plan {
    /// There is none, and there should be.
    Create,
    /// It is as it should be, or there should be none.
    Keep,
    /// Merge these fields into it.
    Adjust(Value),
    /// Remove it; what should be instead is created once it and its pods are gone.
    Delete,
    /// Something is on its way out; look again when it is gone.
    Wait,
}

/// Decides what to do about the Job, so that its template is never applied again and no pod of an older Job
/// still writes when a new one starts.
pub fn plan(desired: &Job, live: Option<&Job>, live_pods: &[Pod], suspend: bool) -> Plan {
    let queued = desired.labels().contains_key(QUEUE_LABEL);
    let Some(live) = live else {
        let drained = live_pods.iter().all(is_finished);
        return match (suspend, drained) {
            (true, _) => Plan::Keep,
            (false, true) => Plan::Create,
            (false, false) => Plan::Wait,
        };
    };
    if live.metadata.deletion_timestamp.is_some() {
        return Plan::Wait;
    }
    if finished(live).is_some() {
        return Plan::Keep;
    }
    let spec = live.spec.as_ref();
    let held = spec.and_then(|spec| spec.suspend).unwrap_or(false);
    let changed = live.annotations().get(TEMPLATE_ANNOTATION)
        != desired.annotations().get(TEMPLATE_ANNOTATION)
        || live.labels().get(QUEUE_LABEL) != desired.labels().get(QUEUE_LABEL);
    // Kueue would resume what we suspend, and a template changes only with its Job.
    if (suspend && queued) || (changed && held) {
        return Plan::Delete;
    }
    let wanted = desired.spec.as_ref();
    let mut change = json!({
        "backoffLimit": wanted.and_then(|spec| spec.backoff_limit),
        "activeDeadlineSeconds": wanted.and_then(|spec| spec.active_deadline_seconds),
    });
    if !queued {
        change["suspend"] = json!(suspend);
    }
    Plan::Adjust(json!({ "spec": change }))
}

/// What a run left undone, to stand behind what it did.
pub fn noted(notes: &[String]) -> String {
    notes.iter().flat_map(|note| ["; ", note.as_str()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(queue: Option<&str>, gpu: &str) -> Job {
        let settings = Settings {
            hub_endpoint: "http://hub".into(),
            trainer_image: "trainer:1".into(),
            server_image: "server:1".into(),
            image_pull_policy: "Never".into(),
            namespace: None,
        };
        job(
            Blueprint {
                meta: ObjectMeta {
                    name: Some("j".into()),
                    ..ObjectMeta::default()
                },
                subcommand: "train",
                mounts: Mounts::new(),
                resources: serde_json::from_value(json!({"limits": {"nvidia.com/gpu": gpu}})).unwrap(),
                scheduling: PodSpec::default(),
                workers: 2,
                backoff_limit: 3,
                active_deadline_seconds: None,
                queue: queue.map(Into::into),
            },
            &settings,
        )
    }

    fn pod(phase: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"phase": phase}})).unwrap()
    }

    fn held(mut job: Job) -> Job {
        job.spec.as_mut().unwrap().suspend = Some(true);
        job
    }

    #[test]
    fn no_job_starts_beside_a_pod_of_an_older_one() {
        assert_eq!(
            plan(&desired(None, "1"), None, &[pod("Running")], false),
            Plan::Wait
        );
        assert_eq!(
            plan(&desired(None, "1"), None, &[pod("Failed")], false),
            Plan::Create
        );
        assert_eq!(plan(&desired(None, "1"), None, &[], true), Plan::Keep);
    }

    #[test]
    fn suspending_holds_the_job_and_never_touches_its_template() {
        let live = desired(None, "1");
        let Plan::Adjust(change) = plan(&desired(None, "2"), Some(&live), &[], true) else {
            panic!("a running job is adjusted");
        };
        assert_eq!(change["spec"]["suspend"], true);
        assert!(change["spec"].get("template").is_none());
    }

    #[test]
    fn what_changed_while_suspended_takes_a_new_job() {
        let live = held(desired(None, "1"));
        assert_eq!(plan(&desired(None, "2"), Some(&live), &[], false), Plan::Delete);
        assert!(matches!(
            plan(&desired(None, "1"), Some(&live), &[], false),
            Plan::Adjust(_)
        ));
    }

    #[test]
    fn kueue_owns_the_suspension_of_what_it_admits() {
        let live = desired(Some("q"), "1");
        assert_eq!(live.spec.as_ref().unwrap().suspend, Some(true));
        let Plan::Adjust(change) = plan(&live, Some(&live), &[], false) else {
            panic!("a queued job is left to Kueue");
        };
        assert!(change["spec"].get("suspend").is_none());
        assert_eq!(plan(&live, Some(&live), &[], true), Plan::Delete);
    }

    #[test]
    fn a_finished_job_is_left_alone() {
        let mut live = desired(None, "1");
        live.status =
            serde_json::from_value(json!({"conditions": [{"type": "Complete", "status": "True"}]})).unwrap();
        assert_eq!(plan(&desired(None, "2"), Some(&live), &[], false), Plan::Keep);
    }

    #[test]
    fn each_worker_that_stops_with_the_others_counts_once() {
        assert_eq!(desired(None, "1").spec.unwrap().backoff_limit, Some(6));
    }
}
