//! A request body taken apart field by field, so that each mistake names its parameter and nothing a client
//! asks for is silently ignored.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// The fields of a JSON object that were not taken yet.
#[derive(Debug)]
pub struct Fields {
    rest: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    /// Parses a body. Errors say at which line and column.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            let seen = if body.is_empty() {
                " (the body is empty)"
            } else {
                ""
            };
            ApiError::body(format!("the request body is not valid JSON: {error}{seen}")).code("invalid_json")
        })?;
        match value {
            Value::Object(rest) => Ok(Self {
                rest,
                known: Vec::new(),
            }),
            other => Err(ApiError::body(format!(
                "the request body must be a JSON object, not {}",
                kind(&other)
            ))
            .code("invalid_json")),
        }
    }

    /// Takes a field; absent and null are the same.
    pub fn optional<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<Option<T>, ApiError> {
        self.known.push(name);
        match self.rest.shift_remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_path_to_error::deserialize(value)
                .map(Some)
                .map_err(|error| {
                    let inner = error.path().to_string();
                    let path = match inner.as_str() {
                        "." => name.to_string(),
                        path if path.starts_with('[') => format!("{name}{path}"),
                        path => format!("{name}.{path}"),
                    };
                    ApiError::invalid(&path, format!("{path}: {}", error.into_inner())).code("invalid_type")
                }),
        }
    }

    /// Takes a field, or its default.
    pub fn or<T: DeserializeOwned>(&mut self, name: &'static str, default: T) -> Result<T, ApiError> {
        Ok(self.optional(name)?.unwrap_or(default))
    }

    /// Takes a field that must be there.
    pub fn required<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<T, ApiError> {
        self.optional(name)?.ok_or_else(|| {
            ApiError::invalid(name, format!("{name} is missing; the request must have it"))
                .code("missing_required_parameter")
        })
    }

    /// Takes a number between two bounds, or its default.
    pub fn within<T>(
        &mut self,
        name: &'static str,
        bounds: RangeInclusive<T>,
        default: T,
    ) -> Result<T, ApiError>
    where
        T: DeserializeOwned + PartialOrd + Display,
    {
        let value = self.or(name, default)?;
        if bounds.contains(&value) {
            Ok(value)
        } else {
            Err(ApiError::invalid(
                name,
                format!(
                    "{name} must be between {} and {}, not {value}",
                    bounds.start(),
                    bounds.end()
                ),
            )
            .code("invalid_value"))
        }
    }

    /// Refuses what is left, unless its value asks for nothing.
    pub fn finish(self) -> Result<(), ApiError> {
        for (name, value) in &self.rest {
            if !(value.is_null() || neutral(name, value)) {
                return Err(ApiError::invalid(
                    name,
                    format!(
                        "unsupported parameter {name} = {}; leave it out (this endpoint takes {})",
                        shortened(value),
                        self.known.join(", ")
                    ),
                )
                .code("unsupported_parameter"));
            }
        }
        Ok(())
    }
}

/// Whether leaving out this parameter of OpenAI's or vLLM's API gives the same answer: it is a hint about the
/// caller, or has its default value.
fn neutral(name: &str, value: &Value) -> bool {
    let number = |n: f64| value.as_f64() == Some(n);
    match name {
        "user" | "metadata" | "safety_identifier" | "prompt_cache_key" | "prompt_cache_retention" => true,
        "store" | "use_beam_search" | "continue_final_message" | "include_stop_str_in_output" | "echo" => {
            value == false
        }
        "parallel_tool_calls" => value.is_boolean(),
        "add_generation_prompt" | "skip_special_tokens" | "spaces_between_special_tokens" => value == true,
        "service_tier" => value == "auto" || value == "default",
        "tool_choice" => value == "none" || value == "auto",
        "tools" | "functions" | "stop_token_ids" | "bad_words" => value.as_array().is_some_and(Vec::is_empty),
        "response_format" => value == &serde_json::json!({"type": "text"}),
        "modalities" => value == &serde_json::json!(["text"]),
        "repetition_penalty" | "length_penalty" | "best_of" => number(1.0),
        "min_tokens" => number(0.0),
        "suffix" => value == "",
        _ => false,
    }
}

/// The kind of a JSON value, with its article.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: &Value) -> Fields {
        Fields::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn broken_json_says_where() {
        let error = Fields::parse(b"{\"model\": \"m\",\n \"n\": }").unwrap_err();
        assert!(error.message.contains("line 2 column 7"), "{error}");
        assert!(
            Fields::parse(b"")
                .unwrap_err()
                .message
                .contains("the body is empty")
        );
        assert!(
            Fields::parse(b"[1]")
                .unwrap_err()
                .message
                .contains("must be a JSON object, not an array")
        );
    }

    #[test]
    fn a_wrong_type_names_the_path() {
        let mut body = fields(&json!({"stop": ["a", 3], "n": "x"}));
        let error = body.optional::<Vec<String>>("stop").unwrap_err();
        assert_eq!(error.param.as_deref(), Some("stop[1]"));
        let error = body.or("n", 1u32).unwrap_err();
        assert_eq!(error.message, "n: invalid type: string \"x\", expected u32");
    }

    #[test]
    fn bounds_and_missing_fields_are_named() {
        let mut body = fields(&json!({"temperature": 3}));
        let error = body.within("temperature", 0.0..=2.0, 1.0f32).unwrap_err();
        assert_eq!(error.message, "temperature must be between 0 and 2, not 3");
        let error = body.required::<String>("model").unwrap_err();
        assert_eq!(error.code, Some("missing_required_parameter"));
    }

    #[test]
    fn only_what_asks_for_nothing_may_be_left_over() {
        let harmless = json!({"user": "u", "tools": null, "store": false, "best_of": 1, "suffix": "",
            "response_format": {"type": "text"}, "service_tier": "auto"});
        assert_eq!(fields(&harmless).finish(), Ok(()));
        for (name, value) in [
            ("tools", json!([{"type": "function"}])),
            ("best_of", json!(2)),
            ("response_format", json!({"type": "json_object"})),
            ("temprature", json!(0.5)),
        ] {
            let mut body = fields(&json!({"model": "m", name: value}));
            let _: String = body.required("model").unwrap();
            let error = body.finish().unwrap_err();
            assert_eq!(error.param.as_deref(), Some(name));
            assert!(error.message.contains("this endpoint takes model"), "{error}");
        }
    }
}
