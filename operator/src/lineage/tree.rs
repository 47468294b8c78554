//! Step of a lineage: who comes from whom, by what statuses and labels say. Pure: no client.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Kind, Node, Start, World};
use crate::{
    crd::{EvalRun, FineTuneJob, ModelDeployment, ResolvedSource, TargetRef, VariantStatus},
    names::{
        self, EVAL_RUN_LABEL, FINE_TUNE_JOB_LABEL, MODEL_DEPLOYMENT_LABEL, REVISION_LABEL, VARIANT_LABEL,
    },
};

/// Models that were trained from models: so far back, and no further.
const DEPTH: usize = 32;

/// The lineage of `start` among the objects of its namespace; `pod` is the one that `start` names. `None` where
/// there is no such object, or the pod is not Slipway's.
pub fn tree(start: &Start, pod: Option<&Pod>, world: &World) -> Option<Node> {
    let family = Family { world };
    match start.kind {
        Kind::Pod => family.pod(pod?),
        Kind::ModelDeployment => Some(family.deployment(named(&world.deployments, &start.name)?)),
        Kind::FineTuneJob => Some(family.job("", named(&world.jobs, &start.name)?, true, DEPTH)),
        Kind::EvalRun => Some(family.run("", named(&world.runs, &start.name)?, true, DEPTH)),
    }
}

fn named<'a, K: ResourceExt>(objects: &'a [K], name: &str) -> Option<&'a K> {
    objects.iter().find(|object| object.name_any() == name)
}

/// An object that a label or a spec names and that is gone.
fn gone(relation: &'static str, kind: &'static str, name: &str) -> Node {
    Node {
        relation,
        kind,
        name: name.to_owned(),
        details: [("state", "no longer there".to_owned())].into(),
        ..Node::default()
    }
}

struct Family<'a> {
    world: &'a World,
}

