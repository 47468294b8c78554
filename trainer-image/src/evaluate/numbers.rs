//! Texts with a number each, out of rows.

use serde_json::Value;
use slipway_contract::{Dataset, Failure, Task};

use crate::data::{Reading, Rejected, Roles, Row, Split, read_rows, resolve};

/// Reads texts and numbers of `split`; the number is in the column of labels.
pub(super) fn read(split: &Split, dataset: &Dataset) -> Result<(Vec<(String, f64)>, Reading), Failure> {
    let mut items = Vec::new();
    let reading = read_rows(
        split,
        dataset,
        |file, _, available| {
            let roles = resolve(&dataset.columns, Task::SequenceClassification, file, available)?;
            let wanted = roles.names().into_iter().map(str::to_owned).collect();
            Ok((roles, wanted))
        },
        |roles, row| {
            items.push(numbered(roles, &row).map_err(Rejected::Row)?);
            Ok(())
        },
    )?;
    Ok((items, reading))
}

fn numbered(roles: &Roles, row: &Row) -> Result<(String, f64), String> {
    let Roles::Labelled { text, label } = roles else {
        return Err("it has no text and number".into());
    };
    let content = match row.get(text) {
        Some(Value::String(content)) if !content.trim().is_empty() => content.clone(),
        _ => return Err(format!("`{text}` is empty or no text")),
    };
    let number = match row.get(label) {
        Some(Value::Number(number)) => number.as_f64(),
        // CSV has nothing but text.
        Some(Value::String(number)) => number.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|number| number.is_finite())
        .map(|number| (content, number))
        .ok_or_else(|| format!("`{label}` is no finite number"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_read_from_json_and_from_text() {
        let roles = Roles::Labelled {
            text: "text".into(),
            label: "score".into(),
        };
        let read = |score: Value| {
            let row = json!({ "text": "t", "score": score });
            numbered(&roles, row.as_object().unwrap()).map(|(_, number)| number)
        };
        assert_eq!(read(json!(0.5)), Ok(0.5));
        assert_eq!(read(json!(" -2e1 ")), Ok(-20.0));
        for bad in [json!("high"), json!(null), json!("NaN")] {
            assert_eq!(read(bad), Err("`score` is no finite number".into()));
        }
    }
}
