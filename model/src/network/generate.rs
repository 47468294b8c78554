//! Token by token, with a cache of keys and values.

use candle_core::Tensor;

use super::{AdapterId, Backbone, Network, Rows};
use crate::{KvCache, ModelError, ops};

impl Network {
    /// An empty cache for one sequence.
    ///
    /// # Panics
    /// When the network is an encoder, which has no cache; [`Self::prefill`] refuses those with an error.
    pub fn kv_cache(&self) -> KvCache {
        match &self.backbone {
            Backbone::Decoder(decoder) => decoder.cache(self.dtype, &self.device),
            Backbone::Encoder(_) => panic!("an encoder keeps no cache"),
        }
    }

    /// Appends `tokens` to the sequence in `cache` and scores the token after them: [V]. May be called again to go on
    /// with a longer prompt in chunks.
    pub fn prefill(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        adapter: Option<AdapterId>,
    ) -> Result<Tensor, ModelError> {
        let scores = self.extend(tokens, &mut [cache], &[adapter])?;
        Ok(scores.squeeze(0)?)
    }

    /// Appends one token to each of B sequences and scores the tokens after them: [B, V].
    pub fn decode(
        &self,
        tokens: &[u32],
        caches: &mut [&mut KvCache],
        adapters: &[Option<AdapterId>],
    ) -> Result<Tensor, ModelError> {
        if tokens.len() != caches.len() {
            return Err(ModelError::InvalidSetting(format!(
                "{} tokens are given for {} sequences; give one each",
                tokens.len(),
                caches.len()
            )));
        }
        self.extend(tokens, caches, adapters)
    }

    fn extend(
        &self,
        tokens: &[u32],
        caches: &mut [&mut KvCache],
        adapters: &[Option<AdapterId>],
    ) -> Result<Tensor, ModelError> {
        let Backbone::Decoder(decoder) = &self.backbone else {
            return Err(ModelError::MissingHead {
                head: "language-model head",
            });
        };
        if tokens.is_empty() || caches.is_empty() {
            return Err(ModelError::InvalidSetting(
                "there are no tokens to go on from; give one at least".into(),
            ));
        }
        let columns = tokens.len() / caches.len();
        let longest = caches.iter().map(|cache| cache.len()).max().unwrap_or(0);
        self.check_length(longest + columns)?;
        let rows = Rows {
            adapters: Some(adapters.to_vec()),
        };
        let selection = self.select(&rows, caches.len(), columns)?;
        let mut pass = self.pass(selection);
        // A cache outlives the pass, so it must not hold on to a graph.
        pass.gradients = false;
        pass.dropout = None;
        let last = decoder.step(tokens, caches, &pass)?.squeeze(1)?;
        Ok(ops::linear(&last, &self.lm_weight(&pass)?, None)?)
    }
}
