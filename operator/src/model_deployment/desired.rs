//! Step: what should exist for a ModelDeployment. Pure: no client.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        core::v1::{
            ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction, PodSpec,
            PodTemplateSpec, Probe, ResourceRequirements, Service, ServicePort, ServiceSpec, Volume,
            VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{
    ROUTES_KEY,
    experiment::{Memory, kept},
    gate, gateway,
    inputs::Resolved,
    plan::Plan,
    routes,
    server::{self, DRAIN_SECONDS, Scale, Track, surge_first},
};
use crate::{
    crd::{EvalRun, ModelDeployment},
    names::{self, MODEL_DEPLOYMENT_LABEL, VARIANT_LABEL},
    pods,
    settings::Settings,
};

/// Port of servers and router.
pub(super) const HTTP_PORT: i32 = 8080;
/// Port of the router's own probes and metrics.
pub(super) const METRICS_PORT: u16 = 9090;
/// Every child of a ModelDeployment. Destructured where it is applied, so that none can be forgotten.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The variants' own servers, where their model is known and they are not held.
    pub servers: Vec<Deployment>,
    /// Servers that stay of the revision that they are: name and number of pods.
    pub held: Vec<(String, i32)>,
    /// Servers of revisions that are being rolled in.
    pub canaries: Vec<Deployment>,
    /// One for each variant and each revision that is being rolled in.
    pub services: Vec<Service>,
    /// Evaluations that rollouts ask for.
    pub evaluations: Vec<EvalRun>,
    /// What is kept of an experiment, where that changes.
    pub experiment: Option<ConfigMap>,
    /// Name of what was kept of an experiment that is over.
    pub forgotten: Option<String>,
    /// The split, as the router reads it.
    pub routes: ConfigMap,
    /// Version of the split: routers say it once they follow, and their pods carry it once they were told.
    pub version: String,
    /// The router.
    pub router: Deployment,
    /// What clients call.
    pub front: Service,
    /// What a Gateway needs, where one is named.
    pub gateway: Option<gateway::Desired>,
}

/// Builds every child.
pub fn desired(object: &ModelDeployment, plan: &Plan<'_>, settings: &Settings) -> Desired {
    let (mut servers, mut held, mut canaries) = (Vec::new(), Vec::new(), Vec::new());
    let (mut services, mut evaluations) = (Vec::new(), Vec::new());
    for arm in &plan.arms {
        let variant = arm.input.spec;
        let scale = Scale {
            replicas: arm.intent.stable_replicas,
            in_place: arm.intent.in_place,
        };
        if arm.held {
            held.push((
                server::name(object, &variant.name, Track::Stable, ""),
                scale.replicas,
            ));
        } else if let Resolved::Known(sources) = &arm.input.resolved {
            servers.push(server::deployment(
                object,
                variant,
                sources,
                Track::Stable,
                scale,
                settings,
            ));
        }
        services.push(service(object, &variant.name, Track::Stable, ""));
        if let Some(rollout) = arm.under_way().filter(|_| arm.intent.canary_replicas > 0) {
            let scale = Scale {
                replicas: arm.intent.canary_replicas,
                in_place: false,
            };
            let sources = &rollout.sources;
            canaries.push(server::deployment(
                object,
                variant,
                sources,
                Track::Canary,
                scale,
                settings,
            ));
            services.push(service(object, &variant.name, Track::Canary, &rollout.revision));
            evaluations.extend(gate::desired(object, arm.input, rollout));
        }
    }
    let table = routes::table(object, plan);
    let text = serde_json::to_string_pretty(&table).expect("a route table is plain data");
    Desired {
        servers,
        held,
        canaries,
        services,
        evaluations,
        experiment: match &plan.experiment.memory {
            Memory::Write(kept) => Some(kept.write(object)),
            Memory::AsIs | Memory::Forget => None,
        },
        forgotten: matches!(plan.experiment.memory, Memory::Forget).then(|| kept::name(object)),
        routes: ConfigMap {
            metadata: metadata(object, &routes::name(object), "router", None),
            data: Some(BTreeMap::from([(ROUTES_KEY.to_owned(), text)])),
            ..ConfigMap::default()
        },
        gateway: gateway::desired(object, plan, &table.version),
        version: table.version,
        router: router(object, settings),
        front: front(object),
    }
}

