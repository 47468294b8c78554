//! Questions out of rows, as a benchmark says.

mod python;
mod shots;
mod template;

use serde_json::Value;
use slipway_contract::{Benchmark, Choices, Dataset, Failure, FailureReason, Target};

use self::shots::Shots;
use self::template::Templates;
use crate::data::{Example, Layout, Reading, Rejected, Row, Split, read_rows};

/// A question with answers to choose from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ChoiceQuestion {
    /// Everything before the answer, without the delimiter.
    pub context: String,
    /// The answers.
    pub choices: Vec<String>,
    /// The right one.
    pub right: usize,
}

/// The questions of a benchmark.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Questions {
    /// Answers are chosen.
    Chosen {
        /// Stands between context and answer.
        delimiter: String,
        /// In the order of the dataset.
        questions: Vec<ChoiceQuestion>,
    },
    /// Answers are free: prompt and reference.
    Free(Vec<Example>),
}

/// A row as a benchmark reads it.
#[derive(Clone, Debug, PartialEq)]
struct Turn {
    prompt: String,
    choices: Vec<String>,
    right: usize,
    /// What the right answer says.
    answer: String,
}

/// A benchmark whose templates parse.
#[derive(Debug)]
struct Reader<'a> {
    benchmark: &'a Benchmark,
    templates: Templates,
}

/// Reads the questions of `split`.
pub(super) fn read(
    benchmark: &Benchmark,
    layout: &Layout,
    split: &Split,
    dataset: &Dataset,
) -> Result<(Questions, Reading), Failure> {
    let reader = Reader::new(benchmark)?;
    let mut shots = match &benchmark.few_shot {
        Some(shots) => Some(Shots::read(shots, &reader, layout, split, dataset)?),
        None => None,
    };
    let mut turns = Vec::new();
    let reading = every_column(split, dataset, |row| {
        let turn = reader.turn(&row)?;
        let shown = shots.as_mut().map(|shots| shots.before(&row)).transpose()?;
        let context = [
            &benchmark.description,
            shown.as_deref().unwrap_or_default(),
            &turn.prompt,
        ]
        .concat();
        turns.push((context, turn));
        Ok(())
    })?;
    let questions = if benchmark.choices.is_some() {
        Questions::Chosen {
            delimiter: benchmark.target_delimiter.clone(),
            questions: turns
                .into_iter()
                .map(|(context, turn)| ChoiceQuestion {
                    context,
                    choices: turn.choices,
                    right: turn.right,
                })
                .collect(),
        }
    } else {
        let free = turns.into_iter().map(|(prompt, turn)| Example::Completion {
            prompt,
            completion: turn.answer,
        });
        Questions::Free(free.collect())
    };
    Ok((questions, reading))
}

fn every_column(
    split: &Split,
    dataset: &Dataset,
    mut visit: impl FnMut(Row) -> Result<(), String>,
) -> Result<Reading, Failure> {
    read_rows(
        split,
        dataset,
        |_, _, available| Ok(((), available.to_vec())),
        |(), row| visit(row).map_err(Rejected::Row),
    )
}

impl<'a> Reader<'a> {
    fn new(benchmark: &'a Benchmark) -> Result<Self, Failure> {
        let templates = Templates::new();
        let mut checks = vec![("prompt", &benchmark.prompt)];
        if let Some(Choices::Template(template)) = &benchmark.choices {
            checks.push(("choices", template));
        }
        if let Target::Template(template) = &benchmark.target {
            checks.push(("target", template));
        }
        for (field, template) in checks {
            templates.check(field, template).map_err(|message| {
                Failure::new(
                    FailureReason::InvalidConfig,
                    format!("benchmark {}: {message}; correct it", benchmark.name),
                )
            })?;
        }
        Ok(Self { benchmark, templates })
    }

    fn turn(&self, row: &Row) -> Result<Turn, String> {
        let prompt = self.templates.text("prompt", &self.benchmark.prompt, row)?;
        let Some(choices) = &self.benchmark.choices else {
            let Target::Template(target) = &self.benchmark.target else {
                return Err("target is a number, but there are no choices".into());
            };
            return Ok(Turn {
                prompt,
                choices: Vec::new(),
                right: 0,
                answer: self.templates.text("target", target, row)?,
            });
        };
        let choices = match choices {
            Choices::Fixed(choices) => choices.clone(),
            Choices::Template(template) => self.templates.list("choices", template, row)?,
        };
        if choices.len() < 2 {
            return Err(format!("it has {} choices; give two or more", choices.len()));
        }
        if choices.iter().any(String::is_empty) {
            return Err("one of its choices is empty".into());
        }
        let right = self.right(&choices, row)?;
        Ok(Turn {
            prompt,
            answer: choices[right].clone(),
            choices,
            right,
        })
    }

    /// The right choice. A column's text is a choice's text before it is a number; a template's is a number first.
    fn right(&self, choices: &[String], row: &Row) -> Result<usize, String> {
        let template = match &self.benchmark.target {
            Target::Index(index) => return within(*index, choices.len()),
            Target::Template(template) => template,
        };
        let by_text = |text: &str| choices.iter().position(|choice| choice == text);
        let by_number = |text: &str| text.parse::<usize>().ok();
        let found = match row.get(template) {
            Some(Value::Number(number)) => number.as_u64().map(|index| index as usize),
            Some(Value::Bool(flag)) => Some(usize::from(*flag)),
            Some(Value::String(text)) => by_text(text).or_else(|| by_number(text)),
            Some(_) => None,
            None => {
                let text = self.templates.text("target", template, row)?;
                by_number(&text).or_else(|| by_text(&text))
            }
        };
        let index = found.ok_or("its target is neither a choice's number nor a choice's text")?;
        within(index, choices.len())
    }
}

fn within(index: usize, choices: usize) -> Result<usize, String> {
    if index < choices {
        return Ok(index);
    }
    Err(format!(
        "its target is choice {index}, counted from 0, and there are {choices}"
    ))
}

#[cfg(test)]
mod tests;
