//! From a dataset's labels to a model's classes. Pure.

use slipway_contract::{Failure, FailureReason};

use crate::data::{LabelSet, LabelValue};

/// Classes of a model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Classes {
    /// Names. The position is the id where `ordered`.
    pub names: Vec<String>,
    /// Whether the order of the names is that of the ids. A server over HTTP tells names only.
    pub ordered: bool,
}

impl Classes {
    /// The position of each label in [`Self::names`]. A label is found by its name, without regard to case where no exact
    /// name is there. A number stands for the name that the dataset declares for it; without such names, or where the
    /// model's are `LABEL_0`, `LABEL_1`…, it stands for the id.
    pub fn resolve(&self, labels: &[LabelValue], declared: Option<&LabelSet>) -> Result<Vec<u32>, Failure> {
        let mut ids = Vec::with_capacity(labels.len());
        for label in labels {
            match self.find(label, declared) {
                Some(id) => ids.push(id),
                None => return Err(self.mismatch(label, labels, declared)),
            }
        }
        Ok(ids)
    }

    fn find(&self, label: &LabelValue, declared: Option<&LabelSet>) -> Option<u32> {
        let declared_name = match (label, declared) {
            (LabelValue::Int(number), Some(set)) => {
                usize::try_from(*number).ok().and_then(|at| set.names().get(at))
            }
            _ => None,
        };
        let text = declared_name.cloned().unwrap_or_else(|| label.to_string());
        if let Some(id) = self.named(&text) {
            return Some(id);
        }
        // The id in the dataset's own numbering.
        let number = match (label, declared) {
            (LabelValue::Int(number), _) => *number,
            (LabelValue::Name(name), Some(set)) => set.names().iter().position(|known| known == name)? as i64,
            (LabelValue::Name(_), None) => return None,
        };
        if let Some(id) = self.named(&format!("LABEL_{number}")) {
            return Some(id);
        }
        // A model whose classes are called by other numbers means those numbers.
        let numbered = self.names.iter().any(|name| name.parse::<i64>().is_ok());
        let by_id =
            self.ordered && !numbered && declared_name.is_none() && matches!(label, LabelValue::Int(_));
        (by_id && (0..self.names.len() as i64).contains(&number)).then_some(number as u32)
    }

    fn named(&self, text: &str) -> Option<u32> {
        let exact = self.names.iter().position(|name| name == text);
        exact
            .or_else(|| self.names.iter().position(|name| name.eq_ignore_ascii_case(text)))
            .map(|at| at as u32)
    }

    fn mismatch(&self, odd: &LabelValue, labels: &[LabelValue], declared: Option<&LabelSet>) -> Failure {
        let mut all: Vec<String> = match declared {
            Some(set) => set.names().to_vec(),
            None => labels.iter().map(ToString::to_string).collect(),
        };
        all.sort();
        all.dedup();
        Failure::new(
            FailureReason::LabelMismatch,
            format!(
                "the dataset's label `{odd}` is none of the model's: the dataset has {}, the model {}; evaluate on data with the model's labels, or name them alike in id2label of the model's config.json",
                list(&all),
                list(&self.names)
            ),
        )
    }
}

fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(10).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > shown.len() {
        format!(" and {} more", names.len() - shown.len())
    } else {
        String::new()
    };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(names: &[&str]) -> Classes {
        Classes {
            names: names.iter().map(ToString::to_string).collect(),
            ordered: true,
        }
    }

    fn names(names: &[&str]) -> Vec<LabelValue> {
        names
            .iter()
            .map(|name| LabelValue::Name((*name).into()))
            .collect()
    }

    fn numbers(numbers: &[i64]) -> Vec<LabelValue> {
        numbers.iter().copied().map(LabelValue::Int).collect()
    }

    fn declared(names: &[&str]) -> LabelSet {
        LabelSet::declared(names.iter().map(ToString::to_string).collect(), "the card")
    }

    #[test]
    fn names_meet_names() {
        let model = classes(&["negative", "Positive"]);
        assert_eq!(
            model.resolve(&names(&["positive", "negative"]), None).unwrap(),
            [1, 0]
        );
    }

    #[test]
    fn numbers_mean_the_datasets_names_where_it_has_some() {
        let model = classes(&["negative", "positive"]);
        let card = declared(&["positive", "negative"]);
        assert_eq!(model.resolve(&numbers(&[0, 1]), Some(&card)).unwrap(), [1, 0]);
        assert_eq!(model.resolve(&numbers(&[0, 1]), None).unwrap(), [0, 1]);
    }

    #[test]
    fn nameless_classes_go_by_number() {
        let model = classes(&["LABEL_0", "LABEL_1"]);
        let card = declared(&["bad", "good"]);
        assert_eq!(model.resolve(&numbers(&[1, 0]), Some(&card)).unwrap(), [1, 0]);
        assert_eq!(model.resolve(&names(&["good"]), Some(&card)).unwrap(), [1]);
    }

    #[test]
    fn classes_called_by_numbers_mean_those_numbers() {
        let model = classes(&["-1", "2", "4"]);
        assert_eq!(model.resolve(&numbers(&[2, 4, -1]), None).unwrap(), [1, 2, 0]);
        assert!(model.resolve(&numbers(&[0]), None).is_err());
    }

    #[test]
    fn a_server_that_tells_no_ids_answers_to_names_only() {
        let mut model = classes(&["negative", "positive"]);
        model.ordered = false;
        assert!(model.resolve(&numbers(&[0]), None).is_err());
        assert_eq!(
            model
                .resolve(&numbers(&[0]), Some(&declared(&["positive"])))
                .unwrap(),
            [1]
        );
    }

    #[test]
    fn disagreement_names_both_sides() {
        let failure = classes(&["neg", "pos"])
            .resolve(&names(&["neg", "neutral"]), None)
            .unwrap_err();
        assert_eq!(failure.reason, FailureReason::LabelMismatch);
        assert!(
            failure.message.contains("label `neutral`")
                && failure
                    .message
                    .contains("the dataset has `neg`, `neutral`, the model `neg`, `pos`"),
            "{failure}"
        );
        // Declared names that the model does not know must not fall back to ids.
        let card = declared(&["bad", "good"]);
        assert!(
            classes(&["neg", "pos"])
                .resolve(&numbers(&[0]), Some(&card))
                .is_err()
        );
    }
}
