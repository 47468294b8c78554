//! The sandbox that chat templates run in: the dialect of `transformers.utils.chat_template_utils`.

use std::fmt::Write;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use serde_json::Value as Json;

use super::{Clock, NAME};

/// What a template may use up: 1 a step, and 1 for each 64 bytes it makes, so that it can neither run nor grow without
/// end. The longest real ones use some hundred a message.
const FUEL: u64 = 2_000_000;

pub(super) const TOO_MUCH: &str = "it takes more than 2,000,000 steps or makes more than 128 MB of text";

/// Marks an error as the template's own `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// The words of `raise_exception`, when that is what `error` is.
pub(super) fn refusal(error: &Error) -> Option<String> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<Refusal>().map(|refusal| refusal.0.clone())
}

/// An environment with `source` compiled under [`NAME`].
pub(super) fn new(source: &str, clock: Clock) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    // Python prints these with capitals.
    environment.set_formatter(|output, state, value| match value.kind() {
        ValueKind::None => output.write_str("None").map_err(Error::from),
        ValueKind::Bool => {
            let text = if value.is_true() { "True" } else { "False" };
            output.write_str(text).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(output, state, value),
    });
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Refusal(message)))
    });
    environment.add_function("strftime_now", move |format: String| -> Result<String, Error> {
        jiff::fmt::strtime::format(&format, clock()).map_err(|error| {
            Error::new(
                ErrorKind::InvalidOperation,
                format!("strftime_now({format:?}): {error}"),
            )
        })
    });
    environment.add_template_owned(NAME, without_generation_marks(source))?;
    Ok(environment)
}

/// `{% generation %}` marks what the assistant says, for a training mode of `transformers`; to rendering it is a
/// comment with the same effect on white space.
fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end + 2);
        let inside = &tag[2..tag.len() - 2];
        match inside.trim_matches(['-', '+']).trim() {
            "generation" | "endgeneration" => out.extend(["{#", inside, "#}"]),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `json.dumps` as `transformers` calls it: not escaped for HTML, and spaced as Python does.
#[allow(clippy::needless_pass_by_value)] // The signature that minijinja calls.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let json = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "tojson").with_source(error))?;
    let (item, key) = match (separators.as_deref(), indent) {
        (Some([item, key]), _) => (item.clone(), key.clone()),
        (None, Some(_)) => (",".into(), ": ".into()),
        (None, None) => (", ".into(), ": ".into()),
        (Some(_), _) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "tojson: separators must be two texts",
            ));
        }
    };
    let mut writer = JsonWriter {
        out: String::new(),
        indent,
        item,
        key,
        ascii: ascii.unwrap_or(false),
        sorted: sorted.unwrap_or(false),
    };
    writer.write(&json, 0);
    Ok(writer.out)
}

struct JsonWriter {
    out: String,
    indent: Option<usize>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

impl JsonWriter {
    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent.min(16) * depth));
        }
    }

    fn text(&mut self, text: &str) {
        let quoted = Json::from(text).to_string();
        if !self.ascii {
            self.out.push_str(&quoted);
            return;
        }
        for character in quoted.chars() {
            if character.is_ascii() {
                self.out.push(character);
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(self.out, "\\u{unit:04x}");
                }
            }
        }
    }

    fn write(&mut self, value: &Json, depth: usize) {
        match value {
            Json::Array(values) if !values.is_empty() => {
                self.out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        self.out.push_str(&self.item.clone());
                    }
                    self.line(depth + 1);
                    self.write(value, depth + 1);
                }
                self.line(depth);
                self.out.push(']');
            }
            Json::Object(entries) if !entries.is_empty() => {
                let mut entries: Vec<_> = entries.iter().collect();
                if self.sorted {
                    entries.sort_by_key(|(key, _)| *key);
                }
                self.out.push('{');
                for (index, (key, value)) in entries.into_iter().enumerate() {
                    if index > 0 {
                        self.out.push_str(&self.item.clone());
                    }
                    self.line(depth + 1);
                    self.text(key);
                    self.out.push_str(&self.key.clone());
                    self.write(value, depth + 1);
                }
                self.line(depth);
                self.out.push('}');
            }
            Json::String(text) => self.text(text),
            other => self.out.push_str(&other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_marks_become_comments() {
        assert_eq!(
            without_generation_marks("a{%- generation %}b{% if x %}{% endgeneration -%}"),
            "a{#- generation #}b{% if x %}{# endgeneration -#}"
        );
        assert_eq!(without_generation_marks("a{% b"), "a{% b");
    }
}
