//! A benchmark: how the rows of a dataset become questions to a language model, and how answers are scored.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ConfigError, MetricSpec, parse};

/// Which benchmark: exactly one.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::union)]
pub enum BenchmarkSource {
    /// One that is shipped.
    Name(Shipped),
    /// A file with one.
    Path(PathBuf),
}

/// Benchmarks that are shipped, each under its name in lm-evaluation-harness, whose scores are the same. The rows come from
/// the dataset, in the columns that the original has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shipped {
    /// Questions of a school's science tests, the easy ones (Clark et al., arXiv 1803.05457).
    ArcEasy,
    /// The same, the hard ones.
    ArcChallenge,
    /// Yes or no, by a passage (Clark et al., arXiv 1905.10044).
    Boolq,
    /// How a scene goes on (Zellers et al., arXiv 1905.07830).
    Hellaswag,
    /// Elementary science, the facts not given (Mihaylov et al., arXiv 1809.02789).
    Openbookqa,
    /// Which of two ways to do something works (Bisk et al., arXiv 1911.11641).
    Piqa,
    /// Science questions with a passage (Welbl et al., arXiv 1707.06209).
    Sciq,
}

impl Shipped {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::ArcEasy,
        Self::ArcChallenge,
        Self::Boolq,
        Self::Hellaswag,
        Self::Openbookqa,
        Self::Piqa,
        Self::Sciq,
    ];

    fn yaml(self) -> &'static str {
        match self {
            Self::ArcEasy => include_str!("../benchmarks/arc_easy.yaml"),
            Self::ArcChallenge => include_str!("../benchmarks/arc_challenge.yaml"),
            Self::Boolq => include_str!("../benchmarks/boolq.yaml"),
            Self::Hellaswag => include_str!("../benchmarks/hellaswag.yaml"),
            Self::Openbookqa => include_str!("../benchmarks/openbookqa.yaml"),
            Self::Piqa => include_str!("../benchmarks/piqa.yaml"),
            Self::Sciq => include_str!("../benchmarks/sciq.yaml"),
        }
    }

    /// The benchmark.
    pub fn benchmark(self) -> Benchmark {
        serde_saphyr::from_str(self.yaml()).expect("shipped benchmarks are well-formed, as a test sees to")
    }
}

impl BenchmarkSource {
    /// Reads it. The error names the file, the line and the cause.
    pub fn read(&self) -> Result<Benchmark, ConfigError> {
        let (benchmark, path) = match self {
            Self::Name(shipped) => return Ok(shipped.benchmark()),
            Self::Path(path) => (parse::<Benchmark>(path)?, path),
        };
        match benchmark.fault() {
            None => Ok(benchmark),
            Some(message) => Err(ConfigError::Parse {
                path: path.clone(),
                message,
            }),
        }
    }
}

/// How rows become questions. Templates are Jinja over the columns of a row; the bare name of a column stands for its value.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Benchmark {
    /// Its name.
    pub name: String,
    /// Begins every prompt, before the worked examples.
    #[serde(default)]
    pub description: String,
    /// Template of the question.
    pub prompt: String,
    /// The answers to choose from. Without them the model answers freely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Choices>,
    /// The right answer: the choice's number from 0 or its text, or a template of either; the reference of free answers.
    pub target: Target,
    /// Stands between a question and an answer.
    #[serde(default = "space")]
    pub target_delimiter: String,
    /// Worked examples before each question. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub few_shot: Option<FewShot>,
    /// A free answer ends before the first of these. Default: at the model's end of text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub until: Vec<String>,
    /// Shows free questions to the model as a user's message in its chat template, instead of as they are.
    #[serde(default)]
    pub chat_template: bool,
    /// What is computed, unless the evaluation names metrics itself.
    #[serde(default)]
    pub metrics: Vec<MetricSpec>,
    /// The split with the questions, unless the evaluation names one. Default: `test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
}

fn space() -> String {
    " ".into()
}

/// The answers to choose from.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Choices {
    /// The same for every question.
    Fixed(Vec<String>),
    /// A column, or one expression `{{ … }}`, that gives a list of texts.
    Template(String),
}

/// The right answer.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Target {
    /// The same choice for every question, from 0.
    Index(usize),
    /// A column or a template.
    Template(String),
}

