//! Step: what a ModelDeployment depends on. Reads the cluster and the Hub; changes nothing.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
};
use slipway_contract::RouterStats;

use super::{
    desired::{METRICS_PORT, object_name},
    experiment::{
        self, RouterSaid,
        kept::{self, Kept},
    },
    gate, plan, prometheus,
    rollout::{self, Evaluation},
    routes,
    served::{self, Served},
    server,
    status::{is_ready, revision_label},
};
use crate::{
    context::Context,
    crd::{EvalRun, GatewayRef, ModelDeployment, PrometheusQuery, RevisionSources, Variant},
    gateway_api::{self, HttpRoute},
    names::{self, MODEL_DEPLOYMENT_LABEL, TRACK_LABEL, VARIANT_LABEL},
    sources::{self, Missing, Resolver},
};

/// Everything that the later steps need to know.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// One for each variant of the spec, in its order.
    pub variants: Vec<VariantInput<'a>>,
    /// Servers of variants that are no longer in the spec.
    pub orphans: Vec<Deployment>,
    /// Servers of revisions that were, or are, being rolled in.
    pub canaries: Vec<Deployment>,
    /// The router's pods.
    pub router_pods: Vec<Pod>,
    /// What each ready router says; none of one that did not answer.
    pub stats: Vec<Option<RouterStats>>,
    /// What is known of the experiment between the variants.
    pub experiment: experiment::Seen,
    /// The HTTPRoute of `traffic.gateway`.
    pub route: Option<HttpRoute>,
    /// Seals the ids of answers that clients score for analyses: what the split says, or, where it says none, a new one.
    /// None where no analysis asks for scores.
    pub feedback_key: Option<String>,
    /// Gateways of `traffic.gateway` that are certainly not there.
    pub absent_gateways: Vec<GatewayRef>,
}

impl Inputs<'_> {
    /// Whether every router that takes requests follows this version of the split.
    pub fn follow(&self, version: &str) -> bool {
        let says = |stats: &Option<RouterStats>| stats.as_ref().is_some_and(|stats| stats.version == version);
        !self.stats.is_empty() && self.stats.iter().all(says)
    }

    /// Whether every router that takes requests finds so many servers of a revision ready: a pod is ready seconds
    /// before the cluster's DNS has told them of it.
    pub fn see(&self, variant: &str, revision: &str, servers: i32) -> bool {
        let servers = u64::try_from(servers).unwrap_or(0);
        let sees = |stats: &Option<RouterStats>| {
            let all = stats.iter().flat_map(|stats| &stats.series);
            let mut own = all.filter(|series| series.variant == variant && series.revision == revision);
            own.any(|series| series.ready_servers >= servers)
        };
        !self.stats.is_empty() && self.stats.iter().all(sees)
    }
}

/// One variant, and what is known of it.
#[derive(Debug)]
pub struct VariantInput<'a> {
    /// What is asked for.
    pub spec: &'a Variant,
    /// Which files that means.
    pub resolved: Resolved,
    /// What runs now.
    pub server: Option<Deployment>,
    /// Its own pods, old revisions' included.
    pub pods: Vec<Pod>,
    /// Pods of revisions that are being rolled in beside them.
    pub canary_pods: Vec<Pod>,
    /// The template of the evaluation that its rollout is at.
    pub template: Option<EvalRun>,
    /// How that evaluation goes.
    pub evaluation: Option<Evaluation>,
    /// What Prometheus servers answered to the analysis that its rollout is at.
    pub answers: Vec<(PrometheusQuery, prometheus::Answer)>,
    /// What its servers answered since that analysis began, where requests pass the routers by.
    pub served: Served,
}

/// Which files a variant's sources mean.
#[derive(Debug)]
pub enum Resolved {
    /// Each source at its commit.
    Known(RevisionSources),
    /// Some source is not there (yet); what runs stays as it is.
    Missing(Missing),
}

impl VariantInput<'_> {
    /// The revision that answers now: that of the newest pod that is ready.
    pub fn serving_revision(&self) -> String {
        let ready = self.pods.iter().filter(|pod| is_ready(pod));
        ready
            .max_by_key(|pod| pod.metadata.creation_timestamp.clone())
            .map(revision_label)
            .unwrap_or_default()
    }
}

