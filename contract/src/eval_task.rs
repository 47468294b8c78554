//! What an evaluation asks of a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::MetricName;

/// What an evaluation asks of a model.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum EvalTask {
    /// How likely the model holds each reference, or what it answers to each prompt.
    #[default]
    CausalLM,
    /// Which class each text has.
    SequenceClassification,
    /// Which number each text has, by a classification head with one output.
    Regression,
    /// Which of some answers the model holds likeliest. Needs `benchmark`.
    MultipleChoice,
    /// Which documents of a corpus are nearest to each query, by the cosine of their embeddings.
    Retrieval,
}

impl EvalTask {
    /// Every task.
    pub const ALL: [Self; 5] = [
        Self::CausalLM,
        Self::SequenceClassification,
        Self::Regression,
        Self::MultipleChoice,
        Self::Retrieval,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CausalLM => "CausalLM",
            Self::SequenceClassification => "SequenceClassification",
            Self::Regression => "Regression",
            Self::MultipleChoice => "MultipleChoice",
            Self::Retrieval => "Retrieval",
        }
    }

    /// The metrics that can be computed for it.
    pub fn metrics(self) -> impl Iterator<Item = MetricName> {
        MetricName::ALL.into_iter().filter(move |name| name.fits(self))
    }

    /// The task's identifier in model cards.
    pub fn card_type(self) -> &'static str {
        match self {
            Self::CausalLM => "text-generation",
            Self::SequenceClassification | Self::Regression => "text-classification",
            Self::MultipleChoice => "multiple-choice",
            Self::Retrieval => "text-retrieval",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_on_the_wire_and_each_task_has_metrics() {
        for task in EvalTask::ALL {
            assert_eq!(serde_json::to_value(task).unwrap(), task.as_str());
            assert!(task.metrics().count() > 1, "{task:?}");
        }
    }
}