/// Worked examples before each question: rows of a split that are not the question itself.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FewShot {
    /// How many.
    #[schemars(range(min = 1, max = 1000))]
    pub count: usize,
    /// The split they come from.
    #[serde(default = "train")]
    #[schemars(length(max = 256))]
    pub split: String,
    /// Which rows of it.
    #[serde(default)]
    pub sampler: Sampler,
    /// Decides what `Random` draws.
    #[serde(default = "seed")]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub seed: u64,
    /// Stands after each.
    #[serde(default = "blank_line")]
    #[schemars(length(max = 256))]
    pub delimiter: String,
}

/// Which rows are worked examples, as lm-evaluation-harness chooses them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Sampler {
    /// Drawn for each question anew: the same ones as the harness draws with its sampler `default`, the same seed and rows in
    /// the same order.
    #[default]
    Random,
    /// The first ones: its sampler `first_n`.
    FirstN,
}

fn seed() -> u64 {
    1234
}

fn train() -> String {
    "train".into()
}

fn blank_line() -> String {
    "\n\n".into()
}

impl Benchmark {
    /// What is wrong with it, whatever the data are.
    pub fn fault(&self) -> Option<String> {
        let fault = |text: &str| Some(text.to_owned());
        if self.name.trim().is_empty() {
            return fault("name is empty; give the benchmark a name");
        }
        if self.prompt.is_empty() {
            return fault(
                "prompt is empty; give the template of a question, for instance \"Question: {{question}}\\nAnswer:\"",
            );
        }
        match (&self.choices, &self.target) {
            (Some(Choices::Fixed(choices)), _) if choices.len() < 2 => {
                return fault(
                    "choices has fewer than two answers; name two or more, or leave choices out for free answers",
                );
            }
            (Some(Choices::Fixed(choices)), Target::Index(index)) if *index >= choices.len() => {
                return fault("target is beyond the last of the choices; number them from 0");
            }
            (None, Target::Index(_)) => {
                return fault(
                    "target is a number, but there are no choices; give the template of the reference, or choices",
                );
            }
            _ => {}
        }
        if self.choices.is_some() && (!self.until.is_empty() || self.chat_template) {
            return fault("until and chatTemplate are for free answers; remove them, or remove choices");
        }
        if self.few_shot.as_ref().is_some_and(|shots| shots.count == 0) {
            return fault("fewShot.count is 0; set it to at least 1, or remove fewShot");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EvalTask;

    #[test]
    fn shipped_benchmarks_are_well_formed_and_called_as_they_are_asked_for() {
        for shipped in Shipped::ALL {
            let benchmark = shipped.benchmark();
            assert_eq!(benchmark.fault(), None, "{shipped:?}");
            assert_eq!(serde_json::to_value(shipped).unwrap(), benchmark.name);
            assert!(!benchmark.metrics.is_empty());
            assert!(
                benchmark
                    .metrics
                    .iter()
                    .all(|spec| spec.name.fits(EvalTask::MultipleChoice))
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_fix() {
        for (yaml, sentence) in [
            ("{name: '', prompt: p, target: t}", "name is empty"),
            ("{name: n, prompt: '', target: t}", "prompt is empty"),
            ("{name: n, prompt: p, target: 0}", "there are no choices"),
            (
                "{name: n, prompt: p, target: 0, choices: [a]}",
                "fewer than two answers",
            ),
            (
                "{name: n, prompt: p, target: 2, choices: [a, b]}",
                "beyond the last",
            ),
            (
                "{name: n, prompt: p, target: 1, choices: [a, b], until: [x]}",
                "for free answers",
            ),
            (
                "{name: n, prompt: p, target: t, fewShot: {count: 0}}",
                "set it to at least 1",
            ),
        ] {
            let benchmark: Benchmark = serde_saphyr::from_str(yaml).unwrap();
            let fault = benchmark.fault().unwrap_or_default();
            assert!(fault.contains(sentence), "{yaml}: {fault}");
        }
        let unknown = serde_saphyr::from_str::<Benchmark>("{name: n, prompt: p, target: t, doc_to_text: q}");
        assert!(unknown.unwrap_err().to_string().contains("doc_to_text"));
    }
}