/// Reads everything. Sources that were resolved before, and that the spec still asks for, are not asked for
/// again: the answer stands in an annotation of the server's Deployment.
pub async fn read<'a>(
    context: &Arc<Context>,
    object: &'a ModelDeployment,
) -> Result<Inputs<'a>, sources::Error> {
    let resolver = Resolver::new(context.clone());
    let namespace = object.namespace().unwrap_or_default();
    let owned = ListParams::default().labels(&format!("{MODEL_DEPLOYMENT_LABEL}={}", object.name_any()));
    let deployments: Api<Deployment> = context.namespaced(&namespace);
    let pods: Api<Pod> = context.namespaced(&namespace);

    let (mut servers, mut canaries) = (BTreeMap::new(), Vec::new());
    for deployment in deployments.list(&owned).await?.items {
        // The router's Deployment has no variant.
        match deployment.labels().get(VARIANT_LABEL).cloned() {
            Some(_) if is_canary(&deployment) => canaries.push(deployment),
            Some(variant) => drop(servers.insert(variant, deployment)),
            None => {}
        }
    }
    let (mut router_pods, mut own, mut beside) = (Vec::new(), Pods::new(), Pods::new());
    for pod in pods.list(&owned).await?.items {
        match pod.labels().get(VARIANT_LABEL).cloned() {
            Some(variant) if is_canary(&pod) => beside.entry(variant).or_default().push(pod),
            Some(variant) => own.entry(variant).or_default().push(pod),
            None => router_pods.push(pod),
        }
    }

    let mut variants = Vec::new();
    for spec in &object.spec.variants {
        let server = servers.remove(&spec.name);
        let resolved = resolve(&resolver, object, spec, server.as_ref()).await?;
        let (template, evaluation) = evaluation(context, object, spec).await?;
        let pods = own.remove(&spec.name).unwrap_or_default();
        let canary_pods = beside.remove(&spec.name).unwrap_or_default();
        let (all, now) = (pods.iter().chain(&canary_pods), Timestamp::now());
        variants.push(VariantInput {
            spec,
            resolved,
            server,
            template,
            evaluation,
            answers: prometheus::ask(context, object, &spec.name, now).await,
            served: served::ask(&context.http, object, &spec.name, all, now).await,
            pods,
            canary_pods,
        });
    }
    let answers = answers(&context.http, &router_pods, object.spec.experiment.is_some()).await;
    let stats = (answers.iter())
        .filter(|(pod, _)| is_ready(pod))
        .map(|(_, stats)| stats.clone())
        .collect();
    let experiment = experiment(context, object, answers).await?;
    let route = route(context, object).await?;
    let feedback_key = feedback_key(context, object).await?;
    let absent_gateways = absent_gateways(context, object).await?;
    Ok(Inputs {
        variants,
        orphans: servers.into_values().collect(),
        canaries,
        router_pods,
        stats,
        experiment,
        route,
        feedback_key,
        absent_gateways,
    })
}

type Pods = BTreeMap<String, Vec<Pod>>;

fn is_canary<K: ResourceExt>(object: &K) -> bool {
    object.labels().get(TRACK_LABEL).map(String::as_str) == Some(server::Track::Canary.as_str())
}

/// What every router that takes requests counted, and by which split; none of one that did not answer.
pub(super) async fn stats(http: &reqwest::Client, routers: &[Pod]) -> Vec<Option<RouterStats>> {
    let answers = answers(http, routers, false).await;
    answers.into_iter().map(|(_, stats)| stats).collect()
}

/// The same with the router; `all`: also of those that take no requests, or no longer, since they count until they
/// end.
async fn answers<'a>(
    http: &reqwest::Client,
    routers: &'a [Pod],
    all: bool,
) -> Vec<(&'a Pod, Option<RouterStats>)> {
    let asked = routers.iter().filter(|pod| all || is_ready(pod));
    join_all(asked.map(|pod| async move { (pod, ask(http, pod).await) })).await
}

async fn ask(http: &reqwest::Client, router: &Pod) -> Option<RouterStats> {
    let url = names::pod_url(router, METRICS_PORT)?;
    let answer = http.get(format!("{url}/stats")).send().await.ok()?;
    let text = answer.error_for_status().ok()?.bytes().await.ok()?;
    serde_json::from_slice(&text).ok()
}

/// What is known of the experiment, where there is one, or was.
async fn experiment(
    context: &Context,
    object: &ModelDeployment,
    answers: Vec<(&Pod, Option<RouterStats>)>,
) -> Result<experiment::Seen, sources::Error> {
    let status = object.status.as_ref();
    if object.spec.experiment.is_none() && status.is_none_or(|status| status.experiment.is_none()) {
        return Ok(experiment::Seen::default());
    }
    let map = own_map(context, object, &kept::name(object)).await?;
    let kept = map.as_ref().and_then(Kept::read);
    if map.is_some() && kept.is_none() {
        tracing::warn!(name = %kept::name(object), "this ConfigMap holds no experiment that can be read; another begins");
    }
    Ok(experiment::Seen {
        is_kept: map.is_some(),
        kept,
        routers: answers
            .into_iter()
            .map(|(pod, stats)| RouterSaid {
                pod: pod.uid().unwrap_or_default(),
                ending: pod.metadata.deletion_timestamp.is_some(),
                stats,
            })
            .collect(),
        fresh_key: fresh_key(),
    })
}

