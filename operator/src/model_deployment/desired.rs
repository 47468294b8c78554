//! Step: what should exist for a ModelDeployment. Pure: no client.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction, Lifecycle,
            LifecycleHandler, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, Service, ServicePort,
            ServiceSpec, SleepAction, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use slipway_contract::{HubRef, ModelSource, RouteTable, RouteVariant};

use super::{
    ROUTES_KEY, SERVER_CONTAINER, SOURCES_ANNOTATION,
    inputs::{Inputs, Resolved, VariantInput},
};
use crate::{
    crd::{ModelDeployment, ResolvedSource, Variant},
    names::{self, MODEL_DEPLOYMENT_LABEL, REVISION_LABEL, VARIANT_LABEL},
    pods::{self, Mounts},
    settings::Settings,
};

/// Port of servers and router.
const HTTP_PORT: i32 = 8080;
/// Port of the router's own probes and metrics.
const METRICS_PORT: i32 = 9090;
/// Seconds for which a pod that is to end goes on answering: the router learns of pods by name, and the cluster's
/// DNS may hand out what it knew for 30 seconds (kubeadm's default).
const OVERLAP_SECONDS: i64 = 35;
/// Seconds that a stream may go on after its pod was told to stop.
const DRAIN_SECONDS: i64 = 60;

/// Every child of a ModelDeployment. Destructured where it is applied, so that none can be forgotten.
#[derive(Clone, Debug)]
pub struct Desired {
    /// One for each variant whose model is known.
    pub servers: Vec<Deployment>,
    /// One for each variant.
    pub services: Vec<Service>,
    /// The split, as the router reads it.
    pub routes: ConfigMap,
    /// Hash of the split; router pods carry it as an annotation once they were told.
    pub routes_hash: String,
    /// The router.
    pub router: Deployment,
    /// What clients call.
    pub front: Service,
}

/// Builds every child.
pub fn desired(object: &ModelDeployment, inputs: &Inputs, settings: &Settings) -> Desired {
    let servers = inputs
        .variants
        .iter()
        .filter_map(|input| match &input.resolved {
            Resolved::Known(sources) => Some(server(object, input.spec, sources, settings)),
            Resolved::Missing(_) => None,
        })
        .collect();
    let services = object
        .spec
        .variants
        .iter()
        .map(|variant| variant_service(object, variant))
        .collect();
    let table = route_table(object, &inputs.variants);
    let text = serde_json::to_string_pretty(&table).expect("a route table is plain data");
    let routes_hash = names::digest(&text);
    Desired {
        servers,
        services,
        routes: ConfigMap {
            metadata: metadata(object, &format!("{}-routes", object_name(object)), "router", None),
            data: Some(BTreeMap::from([(ROUTES_KEY.to_owned(), text)])),
            ..ConfigMap::default()
        },
        routes_hash,
        router: router(object, settings),
        front: front(object),
    }
}

/// The model and the adapters of a variant, each at the commit it was resolved to.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sources {
    /// Hash of what the spec asked for when this was resolved: while it stays, so does the commit.
    pub asked: String,
    /// The model.
    pub model: ResolvedSource,
    /// The adapters, in the order of the spec.
    pub adapters: Vec<ResolvedSource>,
}

/// Hash of everything that decides which files a variant serves.
pub fn asked(object: &ModelDeployment, variant: &Variant) -> String {
    names::digest(&(&variant.model, &variant.adapters, &object.spec.hub.endpoint))
}

/// The split as the router reads it. A variant without any pods yet is listed too: the router gives its share
/// to the ready ones until it answers.
fn route_table(object: &ModelDeployment, variants: &[VariantInput<'_>]) -> RouteTable {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    RouteTable {
        variants: variants
            .iter()
            .map(|input| RouteVariant {
                name: input.spec.name.clone(),
                weight: input.spec.traffic_percent,
                url: format!(
                    "http://{}.{namespace}.svc:{HTTP_PORT}",
                    child_name(object, &input.spec.name)
                ),
                revision: input.serving_revision(),
            })
            .collect(),
        sticky: object.spec.traffic.sticky.clone(),
    }
}

