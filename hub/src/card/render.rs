//! Values as YAML that YAML 1.1 (PyYAML) and YAML 1.2 read alike.

use serde_json::{Number, Value};

/// `value` as it stands after `key:` or `- `, its further lines indented by `indent` columns. Begins with a
/// line break where a collection follows a key.
pub(super) fn after_key(value: &Value, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let rows: Vec<String> = match value {
        // As PyYAML writes them: a list stands at its key's own column.
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| format!("\n{pad}- {}", after_dash(item, indent + 2)))
            .collect(),
        Value::Object(entries) if !entries.is_empty() => entries
            .iter()
            .map(|(key, value)| format!("\n{pad}  {}:{}", text(key), after_key(value, indent + 2)))
            .collect(),
        other => return format!(" {}", inline(other)),
    };
    rows.concat()
}

/// `value` as it stands after `- `, its further lines indented by `indent` columns.
pub(super) fn after_dash(value: &Value, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let rows: Vec<String> = match value {
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| format!("- {}", after_dash(item, indent + 2)))
            .collect(),
        Value::Object(entries) if !entries.is_empty() => entries
            .iter()
            .map(|(key, value)| format!("{}:{}", text(key), after_key(value, indent)))
            .collect(),
        other => return inline(other),
    };
    rows.join(&format!("\n{pad}"))
}

/// `value` on one line: the only form that may stand inside a flow collection.
pub(super) fn inline(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => number(value),
        Value::String(value) => text(value),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", text(key), inline(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// YAML 1.1 wants a point and a signed exponent in a float: `1e-7` is text to it.
fn number(number: &Number) -> String {
    let plain = number.to_string();
    match plain.split_once('e') {
        Some((mantissa, exponent)) => {
            let point = if mantissa.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with(['-', '+']) { "" } else { "+" };
            format!("{mantissa}{point}e{sign}{exponent}")
        }
        None => plain,
    }
}

/// Plain where every reader takes it for text, double-quoted otherwise.
fn text(value: &str) -> String {
    if is_plain(value) {
        value.to_owned()
    } else {
        quoted(value)
    }
}

fn is_plain(value: &str) -> bool {
    const WORDS: [&str; 10] = [
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "none",
    ];
    let Some(first) = value.chars().next() else {
        return false;
    };
    let starts_well = first.is_alphanumeric() || first == '_' || first == '/';
    let numeric = first.is_ascii_digit()
        && value
            .chars()
            .all(|c| c.is_ascii_hexdigit() || "xXoO_+-.:TtZz ".contains(c));
    starts_well
        && !numeric
        && value
            .chars()
            .all(|c| c.is_alphanumeric() || " _./+@-()=%:".contains(c))
        && !value.contains(": ")
        && !value.ends_with([':', ' '])
        && !WORDS.contains(&value.to_ascii_lowercase().as_str())
}

fn quoted(value: &str) -> String {
    use std::fmt::Write;
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // Line separators, byte order marks and what YAML does not count as printable.
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                write!(out, "\\u{:04x}", c as u32).expect("a String takes everything");
            }
            c if c.is_control() => write!(out, "\\u{:04x}", c as u32).expect("a String takes everything"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_yaml_1_1_would_misread_is_quoted() {
        for word in [
            "no",
            "Yes",
            "on",
            "y",
            "null",
            "~",
            "1.0",
            "007",
            "0x1f",
            "1:30",
            "2024-01-31",
            "1e5",
            ".5",
            "- a",
            "a: b",
            "a #b",
            "#x",
            "",
            " x",
            "x ",
            "*a",
            "&a",
            "!t",
            "%d",
            "@x",
            "`x",
            "[a",
            "{a",
            "=",
            "<<",
            "5503434",
            "a:",
            "1_000",
            "+1",
            "x\ny",
        ] {
            assert!(text(word).starts_with('"'), "{word:?} stays bare: {}", text(word));
        }
        for word in [
            "apache-2.0",
            "en",
            "text-classification",
            "acme/finance-sentiment",
            "base_model:adapter:acme/x",
            "8b-instruct model",
            "Größe",
            "https://slipway.dev/x",
        ] {
            assert_eq!(text(word), word);
        }
    }

    #[test]
    fn floats_have_a_point_and_a_signed_exponent() {
        assert_eq!(inline(&json!(1e-7)), "1.0e-7");
        assert_eq!(inline(&json!(2.5e300)), "2.5e+300");
        assert_eq!(inline(&json!(0.8713)), "0.8713");
        assert_eq!(inline(&json!(1.0)), "1.0");
    }

    #[test]
    fn collections_stand_as_pyyaml_writes_them() {
        let value = json!([{"name": "m", "results": [{"task": {"type": "t"}, "metrics": []}]}]);
        assert_eq!(
            format!("model-index:{}", after_key(&value, 0)),
            "model-index:\n- name: m\n  results:\n  - task:\n      type: t\n    metrics: []"
        );
    }
}
