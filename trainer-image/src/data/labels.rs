//! Class labels: what a cell holds, and the set a model predicts among.

use std::collections::BTreeSet;

use serde_json::Value;

use super::DataError;

/// A label as a dataset writes it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LabelValue {
    /// A class number.
    Int(i64),
    /// A class name.
    Name(String),
}

impl LabelValue {
    /// Reads a cell. Text that is a whole number counts as a number, since CSV has nothing else.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) if text.trim().is_empty() => Err("an empty label".into()),
            Value::String(text) => {
                let text = text.trim();
                Ok(text
                    .parse()
                    .map_or_else(|_| Self::Name(text.to_owned()), Self::Int))
            }
            Value::Bool(flag) => Ok(Self::Int(i64::from(*flag))),
            Value::Number(number) => number
                .as_i64()
                .or_else(|| number.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as i64))
                .map(Self::Int)
                .ok_or_else(|| format!("the label {number}, which is no whole number")),
            Value::Null => Err("no label".into()),
            other => Err(format!("the label {other}, which is neither a number nor a name")),
        }
    }
}

impl std::fmt::Display for LabelValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The classes in the order of their ids.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LabelSet {
    names: Vec<String>,
    /// The number that stands for each class in the data, where it has numbers.
    numbers: Option<Vec<i64>>,
    /// Who says so, for messages.
    origin: String,
}

impl LabelSet {
    /// Classes declared by a card, a file's schema or a model: id is the position.
    pub fn declared(names: Vec<String>, origin: impl Into<String>) -> Self {
        let numbers = Some((0..names.len() as i64).collect());
        Self {
            names,
            numbers,
            origin: origin.into(),
        }
    }

    /// Classes found in a split. Names are sorted. Numbers 0…n-1 are called `LABEL_0`… as transformers does,
    /// other numbers by themselves, in ascending order.
    pub fn found(values: &[LabelValue], split: &str) -> Result<Self, DataError> {
        let distinct: BTreeSet<&LabelValue> = values.iter().collect();
        let numbers: Vec<i64> = distinct
            .iter()
            .filter_map(|value| match value {
                LabelValue::Int(number) => Some(*number),
                LabelValue::Name(_) => None,
            })
            .collect();
        let names: Vec<String> = distinct.iter().map(ToString::to_string).collect();
        if !numbers.is_empty() && numbers.len() < distinct.len() {
            let odd = distinct.iter().find(|value| matches!(value, LabelValue::Int(_)));
            return Err(DataError::LabelMismatch {
                split: split.to_owned(),
                label: odd.map(ToString::to_string).unwrap_or_default(),
                other: "the names in the same column".into(),
                known: names
                    .into_iter()
                    .filter(|name| name.parse::<i64>().is_err())
                    .collect(),
            });
        }
        let counted = numbers.iter().copied().eq(0..numbers.len() as i64);
        Ok(Self {
            names: if !numbers.is_empty() && counted {
                numbers.iter().map(|number| format!("LABEL_{number}")).collect()
            } else {
                names
            },
            numbers: (!numbers.is_empty()).then_some(numbers),
            origin: format!("split `{split}`"),
        })
    }

    /// Names by id.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The id of a label met in `split`. Names match exactly, else without regard to case.
    pub fn id(&self, value: &LabelValue, split: &str) -> Result<u32, DataError> {
        let position = match value {
            LabelValue::Int(number) => self
                .numbers
                .as_ref()
                .and_then(|numbers| numbers.iter().position(|known| known == number))
                .or_else(|| self.names.iter().position(|name| *name == number.to_string())),
            LabelValue::Name(text) => self
                .names
                .iter()
                .position(|name| name == text)
                .or_else(|| self.names.iter().position(|name| name.eq_ignore_ascii_case(text))),
        };
        position
            .map(|id| id as u32)
            .ok_or_else(|| DataError::LabelMismatch {
                split: split.to_owned(),
                label: value.to_string(),
                other: self.origin.clone(),
                known: self.names.clone(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(cells: &[Value]) -> Vec<LabelValue> {
        cells
            .iter()
            .map(|cell| LabelValue::from_json(cell).unwrap())
            .collect()
    }

    #[test]
    fn names_are_sorted_and_numbers_keep_their_order() {
        let named = LabelSet::found(&values(&[json!("pos"), json!("neg"), json!("pos")]), "train").unwrap();
        assert_eq!(named.names(), ["neg", "pos"]);
        let counted = LabelSet::found(&values(&[json!(1), json!("0"), json!(2.0)]), "train").unwrap();
        assert_eq!(counted.names(), ["LABEL_0", "LABEL_1", "LABEL_2"]);
        let stars = LabelSet::found(&values(&[json!(4), json!(-1), json!(2)]), "train").unwrap();
        assert_eq!(stars.names(), ["-1", "2", "4"]);
        assert_eq!(stars.id(&LabelValue::Int(2), "test").unwrap(), 1);
    }

    #[test]
    fn an_unknown_label_is_named_with_those_known() {
        let set = LabelSet::found(&values(&[json!("pos"), json!("neg")]), "train").unwrap();
        let error = set
            .id(&LabelValue::Name("neutral".into()), "validation")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "split `validation` has the label `neutral`, which is not among those of split `train`: `neg`, `pos`; make the splits agree"
        );
        assert!(set.id(&LabelValue::Int(0), "validation").is_err());
    }

    #[test]
    fn declared_classes_answer_to_number_and_name() {
        let set = LabelSet::declared(vec!["neg".into(), "pos".into()], "the dataset card");
        assert_eq!(set.id(&LabelValue::Int(1), "test").unwrap(), 1);
        assert_eq!(set.id(&LabelValue::Name("pos".into()), "test").unwrap(), 1);
    }

    #[test]
    fn a_column_of_names_and_numbers_is_refused() {
        assert!(LabelSet::found(&values(&[json!("pos"), json!(3)]), "train").is_err());
        assert!(LabelValue::from_json(&json!(0.5)).is_err() && LabelValue::from_json(&json!(null)).is_err());
    }
}