/// A ConfigMap of this object. One of the same name that belongs to somebody else is refused when ours is written.
async fn own_map(
    context: &Context,
    object: &ModelDeployment,
    name: &str,
) -> Result<Option<ConfigMap>, sources::Error> {
    let maps: Api<ConfigMap> = context.namespaced(&object.namespace().unwrap_or_default());
    let is_ours = |map: &ConfigMap| {
        let mut owners = map.owner_references().iter();
        owners.any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref())
    };
    Ok(maps.get_opt(name).await?.filter(is_ours))
}

fn fresh_key() -> String {
    let key: [u8; 32] = rand::random();
    names::hexadecimal(&key)
}

/// The key of answers that clients score for analyses. Another one would make ids that were given out worthless.
async fn feedback_key(context: &Context, object: &ModelDeployment) -> Result<Option<String>, sources::Error> {
    if !object.spec.strategy.asks_for_feedback() {
        return Ok(None);
    }
    let map = own_map(context, object, &routes::name(object)).await?;
    let known = map.as_ref().and_then(routes::feedback_key);
    Ok(Some(known.unwrap_or_else(fresh_key)))
}

/// The HTTPRoute, where the spec asks for one. What may not be read (403), or whose kind is not known (404, without
/// the reason of an object that is not there), shows when it is written.
async fn route(context: &Context, object: &ModelDeployment) -> Result<Option<HttpRoute>, sources::Error> {
    if object.spec.traffic.gateway.is_none() {
        return Ok(None);
    }
    let routes: Api<HttpRoute> = context.namespaced(&object.namespace().unwrap_or_default());
    match routes.get_opt(object_name(object)).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(None),
        found => Ok(found?),
    }
}

/// The Gateways that the spec names and the cluster lacks. One that may not be read (403), as those of other namespaces
/// where the operator looks after one only, may be there.
async fn absent_gateways(
    context: &Context,
    object: &ModelDeployment,
) -> Result<Vec<GatewayRef>, sources::Error> {
    let home = object.namespace().unwrap_or_default();
    let named = object.spec.traffic.gateway.iter();
    let mut absent = Vec::new();
    for parent in named.flat_map(|gateway| &gateway.parent_refs) {
        let namespace = parent.namespace.as_deref().unwrap_or(&home);
        let kind = gateway_api::gateway();
        let gateways: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind);
        match gateways.get_metadata_opt(&parent.name).await {
            Ok(Some(_)) => {}
            Ok(None) => absent.push(parent.clone()),
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(absent)
}

/// The template of the evaluation that a rollout is at, and how the evaluation goes.
async fn evaluation(
    context: &Context,
    object: &ModelDeployment,
    variant: &Variant,
) -> Result<(Option<EvalRun>, Option<Evaluation>), sources::Error> {
    let rollout = plan::known(object, &variant.name).and_then(|known| known.rollout.as_ref());
    let asked =
        rollout.and_then(|rollout| Some((rollout, gate::template_name(&object.spec.strategy, rollout)?)));
    let Some((rollout, template_name)) = asked else {
        return Ok((None, None));
    };
    let runs: Api<EvalRun> = context.namespaced(&object.namespace().unwrap_or_default());
    let template = runs.get_opt(template_name).await?;
    let name = rollout::eval_run_name(object_name(object), &variant.name, rollout);
    let run = runs.get_opt(&name).await?;
    let evaluation = gate::evaluation(template_name, template.as_ref(), run.as_ref());
    Ok((template, evaluation))
}

async fn resolve(
    resolver: &Resolver,
    object: &ModelDeployment,
    variant: &Variant,
    server: Option<&Deployment>,
) -> Result<Resolved, sources::Error> {
    let asked = server::asked(object, variant);
    let known = [
        server.and_then(server::remembered),
        plan::remembered_sources(object, &variant.name),
    ];
    if let Some(known) = known.into_iter().flatten().find(|known| known.asked == asked) {
        return Ok(Resolved::Known(known));
    }
    let namespace = object.namespace().unwrap_or_default();
    let mut resolved = Vec::new();
    for source in std::iter::once(&variant.model).chain(variant.adapters.iter().map(|adapter| &adapter.model))
    {
        match resolver.model(&namespace, source, &object.spec.hub).await? {
            Ok(source) => resolved.push(source),
            Err(missing) => return Ok(Resolved::Missing(missing)),
        }
    }
    let model = resolved.remove(0);
    Ok(Resolved::Known(RevisionSources {
        asked,
        model,
        adapters: resolved,
    }))
}