fn server(object: &ModelDeployment, variant: &Variant, sources: &Sources, settings: &Settings) -> Deployment {
    let name = child_name(object, &variant.name);
    let selector = selector(object, &variant.name);
    let (container, volumes) = server_container(object, variant, sources, settings);
    let pod = PodSpec {
        containers: vec![container],
        volumes: Some(volumes),
        termination_grace_period_seconds: Some(OVERLAP_SECONDS + DRAIN_SECONDS + 30),
        node_selector: (!object.spec.node_selector.is_empty()).then(|| object.spec.node_selector.clone()),
        tolerations: (!object.spec.tolerations.is_empty()).then(|| object.spec.tolerations.clone()),
        priority_class_name: object.spec.priority_class_name.clone(),
        ..pods::restricted()
    };
    // The revision stands for all that needs new pods, so it is the hash of the pod itself.
    let revision = names::digest(&pod);
    let mut labels = pods::labels("server", object_name(object), MODEL_DEPLOYMENT_LABEL);
    labels.insert(VARIANT_LABEL.into(), variant.name.clone());
    labels.insert(REVISION_LABEL.into(), revision);
    let annotation = serde_json::to_string(sources).expect("sources are plain data");
    Deployment {
        metadata: ObjectMeta {
            annotations: Some(BTreeMap::from([(SOURCES_ANNOTATION.to_owned(), annotation)])),
            labels: Some(labels.clone()),
            ..metadata(object, &name, "server", Some(&variant.name))
        },
        spec: Some(DeploymentSpec {
            replicas: Some(variant.replicas),
            selector: LabelSelector {
                match_labels: Some(selector),
                ..LabelSelector::default()
            },
            strategy: Some(surge_first()),
            // A large model may load for long; what went wrong is read from the pods, not from this clock.
            progress_deadline_seconds: Some(3600),
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

/// The revision that `server` stands for.
pub fn revision_of(server: &Deployment) -> String {
    server
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(REVISION_LABEL))
        .cloned()
        .unwrap_or_default()
}

/// The old pods answer until the new ones are ready.
fn surge_first() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateDeployment {
            max_unavailable: Some(IntOrString::Int(0)),
            max_surge: Some(IntOrString::Int(1)),
        }),
    }
}

fn server_container(
    object: &ModelDeployment,
    variant: &Variant,
    sources: &Sources,
    settings: &Settings,
) -> (Container, Vec<Volume>) {
    let mut mounts = Mounts::new();
    let hub = &object.spec.hub;
    let access = mounts.hub_access(hub, hub.endpoint.as_deref().unwrap_or(&settings.hub_endpoint));
    let mut args = vec![
        format!("--name={}", object_name(object)),
        format!("--listen=0.0.0.0:{HTTP_PORT}"),
        format!("--drain-seconds={DRAIN_SECONDS}"),
        format!("--model={}", argument(&mounts.model("model", &sources.model))),
    ];
    for (index, (adapter, source)) in variant.adapters.iter().zip(&sources.adapters).enumerate() {
        let source = mounts.model(&format!("adapter-{index}"), source);
        args.push(format!("--adapter={}={}", adapter.name, argument(&source)));
    }
    if let Some(task) = object.spec.task {
        args.push(format!("--task={task:?}"));
    }
    args.extend(
        access
            .endpoint
            .map(|endpoint| format!("--hub-endpoint={endpoint}")),
    );
    args.extend(
        access
            .token_file
            .map(|file| format!("--hub-token-file={}", file.display())),
    );
    let container = Container {
        name: SERVER_CONTAINER.into(),
        image: Some(settings.server_image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        command: Some(vec!["/slipway-server".into()]),
        args: Some(args),
        env: Some(vec![pods::variable("SLIPWAY_CACHE_DIR", pods::CACHE)]),
        ports: Some(vec![port("http", HTTP_PORT)]),
        // Live from the first moment, ready once the model is loaded: a model that loads for long is not killed.
        liveness_probe: Some(probe("/healthz", HTTP_PORT, 20, 3)),
        readiness_probe: Some(probe("/health", HTTP_PORT, 1, 3)),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction {
                    seconds: OVERLAP_SECONDS,
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(variant.resources.to_api()),
        security_context: Some(pods::container_security()),
        volume_mounts: Some(mounts.mounts),
        ..Container::default()
    };
    (container, mounts.volumes)
}

/// A model as `slipway-server` takes it on its command line.
fn argument(source: &ModelSource) -> String {
    match source {
        ModelSource::Hub(HubRef { repo, revision }) => format!("hf://{repo}@{revision}"),
        ModelSource::Path(path) => path.display().to_string(),
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
        ports: Some(vec![port("http", HTTP_PORT), port("metrics", METRICS_PORT)]),
        liveness_probe: Some(probe("/healthz", METRICS_PORT, 10, 3)),
        readiness_probe: Some(probe("/readyz", METRICS_PORT, 1, 2)),
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
                name: format!("{}-routes", object_name(object)),
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
fn variant_service(object: &ModelDeployment, variant: &Variant) -> Service {
    Service {
        metadata: metadata(
            object,
            &child_name(object, &variant.name),
            "server",
            Some(&variant.name),
        ),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            selector: Some(selector(object, &variant.name)),
            ports: Some(vec![service_port("http", HTTP_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn metadata(object: &ModelDeployment, name: &str, component: &str, variant: Option<&str>) -> ObjectMeta {
    let mut labels = pods::labels(component, object_name(object), MODEL_DEPLOYMENT_LABEL);
    if let Some(variant) = variant {
        labels.insert(VARIANT_LABEL.into(), variant.to_owned());
    }
    ObjectMeta {
        labels: Some(labels),
        ..pods::child(object, name)
    }
}

fn selector(object: &ModelDeployment, variant: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MODEL_DEPLOYMENT_LABEL.to_owned(), object_name(object).to_owned()),
        (VARIANT_LABEL.to_owned(), variant.to_owned()),
    ])
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

fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: number,
        ..ContainerPort::default()
    }
}

fn service_port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number,
        target_port: Some(IntOrString::String("http".into())),
        ..ServicePort::default()
    }
}

fn probe(path: &str, port: i32, period: i32, failures: i32) -> Probe {
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
