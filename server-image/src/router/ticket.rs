//! The id of an answer: how its request came to its arm, sealed, so that any router can count a score for it. Pure.
//!
//! Routers share nothing but the table. An id therefore says all that a score needs, and whoever has the table's key
//! can tell that a router wrote it: HMAC-SHA-256 (RFC 2104, FIPS 180-4), cut to 16 bytes.

use std::hint::black_box;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use slipway_contract::experiment::Routed;

/// SHA-256 takes its input in blocks of so many bytes.
const BLOCK: usize = 64;
/// Arm, bucket, weight, nonce.
const PLAIN: usize = 2 + 2 + 8 + 8;
const TAG: usize = 16;
/// In place of a bucket.
const NO_BUCKET: u16 = u16::MAX;

/// Tells one id from all others.
pub type Tag = [u8; TAG];

/// Writes and reads the ids of one experiment.
#[derive(Clone)]
pub struct Seal {
    /// After the key's block and the experiment, before the id.
    inner: Sha256,
    /// After the key's block.
    outer: Sha256,
}

// A key has no place in a log.
impl std::fmt::Debug for Seal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Seal")
    }
}

/// 32 bytes written as 64 hexadecimal digits.
pub fn key(digits: &str) -> Option<[u8; 32]> {
    let bytes: &[u8; 64] = digits.as_bytes().try_into().ok()?;
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(bytes.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(key)
}

impl Seal {
    /// For the experiment `id` between `arms`: an id of another experiment, or of these arms in another order, does
    /// not fit.
    pub fn new<'a>(key: &[u8; 32], id: &'a str, arms: impl Iterator<Item = &'a str>) -> Self {
        let padded = |pad: u8| {
            let mut block = [pad; BLOCK];
            for (byte, secret) in block.iter_mut().zip(key) {
                *byte ^= secret;
            }
            Sha256::new_with_prefix(block)
        };
        let mut inner = padded(0x36);
        for part in std::iter::once(id).chain(arms) {
            // The length keeps ("ab", "c") from ("a", "bc").
            inner.update((part.len() as u64).to_be_bytes());
            inner.update(part);
        }
        Self {
            inner,
            outer: padded(0x5c),
        }
    }

    /// The id of a request's answer. `nonce`: another number for each request.
    pub fn write(&self, routed: Routed, nonce: u64) -> String {
        self.seal(
            routed.arm as u16,
            routed.bucket.unwrap_or(NO_BUCKET),
            routed.weight.to_be_bytes(),
            nonce,
        )
    }

    /// The id of an answer that says nothing but who gave it.
    pub fn sign(&self, answerer: u64, nonce: u64) -> String {
        self.seal(0, NO_BUCKET, answerer.to_be_bytes(), nonce)
    }

    fn seal(&self, arm: u16, bucket: u16, weight: [u8; 8], nonce: u64) -> String {
        let mut bytes = [0; PLAIN + TAG];
        bytes[..2].copy_from_slice(&arm.to_be_bytes());
        bytes[2..4].copy_from_slice(&bucket.to_be_bytes());
        bytes[4..12].copy_from_slice(&weight);
        bytes[12..PLAIN].copy_from_slice(&nonce.to_be_bytes());
        let tag = self.tag(&bytes[..PLAIN]);
        bytes[PLAIN..].copy_from_slice(&tag);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What an id says, and what tells it from others. None of what no router of this experiment wrote.
    pub fn read(&self, id: &str) -> Option<(Routed, Tag)> {
        let (plain, tag) = self.open(id)?;
        let short = |at: usize| u16::from_be_bytes([plain[at], plain[at + 1]]);
        let bucket = short(2);
        let routed = Routed {
            arm: short(0).into(),
            weight: f64::from_be_bytes(plain[4..12].try_into().ok()?),
            bucket: (bucket != NO_BUCKET).then_some(bucket),
        };
        Some((routed, tag))
    }

    /// Who gave the answer, and what tells its id from others. None of what no router with this key signed.
    pub fn signed(&self, id: &str) -> Option<(u64, Tag)> {
        let (plain, tag) = self.open(id)?;
        Some((u64::from_be_bytes(plain[4..12].try_into().ok()?), tag))
    }

    fn open(&self, id: &str) -> Option<([u8; PLAIN], Tag)> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(id).ok()?;
        let bytes: &[u8; PLAIN + TAG] = bytes.as_slice().try_into().ok()?;
        let (plain, tag) = bytes.split_at(PLAIN);
        let tag: Tag = tag.try_into().ok()?;
        // Every byte is compared, so that the time it takes tells nothing about where a forged one is wrong.
        let differing = self
            .tag(plain)
            .iter()
            .zip(&tag)
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        if black_box(differing) != 0 {
            return None;
        }
        Some((plain.try_into().ok()?, tag))
    }

    fn tag(&self, plain: &[u8]) -> Tag {
        let inner = self.inner.clone().chain_update(plain).finalize();
        let whole = self.outer.clone().chain_update(inner).finalize();
        let mut tag = [0; TAG];
        tag.copy_from_slice(&whole[..TAG]);
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ARMS: [&str; 2] = ["control", "candidate"];

    fn seal() -> Seal {
        Seal::new(&[7; 32], "e1", ARMS.into_iter())
    }

    fn routed() -> Routed {
        Routed {
            arm: 1,
            weight: 0.8,
            bucket: Some(3),
        }
    }

    #[test]
    fn the_mac_is_that_of_rfc_4231() {
        // Test case 2: key "Jefe", zero-padded to a block as every shorter key is.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let mut seal = Seal::new(&key, "", std::iter::empty());
        seal.inner = Sha256::new_with_prefix(std::array::from_fn::<u8, BLOCK, _>(|at| {
            0x36 ^ key.get(at).copied().unwrap_or(0)
        }));
        let tag = seal.tag(b"what do ya want for nothing?");
        assert_eq!(u128::from_be_bytes(tag), 0x5bdcc146bf60754e6a042426089575c7);
    }

    #[test]
    fn an_id_is_read_by_who_has_key_experiment_and_arms() {
        let id = seal().write(routed(), 5);
        assert_eq!(seal().read(&id).unwrap().0, routed());
        for other in [
            Seal::new(&[8; 32], "e1", ARMS.into_iter()),
            Seal::new(&[7; 32], "e2", ARMS.into_iter()),
            Seal::new(&[7; 32], "e1", ARMS.into_iter().rev()),
            Seal::new(&[7; 32], "e1c", ["ontrol", "candidate"].into_iter()),
        ] {
            assert_eq!(other.read(&id), None);
        }
    }

    #[test]
    fn ids_of_two_requests_differ() {
        let ids = [5, 6].map(|nonce| seal().write(routed(), nonce));
        assert_ne!(ids[0], ids[1]);
        let tags = ids.map(|id| seal().read(&id).unwrap().1);
        assert_ne!(tags[0], tags[1]);
    }

    #[test]
    fn a_key_is_64_hexadecimal_digits() {
        assert_eq!(key(&"0aF1".repeat(16)).unwrap()[..3], [0x0a, 0xf1, 0x0a]);
        for wrong in ["", "0a", &"0".repeat(63), &"0".repeat(65), &"0g".repeat(32)] {
            assert_eq!(key(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_noticed(at in 0usize..PLAIN + TAG, change in 1u8.., nonce: u64) {
            let id = seal().write(routed(), nonce);
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(id).unwrap();
            bytes[at] ^= change;
            prop_assert_eq!(seal().read(&BASE64_URL_SAFE_NO_PAD.encode(bytes)), None);
        }

        #[test]
        fn anything_may_be_posted(id: String) {
            prop_assert_eq!(seal().read(&id), None);
        }
    }
}
