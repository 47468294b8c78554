//! The evaluation that a rollout's step asks for: made from a template, and read. Pure: no client.

use kube::ResourceExt;
use slipway_contract::{EvalTask, Verdict};

use super::{
    desired::{metadata, object_name},
    inputs::VariantInput,
    rollout::{self, Evaluation},
};
use crate::{
    conditions::{self, kind},
    crd::{
        ClaimRef, EvalRun, EvalRunSpec, ModelDeployment, ModelSource, ResolvedSource, RolloutPhase,
        RolloutStatus, Step, Strategy, TargetRef,
    },
    names::REVISION_LABEL,
};

/// The template that the step under way asks for.
pub fn template_name<'a>(strategy: &'a Strategy, rollout: &RolloutStatus) -> Option<&'a str> {
    let step = strategy.canary.as_ref()?.steps.get(rollout.step as usize)?;
    match step {
        Step::Eval(eval) if rollout.phase == RolloutPhase::Progressing => Some(&eval.template_ref.name),
        _ => None,
    }
}

/// The EvalRun of the step under way, once its template is known and usable.
pub fn desired(
    object: &ModelDeployment,
    input: &VariantInput<'_>,
    rollout: &RolloutStatus,
) -> Option<EvalRun> {
    template_name(&object.spec.strategy, rollout)?;
    // Before that nobody would answer it.
    if rollout.reason != rollout::EVALUATING {
        return None;
    }
    let template = input
        .template
        .as_ref()
        .filter(|template| unusable(template).is_none())?;
    let name = rollout::eval_run_name(object_name(object), &input.spec.name, rollout);
    let mut meta = metadata(object, &name, "evaluation", Some(&input.spec.name));
    meta.labels
        .get_or_insert_default()
        .insert(REVISION_LABEL.into(), rollout.revision.clone());
    Some(EvalRun {
        metadata: meta,
        spec: EvalRunSpec {
            target: Some(target(object, input, rollout, &template.spec)),
            ..template.spec.clone()
        },
        status: None,
    })
}

/// What can be asked over HTTP is, of the new revision's own servers, as clients ask them. The rest is loaded by the
/// evaluation's pod.
fn target(
    object: &ModelDeployment,
    input: &VariantInput<'_>,
    rollout: &RolloutStatus,
    template: &EvalRunSpec,
) -> TargetRef {
    if is_asked_over_http(template.task) {
        return TargetRef::Deployment {
            name: object_name(object).to_owned(),
            variant: Some(input.spec.name.clone()),
            revision: Some(rollout.revision.clone()),
        };
    }
    TargetRef::Model(source(&rollout.sources.model))
}

/// As the rules of EvalRun's `target.deployment` say.
fn is_asked_over_http(task: EvalTask) -> bool {
    match task {
        EvalTask::SequenceClassification | EvalTask::MultipleChoice | EvalTask::CausalLM => true,
        EvalTask::Regression | EvalTask::Retrieval => false,
    }
}

fn source(resolved: &ResolvedSource) -> ModelSource {
    match (&resolved.repo, &resolved.claim) {
        (Some(repo), _) => ModelSource::Hub(slipway_contract::HubRef {
            repo: repo.clone(),
            revision: resolved.commit.clone().unwrap_or_default(),
        }),
        (None, claim) => ModelSource::Claim(ClaimRef {
            name: claim.clone().unwrap_or_default(),
            path: resolved.path.clone().unwrap_or_default(),
        }),
    }
}

/// What is known of the evaluation of a step: `template` is the EvalRun it is to be made from, `run` the one made.
pub fn evaluation(name: &str, template: Option<&EvalRun>, run: Option<&EvalRun>) -> Option<Evaluation> {
    if let Some(run) = run {
        return Some(read(run));
    }
    match template {
        None => Some(Evaluation::Unusable(format!(
            "there is no EvalRun {name} to make the evaluation from; create one without a target, or correct \
             templateRef.name"
        ))),
        Some(template) => unusable(template).map(Evaluation::Unusable),
    }
}

/// Why an EvalRun is no gate: cause and fix.
fn unusable(template: &EvalRun) -> Option<String> {
    let name = template.name_any();
    let spec = &template.spec;
    if spec.target.is_some() {
        let fix = "name one without a target in templateRef";
        return Some(format!("EvalRun {name} has a target of its own; {fix}"));
    }
    (spec.thresholds.is_empty() && spec.baseline.is_none()).then(|| {
        format!(
            "EvalRun {name} has no bound, so that every revision would pass; give it thresholds or a baseline"
        )
    })
}

fn read(run: &EvalRun) -> Evaluation {
    let name = run.name_any();
    let Some(status) = &run.status else {
        return Evaluation::Running(format!("EvalRun {name} is about to start"));
    };
    let told = conditions::message(&status.conditions, kind::READY).unwrap_or_default();
    if conditions::is_true(&status.conditions, kind::FAILED) {
        return Evaluation::Inconclusive(format!("EvalRun {name} did not come to its end: {told}"));
    }
    let figures = || {
        let scores: Vec<String> = status
            .results
            .iter()
            .map(|result| {
                format!(
                    "{} {:.4} (n = {})",
                    result.metric.as_str(),
                    result.value,
                    result.examples
                )
            })
            .collect();
        let said = if status.findings.is_empty() {
            scores
        } else {
            status.findings.clone()
        };
        format!("EvalRun {name}: {}", said.join("; "))
    };
    match status.verdict {
        Some(Verdict::Passed) => Evaluation::Passed(figures()),
        Some(Verdict::Failed) => Evaluation::Failed(figures()),
        Some(Verdict::Inconclusive) => Evaluation::Inconclusive(figures()),
        None => Evaluation::Running(format!("EvalRun {name}: {told}")),
    }
}

#[cfg(test)]
mod tests;
