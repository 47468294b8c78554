//! The evaluation that a rollout's step asks for: made from a template, and read. Pure: no client.

use kube::ResourceExt;
use slipway_contract::{EvalTask, MetricName, MetricSpec, Verdict};

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
    if is_asked_over_http(template) {
        return TargetRef::Deployment {
            name: object_name(object).to_owned(),
            variant: Some(input.spec.name.clone()),
            revision: Some(rollout.revision.clone()),
        };
    }
    TargetRef::Model(source(&rollout.sources.model))
}

/// As the rules of EvalRun's `target.deployment` say.
fn is_asked_over_http(template: &EvalRunSpec) -> bool {
    let of_likelihoods =
        |metric: &MetricSpec| matches!(metric.name, MetricName::Perplexity | MetricName::BitsPerByte);
    match template.task {
        EvalTask::SequenceClassification | EvalTask::MultipleChoice => true,
        EvalTask::CausalLM => !template.metrics.iter().any(of_likelihoods),
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
mod tests {
    use serde_json::json;

    use super::*;

    fn run(name: &str, more: &serde_json::Value) -> EvalRun {
        let mut run = json!({"metadata": {"name": name}, "spec": {"task": "SequenceClassification",
            "metrics": [{"name": "accuracy"}], "dataset": {"configMap": {"name": "rows", "key": "rows.csv"}}}});
        for (key, value) in more.as_object().unwrap() {
            run["spec"][key] = value.clone();
        }
        serde_json::from_value(run).unwrap()
    }

    fn bound() -> serde_json::Value {
        json!([{"metric": "accuracy", "min": 0.7}])
    }

    #[test]
    fn a_template_that_is_no_gate_is_told_with_cause_and_fix() {
        let own = run(
            "gate",
            &json!({"thresholds": bound(), "target": {"model": {"hub": {"repo": "a/b"}}}}),
        );
        let open = run("gate", &json!({}));
        for (template, said) in [
            (
                None,
                "there is no EvalRun gate to make the evaluation from; create one",
            ),
            (
                Some(&own),
                "EvalRun gate has a target of its own; name one without",
            ),
            (
                Some(&open),
                "has no bound, so that every revision would pass; give it thresholds or a baseline",
            ),
        ] {
            match evaluation("gate", template, None) {
                Some(Evaluation::Unusable(why)) => assert!(why.contains(said), "{why}"),
                other => panic!("{other:?}"),
            }
        }
        let fine = run("gate", &json!({"thresholds": bound()}));
        assert_eq!(evaluation("gate", Some(&fine), None), None);
    }

    #[test]
    fn a_verdict_is_read_with_its_figures_whatever_became_of_the_template() {
        let ended = |status: serde_json::Value| EvalRun {
            status: Some(serde_json::from_value(status).unwrap()),
            ..run("web-main-1", &json!({"thresholds": bound()}))
        };
        let failed = json!([{"type": "Failed", "status": "True", "reason": "", "message": "", "lastTransitionTime":
            "2026-11-23T00:00:00Z"}, {"type": "Ready", "status": "False", "reason": "", "message": "the data is gone",
            "lastTransitionTime": "2026-11-23T00:00:00Z"}]);
        for (status, read) in [
            (
                json!({"verdict": "Failed", "findings": ["accuracy 0.4 misses min 0.7"], "conditions": []}),
                Evaluation::Failed("EvalRun web-main-1: accuracy 0.4 misses min 0.7".into()),
            ),
            (
                json!({"verdict": "Inconclusive", "findings": ["accuracy straddles"], "conditions": []}),
                Evaluation::Inconclusive("EvalRun web-main-1: accuracy straddles".into()),
            ),
            (
                json!({"conditions": failed}),
                Evaluation::Inconclusive(
                    "EvalRun web-main-1 did not come to its end: the data is gone".into(),
                ),
            ),
        ] {
            assert_eq!(evaluation("gone", None, Some(&ended(status))), Some(read));
        }
    }

    #[test]
    fn what_can_be_asked_over_http_is() {
        for (task, metric, over_http) in [
            ("SequenceClassification", "accuracy", true),
            ("MultipleChoice", "accNorm", true),
            ("CausalLM", "rougeL", true),
            ("CausalLM", "perplexity", false),
            ("CausalLM", "bitsPerByte", false),
            ("Regression", "mse", false),
            ("Retrieval", "mrrAt10", false),
        ] {
            let spec = json!({"task": task, "metrics": [{"name": metric}],
                "dataset": {"configMap": {"name": "rows", "key": "rows.csv"}}});
            let spec: EvalRunSpec = serde_json::from_value(spec).unwrap();
            assert_eq!(is_asked_over_http(&spec), over_http, "{task} {metric}");
        }
    }
}
