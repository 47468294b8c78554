//! Step: what should exist for a FineTuneJob. Pure: no client.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{
            ConfigMap, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSpec, Service, ServicePort,
            ServiceSpec, VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;
use slipway_contract::{Checkpoint, Dataset, Output, Provenance, TrainConfig, Workers};

use super::inputs::Sources;
use crate::{
    crd::FineTuneJob,
    jobs::{self, Blueprint},
    names::{self, FINE_TUNE_JOB_LABEL},
    pods::{self, Mounts},
    settings::Settings,
};

/// Where the claim is mounted.
const WORK: &str = "/slipway/work";
/// Port at which the first worker averages gradients.
const COORDINATOR_PORT: i32 = 29500;

/// Every child of a FineTuneJob. Destructured where it is applied, so that none can be forgotten.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The TrainConfig.
    pub config: ConfigMap,
    /// Checkpoints and result.
    pub claim: PersistentVolumeClaim,
    /// Names for the workers, when there are several.
    pub service: Option<Service>,
    /// The pods.
    pub job: Job,
}

/// Builds every child.
pub fn desired(object: &FineTuneJob, sources: &Sources, settings: &Settings) -> Desired {
    let name = names::train_job(&object.name_any());
    let spec = &object.spec;
    let mut mounts = Mounts::new();
    let config = train_config(object, sources, settings, &mut mounts);
    mounts.add(pods::config_file(
        "config",
        &name,
        pods::CONFIG_FILE,
        pods::CONFIG,
    ));
    mounts.add(pods::writable_claim(
        "work",
        &names::checkpoint_claim(&object.name_any()),
        WORK,
    ));
    let text = serde_saphyr::to_string(&config).expect("a configuration is plain data");
    Desired {
        config: ConfigMap {
            metadata: metadata(object, &name),
            data: Some(BTreeMap::from([(pods::CONFIG_FILE.to_owned(), text)])),
            ..ConfigMap::default()
        },
        claim: claim(object),
        service: (spec.workers > 1).then(|| service(object, &name)),
        job: jobs::job(
            Blueprint {
                meta: metadata(object, &name),
                subcommand: "train",
                mounts,
                resources: spec.resources.to_api(),
                scheduling: PodSpec {
                    node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
                    tolerations: (!spec.tolerations.is_empty()).then(|| spec.tolerations.clone()),
                    priority_class_name: spec.priority_class_name.clone(),
                    ..PodSpec::default()
                },
                workers: spec.workers,
                backoff_limit: spec.backoff_limit,
                active_deadline_seconds: spec.active_deadline_seconds,
                queue: spec.queue_name.clone(),
            },
            settings,
        ),
    }
}

fn metadata(object: &FineTuneJob, name: &str) -> ObjectMeta {
    ObjectMeta {
        labels: Some(pods::labels("trainer", &object.name_any(), FINE_TUNE_JOB_LABEL)),
        ..pods::child(object, name)
    }
}

fn claim(object: &FineTuneJob) -> PersistentVolumeClaim {
    let volume = &object.spec.checkpoint.volume;
    PersistentVolumeClaim {
        metadata: metadata(object, &names::checkpoint_claim(&object.name_any())),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![volume.access_mode.as_str().into()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), volume.size.to_api())])),
                limits: None,
            }),
            storage_class_name: volume.storage_class_name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// Headless: each worker is found by its own name.
fn service(object: &FineTuneJob, name: &str) -> Service {
    Service {
        metadata: metadata(object, name),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            // Workers look for each other before any of them is ready.
            publish_not_ready_addresses: Some(true),
            selector: Some(BTreeMap::from([(
                FINE_TUNE_JOB_LABEL.to_owned(),
                object.name_any(),
            )])),
            ports: Some(vec![ServicePort {
                name: Some("coordinator".into()),
                port: COORDINATOR_PORT,
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn train_config(
    object: &FineTuneJob,
    sources: &Sources,
    settings: &Settings,
    mounts: &mut Mounts,
) -> TrainConfig {
    let spec = &object.spec;
    let data = &spec.dataset;
    let name = object.name_any();
    let endpoint = spec.hub.endpoint.as_ref().unwrap_or(&settings.hub_endpoint);
    TrainConfig {
        model: mounts.model("model", &sources.model),
        task: spec.task,
        dataset: Dataset {
            source: mounts.dataset(&sources.dataset, data.config_map.as_ref(), data.url.as_deref()),
            split: data.split.clone(),
            format: data.format,
            columns: data.columns.clone(),
            validation: data.validation.clone(),
            max_examples: data.max_examples,
            max_invalid_rows: data.max_invalid_rows,
        },
        method: spec.method.clone(),
        objective: spec.objective.clone(),
        hyperparameters: spec.hyperparameters.clone(),
        evaluation: spec.evaluation.clone(),
        checkpoint: Checkpoint {
            directory: format!("{WORK}/checkpoints").into(),
            every_steps: spec.checkpoint.every_steps,
            keep: spec.checkpoint.keep,
        },
        output: Output {
            directory: format!("{WORK}/{}", names::OUTPUT_PATH).into(),
            hub: spec.output.hub.clone(),
            merge: spec.output.merge,
            accept_license: spec.output.accept_license.clone(),
        },
        hub: mounts.hub_access(&spec.hub, endpoint),
        workers: Workers {
            count: spec.workers,
            coordinator: (spec.workers > 1).then(|| {
                let job = names::train_job(&name);
                format!("{job}-0.{job}:{COORDINATOR_PORT}")
            }),
        },
        listen: Some(jobs::LISTEN.into()),
        provenance: Provenance {
            kind: "FineTuneJob".into(),
            name: format!("{}/{name}", object.namespace().unwrap_or_default()),
            uid: object.uid().unwrap_or_default(),
        },
    }
}
