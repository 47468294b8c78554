//! What tells one run from another, so that a repeated one finds what it left on the Hub. Pure.

use serde::Serialize;
use sha2::{Digest, Sha256};
use slipway_contract::Provenance;

/// The uid of the object that the run belongs to or, for a run started by hand, a digest of its configuration.
pub fn run_id(provenance: &Provenance, config: &impl Serialize) -> String {
    if !provenance.uid.is_empty() {
        return provenance.uid.clone();
    }
    let bytes = serde_json::to_vec(config).expect("a configuration is plain data");
    let hash = Sha256::digest(&bytes);
    hash.iter()
        .take(16)
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_known_by_its_uid_and_a_configuration_by_its_content() {
        let mut provenance = Provenance::default();
        assert_eq!(run_id(&provenance, &1), run_id(&provenance, &1));
        assert_ne!(run_id(&provenance, &1), run_id(&provenance, &2));
        provenance.uid = "0b6c".into();
        assert_eq!(run_id(&provenance, &1), "0b6c");
    }
}
