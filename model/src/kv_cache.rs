//! Keys and values of the tokens a sequence has so far.

/// Keys and values of one sequence, in every layer.
#[derive(Debug)]
pub struct KvCache {}

impl KvCache {
    /// Tokens held.
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }
}
