//! YAML as nodes that know where they stand in the text, so that an edit can touch them and nothing else.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, StructureStyle};
use serde_json::{Map, Number, Value};

use super::CardError;

/// A node and the bytes of its content, `start..end`; trailing line breaks and comments are not among them.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar(Value),
    Sequence {
        items: Vec<Node>,
        flow: bool,
    },
    Mapping {
        entries: Vec<(Node, Node)>,
        flow: bool,
    },
    /// A reference to an anchor; what it refers to.
    Alias(Value),
}

impl Node {
    /// The content without its place.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) | Kind::Alias(value) => value.clone(),
            Kind::Sequence { items, .. } => Value::Array(items.iter().map(Self::value).collect()),
            Kind::Mapping { entries, .. } => {
                let entries = entries
                    .iter()
                    .map(|(key, value)| (key_text(&key.value()), value.value()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }

    /// The key and value under `key`; the last one, where a key stands twice.
    pub(super) fn entry(&self, key: &str) -> Option<(&Node, &Node)> {
        let Kind::Mapping { entries, .. } = &self.kind else {
            return None;
        };
        entries
            .iter()
            .rev()
            .find(|(name, _)| key_text(&name.value()) == key)
            .map(|(key, value)| (key, value))
    }

    /// The value under `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// The items of a sequence.
    pub(super) fn items(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::Sequence { items, .. } => Some(items),
            _ => None,
        }
    }
}

/// A mapping's key as text: `1: x` and `true: x` have keys too.
fn key_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Reads one YAML document; `None` when there is nothing but comments.
pub(super) fn parse(text: &str) -> Result<Option<Node>, CardError> {
    let invalid = |message: String| CardError::Invalid { message };
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    let mut anchors: HashMap<usize, Value> = HashMap::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| invalid(error.to_string()))?;
        let range = span.byte_range().unwrap_or(0..0);
        let (node, anchor) = match event {
            Event::DocumentStart(..) if root.is_some() => {
                return Err(invalid("it holds more than one document".into()));
            }
            Event::SequenceStart(style, anchor, _) => {
                open.push(Open::new(
                    range.start,
                    matches!(style, StructureStyle::Flow),
                    false,
                    anchor,
                ));
                continue;
            }
            Event::MappingStart(style, anchor, _) => {
                open.push(Open::new(
                    range.start,
                    matches!(style, StructureStyle::Flow),
                    true,
                    anchor,
                ));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let done = open
                    .pop()
                    .ok_or_else(|| invalid("it ends what never began".into()))?;
                let anchor = done.anchor;
                (done.close(range.end), anchor)
            }
            Event::Scalar(value, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let value = if plain {
                    resolve(&value)
                } else {
                    Value::String(value.into_owned())
                };
                let end = range.start + text[range.clone()].trim_end().len();
                (
                    Node {
                        kind: Kind::Scalar(value),
                        start: range.start,
                        end,
                    },
                    anchor,
                )
            }
            Event::Alias(anchor) => {
                let value = anchors.get(&anchor).cloned().unwrap_or(Value::Null);
                (
                    Node {
                        kind: Kind::Alias(value),
                        start: range.start,
                        end: range.end,
                    },
                    0,
                )
            }
            _ => continue,
        };
        if anchor != 0 {
            anchors.insert(anchor, node.value());
        }
        match open.last_mut() {
            Some(parent) => parent.children.push(node),
            None => root = Some(node),
        }
    }
    // An empty document is one empty scalar.
    Ok(root.filter(|node| !matches!(&node.kind, Kind::Scalar(Value::Null))))
}

/// A collection whose end has not come yet.
struct Open {
    start: usize,
    flow: bool,
    mapping: bool,
    anchor: usize,
    children: Vec<Node>,
}

impl Open {
    fn new(start: usize, flow: bool, mapping: bool, anchor: usize) -> Self {
        Self {
            start,
            flow,
            mapping,
            anchor,
            children: Vec::new(),
        }
    }

    fn close(self, end: usize) -> Node {
        // A block collection's end is only noticed at the next token, behind comments and line breaks.
        let last = self.children.last().map_or(self.start, |child| child.end);
        let end = if self.flow { end } else { last };
        let flow = self.flow;
        let kind = if self.mapping {
            let mut entries = Vec::with_capacity(self.children.len() / 2);
            let mut children = self.children.into_iter();
            while let (Some(key), Some(value)) = (children.next(), children.next()) {
                entries.push((key, value));
            }
            Kind::Mapping { entries, flow }
        } else {
            Kind::Sequence {
                items: self.children,
                flow,
            }
        };
        Node {
            kind,
            start: self.start,
            end,
        }
    }
}

/// What a plain scalar means to PyYAML (YAML 1.1), which is what the Hub's clients read cards with. Dates and
/// base-60 numbers stay text here: they are compared, never computed with.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let octal = digits.len() > 1 && digits.starts_with('0') && !digits.contains('.');
    if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && !octal {
        if let Ok(number) = text.parse::<i64>() {
            return Value::Number(number.into());
        }
        if digits.bytes().any(|byte| byte.is_ascii_digit())
            && let Ok(number) = text.parse::<f64>()
            && let Some(number) = Number::from_f64(number)
        {
            return Value::Number(number);
        }
    }
    Value::String(text.to_owned())
}
