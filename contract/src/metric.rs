//! Metrics by name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EvalTask;

/// A metric to compute.
#[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricSpec {
    /// Which one.
    pub name: MetricName,
    /// How classes are averaged, for precision, recall and f1. Default `macro`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<Average>,
}

/// Metrics, each equal to its reference implementation: of classes to scikit-learn, of numbers to scikit-learn and scipy, of
/// choices to lm-evaluation-harness, of rankings to sentence-transformers, of answers to sacrebleu, rouge_score, nltk and
/// the scripts of Hugging Face's evaluate.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum MetricName {
    /// Share of examples answered right.
    Accuracy,
    /// True positives among predicted positives.
    Precision,
    /// True positives among actual positives.
    Recall,
    /// Harmonic mean of precision and recall.
    F1,
    /// Correlation of true and predicted classes, -1 to 1.
    MatthewsCorrelation,
    /// Area under the ROC curve: of the second of two classes, else the mean of each class against the rest.
    RocAuc,
    /// exp(mean negative log-likelihood a token), less is better.
    Perplexity,
    /// Bits a byte of text by the model's likelihood, less is better.
    BitsPerByte,
    /// Share of answers equal to their reference.
    ExactMatch,
    /// F1 of words as in SQuAD 1.1, 0 to 100.
    SquadF1,
    /// BLEU without smoothing, 0 to 1.
    Bleu,
    /// BLEU as sacrebleu computes it, 0 to 100.
    Sacrebleu,
    /// F-score of character n-grams, 0 to 100.
    Chrf,
    /// Translation edit rate, edits for 100 words, less is better.
    Ter,
    /// F-measure of words, 0 to 1.
    Rouge1,
    /// F-measure of pairs of words, 0 to 1.
    Rouge2,
    /// F-measure of the longest common subsequence, 0 to 1.
    RougeL,
    /// The same, line by line.
    RougeLsum,
    /// Words, stems and synonyms in order, 0 to 1. Needs WordNet and Punkt.
    Meteor,
    /// Mean of squared errors, less is better.
    Mse,
    /// Its square root, less is better.
    Rmse,
    /// Mean of absolute errors, less is better.
    Mae,
    /// Coefficient of determination, at most 1.
    R2,
    /// Pearson's correlation, -1 to 1.
    Pearson,
    /// Spearman's correlation of ranks, -1 to 1.
    Spearman,
    /// Share of questions whose likeliest choice is right.
    Acc,
    /// The same, each choice's log-likelihood divided by its number of characters.
    AccNorm,
    /// Share of a query's relevant documents that is ranked first.
    RecallAt1,
    /// The same among the first 5.
    RecallAt5,
    /// The same among the first 10.
    RecallAt10,
    /// The same among the first 100.
    RecallAt100,
    /// Normalised discounted cumulative gain of the first 10.
    NdcgAt10,
    /// 1/rank of the first relevant document among the first 10, else 0.
    MrrAt10,
}

