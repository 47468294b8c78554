//! The examples of an evaluation, read once for every model that is measured.

use slipway_contract::{Benchmark, EvalConfig, EvalTask, Failure, Task};
use slipway_hub::source::LocalDataset;

use super::benchmark::{self, ChoiceQuestion, Questions};
use super::collection::{self, Collection};
use super::numbers;
use crate::data::{DataError, Example, LabelSet, LabelValue, Layout, Reading, Rejected, read};

/// What is asked, and what is right where there is such a thing.
#[derive(Debug)]
pub(super) struct Examples {
    /// The split's name.
    pub split: String,
    /// In the order of the dataset.
    pub items: Items,
    /// Class names that the dataset declares.
    pub declared: Option<LabelSet>,
    /// Malformed rows left out.
    pub skipped: u64,
}

/// What is asked, by the kind of task.
#[derive(Debug)]
pub(super) enum Items {
    /// Texts with classes, and language.
    Examples(Vec<Example>),
    /// Questions with choices.
    Choices {
        /// Stands between question and choice.
        delimiter: String,
        /// The questions.
        questions: Vec<ChoiceQuestion>,
    },
    /// Texts with numbers.
    Numbers(Vec<(String, f64)>),
    /// Queries over a corpus.
    Collection(Collection),
}

impl Examples {
    /// Reads the split that `config` names, `test` unless it or the benchmark says otherwise.
    pub fn read(
        config: &EvalConfig,
        asked: Option<&Benchmark>,
        dataset: &LocalDataset,
    ) -> Result<Self, Failure> {
        let layout = Layout::open(&dataset.path)?;
        let named = config.dataset.split.as_deref();
        let usual = asked.and_then(|benchmark| benchmark.split.as_deref());
        let split = layout.split(named.or(usual).unwrap_or("test"))?;
        let (items, reading) = match (config.task, asked) {
            (_, Some(asked)) => match benchmark::read(asked, &layout, &split, &config.dataset)? {
                (Questions::Chosen { delimiter, questions }, reading) => {
                    (Items::Choices { delimiter, questions }, reading)
                }
                (Questions::Free(examples), reading) => (Items::Examples(examples), reading),
            },
            (EvalTask::Regression, None) => {
                let (numbers, reading) = numbers::read(&split, &config.dataset)?;
                (Items::Numbers(numbers), reading)
            }
            (EvalTask::SequenceClassification, None) => {
                examples(config, &layout, &split, Task::SequenceClassification)?
            }
            (EvalTask::Retrieval, None) => {
                let (collection, reading) = collection::read(&layout, &split, &config.dataset)?;
                (Items::Collection(collection), reading)
            }
            (EvalTask::CausalLM | EvalTask::MultipleChoice, None) => {
                examples(config, &layout, &split, Task::CausalLM)?
            }
        };
        let found = Self {
            split: split.name,
            items,
            declared: reading.declared,
            skipped: reading.skipped,
        };
        if found.len() == 0 {
            return Err(DataError::Empty {
                split: found.split,
                detail: String::new(),
            }
            .into());
        }
        Ok(found)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.items {
            Items::Examples(items) => items.len(),
            Items::Choices { questions, .. } => questions.len(),
            Items::Numbers(numbers) => numbers.len(),
            Items::Collection(collection) => collection.queries.len(),
        }
    }

    /// Texts with classes, and language; none for other tasks.
    pub fn rows(&self) -> &[Example] {
        match &self.items {
            Items::Examples(items) => items,
            Items::Choices { .. } | Items::Numbers(_) | Items::Collection(_) => &[],
        }
    }

    /// Texts and labels of a classification dataset.
    pub fn labelled(&self) -> (Vec<&str>, Vec<LabelValue>) {
        self.rows()
            .iter()
            .filter_map(|item| match item {
                Example::Labelled { text, label } => Some((text.as_str(), label.clone())),
                Example::Conversation(_) | Example::Completion { .. } | Example::Text(_) => None,
            })
            .unzip()
    }

    /// The text of an example, for people who look at single predictions.
    pub fn shown(&self, index: usize) -> Option<&str> {
        match &self.items {
            Items::Examples(items) => match &items[index] {
                Example::Labelled { text, .. } | Example::Text(text) => Some(text),
                Example::Completion { prompt, .. } => Some(prompt),
                Example::Conversation(_) => None,
            },
            Items::Choices { questions, .. } => Some(&questions[index].context),
            Items::Numbers(numbers) => Some(&numbers[index].0),
            Items::Collection(collection) => Some(&collection.queries[index]),
        }
    }
}

fn examples(
    config: &EvalConfig,
    layout: &Layout,
    split: &crate::data::Split,
    task: Task,
) -> Result<(Items, Reading), Failure> {
    let mut items = Vec::new();
    let reading = read(layout, split, &config.dataset, task, &mut |example| -> Result<
        (),
        Rejected,
    > {
        items.push(example);
        Ok(())
    })?;
    Ok((Items::Examples(items), reading))
}
