//! Step: what a FineTuneJob depends on and what there is of it. Reads the cluster, the Hub and the trainer;
//! changes nothing.

use std::sync::Arc;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{ResourceExt, api::ListParams};
use slipway_contract::{Method, Progress};

use crate::{
    apply::Applier,
    context::Context,
    crd::{FineTuneJob, FineTuneJobSpec, ResolvedSource},
    error::Error,
    jobs::{self, Pods},
    names::{self, FINE_TUNE_JOB_LABEL},
    sources::{self, Found, Resolver},
};

/// What the sources of the spec stand for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sources {
    /// The model to start from.
    pub model: ResolvedSource,
    /// The dataset.
    pub dataset: ResolvedSource,
}

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The Job, if it was created.
    pub job: Option<Job>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Every pod of the object, those of a Job that was removed included.
    pub all_pods: Vec<Pod>,
    /// The claim, if it was created.
    pub claim: Option<PersistentVolumeClaim>,
    /// What the first worker says.
    pub progress: Option<Progress>,
}

/// The sources as recorded in the status or, before that, as they are now.
pub async fn sources(context: &Arc<Context>, object: &FineTuneJob) -> Found<Sources> {
    let namespace = object.namespace().unwrap_or_default();
    let spec = &object.spec;
    let resolver = Resolver::new(context.clone());
    let status = object.status.as_ref();
    // A pod that runs has the token mounted; only one that is to start needs the Secret.
    if status.is_none_or(|status| status.running_since.is_none())
        && let Err(missing) = resolver
            .token(&namespace, spec.hub.token_secret_ref.as_ref())
            .await?
    {
        return Ok(Err(missing));
    }
    let model = match status.and_then(|status| status.model.clone()) {
        Some(known) => known,
        None => match resolver.model(&namespace, &spec.model, &spec.hub).await? {
            Ok(found) => match licensed(&resolver, object, &found).await? {
                Ok(()) => found,
                Err(missing) => return Ok(Err(missing)),
            },
            Err(missing) => return Ok(Err(missing)),
        },
    };
    let dataset = match status.and_then(|status| status.dataset.clone()) {
        Some(known) => known,
        None => match resolver.dataset(&namespace, &spec.dataset, &spec.hub).await? {
            Ok(found) => found,
            Err(missing) => return Ok(Err(missing)),
        },
    };
    Ok(Ok(Sources { model, dataset }))
}

/// Whether the result may be published: asked once, before the model is recorded and anything runs. The trainer
/// asks again, of what it has fetched: the base of an adapter, or a model on a claim.
async fn licensed(resolver: &Resolver, object: &FineTuneJob, model: &ResolvedSource) -> Found<()> {
    let spec = &object.spec;
    if !publishes_weights(spec) {
        return Ok(Ok(()));
    }
    let namespace = object.namespace().unwrap_or_default();
    let accepted = spec.output.accept_license.as_deref();
    resolver.may_publish(&namespace, model, &spec.hub, accepted).await
}

/// Whether weights of the base go to a Hub: an adapter has none of them, and a claim stays here. Pure.
fn publishes_weights(spec: &FineTuneJobSpec) -> bool {
    spec.output.hub.is_some() && (spec.output.merge || matches!(spec.method, Method::Full(_)))
}

/// Reads Job, pods, claim and progress.
pub async fn read(context: &Context, applier: &Applier<'_>, object: &FineTuneJob) -> Result<Inputs, Error> {
    let name = object.name_any();
    let namespace = object.namespace().unwrap_or_default();
    let job = applier.get::<Job>(&names::train_job(&name)).await?;
    let claim = applier
        .get::<PersistentVolumeClaim>(&names::checkpoint_claim(&name))
        .await?;
    let ours = ListParams::default().labels(&format!("{FINE_TUNE_JOB_LABEL}={name}"));
    let listed = context.namespaced::<Pod>(&namespace).list(&ours).await;
    let all_pods = listed.map_err(sources::Error::Api)?.items;
    let pods = jobs::pods_of(job.as_ref(), &all_pods);
    let progress = jobs::progress(&context.http, Pods(&pods)).await;
    Ok(Inputs {
        job,
        pods,
        all_pods,
        claim,
        progress,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_asked_where_weights_of_the_base_are_published() {
        for (rest, asked) in [
            ("output: {hub: {repo: a/b}}", false),
            ("output: {hub: {repo: a/b}, merge: true}", true),
            ("method: {full: {}}, output: {hub: {repo: a/b}}", true),
            ("method: {full: {}}", false),
            ("output: {merge: true}", false),
        ] {
            let spec: FineTuneJobSpec = serde_saphyr::from_str(&format!(
                "{{model: {{hub: {{repo: a/base}}}}, dataset: {{url: 'http://h/d.csv'}}, {rest}}}"
            ))
            .unwrap();
            assert_eq!(publishes_weights(&spec), asked, "{rest}");
        }
    }
}
