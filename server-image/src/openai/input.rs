//! Text or token ids, one or many, as `prompt` and `input` take them.

use serde_json::Value;

use super::fields::kind;
use crate::error::ApiError;

/// One prompt or input.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// To be tokenized.
    Text(String),
    /// Tokenized by the client.
    Tokens(Vec<u32>),
}

impl Input {
    /// Reads a string, an array of strings, an array of token ids, or an array of those.
    pub fn parse(param: &str, value: Value) -> Result<Vec<Self>, ApiError> {
        let wrong = |seen: &Value| {
            ApiError::invalid(
                param,
                format!("{param} must be a string, an array of strings, an array of token ids or an array of such arrays, not {}", kind(seen)),
            )
            .code("invalid_type")
        };
        let inputs: Vec<Self> = match value {
            Value::String(text) => vec![Self::Text(text)],
            Value::Array(items) if items.first().is_some_and(Value::is_number) => {
                vec![Self::Tokens(ids(param, &items)?)]
            }
            Value::Array(items) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => Ok(Self::Text(text)),
                    Value::Array(tokens) => ids(param, &tokens).map(Self::Tokens),
                    other => Err(wrong(&other)),
                })
                .collect::<Result<_, _>>()?,
            other => return Err(wrong(&other)),
        };
        if inputs.is_empty() {
            return Err(ApiError::invalid(
                param,
                format!("{param} is empty; send at least one"),
            ));
        }
        Ok(inputs)
    }
}

fn ids(param: &str, items: &[Value]) -> Result<Vec<u32>, ApiError> {
    items
        .iter()
        .map(|item| {
            item.as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| {
                    ApiError::invalid(param, format!("{param}: {item} is no token id")).code("invalid_type")
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_four_shapes_are_read() {
        let parse = |value| Input::parse("input", value).unwrap();
        assert_eq!(parse(json!("a")), [Input::Text("a".into())]);
        assert_eq!(
            parse(json!(["a", "b"])),
            [Input::Text("a".into()), Input::Text("b".into())]
        );
        assert_eq!(parse(json!([1, 2])), [Input::Tokens(vec![1, 2])]);
        assert_eq!(
            parse(json!([[1], [2, 3]])),
            [Input::Tokens(vec![1]), Input::Tokens(vec![2, 3])]
        );
    }

    #[test]
    fn others_are_refused_by_name() {
        for (value, part) in [
            (json!(5), "not a number"),
            (json!([]), "prompt is empty"),
            (json!([1, "a"]), "\"a\" is no token id"),
            (json!([[1, -2]]), "-2 is no token id"),
            (json!(["a", {}]), "not an object"),
        ] {
            let error = Input::parse("prompt", value).unwrap_err();
            assert!(error.message.contains(part), "{error}");
            assert_eq!(error.param.as_deref(), Some("prompt"));
        }
    }
}
