//! Did the arms get the users that the split promised? The sequential multinomial test of Lindon and Malek (NeurIPS
//! 2022, arXiv 2011.03567). Pure.
//!
//! For one split θ, the counts n of users are weighed by the Bayes factor of a multinomial with probabilities drawn
//! from Dirichlet(κθ) against θ itself: Γ(κ)/Γ(κ + Σn) · Π Γ(κθ_a + n_a)/Γ(κθ_a) · θ_a^(−n_a). Under θ that is a
//! martingale of mean 1 in users, so it reaches 1/α with probability α at most, whenever one looks (Ville), exactly
//! and from the first user on. Splits that were in force one after the other have users of their own, so their
//! factors multiply.

use super::special::ln_gamma;
use super::split::{Split, Users};

/// How far shares are expected to stray where they do: as if seen in this many users before. As in the authors' own
/// package.
const CONCENTRATION: f64 = 100.0;

/// The natural logarithm of the evidence against the splits; 0 is none, either way.
pub fn ln_evidence(users: &Users) -> f64 {
    users
        .sent()
        .iter()
        .map(|(split, counts)| factor(split, counts))
        .sum()
}

fn factor(split: &Split, counts: &[u64]) -> f64 {
    let n = counts.iter().sum::<u64>() as f64;
    let arms = counts.iter().enumerate().map(|(arm, &count)| {
        let (count, chance) = (count as f64, split.chance(arm));
        let prior = CONCENTRATION * chance;
        ln_gamma(prior + count) - ln_gamma(prior) - count * chance.ln()
    });
    ln_gamma(CONCENTRATION) - ln_gamma(CONCENTRATION + n) + arms.sum::<f64>()
}

/// How many users the splits promised each of `arms` arms, of those whom the test has counted, and how many came.
pub fn promised(users: &Users, arms: usize) -> Vec<(f64, u64)> {
    let mut promised = vec![(0.0, 0); arms];
    for (split, counts) in users.sent() {
        let n = counts.iter().sum::<u64>() as f64;
        for (arm, sum) in promised.iter_mut().enumerate() {
            sum.0 += n * split.chance(arm);
            sum.1 += counts[arm];
        }
    }
    promised
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(split: &Split, counts: &[u64]) -> Users {
        let mut users = Users::default();
        for (arm, &count) in counts.iter().enumerate() {
            for _ in 0..count {
                users.add_alone(split, arm);
            }
        }
        users
    }

    #[test]
    fn the_factor_is_the_product_of_its_predictions() {
        // Each user is predicted from those before: (κθ_a + n_a) / (κ + n), against θ_a.
        let split = Split::new(&[3, 1]).unwrap();
        let (mut counts, mut product) = ([0u64; 2], 1.0);
        for arm in [0, 0, 1, 0, 1, 1, 1, 0] {
            let n = counts.iter().sum::<u64>() as f64;
            let chance = split.chance(arm);
            product *= (CONCENTRATION * chance + counts[arm] as f64) / (CONCENTRATION + n) / chance;
            counts[arm] += 1;
        }
        let found = ln_evidence(&users(&split, &counts));
        assert!((found - f64::ln(product)).abs() < 1e-10, "{found} and {product}");
    }

    #[test]
    fn an_even_split_is_no_evidence_and_a_crooked_one_is() {
        let split = Split::new(&[50, 50]).unwrap();
        assert!(ln_evidence(&users(&split, &[5000, 5000])) < 0.0);
        assert!(ln_evidence(&users(&split, &[5300, 4700])) > 100.0_f64.ln());
        assert!(ln_evidence(&Users::default()).abs() < 1e-12);
    }

    #[test]
    fn each_split_is_held_to_its_own_promise() {
        // 9:1, then 1:1: right by each, though neither total is.
        let mut both = users(&Split::new(&[9, 1]).unwrap(), &[900, 100]);
        both.merge(&users(&Split::new(&[1, 1]).unwrap(), &[500, 500]));
        assert!(ln_evidence(&both) < 0.0);
        assert_eq!(promised(&both, 2), [(1400.0, 1400), (600.0, 600)]);
    }
}
