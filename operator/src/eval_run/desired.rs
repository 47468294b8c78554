//! Step: what should exist for an EvalRun. Pure: no client.

use std::{collections::BTreeMap, path::Path};

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, PodSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;
use slipway_contract::{Baseline, BenchmarkSource, Dataset, EvalConfig, EvalTarget, Provenance};

use super::{inputs::Sources, monitor};
use crate::{
    crd::{BenchmarkRef, EvalRun, KeyRef, PredictionsClaim, PredictionsRef, TargetRef},
    jobs::{self, Blueprint},
    names::{self, EVAL_RUN_LABEL},
    pods::{self, Mounts},
    settings::Settings,
};

/// Two-sided level of each metric's interval.
const CONFIDENCE: f64 = 0.95;
/// Examples per forward pass.
const BATCH: u32 = 32;
/// Tokens of an answer at most, unless the EvalRun says otherwise.
const NEW_TOKENS: u32 = 128;

/// Every child of an EvalRun. Destructured where it is applied, so that none can be forgotten.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The EvalConfig.
    pub config: ConfigMap,
    /// The pod.
    pub job: Job,
}

/// Builds every child.
pub fn desired(object: &EvalRun, sources: &Sources, settings: &Settings) -> Desired {
    let name = monitor::job_name(object);
    let spec = &object.spec;
    let mut mounts = Mounts::new();
    let config = eval_config(object, sources, settings, &mut mounts);
    mounts.add(pods::config_file(
        "config",
        &name,
        pods::CONFIG_FILE,
        pods::CONFIG,
    ));
    let text = serde_saphyr::to_string(&config).expect("a configuration is plain data");
    Desired {
        config: ConfigMap {
            metadata: metadata(object, &name),
            data: Some(BTreeMap::from([(pods::CONFIG_FILE.to_owned(), text)])),
            ..ConfigMap::default()
        },
        job: jobs::job(
            Blueprint {
                meta: metadata(object, &name),
                subcommand: "evaluate",
                mounts,
                resources: spec.resources.to_api(),
                scheduling: PodSpec {
                    node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
                    tolerations: (!spec.tolerations.is_empty()).then(|| spec.tolerations.clone()),
                    priority_class_name: spec.priority_class_name.clone(),
                    ..PodSpec::default()
                },
                workers: 1,
                backoff_limit: spec.backoff_limit,
                active_deadline_seconds: spec.active_deadline_seconds,
                queue: None,
            },
            settings,
        ),
    }
}

fn metadata(object: &EvalRun, name: &str) -> ObjectMeta {
    ObjectMeta {
        labels: Some(pods::labels("evaluator", &object.name_any(), EVAL_RUN_LABEL)),
        ..pods::child(object, name)
    }
}

fn eval_config(object: &EvalRun, sources: &Sources, settings: &Settings, mounts: &mut Mounts) -> EvalConfig {
    let spec = &object.spec;
    let data = &spec.dataset;
    let namespace = object.namespace().unwrap_or_default();
    let endpoint = spec.hub.endpoint.as_ref().unwrap_or(&settings.hub_endpoint);
    let target = match &spec.target {
        Some(TargetRef::Deployment {
            name,
            variant,
            revision,
        }) => EvalTarget::Endpoint {
            url: names::deployment_url(name, &namespace),
            variant: variant.clone(),
            revision: revision.clone(),
        },
        Some(TargetRef::Model(_)) | None => {
            EvalTarget::Model(mounts.model("model", &sources.target.clone().unwrap_or_default()))
        }
    };
    EvalConfig {
        target,
        task: spec.task,
        dataset: Dataset {
            source: mounts.dataset(&sources.dataset, data.config_map.as_ref(), data.url.as_deref()),
            split: data.split.clone(),
            format: data.format,
            columns: data.columns.clone(),
            validation: None,
            max_examples: data.max_examples,
            max_invalid_rows: data.max_invalid_rows,
        },
        benchmark: spec.benchmark.as_ref().map(|benchmark| match benchmark {
            BenchmarkRef::Name(shipped) => BenchmarkSource::Name(*shipped),
            BenchmarkRef::ConfigMap(KeyRef { name, key }) => {
                let folder = format!("{}/benchmark", pods::SOURCES);
                mounts.add(pods::config_file("benchmark", name, key, &folder));
                BenchmarkSource::Path(Path::new(&folder).join(key))
            }
        }),
        few_shot: spec.few_shot.clone(),
        metrics: spec.metrics.clone(),
        thresholds: spec.thresholds.clone(),
        baseline: spec
            .baseline
            .as_ref()
            .zip(sources.baseline.as_ref())
            .map(|(asked, source)| Baseline {
                model: mounts.model("baseline", source),
                metric: asked.metric,
                min_difference: asked.min_difference,
                confidence: asked.confidence,
            }),
        record: spec.record.clone(),
        confidence: CONFIDENCE,
        batch_size: BATCH,
        max_sequence_length: None,
        max_new_tokens: spec.max_new_tokens.unwrap_or(NEW_TOKENS),
        lexicon: spec.lexicon.as_ref().map(|claim| {
            let root = format!("{}/lexicon", pods::SOURCES);
            mounts.add(pods::claim("lexicon", &claim.name, &root));
            Path::new(&root).join(&claim.path)
        }),
        predictions: match &spec.predictions {
            Some(PredictionsRef::Claim(PredictionsClaim { name, path })) => {
                let root = format!("{}/predictions", pods::SOURCES);
                mounts.add(pods::writable_claim("predictions", name, &root));
                let file = match path.as_str() {
                    "" => format!("{}.parquet", object.name_any()),
                    path => path.to_owned(),
                };
                Some(Path::new(&root).join(file))
            }
            Some(PredictionsRef::Hub(_)) | None => None,
        },
        predictions_hub: match &spec.predictions {
            Some(PredictionsRef::Hub(hub)) => Some(hub.clone()),
            Some(PredictionsRef::Claim(_)) | None => None,
        },
        hub: mounts.hub_access(&spec.hub, endpoint),
        listen: Some(jobs::LISTEN.into()),
        provenance: Provenance {
            kind: "EvalRun".into(),
            name: format!("{namespace}/{}", object.name_any()),
            uid: object.uid().unwrap_or_default(),
        },
    }
}
