//! Choosing the next token from logits. Pure: the only state is the sequence's own random generator and the
//! counts of what it has produced, so a sequence's text never depends on its neighbours in a batch.

use std::cmp::Ordering;
use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// How a sequence is sampled; fields and ranges as in the OpenAI API, `top_k` and `min_p` as in vLLM.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 always takes the most likely token.
    pub temperature: f32,
    /// Keeps the most likely tokens whose probabilities add up to this much.
    pub top_p: f32,
    /// Keeps this many of the most likely tokens.
    pub top_k: Option<usize>,
    /// Keeps tokens at least this likely, relative to the most likely one.
    pub min_p: f32,
    /// Subtracted from a token's logit for each time the answer already has it.
    pub frequency_penalty: f32,
    /// Subtracted once from the logit of each token the answer already has.
    pub presence_penalty: f32,
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Start of the random generator.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// The logits of a step are NaN or infinite, so no token is more likely than another.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the model computed logits that are not finite; its weights (or the adapter's) are damaged or overflow the number type"
)]
pub struct NotFinite;

/// The sampler of one sequence.
#[derive(Debug)]
pub struct Sampler {
    options: Sampling,
    random: ChaCha8Rng,
    counts: HashMap<u32, u32>,
}

impl Sampler {
    /// A sampler at the start of a sequence.
    pub fn new(options: Sampling) -> Self {
        let random = ChaCha8Rng::seed_from_u64(options.seed);
        Self {
            options,
            random,
            counts: HashMap::new(),
        }
    }

    /// Chooses a token from `logits` (one for each vocabulary entry), which the penalties change in place.
    pub fn next(&mut self, logits: &mut [f32]) -> Result<u32, NotFinite> {
        self.adjust(logits);
        let best = argmax(logits).ok_or(NotFinite)?;
        let token = if self.options.temperature > 0.0 {
            self.draw(logits, best)
        } else {
            best
        };
        *self.counts.entry(token).or_default() += 1;
        Ok(token)
    }

    fn adjust(&self, logits: &mut [f32]) {
        let Sampling {
            frequency_penalty,
            presence_penalty,
            ..
        } = self.options;
        if frequency_penalty != 0.0 || presence_penalty != 0.0 {
            for (&token, &count) in &self.counts {
                logits[token as usize] -= frequency_penalty * count as f32 + presence_penalty;
            }
        }
        for &(token, bias) in &self.options.logit_bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
    }

    fn draw(&mut self, logits: &[f32], best: u32) -> u32 {
        let Sampling {
            temperature,
            top_p,
            top_k,
            min_p,
            ..
        } = self.options;
        let peak = logits[best as usize];
        let weight = |logit: f32| f64::from((logit - peak) / temperature).exp();
        // 53 bits make a double in [0, 1).
        let uniform = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let truncates = top_p < 1.0 || top_k.is_some_and(|k| k < logits.len()) || min_p > 0.0;
        if truncates {
            let kept = nucleus(logits, &weight, f64::from(top_p), top_k, f64::from(min_p));
            pick(kept.iter().copied(), uniform).unwrap_or(best)
        } else {
            let every = (0u32..).zip(logits).map(|(token, &logit)| (token, weight(logit)));
            pick(every, uniform).unwrap_or(best)
        }
    }
}

/// The index of the greatest logit, the first of equals; none when a logit is NaN or +∞, or all are -∞.
fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (token, &logit) in (0u32..).zip(logits) {
        if logit.is_nan() || logit == f32::INFINITY {
            return None;
        }
        if logit > best.map_or(f32::NEG_INFINITY, |(_, value)| value) {
            best = Some((token, logit));
        }
    }
    best.map(|(token, _)| token)
}

