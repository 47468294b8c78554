//! What an EvalRun may ask of each task: benchmarks, metrics that fit. Pure: no client.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use slipway_contract::{EvalTask, MetricName, PredictionsHub, Shipped};

use super::{
    common::{KeyRef, relative},
    schema::{OBJECT_NAME, rules},
};

/// Which benchmark: exactly one.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = slipway_contract::union)]
pub enum BenchmarkRef {
    /// One that is shipped, by its name in lm-evaluation-harness. The dataset has the columns of the original.
    Name(Shipped),
    /// A key of a ConfigMap, with the YAML of a benchmark.
    ConfigMap(KeyRef),
}

/// Where each example's prediction is kept, as Parquet: exactly one.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = slipway_contract::union)]
pub enum PredictionsRef {
    /// A file on a PersistentVolumeClaim of the same namespace, which is mounted to be written to.
    Claim(PredictionsClaim),
    /// A dataset repository, made where there is none, with a card that has a configuration for each run.
    Hub(PredictionsHub),
}

/// A file on a PersistentVolumeClaim.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PredictionsClaim {
    /// The claim's name.
    #[schemars(regex(pattern = OBJECT_NAME), length(max = 253))]
    pub name: String,
    /// Path of the file inside the volume, relative, without `..`, ending in `.parquet`. Default: the EvalRun's name with that
    /// ending.
    #[serde(default)]
    #[schemars(length(max = 1024), transform = relative)]
    pub path: String,
}

/// Adds the rules, one sentence for each task.
pub(super) fn add(schema: &mut Schema) {
    for task in EvalTask::ALL {
        let names: Vec<&str> = task.metrics().map(MetricName::as_str).collect();
        let rule = format!(
            "self.task != '{}' || self.metrics.all(m, m.name in ['{}'])",
            task.as_str(),
            names.join("', '")
        );
        let message = format!(
            "choose metrics that fit the task: {} has {}",
            task.as_str(),
            names.join(", ")
        );
        rules(schema, &[(&rule, &message)]);
    }
    rules(
        schema,
        &[
            (
                "self.metrics.size() > 0 || has(self.benchmark)",
                "list one metric or more under metrics, or set a benchmark that does",
            ),
            (
                "self.task != 'MultipleChoice' || has(self.benchmark)",
                "set benchmark: MultipleChoice needs one, which says what the question and the choices are",
            ),
            (
                "!has(self.benchmark) || self.task in ['MultipleChoice', 'CausalLM']",
                "remove benchmark: only MultipleChoice and CausalLM ask questions by a template",
            ),
            (
                "!has(self.fewShot) || has(self.benchmark)",
                "set benchmark, or remove fewShot: worked examples are questions of a benchmark with their answers",
            ),
            (
                "!has(self.benchmark) || !has(self.benchmark.name) || self.task == 'MultipleChoice'",
                "set task to MultipleChoice: the benchmarks that are shipped have choices",
            ),
            (
                "!has(self.predictions) || !has(self.predictions.hub) || has(self.hub.tokenSecretRef)",
                "set hub.tokenSecretRef to a Secret with a token that may write: predictions are written to the Hub",
            ),
            (
                "!has(self.predictions) || !has(self.predictions.claim) || !has(self.predictions.claim.path) || \
                 self.predictions.claim.path == '' || self.predictions.claim.path.endsWith('.parquet')",
                "end predictions.claim.path in .parquet: it is the path of a file",
            ),
            (
                "!has(self.target) || !has(self.target.deployment) || self.task in ['SequenceClassification', \
                 'CausalLM', 'MultipleChoice']",
                "set target.model: only SequenceClassification, CausalLM and MultipleChoice are measured over HTTP",
            ),
        ],
    );
}
