//! Figures of likelihoods: how surprised a model is by the truth. Pure.

use super::Undefined;

/// exp of the mean negative log-likelihood a token, over all tokens of all examples: `torchmetrics.text.Perplexity`.
/// `nats` is the sum of the negative log-likelihoods.
pub fn perplexity(nats: f64, tokens: u64) -> Result<f64, Undefined> {
    if tokens == 0 {
        return Err(nothing("token", "perplexity"));
    }
    Ok((nats / tokens as f64).exp())
}

/// Bits that a coder guided by the model spends on a byte of UTF-8, which compares models of different tokenizers:
/// `bits_per_byte` of lm-evaluation-harness. `nats` is the sum of the negative log-likelihoods.
pub fn bits_per_byte(nats: f64, bytes: u64) -> Result<f64, Undefined> {
    if bytes == 0 {
        return Err(nothing("byte", "bitsPerByte"));
    }
    Ok(nats / bytes as f64 / std::f64::consts::LN_2)
}

fn nothing(unit: &'static str, metric: &'static str) -> Undefined {
    Undefined::NothingToCount {
        unit,
        side: "the texts",
        metric,
        fix: "give texts that are not empty",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_draw_is_as_perplexing_as_its_choices_are_many() {
        assert!((perplexity(3.0 * 8f64.ln(), 3).unwrap() - 8.0).abs() < 1e-12);
        // Three draws of 8 are 9 bits.
        assert!((bits_per_byte(3.0 * 8f64.ln(), 3).unwrap() - 3.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_is_not_perplexing() {
        let refused = perplexity(0.0, 0).unwrap_err().to_string();
        assert_eq!(
            refused,
            "there is not one token in the texts, and perplexity divides by their number; give texts that are not empty"
        );
        assert!(bits_per_byte(0.0, 0).is_err());
    }
}
