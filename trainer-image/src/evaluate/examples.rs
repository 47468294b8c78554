//! The examples of an evaluation, read once for every model that is measured.

use slipway_contract::{EvalConfig, Failure};
use slipway_hub::source::LocalDataset;

use crate::data::{DataError, Example, LabelSet, LabelValue, Layout, Reading, Rejected, read};

/// What is asked, and for classification what is right.
#[derive(Debug)]
pub(super) struct Examples {
    /// The split's name.
    pub split: String,
    /// In the order of the dataset.
    pub items: Vec<Example>,
    /// Class names that the dataset declares.
    pub declared: Option<LabelSet>,
    /// Malformed rows left out.
    pub skipped: u64,
}

impl Examples {
    /// Reads the split that `config` names, `test` unless it says otherwise.
    pub fn read(config: &EvalConfig, dataset: &LocalDataset) -> Result<Self, Failure> {
        let layout = Layout::open(&dataset.path)?;
        let split = layout.split(config.dataset.split.as_deref().unwrap_or("test"))?;
        let mut items = Vec::new();
        let reading: Reading = read(
            &layout,
            &split,
            &config.dataset,
            config.task,
            &mut |example| -> Result<(), Rejected> {
                items.push(example);
                Ok(())
            },
        )?;
        if items.is_empty() {
            return Err(DataError::Empty {
                split: split.name,
                detail: String::new(),
            }
            .into());
        }
        Ok(Self {
            split: split.name,
            items,
            declared: reading.declared,
            skipped: reading.skipped,
        })
    }

    /// Texts and labels of a classification dataset.
    pub fn labelled(&self) -> (Vec<&str>, Vec<LabelValue>) {
        self.items
            .iter()
            .filter_map(|item| match item {
                Example::Labelled { text, label } => Some((text.as_str(), label.clone())),
                Example::Conversation(_) | Example::Completion { .. } | Example::Text(_) => None,
            })
            .unzip()
    }
}
