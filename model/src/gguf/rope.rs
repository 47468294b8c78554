//! Llama 3's stretched rotary embeddings.
//!
//! A GGUF file holds their result, one divisor a frequency; `config.json` holds the formula's parameters. They are
//! found again by trying Llama 3's published ones and comparing.

use serde_json::{Value as Json, json};

/// The tensor of divisors.
pub(super) const FACTORS: &str = "rope_freqs.weight";
/// `low_freq_factor` and `high_freq_factor` of every Llama 3.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;

/// The `rope_scaling` whose formula yields `factors`, if there is one. `base` is rope's theta, `original` the context
/// length before stretching, in tokens.
pub(super) fn llama3(factors: &[f32], base: f64, head_dim: usize, original: f64) -> Option<Json> {
    let factor = f64::from(factors.iter().copied().fold(1.0, f32::max));
    let expected = divisors(factor, base, head_dim, original);
    let equal = expected.len() == factors.len()
        && expected
            .iter()
            .zip(factors)
            .all(|(&a, &b)| (a - f64::from(b)).abs() <= 1e-3 * a);
    equal.then(|| {
        json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": LOW, "high_freq_factor": HIGH,
            "original_max_position_embeddings": original as u64,
        })
    })
}

/// One divisor for each of the `head_dim / 2` frequencies.
fn divisors(factor: f64, base: f64, head_dim: usize, original: f64) -> Vec<f64> {
    (0..head_dim / 2)
        .map(|index| {
            let frequency = base.powf(-2.0 * index as f64 / head_dim as f64);
            let wavelength = std::f64::consts::TAU / frequency;
            if wavelength < original / HIGH {
                1.0
            } else if wavelength > original / LOW {
                factor
            } else {
                let smooth = (original / wavelength - LOW) / (HIGH - LOW);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_of_llama_3_2_are_found_again() {
        let factors: Vec<f32> = divisors(32.0, 500_000.0, 64, 8192.0)
            .iter()
            .map(|&v| v as f32)
            .collect();
        assert_eq!(factors[0].to_bits(), 1.0_f32.to_bits());
        let found = llama3(&factors, 500_000.0, 64, 8192.0).unwrap();
        assert_eq!(found["factor"], 32.0);
        assert_eq!(found["original_max_position_embeddings"], 8192);
    }

    #[test]
    fn other_factors_are_not_taken_for_llama_3() {
        let longrope: Vec<f32> = (0..32).map(|index| 1.0 + 0.5 * index as f32).collect();
        assert_eq!(llama3(&longrope, 500_000.0, 64, 8192.0), None);
        assert_eq!(llama3(&[8.0], 500_000.0, 64, 8192.0), None);
    }
}
