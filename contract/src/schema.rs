//! Schema transforms shared by every type that ends up in a CRD.

use schemars::Schema;
use serde_json::{Map, Value, json};

/// Rewrites the schema of an externally tagged enum (`oneOf` single-property objects) into one object whose
/// properties are the alternatives, with a CEL rule that asks for exactly one of them.
///
/// A structural schema may not carry properties inside `oneOf`, and the apiserver's own message for a failed
/// `oneOf` names neither the field nor the fix; the rule's message does.
pub fn union(schema: &mut Schema) {
    let Some(Value::Array(alternatives)) = schema.remove("oneOf") else {
        return;
    };
    let mut properties = Map::new();
    for mut alternative in alternatives {
        let description = alternative.get("description").cloned();
        let Some(Value::Object(inner)) = alternative.get_mut("properties").map(Value::take) else {
            continue;
        };
        for (name, mut value) in inner {
            // A `$ref` beside other keywords would make them compete; inlined schemas take the description.
            if let (Some(text), Some(object)) = (&description, value.as_object_mut()) {
                object.insert("description".into(), text.clone());
            }
            properties.insert(name, value);
        }
    }
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    let present: Vec<String> = names.iter().map(|name| format!("has(self.{name})")).collect();
    let rule = format!("[{}].filter(x, x).size() == 1", present.join(", "));
    let message = format!("set exactly one of: {}", names.join(", "));
    schema.insert("type".into(), json!("object"));
    schema.insert(
        "x-kubernetes-validations".into(),
        json!([{ "rule": rule, "message": message }]),
    );
    schema.insert("properties".into(), Value::Object(properties));
}

/// Removes the number formats that an apiserver does not know (`uint32`, `uint64`, `uint`…) and warns about.
/// The `minimum: 0` beside them stays.
pub fn strip_formats(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| format.starts_with("uint"))
            {
                map.remove("format");
            }
            map.values_mut().for_each(strip_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_formats),
        _ => {}
    }
}