impl Family<'_> {
    fn pod(&self, pod: &Pod) -> Option<Node> {
        let label = |key: &str| pod.labels().get(key).map(String::as_str);
        let child = if let Some(name) = label(MODEL_DEPLOYMENT_LABEL) {
            let (variant, revision) = (label(VARIANT_LABEL), label(REVISION_LABEL));
            match named(&self.world.deployments, name) {
                Some(object) => Node {
                    relation: "of",
                    children: self.revisions(object, variant, revision),
                    ..deployment_node(object)
                },
                None => gone("of", "ModelDeployment", name),
            }
        } else if let Some(name) = label(FINE_TUNE_JOB_LABEL) {
            match named(&self.world.jobs, name) {
                Some(job) => self.job("of", job, true, DEPTH),
                None => gone("of", "FineTuneJob", name),
            }
        } else {
            let name = label(EVAL_RUN_LABEL)?;
            match named(&self.world.runs, name) {
                Some(run) => self.run("of", run, true, DEPTH),
                None => gone("of", "EvalRun", name),
            }
        };
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        Some(Node {
            kind: "Pod",
            name: pod.name_any(),
            details: phase.map(|phase| ("phase", phase)).into_iter().collect(),
            children: vec![child],
            ..Node::default()
        })
    }

    fn deployment(&self, object: &ModelDeployment) -> Node {
        Node {
            children: self.revisions(object, None, None),
            ..deployment_node(object)
        }
    }

    /// The revisions that serve or are rolled in: all, or those of `variant`, or the one named.
    fn revisions(
        &self,
        object: &ModelDeployment,
        variant: Option<&str>,
        revision: Option<&str>,
    ) -> Vec<Node> {
        let known = object.status.as_ref().map(|status| status.variants.as_slice());
        let mut found = Vec::new();
        for status in known.unwrap_or_default() {
            if variant.is_some_and(|variant| variant != status.name) {
                continue;
            }
            for one in of_variant(status) {
                if revision.is_none_or(|revision| revision == one.revision) {
                    found.push(self.revision(object, status, &one));
                }
            }
        }
        match (variant, revision) {
            (Some(variant), Some(revision)) if found.is_empty() => {
                vec![gone("serves", "Revision", &format!("{variant}/{revision}"))]
            }
            _ => found,
        }
    }

    fn revision(&self, object: &ModelDeployment, variant: &VariantStatus, one: &OneRevision<'_>) -> Node {
        let share = if one.next {
            ("state", "being rolled in".to_owned())
        } else {
            ("traffic", format!("{} %", variant.traffic_percent))
        };
        let model = one
            .model
            .map(|model| self.model("serves", "Model", model, true, DEPTH));
        let asked = self
            .world
            .runs
            .iter()
            .filter(|run| asks(run, object, &variant.name, one));
        let asked = asked.map(|run| self.run("measured by", run, false, DEPTH));
        let adapters = one
            .adapters
            .iter()
            .map(|adapter| self.model("with", "Adapter", adapter, true, DEPTH));
        Node {
            relation: "serves",
            kind: "Revision",
            name: format!("{}/{}", variant.name, one.revision),
            details: [share].into(),
            children: model.into_iter().chain(adapters).chain(asked).collect(),
            ..Node::default()
        }
    }

    /// A model with the job that made it and, where asked for, the runs that measured it.
    fn model(
        &self,
        relation: &'static str,
        kind: &'static str,
        source: &ResolvedSource,
        measured: bool,
        depth: usize,
    ) -> Node {
        let mut node = source_node(relation, kind, source);
        if depth == 0 {
            return node;
        }
        let made = self.world.jobs.iter().filter(|job| makes(job, source));
        node.children
            .extend(made.map(|job| self.job("made by", job, false, depth - 1)));
        if measured {
            let runs = self.world.runs.iter().filter(|run| measures(run, source));
            node.children
                .extend(runs.map(|run| self.run("measured by", run, false, depth - 1)));
        }
        node
    }

    /// A job with what it started and learned from; `whole`: also with what it made, as the first of a lineage.
    fn job(&self, relation: &'static str, job: &FineTuneJob, whole: bool, depth: usize) -> Node {
        let status = job.status.clone().unwrap_or_default();
        let mut details: BTreeMap<&'static str, String> = status
            .metrics
            .iter()
            .filter_map(|metric| {
                let name = ["evalAccuracy", "evalF1", "evalLoss"]
                    .into_iter()
                    .find(|name| *name == metric.name)?;
                Some((name, format!("{:.4}", metric.value)))
            })
            .collect();
        details.extend(status.summary.map(|summary| ("progress", summary)));
        let mut children = Vec::new();
        if let Some(model) = &status.model {
            children.push(self.model("started from", "Model", model, false, depth));
        }
        if let Some(dataset) = &status.dataset {
            children.push(data_node(dataset, job.spec.dataset.url.as_deref()));
        }
        if whole && let Some(output) = &status.output {
            let source = ResolvedSource {
                repo: Some(output.repo.clone()),
                commit: Some(output.commit.clone()),
                ..ResolvedSource::default()
            };
            let mut made = source_node("made", "Model", &source);
            let runs = self.world.runs.iter().filter(|run| measures(run, &source));
            made.children
                .extend(runs.map(|run| self.run("measured by", run, false, 0)));
            children.push(made);
        }
        Node {
            relation,
            kind: "FineTuneJob",
            name: job.name_any(),
            details,
            children,
            commit: None,
        }
    }

    /// A run with what it measured (where it is the first of a lineage), on what, and against what.
    fn run(&self, relation: &'static str, run: &EvalRun, whole: bool, depth: usize) -> Node {
        let status = run.status.clone().unwrap_or_default();
        let verdict = status.verdict.map(|verdict| ("verdict", format!("{verdict:?}")));
        let figure = status.summary.clone().map(|summary| ("figure", summary));
        let mut children = Vec::new();
        if whole {
            children.extend(self.target(run, depth));
        }
        if let Some(dataset) = &status.dataset {
            let url = run.spec.dataset.url.as_deref();
            children.push(Node {
                relation: "on",
                ..data_node(dataset, url)
            });
        }
        if let Some(baseline) = &status.baseline {
            children.push(self.model("against", "Model", baseline, false, if whole { depth } else { 0 }));
        }
        if let Some(record) = &status.record {
            children.push(Node {
                relation: "recorded in",
                kind: "Card",
                name: record.repo.clone(),
                commit: Some(record.commit.clone()),
                ..Node::default()
            });
        }
        Node {
            relation,
            kind: "EvalRun",
            name: run.name_any(),
            details: verdict.into_iter().chain(figure).collect(),
            children,
            commit: None,
        }
    }

    fn target(&self, run: &EvalRun, depth: usize) -> Option<Node> {
        if let Some(model) = run.status.as_ref().and_then(|status| status.target.as_ref()) {
            return Some(self.model("of", "Model", model, false, depth));
        }
        let Some(TargetRef::Deployment {
            name,
            variant,
            revision,
        }) = &run.spec.target
        else {
            return None;
        };
        Some(match named(&self.world.deployments, name) {
            Some(object) => Node {
                relation: "of",
                children: self.revisions(object, variant.as_deref(), revision.as_deref()),
                ..deployment_node(object)
            },
            None => gone("of", "ModelDeployment", name),
        })
    }
}