/// More likely first, then the smaller id, so that ties have one order.
fn likelier(a: &(u32, f64), b: &(u32, f64)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The most likely tokens with their weights (relative to the most likely one's, 1), most likely first.
fn nucleus(
    logits: &[f32],
    weight: &impl Fn(f32) -> f64,
    top_p: f64,
    top_k: Option<usize>,
    min_p: f64,
) -> Vec<(u32, f64)> {
    let mut tokens: Vec<(u32, f64)> = (0u32..)
        .zip(logits)
        .map(|(token, &logit)| (token, weight(logit)))
        .collect();
    let mass = top_p * tokens.iter().map(|(_, weight)| weight).sum::<f64>();
    let limit = top_k.unwrap_or(tokens.len()).clamp(1, tokens.len());
    // Sorting a whole vocabulary costs more than a decoding step of a small model: sort only a head that
    // grows until it holds the mass asked for.
    let mut head = 64.min(limit);
    loop {
        if head < tokens.len() {
            tokens.select_nth_unstable_by(head - 1, likelier);
        }
        tokens[..head].sort_unstable_by(likelier);
        let mut sum = 0.0;
        let enough = tokens[..head].iter().position(|(_, weight)| {
            sum += weight;
            sum >= mass
        });
        if let Some(last) = enough {
            tokens.truncate(last + 1);
            break;
        }
        if head == limit {
            tokens.truncate(limit);
            break;
        }
        head = (head * 8).min(limit);
    }
    tokens.retain(|(_, weight)| *weight >= min_p);
    tokens
}

/// The token at `uniform` (in [0, 1)) of the summed weights.
fn pick(tokens: impl Iterator<Item = (u32, f64)> + Clone, uniform: f64) -> Option<u32> {
    let mut rest = uniform * tokens.clone().map(|(_, weight)| weight).sum::<f64>();
    let mut last = None;
    for (token, weight) in tokens {
        if weight > 0.0 {
            last = Some(token);
            if rest < weight {
                break;
            }
            rest -= weight;
        }
    }
    last
}

/// Natural logarithms of probabilities at one position, before temperature and penalties.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// Of the token that stands there.
    pub chosen: f32,
    /// The most likely tokens, most likely first.
    pub top: Vec<(u32, f32)>,
}

/// Log-probabilities of `chosen` and of the `top` most likely tokens.
pub fn logprobs(logits: &[f32], chosen: u32, top: usize) -> Logprobs {
    let peak = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - peak).exp()).sum();
    let norm = peak + sum.ln() as f32;
    let top = top.min(logits.len());
    let mut best: Vec<(u32, f64)> = Vec::new();
    if top > 0 {
        best = (0u32..)
            .zip(logits)
            .map(|(token, &logit)| (token, f64::from(logit)))
            .collect();
        if top < best.len() {
            best.select_nth_unstable_by(top - 1, likelier);
            best.truncate(top);
        }
        best.sort_unstable_by(likelier);
    }
    Logprobs {
        chosen: logits[chosen as usize] - norm,
        top: best
            .into_iter()
            .map(|(token, logit)| (token, logit as f32 - norm))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(options: &Sampling, logits: &[f32], n: u64) -> Vec<u32> {
        (0..n)
            .map(|seed| {
                let options = Sampling {
                    seed,
                    ..options.clone()
                };
                Sampler::new(options).next(&mut logits.to_vec()).unwrap()
            })
            .collect()
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_greatest() {
        let options = Sampling {
            temperature: 0.0,
            ..Sampling::default()
        };
        assert_eq!(Sampler::new(options).next(&mut [0.0, 2.0, 2.0, 1.0]), Ok(1));
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let n = 20_000;
        let logits = [1.0f32.ln(), 2.0f32.ln(), 7.0f32.ln()];
        let tokens = draws(&Sampling::default(), &logits, n);
        for (token, expected) in [(0, 0.1), (1, 0.2), (2, 0.7)] {
            let share = tokens.iter().filter(|&&t| t == token).count() as f64 / n as f64;
            assert!((share - expected).abs() < 0.015, "token {token}: {share}");
        }
    }

    #[test]
    fn low_temperature_sharpens_and_high_flattens() {
        let logits = [0.0, 1.0];
        let share = |temperature| {
            let options = Sampling {
                temperature,
                ..Sampling::default()
            };
            draws(&options, &logits, 4_000)
                .iter()
                .filter(|&&t| t == 1)
                .count() as f64
                / 4_000.0
        };
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        assert!((share(0.5) - sigmoid(2.0)).abs() < 0.03);
        assert!((share(2.0) - sigmoid(0.5)).abs() < 0.03);
    }

    #[test]
    fn top_p_keeps_the_smallest_head_with_enough_mass() {
        let logits = [5.0f32.ln(), 3.0f32.ln(), 1.0f32.ln(), 1.0f32.ln()];
        let options = Sampling {
            top_p: 0.75,
            ..Sampling::default()
        };
        let tokens = draws(&options, &logits, 2_000);
        assert!(tokens.iter().all(|&t| t < 2));
        assert!(tokens.contains(&0) && tokens.contains(&1));
        let options = Sampling {
            top_p: 0.0,
            ..options
        };
        assert!(draws(&options, &logits, 100).iter().all(|&t| t == 0));
    }

    #[test]
    fn a_flat_vocabulary_needs_a_head_beyond_the_first_guess() {
        let logits = vec![0.0; 1000];
        let weights = nucleus(&logits, &|_| 1.0, 0.9, None, 0.0);
        assert_eq!(weights.len(), 900);
    }

    #[test]
    fn top_k_and_min_p_cut_the_tail() {
        let logits = [0.0, 3.0, 1.0, 2.0];
        let options = Sampling {
            top_k: Some(2),
            temperature: 5.0,
            ..Sampling::default()
        };
        assert!(draws(&options, &logits, 500).iter().all(|&t| t == 1 || t == 3));
        let options = Sampling {
            min_p: 0.9,
            ..Sampling::default()
        };
        assert!(draws(&options, &logits, 200).iter().all(|&t| t == 1));
    }

    #[test]
    fn penalties_and_bias_move_the_choice() {
        let greedy = Sampling {
            temperature: 0.0,
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(Sampling {
            frequency_penalty: 0.6,
            ..greedy.clone()
        });
        let picked: Vec<u32> = (0..4).map(|_| sampler.next(&mut [1.0, 0.0]).unwrap()).collect();
        assert_eq!(picked, [0, 0, 1, 0]);
        let mut sampler = Sampler::new(Sampling {
            presence_penalty: 2.0,
            ..greedy.clone()
        });
        let picked: Vec<u32> = (0..3).map(|_| sampler.next(&mut [1.0, 0.0]).unwrap()).collect();
        assert_eq!(picked, [0, 1, 0]);
        let mut sampler = Sampler::new(Sampling {
            logit_bias: vec![(1, 100.0), (9, 1.0)],
            ..greedy
        });
        assert_eq!(sampler.next(&mut [1.0, 0.0]), Ok(1));
    }

    #[test]
    fn one_seed_gives_one_sequence() {
        let run = |seed| {
            let mut sampler = Sampler::new(Sampling {
                seed,
                top_p: 0.9,
                ..Sampling::default()
            });
            (0..50)
                .map(|_| sampler.next(&mut [0.5; 300]).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn damaged_logits_are_refused() {
        for bad in [f32::NAN, f32::INFINITY] {
            assert_eq!(
                Sampler::new(Sampling::default()).next(&mut [0.0, bad]),
                Err(NotFinite)
            );
        }
        assert_eq!(
            Sampler::new(Sampling::default()).next(&mut [f32::NEG_INFINITY; 3]),
            Err(NotFinite)
        );
    }

    #[test]
    fn logprobs_are_normalised_and_sorted() {
        let logits = [1.0f32.ln() + 50.0, 3.0f32.ln() + 50.0, 4.0f32.ln() + 50.0];
        let found = logprobs(&logits, 0, 2);
        assert!((found.chosen - 0.125f32.ln()).abs() < 1e-5);
        assert_eq!(found.top.iter().map(|(t, _)| *t).collect::<Vec<_>>(), [2, 1]);
        assert!((found.top[0].1 - 0.5f32.ln()).abs() < 1e-5);
        assert!(logprobs(&logits, 0, 0).top.is_empty());
        assert_eq!(logprobs(&logits, 0, 99).top.len(), 3);
    }
}
