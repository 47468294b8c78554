//! Several sequences as one rectangle of tokens.

use candle_core::{DType, Device, Tensor};

use crate::ModelError;

/// Tokens of B rows and T columns. A row holds one sequence and padding, or several sequences one after another
/// (packing). Positions restart at each sequence, and a token attends only within its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    rows: usize,
    columns: usize,
    ids: Vec<u32>,
    positions: Vec<u32>,
    // 0 is padding; else the number of the sequence within its row, from 1.
    segments: Vec<u32>,
}

impl Batch {
    /// One sequence a row, padded on the right to the longest.
    pub fn padded(sequences: &[Vec<u32>]) -> Self {
        let rows: Vec<[&[u32]; 1]> = sequences.iter().map(|sequence| [sequence.as_slice()]).collect();
        Self::build(rows.iter().map(<[&[u32]; 1]>::as_slice))
    }

    /// Several sequences a row, padded on the right to the longest row.
    pub fn packed(rows: &[Vec<Vec<u32>>]) -> Self {
        let rows: Vec<Vec<&[u32]>> = rows
            .iter()
            .map(|row| row.iter().map(Vec::as_slice).collect())
            .collect();
        Self::build(rows.iter().map(Vec::as_slice))
    }

    fn build<'a>(rows: impl Iterator<Item = &'a [&'a [u32]]> + Clone) -> Self {
        let columns = rows
            .clone()
            .map(|row| row.iter().map(|sequence| sequence.len()).sum())
            .max()
            .unwrap_or(0);
        let mut batch = Self {
            rows: 0,
            columns,
            ids: Vec::new(),
            positions: Vec::new(),
            segments: Vec::new(),
        };
        for row in rows {
            batch.rows += 1;
            for (segment, sequence) in row.iter().enumerate() {
                batch.ids.extend_from_slice(sequence);
                batch.positions.extend(0..sequence.len() as u32);
                batch
                    .segments
                    .extend(std::iter::repeat_n(segment as u32 + 1, sequence.len()));
            }
            let end = batch.rows * columns;
            batch.ids.resize(end, 0);
            batch.positions.resize(end, 0);
            batch.segments.resize(end, 0);
        }
        batch
    }

    /// B.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// T.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Tokens that are not padding.
    pub fn tokens(&self) -> usize {
        self.segments.iter().filter(|segment| **segment != 0).count()
    }

    /// Token ids, row by row.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The place of each token within its sequence, row by row.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// The number of each token's sequence within its row, from 1; 0 is padding.
    pub fn segments(&self) -> &[u32] {
        &self.segments
    }

    /// The length of the longest sequence.
    pub fn longest(&self) -> usize {
        self.positions.iter().max().map_or(0, |last| *last as usize + 1)
    }

    /// For each row the column of its last real token; 0 for a row of padding.
    pub fn last_columns(&self) -> Vec<usize> {
        self.segments
            .chunks(self.columns.max(1))
            .map(|row| row.iter().rposition(|segment| *segment != 0).unwrap_or(0))
            .collect()
    }

    /// What is added to attention scores: [B, 1, T, T] of 0 and −∞. None when every token sees every other.
    ///
    /// Padding sees itself, for a row of −∞ alone has no softmax.
    pub(crate) fn mask(
        &self,
        causal: bool,
        window: Option<usize>,
        dtype: DType,
        device: &Device,
    ) -> Result<Option<Tensor>, ModelError> {
        let t = self.columns;
        if !causal && self.segments.iter().all(|segment| *segment == 1) {
            return Ok(None);
        }
        let mut mask = vec![f32::NEG_INFINITY; self.rows * t * t];
        for (row, segments) in self.segments.chunks(t.max(1)).enumerate() {
            for query in 0..t {
                let line = &mut mask[(row * t + query) * t..][..t];
                let last = if causal { query + 1 } else { t };
                let first = window
                    .filter(|_| causal)
                    .map_or(0, |window| (query + 1).saturating_sub(window));
                for key in first..last {
                    if segments[key] == segments[query] && segments[key] != 0 || key == query {
                        line[key] = 0.0;
                    }
                }
            }
        }
        let mask = Tensor::from_vec(mask, (self.rows, 1, t, t), device)?.to_dtype(dtype)?;
        Ok(Some(mask))
    }

    /// Ids as a tensor [B, T] of u32.
    pub(crate) fn ids_tensor(&self, vocabulary: usize, device: &Device) -> Result<Tensor, ModelError> {
        if let Some(id) = self.ids.iter().find(|id| **id as usize >= vocabulary) {
            return Err(ModelError::TokenOutOfRange { id: *id, vocabulary });
        }
        Ok(Tensor::from_slice(&self.ids, (self.rows, self.columns), device)?)
    }
}