fn deployment_node(object: &ModelDeployment) -> Node {
    let url = object.status.as_ref().and_then(|status| status.url.clone());
    Node {
        kind: "ModelDeployment",
        name: object.name_any(),
        details: url.map(|url| ("url", url)).into_iter().collect(),
        ..Node::default()
    }
}

struct OneRevision<'a> {
    revision: &'a str,
    model: Option<&'a ResolvedSource>,
    adapters: &'a [ResolvedSource],
    next: bool,
}

/// The revision that answers and the one that is being rolled in.
fn of_variant(status: &VariantStatus) -> impl Iterator<Item = OneRevision<'_>> {
    let now = (!status.revision.is_empty()).then(|| OneRevision {
        revision: &status.revision,
        model: status.model.as_ref(),
        adapters: &status.adapters,
        next: false,
    });
    let next = status.next_revision.as_deref().map(|revision| OneRevision {
        revision,
        model: status.next_model.as_ref(),
        adapters: &status.next_adapters,
        next: true,
    });
    now.into_iter().chain(next)
}

/// Whether `job` published `source` or, where it published nothing, left it on its claim.
fn makes(job: &FineTuneJob, source: &ResolvedSource) -> bool {
    let Some(status) = &job.status else {
        return false;
    };
    match &status.output {
        Some(output) => {
            source.repo.as_ref() == Some(&output.repo) && source.commit.as_ref() == Some(&output.commit)
        }
        None => {
            status.claim.is_some()
                && source.claim == status.claim
                && source.path.as_deref() == Some(names::OUTPUT_PATH)
        }
    }
}

/// Whether `run` asks this revision over HTTP, by its name or as the one that serves.
fn asks(run: &EvalRun, object: &ModelDeployment, variant: &str, one: &OneRevision<'_>) -> bool {
    let Some(TargetRef::Deployment {
        name,
        variant: of,
        revision: at,
    }) = &run.spec.target
    else {
        return false;
    };
    let of_variant = of.as_deref().is_none_or(|of| of == variant);
    let of_revision = at.as_deref().map_or(!one.next, |at| at == one.revision);
    *name == object.name_any() && of_variant && of_revision
}

/// Whether `run` measured `source` itself, and not what a deployment answered.
fn measures(run: &EvalRun, source: &ResolvedSource) -> bool {
    let target = run.status.as_ref().and_then(|status| status.target.as_ref());
    target == Some(source) && *source != ResolvedSource::default()
}

fn source_node(relation: &'static str, kind: &'static str, source: &ResolvedSource) -> Node {
    let name = match (&source.repo, &source.claim) {
        (Some(repo), _) => repo.clone(),
        (None, Some(claim)) => {
            let path = source.path.as_deref().unwrap_or_default();
            format!("claim {claim}:/{path}")
        }
        (None, None) => "of the spec".to_owned(),
    };
    Node {
        relation,
        kind,
        name,
        commit: source.commit.clone(),
        ..Node::default()
    }
}

/// A dataset; one by address or ConfigMap has no commit.
fn data_node(source: &ResolvedSource, url: Option<&str>) -> Node {
    let node = source_node("learned from", "Dataset", source);
    match url {
        Some(url) => Node {
            name: url.to_owned(),
            ..node
        },
        None => node,
    }
}
