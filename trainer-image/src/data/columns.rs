//! Which column means what: the names told, else the usual ones.

use std::path::Path;

use slipway_contract::{Columns, Task};

use super::DataError;

/// Columns by their meaning; which variant tells the shape of the examples.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Roles {
    /// A text and its class.
    Labelled {
        /// Column of the text.
        text: String,
        /// Column of the class.
        label: String,
    },
    /// A list of `{role, content}`.
    Messages(String),
    /// An instruction, perhaps more input, and the answer.
    Completion {
        /// Column of the instruction.
        prompt: String,
        /// Column of further input.
        input: Option<String>,
        /// Column of the answer.
        completion: String,
    },
    /// Plain text.
    Text(String),
}

impl Roles {
    /// The columns to decode.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Labelled { text, label } => vec![text, label],
            Self::Messages(column) | Self::Text(column) => vec![column],
            Self::Completion {
                prompt,
                input,
                completion,
            } => {
                let mut names: Vec<&str> = vec![prompt, completion];
                names.extend(input.as_deref());
                names
            }
        }
    }
}

const TEXT: &[&str] = &[
    "text", "sentence", "tweet", "content", "review", "comment", "headline", "body", "document",
];
const LABEL: &[&str] = &[
    "label",
    "labels",
    "sentiment",
    "class",
    "category",
    "target",
    "label_text",
];
const MESSAGES: &[&str] = &["messages", "conversations", "conversation", "chat"];
const PROMPT: &[&str] = &["prompt", "instruction", "question", "query"];
const INPUT: &[&str] = &["input", "context"];
const COMPLETION: &[&str] = &["completion", "response", "output", "answer"];

/// Finds the columns of `file` (whose columns are `available`) that `task` needs.
pub fn resolve(told: &Columns, task: Task, file: &Path, available: &[String]) -> Result<Roles, DataError> {
    let find = |name: &Option<String>, role: &'static str, usual: &[&str]| match name {
        Some(column) if available.contains(column) => Ok(Some(column.clone())),
        Some(column) => Err(DataError::NoColumn {
            column: column.clone(),
            role,
            file: file.to_owned(),
            available: available.to_vec(),
        }),
        None => Ok(usual
            .iter()
            .find_map(|usual| available.iter().find(|column| column.eq_ignore_ascii_case(usual)))
            .cloned()),
    };
    let missing = |wanted, role| DataError::NoGuess {
        wanted,
        role,
        file: file.to_owned(),
        available: available.to_vec(),
    };
    if task == Task::SequenceClassification {
        let text = find(&told.text, "text", TEXT)?.ok_or_else(|| missing("a text", "text"))?;
        let label = find(&told.label, "label", LABEL)?.ok_or_else(|| missing("a label", "label"))?;
        return Ok(Roles::Labelled { text, label });
    }
    // A column that was named decides the shape; guesses go from the richest shape to the plainest.
    let named_completion = told.prompt.is_some() || told.completion.is_some();
    if (told.messages.is_some() || (told.text.is_none() && !named_completion))
        && let Some(column) = find(&told.messages, "messages", MESSAGES)?
    {
        return Ok(Roles::Messages(column));
    }
    if told.text.is_none() || named_completion {
        let prompt = find(&told.prompt, "prompt", PROMPT)?;
        let completion = find(&told.completion, "completion", COMPLETION)?;
        match (prompt, completion) {
            (Some(prompt), Some(completion)) => {
                let input = find(&told.input, "input", INPUT)?.filter(|column| *column != prompt);
                return Ok(Roles::Completion {
                    prompt,
                    input,
                    completion,
                });
            }
            (None, Some(_)) if named_completion => return Err(missing("a prompt", "prompt")),
            (Some(_), None) if named_completion => return Err(missing("a completion", "completion")),
            _ => {}
        }
    }
    let text = find(&told.text, "text", TEXT)?;
    text.map(Roles::Text)
        .ok_or_else(|| missing("messages, a prompt with its completion, or a text", "text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(told: &Columns, task: Task, available: &[&str]) -> Result<Roles, DataError> {
        let available: Vec<String> = available.iter().map(|&name| name.to_owned()).collect();
        resolve(told, task, Path::new("train.csv"), &available)
    }

    #[test]
    fn usual_names_are_guessed_from_the_richest_shape_on() {
        let none = Columns::default();
        let lm = |available: &[&str]| roles(&none, Task::CausalLM, available).unwrap();
        assert_eq!(lm(&["text", "messages"]), Roles::Messages("messages".into()));
        assert_eq!(
            lm(&["instruction", "input", "output", "text"]),
            Roles::Completion {
                prompt: "instruction".into(),
                input: Some("input".into()),
                completion: "output".into()
            }
        );
        assert_eq!(lm(&["id", "Content"]), Roles::Text("Content".into()));
        assert_eq!(
            roles(&none, Task::SequenceClassification, &["tweet", "Sentiment"]).unwrap(),
            Roles::Labelled {
                text: "tweet".into(),
                label: "Sentiment".into()
            }
        );
    }

    #[test]
    fn a_named_column_decides_the_shape() {
        let told = Columns {
            text: Some("output".into()),
            ..Columns::default()
        };
        let found = roles(&told, Task::CausalLM, &["messages", "instruction", "output"]).unwrap();
        assert_eq!(found, Roles::Text("output".into()));
    }

    #[test]
    fn a_missing_column_is_named_with_those_there() {
        let told = Columns {
            label: Some("mood".into()),
            ..Columns::default()
        };
        let error = roles(&told, Task::SequenceClassification, &["text", "label"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "column `mood` is not in train.csv, which has `text`, `label`; set dataset.columns.label to one of these"
        );
        let error = roles(&Columns::default(), Task::CausalLM, &["a", "b"]).unwrap_err();
        assert!(error.to_string().contains("it has `a`, `b`"), "{error}");
    }
}
