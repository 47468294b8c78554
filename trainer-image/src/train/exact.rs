//! JSON whose floats come back to the last bit. Pure.
//!
//! `serde_json` writes a float exactly and, without its feature `float_roundtrip`, may read it one unit in the last
//! place off. A run that resumes must have the very losses of one that did not stop, so floats are stored as text
//! here and parsed by the standard library, which is exact.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Error, Number, Value};

/// Before a float as text; no other text of a checkpoint begins like this.
const MARK: &str = "f64:";

pub(super) fn to_vec(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut value = serde_json::to_value(value)?;
    each(&mut value, &|leaf| {
        if let Value::Number(number) = leaf
            && number.is_f64()
        {
            *leaf = Value::String(format!("{MARK}{number}"));
        }
    });
    serde_json::to_vec(&value)
}

pub(super) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut value = serde_json::from_slice(bytes)?;
    each(&mut value, &|leaf| {
        if let Value::String(text) = leaf
            && let Some(number) = text.strip_prefix(MARK)
            && let Some(number) = number.parse().ok().and_then(Number::from_f64)
        {
            *leaf = Value::Number(number);
        }
    });
    serde_json::from_value(value)
}

fn each(value: &mut Value, change: &impl Fn(&mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each(item, change)),
        Value::Object(entries) => entries.values_mut().for_each(|entry| each(entry, change)),
        leaf => change(leaf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_comes_back_to_the_bit() {
        let mut random = 1u64;
        let floats: Vec<f64> = (0..20_000)
            .map(|_| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                f64::from_bits(random)
            })
            .filter(|float| float.is_finite())
            .chain([
                0.0,
                -0.0,
                1.0,
                2.877_214_670_181_274_4,
                f64::MIN_POSITIVE,
                f64::MAX,
            ])
            .collect();
        let back: Vec<f64> = from_slice(&to_vec(&floats).unwrap()).unwrap();
        assert!(
            floats
                .iter()
                .map(|x| x.to_bits())
                .eq(back.iter().map(|x| x.to_bits()))
        );
    }

    #[test]
    fn what_was_written_as_plain_numbers_is_read_too() {
        let read: (f64, u64, String) = from_slice(br#"[1.5, 7, "text"]"#).unwrap();
        assert_eq!(read, (1.5, 7, "text".to_owned()));
    }
}
