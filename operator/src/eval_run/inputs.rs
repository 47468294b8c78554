//! Step: what an EvalRun depends on and what there is of it. Reads the cluster, the Hub and the pod; changes
//! nothing.

use std::sync::Arc;

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{ResourceExt, api::ListParams};
use slipway_contract::Progress;

use super::monitor;
use crate::{
    apply::Applier,
    conditions::{self, kind},
    context::Context,
    crd::{
        BaselineRef, BenchmarkRef, ClaimRef, DatasetRef, EvalRun, EvalRunStatus, ModelDeployment,
        PredictionsRef, ResolvedSource, TargetRef,
    },
    error::Error,
    jobs::{self, Pods},
    names::EVAL_RUN_LABEL,
    sources::{self, Found, Missing, Resolver},
};

/// What the sources of the spec stand for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sources {
    /// The model that is measured; none for a deployment.
    pub target: Option<ResolvedSource>,
    /// The model it is compared with.
    pub baseline: Option<ResolvedSource>,
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
    /// What the pod says.
    pub progress: Option<Progress>,
}

/// The sources as recorded in the status.
pub fn pinned(object: &EvalRun) -> Option<Sources> {
    let EvalRunStatus {
        target,
        baseline,
        dataset,
        ..
    } = object.status.clone()?;
    Some(Sources {
        target,
        baseline,
        dataset: dataset?,
    })
}

/// The sources as recorded in the status or, before that, as they are now.
pub async fn sources(context: &Arc<Context>, object: &EvalRun) -> Found<Sources> {
    if let Some(known) = pinned(object) {
        return Ok(Ok(known));
    }
    let namespace = object.namespace().unwrap_or_default();
    let spec = &object.spec;
    let resolver = Resolver::new(context.clone());
    if let Err(missing) = resolver
        .token(&namespace, spec.hub.token_secret_ref.as_ref())
        .await?
    {
        return Ok(Err(missing));
    }
    let target = match &spec.target {
        // A template never gets here.
        None => None,
        Some(TargetRef::Model(model)) => match resolver.model(&namespace, model, &spec.hub).await? {
            Ok(found) => Some(found),
            Err(missing) => return Ok(Err(missing)),
        },
        Some(TargetRef::Deployment {
            name,
            variant,
            revision,
        }) => {
            let found = context
                .namespaced::<ModelDeployment>(&namespace)
                .get_opt(name)
                .await?;
            let asked = Asked {
                namespace: &namespace,
                name,
                variant: variant.as_deref(),
                revision: revision.as_deref(),
            };
            if let Err(missing) = serving(asked, found.as_ref()) {
                return Ok(Err(missing));
            }
            None
        }
    };
    let baseline = match &spec.baseline {
        None => None,
        Some(baseline) => match compared(context, &resolver, &namespace, object, baseline).await? {
            Ok(found) => Some(found),
            Err(missing) => return Ok(Err(missing)),
        },
    };
    let dataset = match resolver.dataset(&namespace, &spec.dataset, &spec.hub).await? {
        Ok(found) => found,
        Err(missing) => return Ok(Err(missing)),
    };
    if let Some(lexicon) = &spec.lexicon {
        let claim = DatasetRef {
            claim: Some(lexicon.clone()),
            ..DatasetRef::default()
        };
        if let Err(missing) = resolver.dataset(&namespace, &claim, &spec.hub).await? {
            return Ok(Err(missing));
        }
    }
    if let Some(PredictionsRef::Claim(claim)) = &spec.predictions {
        let kept = DatasetRef {
            claim: Some(ClaimRef {
                name: claim.name.clone(),
                path: claim.path.clone(),
            }),
            ..DatasetRef::default()
        };
        if let Err(missing) = resolver.dataset(&namespace, &kept, &spec.hub).await? {
            return Ok(Err(missing));
        }
    }
    if let Some(BenchmarkRef::ConfigMap(key)) = &spec.benchmark {
        let benchmark = DatasetRef {
            config_map: Some(key.clone()),
            ..DatasetRef::default()
        };
        if let Err(missing) = resolver.dataset(&namespace, &benchmark, &spec.hub).await? {
            return Ok(Err(missing));
        }
    }
    Ok(Ok(Sources {
        target,
        baseline,
        dataset,
    }))
}

