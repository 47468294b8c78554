//! The configuration of an evaluation, its results, and the verdict on them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Average, BenchmarkSource, Dataset, EvalTask, FewShot, HubAccess, MetricName, MetricSpec, ModelSource,
    Provenance,
};

/// `slipway-trainer evaluate --config FILE`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvalConfig {
    /// What is measured.
    pub target: EvalTarget,
    /// What it does.
    #[serde(default)]
    pub task: EvalTask,
    /// The examples; split `test` unless another is named.
    pub dataset: Dataset,
    /// How rows become questions. Default: the columns' usual names tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<BenchmarkSource>,
    /// Worked examples before each question, in place of the benchmark's own. Default: the benchmark's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub few_shot: Option<FewShot>,
    /// What to compute. Default: what the benchmark names.
    #[serde(default)]
    pub metrics: Vec<MetricSpec>,
    /// Bounds that decide the verdict.
    #[serde(default)]
    pub thresholds: Vec<Threshold>,
    /// A model to compare with, over the same examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Where the results are written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// Two-sided confidence level of each interval, above 0.5 and below 1.
    #[serde(default = "confidence")]
    #[schemars(range(min = 0.5, max = 0.9999))]
    pub confidence: f64,
    /// Examples per forward pass.
    #[serde(default = "batch")]
    #[schemars(range(min = 1, max = 4096))]
    pub batch_size: u32,
    /// Longer texts are cut to this many tokens. Default: what the model can attend to, at most 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_sequence_length: Option<u32>,
    /// Tokens of an answer at most, for metrics that compare answers with references.
    #[serde(default = "new_tokens")]
    #[schemars(range(min = 1, max = 65536))]
    pub max_new_tokens: u32,
    /// Folder of nltk's data with `corpora/wordnet` and `tokenizers/punkt_tab`, for METEOR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lexicon: Option<PathBuf>,
    /// File that receives each example's prediction: Parquet where its name ends in `.parquet`, else JSON lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<PathBuf>,
    /// Dataset repository that receives them. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions_hub: Option<PredictionsHub>,
    /// How to reach the Hub.
    #[serde(default)]
    pub hub: HubAccess,
    /// Address that serves `GET /progress`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Which object this run belongs to.
    #[serde(default)]
    pub provenance: Provenance,
}

pub(crate) fn confidence() -> f64 {
    0.95
}

fn batch() -> u32 {
    32
}

fn new_tokens() -> u32 {
    128
}

/// What is measured: exactly one.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
#[schemars(transform = super::union)]
pub enum EvalTarget {
    /// A model, loaded here.
    Model(ModelSource),
    /// A running server, over HTTP as a client sees it.
    Endpoint {
        /// Base URL, for instance `http://finance-sentiment.models.svc`.
        url: String,
        /// Sends `x-slipway-variant` with this name, so that one arm answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        variant: Option<String>,
        /// Sends `x-slipway-revision` with this name, so that one revision answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<String>,
    },
}

/// A bound on a metric.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{"rule": "has(self.min) || has(self.max)", "message": "a threshold needs min, max or both"}]))]
pub struct Threshold {
    /// One of the metrics computed.
    pub metric: MetricName,
    /// Which average, where the metric is computed with several. Default: the first one listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<Average>,
    /// The value must be at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The value must be at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// A model to compare with. The difference is target minus baseline over the same examples.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Baseline {
    /// The other model.
    pub model: ModelSource,
    /// The metric compared.
    pub metric: MetricName,
    /// The interval of the difference must lie at or above this. For metrics where less is better the
    /// difference is negated first, so that positive always means better than the baseline.
    #[serde(default)]
    pub min_difference: f64,
    /// Two-sided confidence level of the difference's interval.
    #[serde(default = "confidence")]
    #[schemars(range(min = 0.5, max = 0.9999))]
    pub confidence: f64,
}

/// Where results are written down.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// A model repository whose card gets `model-index` entries and `.eval_results/`.
    pub model_card: ModelCardRecord,
}

/// A model repository on the Hub.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelCardRecord {
    /// `owner/name`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"))]
    pub repo: String,
    /// Opens a pull request instead of committing to the main branch.
    #[serde(default)]
    pub pull_request: bool,
}

/// A dataset repository on the Hub for predictions, made where there is none.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PredictionsHub {
    /// `owner/name`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"))]
    pub repo: String,
    /// Whether a repository that is made here is private.
    #[serde(default = "yes")]
    pub private: bool,
}

fn yes() -> bool {
    true
}

/// A two-sided interval.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfidenceInterval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One metric, measured.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricResult {
    /// Which metric.
    pub metric: MetricName,
    /// How classes were averaged, where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<Average>,
    /// The value.
    pub value: f64,
    /// Wilson for proportions, else bootstrap over examples.
    pub confidence_interval: ConfidenceInterval,
    /// How many examples it comes from.
    pub examples: u64,
}

