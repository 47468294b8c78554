//! Templates of a benchmark: Jinja as lm-evaluation-harness renders it. Pure.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior};
use regex::{NoExpand, Regex};

use crate::data::Row;

/// What a template may use up: 1 a step, and 1 for each 64 bytes it makes.
const FUEL: u64 = 1_000_000;

/// Templates over the columns of a row.
#[derive(Debug)]
pub(super) struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    /// The filters and methods that templates of lm-evaluation-harness use. A column that is not there is an error.
    pub fn new() -> Self {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment.set_syntax(syntax.expect("white space settings cannot conflict"));
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(method);
        environment.add_filter("regex_replace", regex_replace);
        Self { environment }
    }

    /// Says what is wrong with the template called `field`, whatever the row is.
    pub fn check(&self, field: &str, template: &str) -> Result<(), String> {
        let checked = match expression(template) {
            Some(expression) => self.environment.compile_expression(expression).map(drop),
            None => self.environment.template_from_str(template).map(drop),
        };
        checked.map_err(|error| format!("the template {field} does not parse: {error}"))
    }

    /// The text of `template`: the value of the column of that name, where there is one, else what it renders to.
    pub fn text(&self, field: &str, template: &str, row: &Row) -> Result<String, String> {
        if let Some(value) = row.get(template) {
            return match value {
                serde_json::Value::String(text) => Ok(text.clone()),
                serde_json::Value::Number(number) => Ok(number.to_string()),
                other => Err(format!(
                    "the column `{template}`, which is {field}, is {other}, not text"
                )),
            };
        }
        self.environment
            .render_str(template, Value::from(Serde(row)))
            .map_err(|error| failed(field, &error))
    }

    /// The list of texts that `template` gives: a column, or one expression `{{ … }}`.
    pub fn list(&self, field: &str, template: &str, row: &Row) -> Result<Vec<String>, String> {
        let value = match (row.get(template), expression(template)) {
            (Some(column), _) => Value::from(Serde(column)),
            (None, Some(expression)) => self
                .environment
                .compile_expression(expression)
                .and_then(|compiled| compiled.eval(Value::from(Serde(row))))
                .map_err(|error| failed(field, &error))?,
            (None, None) => {
                return Err(format!(
                    "{field} is `{template}`, which is neither a column nor one expression {{{{ … }}}}"
                ));
            }
        };
        if value.kind() == ValueKind::String {
            return Err(format!("{field} gives a text, not a list of texts"));
        }
        let items = value.try_iter().map_err(|error| failed(field, &error))?;
        items
            .map(|item| {
                let text = item.as_str().map(str::to_owned);
                text.ok_or_else(|| format!("{field} holds {item}, which is no text"))
            })
            .collect()
    }
}

/// What stands inside a template that is one expression and nothing else.
fn expression(template: &str) -> Option<&str> {
    let inside = template.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inside = inside.strip_prefix('-').unwrap_or(inside);
    (!inside.contains("}}") && !inside.contains("{{")).then_some(inside)
}

fn failed(field: &str, error: &Error) -> String {
    format!("the template {field} fails: {error}")
}

/// Methods of Python's texts and maps, and `index` of its lists.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let [wanted] = arguments else {
        return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments);
    };
    if name != "index" || value.kind() != ValueKind::Seq {
        return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments);
    }
    let place = value.try_iter()?.position(|item| item == *wanted);
    place.map(Value::from).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("{wanted} is not in the list {value}"),
        )
    })
}

/// `re.sub` with a replacement that has no references to groups.
fn regex_replace(text: &str, pattern: &str, replacement: &str) -> Result<String, Error> {
    let invalid = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    if replacement.contains('\\') {
        return Err(invalid(format!(
            "regex_replace knows no references to groups, as in {replacement:?}"
        )));
    }
    let pattern = Regex::new(pattern).map_err(|error| invalid(error.to_string()))?;
    Ok(pattern.replace_all(text, NoExpand(replacement)).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row() -> Row {
        let row = json!({
            "question": "Why?", "choices": { "text": ["a", "b"], "label": ["A", "B"] }, "answerKey": "B", "n": 3,
        });
        row.as_object().unwrap().clone()
    }

    #[test]
    fn text_is_rendered_as_jinja2_renders_it() {
        let templates = Templates::new();
        let text = |template| templates.text("prompt", template, &row());
        assert_eq!(text("Q: {{question}}\n").unwrap(), "Q: Why?\n");
        assert_eq!(text("question").unwrap(), "Why?");
        assert_eq!(text("n").unwrap(), "3");
        assert_eq!(text("{{choices.label.index(answerKey)}}").unwrap(), "1");
        assert_eq!(
            text(r#"{{ question | regex_replace("[?]", "!") }}"#).unwrap(),
            "Why!"
        );
        assert!(
            text("{{missing}}")
                .unwrap_err()
                .contains("the template prompt fails")
        );
        assert!(text("choices").unwrap_err().contains("not text"));
    }

    #[test]
    fn lists_come_from_a_column_or_an_expression() {
        let templates = Templates::new();
        let list = |template| templates.list("choices", template, &row());
        assert_eq!(list("{{choices.text}}").unwrap(), ["a", "b"]);
        assert_eq!(list("{{[question, answerKey]}}").unwrap(), ["Why?", "B"]);
        assert_eq!(
            list(r#"{{ choices.text | map("upper") | list }}"#).unwrap(),
            ["A", "B"]
        );
        assert!(list("question").unwrap_err().contains("not a list"));
        assert!(list("{{[n]}}").unwrap_err().contains("no text"));
        assert!(list("a, b").unwrap_err().contains("neither a column"));
    }

    #[test]
    fn a_template_that_does_not_parse_or_end_is_refused() {
        let templates = Templates::new();
        assert!(templates.check("prompt", "{{question").is_err());
        assert!(templates.check("prompt", "{{question}} {{n}}").is_ok());
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(templates.text("prompt", endless, &row()).is_err());
    }
}