async fn compared(
    context: &Context,
    resolver: &Resolver,
    namespace: &str,
    object: &EvalRun,
    baseline: &BaselineRef,
) -> Found<ResolvedSource> {
    if let Some(model) = &baseline.model {
        return resolver.model(namespace, model, &object.spec.hub).await;
    }
    let name = baseline
        .eval_run
        .as_ref()
        .map(|run| run.name.as_str())
        .unwrap_or_default();
    let found = context.namespaced::<EvalRun>(namespace).get_opt(name).await?;
    Ok(measured(namespace, name, found.as_ref()))
}

/// The model that another EvalRun measured. Pure.
pub fn measured(namespace: &str, name: &str, run: Option<&EvalRun>) -> Result<ResolvedSource, Missing> {
    let Some(run) = run else {
        return Err(Missing::needs_action(
            "EvalRunNotFound",
            format!(
                "EvalRun {name} is not in namespace {namespace}; create it, or correct baseline.evalRun.name"
            ),
        ));
    };
    if matches!(run.spec.target, Some(TargetRef::Deployment { .. })) {
        return Err(Missing::needs_action(
            "BaselineIsDeployment",
            format!(
                "EvalRun {name} measures a deployment; name one that measures a model, or set baseline.model"
            ),
        ));
    }
    run.status
        .as_ref()
        .and_then(|status| status.target.clone())
        .ok_or_else(|| {
            Missing::comes(
                "WaitingForEvalRun",
                format!("waits for EvalRun {name} to have found the model it measures"),
            )
        })
}

/// A deployment, and who of it is to answer.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Where it is.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The variant asked, if any.
    pub variant: Option<&'a str>,
    /// The revision asked, if any.
    pub revision: Option<&'a str>,
}

/// Whether a deployment can be asked. Pure.
pub fn serving(asked: Asked<'_>, deployment: Option<&ModelDeployment>) -> Result<(), Missing> {
    let Asked {
        namespace,
        name,
        variant,
        revision,
    } = asked;
    let Some(deployment) = deployment else {
        return Err(Missing::needs_action(
            "ModelDeploymentNotFound",
            format!(
                "ModelDeployment {name} is not in namespace {namespace}; create it, or correct target.deployment.name"
            ),
        ));
    };
    if let Some(variant) = variant {
        let names: Vec<&str> = deployment
            .spec
            .variants
            .iter()
            .map(|variant| variant.name.as_str())
            .collect();
        if !names.contains(&variant) {
            return Err(Missing::needs_action(
                "VariantNotFound",
                format!(
                    "ModelDeployment {name} has no variant {variant} (it has: {}); correct target.deployment.variant",
                    names.join(", ")
                ),
            ));
        }
    }
    let conditions = deployment
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    // A revision is asked for while it is rolled in, when the deployment as a whole is not ready.
    if revision.is_some() || conditions::is_true(conditions, kind::READY) {
        return Ok(());
    }
    let why = conditions::message(conditions, kind::READY)
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    Err(Missing::comes(
        "WaitingForTarget",
        format!("waits for ModelDeployment {name} to be ready{why}"),
    ))
}

/// Reads Job, pods and progress.
pub async fn read(context: &Context, applier: &Applier<'_>, object: &EvalRun) -> Result<Inputs, Error> {
    let name = object.name_any();
    let namespace = object.namespace().unwrap_or_default();
    let job = applier.get::<Job>(&monitor::job_name(object)).await?;
    let ours = ListParams::default().labels(&format!("{EVAL_RUN_LABEL}={name}"));
    let listed = context.namespaced::<Pod>(&namespace).list(&ours).await;
    let all_pods = listed.map_err(sources::Error::Api)?.items;
    let pods = jobs::pods_of(job.as_ref(), &all_pods);
    let progress = jobs::progress(&context.http, Pods(&pods)).await;
    Ok(Inputs {
        job,
        pods,
        all_pods,
        progress,
    })
}
