//! An experiment's winner as a model card tells it, for people, and as a file beside it, for programs. Pure: no
//! client, no clock, so that telling it twice changes nothing the second time.

use std::fmt::Write;

use serde_json::{Value, json};
use slipway_contract::experiment::{ArmOutcome, Outcome};

use super::{super::desired::object_name, kept::Concluded};
use crate::crd::{Experiment, ModelDeployment, ResolvedSource, ScoredBy};

/// An outcome and what it is of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whose arms were compared.
    pub object: &'a ModelDeployment,
    /// What was asked.
    pub spec: &'a Experiment,
    /// The id of the experiment.
    pub id: &'a str,
    /// The answer.
    pub answer: &'a Concluded,
}

impl Facts<'_> {
    /// First line of the commit, and title of the pull request.
    pub fn summary(&self) -> String {
        format!("Record experiment {} of {}", self.id, object_name(self.object))
    }

    /// The section of the card that is ours to write: one a ModelDeployment, about its latest experiment.
    pub fn section_name(&self) -> String {
        format!("experiment {}/{}", self.namespace(), object_name(self.object))
    }

    /// Where the figures are kept: one file an experiment.
    pub fn path(&self) -> String {
        let name = object_name(self.object);
        format!("experiments/{}.{name}.{}.yaml", self.namespace(), self.id)
    }

    fn namespace(&self) -> &str {
        self.object.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// What a person reads.
    pub fn section(&self) -> String {
        let outcome = &self.answer.outcome;
        let mut text = format!("## A/B test of {}\n\n", object_name(self.object));
        let winner = outcome.winner.as_deref().unwrap_or_default();
        let others: Vec<&str> = (outcome.arms.iter())
            .map(|arm| arm.name.as_str())
            .filter(|name| *name != winner)
            .collect();
        let _ = writeln!(
            text,
            "**{winner} is better than {}.** They shared the same traffic for {}, until {:.0}, and each was scored by \
             {}.\n",
            listed(&others),
            spoken(outcome.duration_seconds),
            self.answer.at,
            self.scored(),
        );
        text += "| arm | model | requests | scores | users | mean score |\n|---|---|---:|---:|---:|---:|\n";
        for arm in &outcome.arms {
            let _ = writeln!(text, "{}", self.row(arm));
        }
        let percent = (outcome.confidence * 1e4).round() / 1e2;
        let _ = writeln!(
            text,
            "\n| difference of mean scores | | {percent}% interval |\n|---|---:|---|"
        );
        for difference in &outcome.differences {
            let interval = difference.confidence_interval.map_or_else(
                || "too few scores".to_owned(),
                |interval| format!("{:+.4} to {:+.4}", interval.low, interval.high),
            );
            let _ = writeln!(
                text,
                "| {} − {} | {:+.4} | {interval} |",
                difference.arm, difference.than, difference.difference
            );
        }
        let _ = write!(
            text,
            "\nThe intervals hold together and at all moments, so that the test could be looked at while it ran. The \
             users of the arms are those that the split promised (p = {:.2}). The figures as data: [{}]({}).\n",
            outcome.sample_ratio.p_value,
            self.path(),
            self.path()
        );
        text
    }

    fn row(&self, arm: &ArmOutcome) -> String {
        let mean = arm
            .mean
            .map_or_else(|| "none".to_owned(), |mean| format!("{mean:.4}"));
        format!(
            "| {} | {} | {} | {} | {} | {mean} |",
            arm.name,
            self.answer
                .models
                .get(&arm.name)
                .map_or_else(|| "unknown".into(), told),
            arm.requests,
            arm.scores,
            arm.users
        )
    }

    fn scored(&self) -> String {
        let within = (self.spec.within).map_or_else(String::new, |within| within.to_string());
        match self.spec.metric {
            ScoredBy::FeedbackScore => "what clients posted about its answers, from 0 to 1".into(),
            ScoredBy::Success => "the share of its answers that came whole and without an error".into(),
            ScoredBy::Latency => format!("the share of its answers that came whole within {within}"),
            ScoredBy::TimeToFirstToken => format!("the share of its answers that began within {within}"),
        }
    }

    /// What a program reads.
    pub fn data(&self) -> String {
        let Outcome {
            winner,
            arms,
            differences,
            confidence,
            sample_ratio,
            duration_seconds,
            ..
        } = &self.answer.outcome;
        let mut metric = json!({ "name": self.spec.metric.as_str() });
        if let Some(within) = self.spec.within {
            metric["within"] = json!(within);
        }
        let arms: Vec<Value> = arms
            .iter()
            .map(|arm| {
                let mut arm_value = json!(arm);
                if let Some(model) = self.answer.models.get(&arm.name) {
                    arm_value["model"] = json!(model);
                }
                arm_value
            })
            .collect();
        let data = json!({
            "experiment": self.id,
            "modelDeployment": { "namespace": self.namespace(), "name": object_name(self.object) },
            "metric": metric,
            "minRequests": self.spec.min_requests,
            "confidence": confidence,
            "decidedAt": format!("{:.0}", self.answer.at),
            "durationSeconds": duration_seconds,
            "winner": winner,
            "arms": arms,
            "differences": differences,
            "sampleRatio": sample_ratio,
        });
        serde_saphyr::to_string(&data).expect("figures are plain data")
    }
}

fn told(model: &ResolvedSource) -> String {
    match (&model.repo, &model.commit, &model.claim) {
        (Some(repo), Some(commit), _) => format!("{repo} at `{}`", commit.get(..12).unwrap_or(commit)),
        (Some(repo), None, _) => repo.clone(),
        (None, _, Some(claim)) => format!("claim {claim}"),
        (None, _, None) => "unknown".into(),
    }
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [some @ .., last] => format!("{} and {last}", some.join(", ")),
    }
}

/// "3 days", "5 hours", "12 minutes": the largest unit of which there are two.
fn spoken(seconds: u64) -> String {
    let units = [(86_400, "days"), (3600, "hours"), (60, "minutes")];
    let (length, unit) = (units.into_iter())
        .find(|(length, _)| seconds >= 2 * length)
        .unwrap_or((1, "seconds"));
    format!("{} {unit}", seconds / length)
}
