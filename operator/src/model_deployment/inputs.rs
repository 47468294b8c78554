//! Step: what a ModelDeployment depends on. Reads the cluster and the Hub; changes nothing.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    SOURCES_ANNOTATION,
    desired::{self, Sources},
};
use crate::{
    context::Context,
    crd::{ModelDeployment, Variant},
    names::{MODEL_DEPLOYMENT_LABEL, VARIANT_LABEL},
    sources::{self, Missing, Resolver},
};

/// Everything that the later steps need to know.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// One for each variant of the spec, in its order.
    pub variants: Vec<VariantInput<'a>>,
    /// Servers of variants that are no longer in the spec.
    pub orphans: Vec<Deployment>,
    /// The router's pods.
    pub router_pods: Vec<Pod>,
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
    /// Its pods, old revisions' included.
    pub pods: Vec<Pod>,
}

/// Which files a variant's sources mean.
#[derive(Debug)]
pub enum Resolved {
    /// Each source at its commit.
    Known(Sources),
    /// Some source is not there (yet); what runs stays as it is.
    Missing(Missing),
}

impl VariantInput<'_> {
    /// The revision that answers now: that of the newest pod that is ready.
    pub fn serving_revision(&self) -> String {
        let ready = self.pods.iter().filter(|pod| super::status::is_ready(pod));
        ready
            .max_by_key(|pod| pod.metadata.creation_timestamp.clone())
            .map(super::status::revision_label)
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

    let mut servers: BTreeMap<String, Deployment> = BTreeMap::new();
    for deployment in deployments.list(&owned).await?.items {
        // The router's Deployment has no variant.
        if let Some(variant) = deployment.labels().get(VARIANT_LABEL).cloned() {
            servers.insert(variant, deployment);
        }
    }
    let (mut router_pods, mut variant_pods) = (Vec::new(), BTreeMap::<String, Vec<Pod>>::new());
    for pod in pods.list(&owned).await?.items {
        match pod.labels().get(VARIANT_LABEL).cloned() {
            Some(variant) => variant_pods.entry(variant).or_default().push(pod),
            None => router_pods.push(pod),
        }
    }

    let mut variants = Vec::new();
    for spec in &object.spec.variants {
        let server = servers.remove(&spec.name);
        let resolved = resolve(&resolver, object, spec, server.as_ref()).await?;
        let pods = variant_pods.remove(&spec.name).unwrap_or_default();
        variants.push(VariantInput {
            spec,
            resolved,
            server,
            pods,
        });
    }
    Ok(Inputs {
        variants,
        orphans: servers.into_values().collect(),
        router_pods,
    })
}

async fn resolve(
    resolver: &Resolver,
    object: &ModelDeployment,
    variant: &Variant,
    server: Option<&Deployment>,
) -> Result<Resolved, sources::Error> {
    let asked = desired::asked(object, variant);
    if let Some(known) = server.and_then(remembered).filter(|known| known.asked == asked) {
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
    Ok(Resolved::Known(Sources {
        asked,
        model,
        adapters: resolved,
    }))
}

/// What a Deployment's sources were resolved to when it was applied.
pub fn remembered(server: &Deployment) -> Option<Sources> {
    serde_json::from_str(server.annotations().get(SOURCES_ANNOTATION)?).ok()
}
