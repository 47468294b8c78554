//! Edits of a YAML text, one at a time: the smallest that does it, checked by reading the result again.

use std::ops::Range;

use serde_json::{Map, Value};

use super::CardError;
use super::render::{after_dash, after_key, inline};
use super::tree::{Kind, Node, parse};

/// A YAML text and what it means.
#[derive(Clone, Debug)]
pub(super) struct Document {
    text: String,
    root: Option<Node>,
    line_break: &'static str,
}

/// Where a node is: keys and positions from the root.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Key(&'static str),
    Item(usize),
}

impl Document {
    pub(super) fn parse(text: &str, line_break: &'static str) -> Result<Self, CardError> {
        Ok(Self {
            text: text.to_owned(),
            root: parse(text)?,
            line_break,
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn root(&self) -> Option<&Node> {
        self.root.as_ref()
    }

    pub(super) fn value(&self) -> Value {
        self.root.as_ref().map_or(Value::Null, Node::value)
    }

    /// Sets a key of the root mapping.
    pub(super) fn set(&mut self, key: &str, value: &Value) -> Result<(), CardError> {
        let mut expected = match self.value() {
            Value::Null => Map::new(),
            Value::Object(entries) => entries,
            _ => return Err(not_a_mapping()),
        };
        expected.insert(key.to_owned(), value.clone());
        let change = match self.root.as_ref() {
            None => (
                self.text.len()..self.text.len(),
                format!("{}\n", row(key, value, 0)),
            ),
            Some(root) => match root.entry(key) {
                Some((name, old)) => self.replace_entry(root, name, old, value),
                None => self.append_entry(root, key, value),
            },
        };
        self.apply(&[change], &Value::Object(expected))
    }

    /// Replaces what is at `path` by a scalar.
    pub(super) fn replace(&mut self, path: &[Step], value: &Value) -> Result<(), CardError> {
        let node = self.at(path).ok_or_else(moved)?;
        let change = (node.start..node.end, inline(value));
        let mut expected = self.value();
        *pointer(&mut expected, path).ok_or_else(moved)? = value.clone();
        self.apply_or_rewrite(path, &[change], &expected)
    }

    /// Replaces the item at `path` of a sequence by any value.
    pub(super) fn replace_item(&mut self, path: &[Step], value: &Value) -> Result<(), CardError> {
        let node = self.at(path).ok_or_else(moved)?;
        let in_flow = self
            .at(&path[..path.len() - 1])
            .is_some_and(|parent| matches!(parent.kind, Kind::Sequence { flow: true, .. }));
        let rendered = if in_flow {
            inline(value)
        } else {
            after_dash(value, self.column(node.start))
        };
        let change = (node.start..node.end, rendered);
        let mut expected = self.value();
        *pointer(&mut expected, path).ok_or_else(moved)? = value.clone();
        self.apply_or_rewrite(path, &[change], &expected)
    }

    /// Appends an item to the sequence at `path`.
    pub(super) fn append(&mut self, path: &[Step], item: &Value) -> Result<(), CardError> {
        let node = self.at(path).ok_or_else(moved)?;
        let Kind::Sequence { items, flow } = &node.kind else {
            return Err(moved());
        };
        let change = match items.last() {
            _ if *flow => {
                let end = node.end - 1;
                let behind = items.last().map_or(end, |last| last.end);
                let comma = if items.is_empty() { "" } else { ", " };
                (behind..behind, format!("{comma}{}", inline(item)))
            }
            Some(last) => {
                let end = self.end_of_line(last.end);
                let column = self.dash_column(last);
                let pad = " ".repeat(column);
                (end..end, format!("\n{pad}- {}", after_dash(item, column + 2)))
            }
            None => return Err(moved()),
        };
        let mut expected = self.value();
        let Some(Value::Array(values)) = pointer(&mut expected, path) else {
            return Err(moved());
        };
        values.push(item.clone());
        self.apply_or_rewrite(path, &[change], &expected)
    }

    fn replace_entry(&self, root: &Node, name: &Node, old: &Node, value: &Value) -> (Range<usize>, String) {
        let colon = self.text[name.end..]
            .find(':')
            .map_or(name.end, |at| name.end + at + 1);
        let end = old.end.max(colon);
        if matches!(root.kind, Kind::Mapping { flow: true, .. }) {
            return (colon..end, format!(" {}", inline(value)));
        }
        (colon..end, after_key(value, self.column(root.start)))
    }

    fn append_entry(&self, root: &Node, key: &str, value: &Value) -> (Range<usize>, String) {
        if let Kind::Mapping { flow: true, entries } = &root.kind {
            let end = entries.last().map_or(root.end - 1, |(_, last)| last.end);
            let comma = if entries.is_empty() { "" } else { ", " };
            let key = inline(&Value::String(key.into()));
            return (end..end, format!("{comma}{key}: {}", inline(value)));
        }
        // Behind everything, comments at the end included.
        let open = if self.text.is_empty() || self.text.ends_with(['\n', '\r']) {
            ""
        } else {
            "\n"
        };
        let row = row(key, value, self.column(root.start));
        (self.text.len()..self.text.len(), format!("{open}{row}\n"))
    }

    /// As [`Self::apply`]; where the small edit does not come out right (an anchor, an odd indentation), the
    /// whole top-level value is written anew.
    fn apply_or_rewrite(
        &mut self,
        path: &[Step],
        changes: &[(Range<usize>, String)],
        expected: &Value,
    ) -> Result<(), CardError> {
        if self.apply(changes, expected).is_ok() {
            return Ok(());
        }
        if let Some(Step::Key(key)) = path.first() {
            return self.set(key, &expected[*key]);
        }
        let text = format!("{}\n", after_key(expected, 0).trim_start());
        let whole = 0..self.text.len();
        self.apply(&[(whole, text)], expected)
    }

    /// Makes the changes, if reading the result gives exactly what is expected.
    fn apply(&mut self, changes: &[(Range<usize>, String)], expected: &Value) -> Result<(), CardError> {
        let mut text = self.text.clone();
        for (range, new) in changes.iter().rev() {
            text.replace_range(range.clone(), &new.replace('\n', self.line_break));
        }
        let edited = Self::parse(&text, self.line_break)?;
        if edited.value() != *expected {
            return Err(CardError::Invalid {
                message: "it is written in a way that cannot be edited safely".into(),
            });
        }
        *self = edited;
        Ok(())
    }

    fn at(&self, path: &[Step]) -> Option<&Node> {
        let mut node = self.root.as_ref()?;
        for step in path {
            node = match step {
                Step::Key(key) => node.get(key)?,
                Step::Item(index) => node.items()?.get(*index)?,
            };
        }
        Some(node)
    }

    fn line_start(&self, offset: usize) -> usize {
        self.text[..offset].rfind(['\n', '\r']).map_or(0, |at| at + 1)
    }

    fn column(&self, offset: usize) -> usize {
        self.text[self.line_start(offset)..offset].chars().count()
    }

    fn end_of_line(&self, offset: usize) -> usize {
        self.text[offset..]
            .find(['\n', '\r'])
            .map_or(self.text.len(), |at| offset + at)
    }

    /// The column of the dash before a block sequence's item.
    fn dash_column(&self, item: &Node) -> usize {
        let before = self.text[..item.start].trim_end_matches([' ', '\t', '\n', '\r']);
        match before.strip_suffix('-') {
            Some(rest) => self.column(rest.len()),
            // An anchor or a tag stands between: guessed here, found wrong by the check, written anew.
            None => self.column(item.start).saturating_sub(2),
        }
    }
}

fn row(key: &str, value: &Value, column: usize) -> String {
    let pad = " ".repeat(column);
    format!(
        "{pad}{}:{}",
        inline(&Value::String(key.into())),
        after_key(value, column)
    )
}

fn pointer<'a>(value: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(*key),
        Step::Item(index) => value.get_mut(*index),
    })
}

pub(super) fn not_a_mapping() -> CardError {
    CardError::Invalid {
        message: "it is no mapping of keys to values".into(),
    }
}

fn moved() -> CardError {
    CardError::Invalid {
        message: "its model-index has a shape that cannot be edited".into(),
    }
}