impl MetricName {
    /// Every metric.
    pub const ALL: [Self; 33] = [
        Self::Accuracy,
        Self::Precision,
        Self::Recall,
        Self::F1,
        Self::MatthewsCorrelation,
        Self::RocAuc,
        Self::Perplexity,
        Self::BitsPerByte,
        Self::ExactMatch,
        Self::SquadF1,
        Self::Bleu,
        Self::Sacrebleu,
        Self::Chrf,
        Self::Ter,
        Self::Rouge1,
        Self::Rouge2,
        Self::RougeL,
        Self::RougeLsum,
        Self::Meteor,
        Self::Mse,
        Self::Rmse,
        Self::Mae,
        Self::R2,
        Self::Pearson,
        Self::Spearman,
        Self::Acc,
        Self::AccNorm,
        Self::RecallAt1,
        Self::RecallAt5,
        Self::RecallAt10,
        Self::RecallAt100,
        Self::NdcgAt10,
        Self::MrrAt10,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1 => "f1",
            Self::MatthewsCorrelation => "matthewsCorrelation",
            Self::RocAuc => "rocAuc",
            Self::Perplexity => "perplexity",
            Self::BitsPerByte => "bitsPerByte",
            Self::ExactMatch => "exactMatch",
            Self::SquadF1 => "squadF1",
            Self::Bleu => "bleu",
            Self::Sacrebleu => "sacrebleu",
            Self::Chrf => "chrf",
            Self::Ter => "ter",
            Self::Rouge1 => "rouge1",
            Self::Rouge2 => "rouge2",
            Self::RougeL => "rougeL",
            Self::RougeLsum => "rougeLsum",
            Self::Meteor => "meteor",
            Self::Mse => "mse",
            Self::Rmse => "rmse",
            Self::Mae => "mae",
            Self::R2 => "r2",
            Self::Pearson => "pearson",
            Self::Spearman => "spearman",
            Self::Acc => "acc",
            Self::AccNorm => "accNorm",
            Self::RecallAt1 => "recallAt1",
            Self::RecallAt5 => "recallAt5",
            Self::RecallAt10 => "recallAt10",
            Self::RecallAt100 => "recallAt100",
            Self::NdcgAt10 => "ndcgAt10",
            Self::MrrAt10 => "mrrAt10",
        }
    }

    /// The identifier in model cards: the metric's on the Hub, where it has one.
    pub fn card_type(self) -> &'static str {
        match self {
            Self::MatthewsCorrelation => "matthews_correlation",
            Self::RocAuc => "roc_auc",
            Self::BitsPerByte => "bits_per_byte",
            Self::ExactMatch => "exact_match",
            Self::SquadF1 => "squad",
            Self::Rouge1 | Self::Rouge2 | Self::RougeL | Self::RougeLsum => "rouge",
            Self::R2 => "r_squared",
            Self::Pearson => "pearsonr",
            Self::Spearman => "spearmanr",
            Self::AccNorm => "acc_norm",
            Self::RecallAt1 => "recall_at_1",
            Self::RecallAt5 => "recall_at_5",
            Self::RecallAt10 => "recall_at_10",
            Self::RecallAt100 => "recall_at_100",
            Self::NdcgAt10 => "ndcg_at_10",
            Self::MrrAt10 => "mrr_at_10",
            other => other.as_str(),
        }
    }

    /// Whether more is better.
    pub fn more_is_better(self) -> bool {
        !matches!(
            self,
            Self::Perplexity | Self::BitsPerByte | Self::Ter | Self::Mse | Self::Rmse | Self::Mae
        )
    }

    /// What it is computed from.
    pub fn source(self) -> MetricSource {
        match self {
            Self::Accuracy
            | Self::Precision
            | Self::Recall
            | Self::F1
            | Self::MatthewsCorrelation
            | Self::RocAuc => MetricSource::Classes,
            Self::Perplexity | Self::BitsPerByte => MetricSource::Likelihoods,
            Self::ExactMatch
            | Self::SquadF1
            | Self::Bleu
            | Self::Sacrebleu
            | Self::Chrf
            | Self::Ter
            | Self::Rouge1
            | Self::Rouge2
            | Self::RougeL
            | Self::RougeLsum
            | Self::Meteor => MetricSource::Answers,
            Self::Mse | Self::Rmse | Self::Mae | Self::R2 | Self::Pearson | Self::Spearman => {
                MetricSource::Numbers
            }
            Self::Acc | Self::AccNorm => MetricSource::Choices,
            Self::RecallAt1
            | Self::RecallAt5
            | Self::RecallAt10
            | Self::RecallAt100
            | Self::NdcgAt10
            | Self::MrrAt10 => MetricSource::Rankings,
        }
    }

    /// Whether it can be computed for `task`.
    pub fn fits(self, task: EvalTask) -> bool {
        task == match self.source() {
            MetricSource::Classes => EvalTask::SequenceClassification,
            MetricSource::Likelihoods | MetricSource::Answers => EvalTask::CausalLM,
            MetricSource::Numbers => EvalTask::Regression,
            MetricSource::Choices => EvalTask::MultipleChoice,
            MetricSource::Rankings => EvalTask::Retrieval,
        }
    }

    /// Whether it is a figure of each class, of which there are averages.
    pub fn averages(self) -> bool {
        matches!(self, Self::Precision | Self::Recall | Self::F1)
    }
}

/// What a metric is computed from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricSource {
    /// The class found for each text, and how likely each class is.
    Classes,
    /// How likely each reference is.
    Likelihoods,
    /// What the model answers to each prompt.
    Answers,
    /// The number found for each text.
    Numbers,
    /// How likely each choice is.
    Choices,
    /// The order of documents for each query.
    Rankings,
}

/// How the classes' figures become one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Average {
    /// Mean over classes.
    Macro,
    /// Counts pooled over classes.
    Micro,
    /// Mean over classes weighted by their number of examples.
    Weighted,
    /// The second of two classes alone.
    Binary,
}

impl Average {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Macro => "macro",
            Self::Micro => "micro",
            Self::Weighted => "weighted",
            Self::Binary => "binary",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_on_the_wire() {
        for name in MetricName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
        }
        for average in [Average::Macro, Average::Micro, Average::Weighted, Average::Binary] {
            assert_eq!(serde_json::to_value(average).unwrap(), average.as_str());
        }
    }

    #[test]
    fn every_metric_fits_one_task() {
        for name in MetricName::ALL {
            let fitting = EvalTask::ALL.into_iter().filter(|&task| name.fits(task));
            assert_eq!(fitting.count(), 1, "{name:?}");
        }
    }
}
