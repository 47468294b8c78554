//! Examples out of rows: what a person means by a row, before any tokenizer sees it.

use serde_json::{Value, json};
use slipway_contract::{Dataset, Failure, Task};

use super::rows::{self, Row};
use super::{LabelSet, LabelValue, Layout, Reading, Rejected, Roles, Split, columns, read_rows};

/// Messages of a conversation: objects with at least `role` and `content`, as chat templates take them.
pub type Turns = Vec<Value>;

/// One example.
#[derive(Clone, Debug, PartialEq)]
pub enum Example {
    /// A text and its class.
    Labelled {
        /// The text.
        text: String,
        /// Its class.
        label: LabelValue,
    },
    /// A conversation.
    Conversation(Turns),
    /// A prompt and its answer.
    Completion {
        /// Instruction, with further input after a blank line.
        prompt: String,
        /// The answer.
        completion: String,
    },
    /// Plain text.
    Text(String),
}

/// Reads `split`, handing each example to `visit`, at most `dataset.max_examples` of them. Malformed rows are
/// skipped as far as `dataset.max_invalid_rows` permits.
pub fn read(
    layout: &Layout,
    split: &Split,
    dataset: &Dataset,
    task: Task,
    visit: &mut dyn FnMut(Example) -> Result<(), Rejected>,
) -> Result<Reading, Failure> {
    let mut declared = None;
    let mut reading = read_rows(
        split,
        dataset,
        |file, format, available| {
            let roles = columns::resolve(&dataset.columns, task, file, available)?;
            if let (Roles::Labelled { label, .. }, None) = (&roles, &declared) {
                let names = layout
                    .class_names(label)
                    .or_else(|| rows::class_names(file, Some(format), label));
                declared = names.map(|names| LabelSet::declared(names, "the dataset's card"));
            }
            let wanted = roles.names().into_iter().map(str::to_owned).collect();
            Ok((roles, wanted))
        },
        |roles, row| visit(example(roles, row).map_err(Rejected::Row)?),
    )?;
    reading.declared = declared;
    Ok(reading)
}

fn example(roles: &Roles, mut row: Row) -> Result<Example, String> {
    match roles {
        Roles::Labelled { text, label } => Ok(Example::Labelled {
            label: LabelValue::from_json(row.get(label).unwrap_or(&Value::Null))?,
            text: filled(&mut row, text)?,
        }),
        Roles::Messages(column) => {
            turns(row.remove(column).unwrap_or_default(), column).map(Example::Conversation)
        }
        Roles::Completion {
            prompt,
            input,
            completion,
        } => {
            let mut text = filled(&mut row, prompt)?;
            let input = match input {
                Some(column) if !row.get(column).is_none_or(Value::is_null) => string(&mut row, column)?,
                _ => String::new(),
            };
            if !input.trim().is_empty() {
                text = format!("{text}\n\n{input}");
            }
            Ok(Example::Completion {
                prompt: text,
                completion: filled(&mut row, completion)?,
            })
        }
        Roles::Text(column) => filled(&mut row, column).map(Example::Text),
    }
}

fn string(row: &mut Row, column: &str) -> Result<String, String> {
    match row.remove(column) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Err(format!("no `{column}`")),
        Some(other) => Err(format!("`{column}` is {}, not text", kind(&other))),
    }
}

fn filled(row: &mut Row, column: &str) -> Result<String, String> {
    let text = string(row, column)?;
    if text.trim().is_empty() {
        return Err(format!("`{column}` is empty"));
    }
    Ok(text)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Checks a conversation. ShareGPT's `{from, value}` with `human` and `gpt` becomes `{role, content}`.
fn turns(value: Value, column: &str) -> Result<Turns, String> {
    let Value::Array(messages) = value else {
        return Err(format!("`{column}` is {}, not a list of messages", kind(&value)));
    };
    let turns = (1..)
        .zip(messages)
        .map(|(number, message)| turn(message).map_err(|bad| format!("message {number} {bad}")));
    let turns: Turns = turns.collect::<Result<_, _>>()?;
    if !turns.iter().any(|turn| turn["role"] == "assistant") {
        return Err(format!(
            "`{column}` has no message of the assistant, so there is nothing to learn"
        ));
    }
    Ok(turns)
}

fn turn(message: Value) -> Result<Value, String> {
    let Value::Object(mut fields) = message else {
        return Err(format!("is {}, not an object", kind(&message)));
    };
    // Parquet fills the fields that only some messages have with nulls, which templates would render.
    fields.retain(|_, value| !value.is_null());
    if let (Some(Value::String(from)), Some(value @ Value::String(_))) =
        (fields.get("from"), fields.get("value"))
    {
        let role = match from.as_str() {
            "human" | "user" => "user",
            "gpt" | "chatgpt" | "assistant" | "model" => "assistant",
            other => other,
        };
        return Ok(json!({ "role": role, "content": value }));
    }
    match fields.get("role") {
        Some(Value::String(_)) => {}
        _ => return Err("has no `role`".into()),
    }
    let calls = fields.contains_key("tool_calls");
    match fields.get("content") {
        Some(Value::String(_) | Value::Array(_)) => Ok(Value::Object(fields)),
        None if calls => Ok(Value::Object(fields)),
        _ => Err("has no `content`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Row {
        match value {
            Value::Object(row) => row,
            other => panic!("{other} is no row"),
        }
    }

    #[test]
    fn input_belongs_to_the_prompt_where_there_is_any() {
        let roles = Roles::Completion {
            prompt: "instruction".into(),
            input: Some("input".into()),
            completion: "output".into(),
        };
        let prompt = |input: Value| {
            let cells = json!({ "instruction": "Add", "input": input, "output": "3" });
            match example(&roles, row(cells)).unwrap() {
                Example::Completion { prompt, .. } => prompt,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(prompt(json!("1 2")), "Add\n\n1 2");
        assert_eq!(
            (prompt(json!("")), prompt(Value::Null)),
            ("Add".into(), "Add".into())
        );
        let empty = example(&roles, row(json!({ "instruction": "Add", "output": " " })));
        assert_eq!(empty, Err("`output` is empty".into()));
    }

    #[test]
    fn conversations_of_both_shapes_are_read() {
        let read = |messages: Value| turns(messages, "messages");
        let plain = read(
            json!([{ "role": "user", "content": "hi", "name": null }, { "role": "assistant", "content": "ho" }]),
        );
        let shared = read(json!([{ "from": "human", "value": "hi" }, { "from": "gpt", "value": "ho" }]));
        assert_eq!(plain, shared);
        assert_eq!(plain.unwrap()[0], json!({ "role": "user", "content": "hi" }));
        let error = |messages: Value| read(messages).unwrap_err();
        assert_eq!(error(json!("hi")), "`messages` is text, not a list of messages");
        assert_eq!(
            error(json!([{ "role": "user", "content": 3 }])),
            "message 1 has no `content`"
        );
        assert!(error(json!([{ "role": "user", "content": "hi" }])).contains("no message of the assistant"));
    }
}