fn router(object: &ModelDeployment, settings: &Settings) -> Deployment {
    let name = format!("{}-router", object_name(object));
    let labels = pods::labels("router", object_name(object), MODEL_DEPLOYMENT_LABEL);
    let container = Container {
        name: "router".into(),
        image: Some(settings.server_image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        command: Some(vec!["/slipway-router".into()]),
        args: Some(vec![
            format!("--routes=/etc/slipway/routes/{ROUTES_KEY}"),
            format!("--listen=0.0.0.0:{HTTP_PORT}"),
            format!("--metrics-listen=0.0.0.0:{METRICS_PORT}"),
        ]),
        ports: Some(vec![
            port("http", HTTP_PORT),
            port("metrics", METRICS_PORT.into()),
        ]),
        liveness_probe: Some(probe("/healthz", METRICS_PORT.into(), 10, 3)),
        readiness_probe: Some(probe("/readyz", METRICS_PORT.into(), 1, 2)),
        resources: Some(ResourceRequirements {
            requests: Some(amounts(&[("cpu", "10m"), ("memory", "16Mi")])),
            limits: Some(amounts(&[("memory", "256Mi")])),
            claims: None,
        }),
        security_context: Some(pods::container_security()),
        volume_mounts: Some(vec![VolumeMount {
            name: "routes".into(),
            mount_path: "/etc/slipway/routes".into(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    let pod = PodSpec {
        containers: vec![container],
        volumes: Some(vec![Volume {
            name: "routes".into(),
            config_map: Some(ConfigMapVolumeSource {
                name: routes::name(object),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        }]),
        termination_grace_period_seconds: Some(DRAIN_SECONDS + 30),
        node_selector: (!object.spec.node_selector.is_empty()).then(|| object.spec.node_selector.clone()),
        tolerations: (!object.spec.tolerations.is_empty()).then(|| object.spec.tolerations.clone()),
        priority_class_name: object.spec.priority_class_name.clone(),
        ..pods::restricted()
    };
    Deployment {
        metadata: metadata(object, &name, "router", None),
        spec: Some(DeploymentSpec {
            // Two, so that a node or a pod that goes away takes no request with it.
            replicas: Some(2),
            selector: LabelSelector {
                match_labels: Some(router_selector(object)),
                ..LabelSelector::default()
            },
            strategy: Some(surge_first()),
            revision_history_limit: Some(2),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn front(object: &ModelDeployment) -> Service {
    Service {
        metadata: metadata(object, object_name(object), "router", None),
        spec: Some(ServiceSpec {
            selector: Some(router_selector(object)),
            ports: Some(vec![service_port("http", 80)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Headless: the router sees each pod's address and balances by requests in flight.
fn service(object: &ModelDeployment, variant: &str, track: Track, revision: &str) -> Service {
    Service {
        metadata: metadata(
            object,
            &server::name(object, variant, track, revision),
            "server",
            Some(variant),
        ),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            selector: Some(server::selector(object, variant, track, revision)),
            ports: Some(vec![service_port("http", HTTP_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

pub(super) fn metadata(
    object: &ModelDeployment,
    name: &str,
    component: &str,
    variant: Option<&str>,
) -> ObjectMeta {
    let mut labels = pods::labels(component, object_name(object), MODEL_DEPLOYMENT_LABEL);
    if let Some(variant) = variant {
        labels.insert(VARIANT_LABEL.into(), variant.to_owned());
    }
    ObjectMeta {
        labels: Some(labels),
        ..pods::child(object, name)
    }
}

fn router_selector(object: &ModelDeployment) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MODEL_DEPLOYMENT_LABEL.to_owned(), object_name(object).to_owned()),
        ("app.kubernetes.io/component".to_owned(), "router".to_owned()),
    ])
}

/// Name of a variant's Deployment and Service.
pub fn child_name(object: &ModelDeployment, variant: &str) -> String {
    let name = format!("{}-{variant}", object_name(object));
    if name.len() <= 63 {
        return name;
    }
    // A Service's name is a DNS label; the hash keeps two long ones apart.
    format!("{}-{}", name[..46].trim_end_matches('-'), names::digest(&name))
}

pub(super) fn object_name(object: &ModelDeployment) -> &str {
    object.metadata.name.as_deref().unwrap_or_default()
}

pub(super) fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: number,
        ..ContainerPort::default()
    }
}

pub(super) fn service_port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number,
        target_port: Some(IntOrString::String("http".into())),
        ..ServicePort::default()
    }
}

pub(super) fn probe(path: &str, port: i32, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(port),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

fn amounts(pairs: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    pairs
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
        .collect()
}
