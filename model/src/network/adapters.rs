//! Adapters of a network that serves.

use std::path::Path;

use super::{AdapterId, Backbone, Network};
use crate::ModelError;
use crate::adapter::{Adapter, AdapterFiles};

impl Network {
    /// Loads a LoRA in PEFT's layout under `name`. A name may be given again once its adapter is removed.
    pub fn add_adapter(&mut self, name: &str, directory: &Path) -> Result<AdapterId, ModelError> {
        if self.adapter(name).is_some() {
            return Err(ModelError::InvalidSetting(format!(
                "an adapter named {name} is loaded already; remove it first or choose another name"
            )));
        }
        let files = AdapterFiles::open(directory)?;
        let classifier = self.classifier.as_ref().map(|classifier| {
            // Indices of the head's layers follow those of the backbone.
            let first = match &self.backbone {
                Backbone::Decoder(decoder) => decoder.linears().count(),
                Backbone::Encoder(encoder) => encoder.linears().count(),
            };
            let output = first + usize::from(!self.architecture.is_decoder());
            (classifier, self.hidden_size(), (first, output))
        });
        let prefixes = (self.architecture.backbone_prefix(), self.prefix);
        let linears = self.linears();
        let adapter = files.load(name, &linears, prefixes, classifier, &self.device, self.dtype)?;
        let id = AdapterId(self.next_adapter);
        self.next_adapter += 1;
        self.adapters.insert(id, adapter);
        Ok(id)
    }

    /// Forgets an adapter; false when there is none of this id.
    pub fn remove_adapter(&mut self, id: AdapterId) -> bool {
        self.adapters.remove(&id).is_some()
    }

    /// The adapter loaded under `name`.
    pub fn adapter(&self, name: &str) -> Option<AdapterId> {
        self.adapters
            .iter()
            .find(|(_, adapter)| adapter.name == name)
            .map(|(id, _)| *id)
    }

    pub(super) fn loaded(&self, id: AdapterId) -> Result<&Adapter, ModelError> {
        self.adapters.get(&id).ok_or(ModelError::UnknownAdapter)
    }

    /// Adds an adapter (None: the attached LoRA) to the weights, takes over its head, and forgets it.
    pub fn merge_adapter(&mut self, id: Option<AdapterId>) -> Result<(), ModelError> {
        let adapter = match id {
            Some(id) => self.adapters.remove(&id),
            None => self.attached.take(),
        }
        .ok_or(ModelError::UnknownAdapter)?;
        for linear in self.linears_mut() {
            linear.merge(&adapter)?;
        }
        if adapter.head.is_some() {
            self.classifier = adapter.head;
        }
        if let (super::Head::SequenceClassification { labels }, Some(own)) = (&mut self.head, adapter.labels)
        {
            *labels = own;
        }
        Ok(())
    }
}