/// A paired comparison with the baseline.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// The metric compared.
    pub metric: MetricName,
    /// Target minus baseline (negated where less is better).
    pub difference: f64,
    /// Paired bootstrap over the same examples.
    pub confidence_interval: ConfidenceInterval,
    /// What the baseline scored.
    pub baseline_value: f64,
    /// The bound the interval is held against.
    pub min_difference: f64,
}

/// What the measurements say.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Verdict {
    /// Every bound is met by the whole interval.
    Passed,
    /// Some bound is missed by the whole interval.
    Failed,
    /// An interval reaches over a bound: more examples are needed to tell.
    Inconclusive,
}

/// Holds results against bounds, by the interval and not by the point: a bound inside an interval is
/// Inconclusive. Without bounds the verdict is Passed. The second value says, one sentence a bound, what was
/// found.
pub fn judge(
    results: &[MetricResult],
    thresholds: &[Threshold],
    comparison: Option<&Comparison>,
) -> (Verdict, Vec<String>) {
    let mut verdict = Verdict::Passed;
    let mut findings = Vec::new();
    let mut hold = |name: String, value: f64, interval: ConfidenceInterval, bound: f64, at_least: bool| {
        let (met, missed) = if at_least {
            (interval.low >= bound, interval.high < bound)
        } else {
            (interval.high <= bound, interval.low > bound)
        };
        let (outcome, word) = match (met, missed) {
            (true, _) => (Verdict::Passed, "meets"),
            (_, true) => (Verdict::Failed, "misses"),
            _ => (Verdict::Inconclusive, "straddles"),
        };
        findings.push(format!(
            "{name} {value:.4} [{:.4}, {:.4}] {word} {} {bound}",
            interval.low,
            interval.high,
            if at_least { "min" } else { "max" },
        ));
        verdict = match (verdict, outcome) {
            (Verdict::Failed, _) | (_, Verdict::Failed) => Verdict::Failed,
            (Verdict::Inconclusive, _) | (_, Verdict::Inconclusive) => Verdict::Inconclusive,
            _ => Verdict::Passed,
        };
    };
    for threshold in thresholds {
        let found = results.iter().find(|result| {
            result.metric == threshold.metric
                && (threshold.average.is_none() || result.average == threshold.average)
        });
        let Some(result) = found else { continue };
        let name = result.metric.as_str().to_owned();
        if let Some(min) = threshold.min {
            hold(name.clone(), result.value, result.confidence_interval, min, true);
        }
        if let Some(max) = threshold.max {
            hold(name, result.value, result.confidence_interval, max, false);
        }
    }
    if let Some(comparison) = comparison {
        hold(
            format!("{} difference to the baseline", comparison.metric.as_str()),
            comparison.difference,
            comparison.confidence_interval,
            comparison.min_difference,
            true,
        );
    }
    (verdict, findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accuracy(value: f64, low: f64, high: f64) -> MetricResult {
        MetricResult {
            metric: MetricName::Accuracy,
            average: None,
            value,
            confidence_interval: ConfidenceInterval { low, high },
            examples: 100,
        }
    }

    fn at_least(min: f64) -> Threshold {
        Threshold {
            metric: MetricName::Accuracy,
            average: None,
            min: Some(min),
            max: None,
        }
    }

    #[test]
    fn the_interval_decides_and_not_the_point() {
        let results = [accuracy(0.75, 0.70, 0.80)];
        assert_eq!(judge(&results, &[at_least(0.70)], None).0, Verdict::Passed);
        assert_eq!(judge(&results, &[at_least(0.74)], None).0, Verdict::Inconclusive);
        assert_eq!(judge(&results, &[at_least(0.81)], None).0, Verdict::Failed);
    }

    #[test]
    fn one_failure_outweighs_everything_else() {
        let results = [accuracy(0.75, 0.70, 0.80)];
        let (verdict, findings) = judge(&results, &[at_least(0.81), at_least(0.74), at_least(0.1)], None);
        assert_eq!(verdict, Verdict::Failed);
        assert_eq!(findings.len(), 3);
        assert!(findings[0].contains("misses min 0.81"), "{findings:?}");
    }

    #[test]
    fn a_difference_that_reaches_below_its_bound_is_inconclusive() {
        let comparison = Comparison {
            metric: MetricName::Accuracy,
            difference: 0.02,
            confidence_interval: ConfidenceInterval {
                low: -0.01,
                high: 0.05,
            },
            baseline_value: 0.7,
            min_difference: 0.0,
        };
        assert_eq!(judge(&[], &[], Some(&comparison)).0, Verdict::Inconclusive);
    }
}
