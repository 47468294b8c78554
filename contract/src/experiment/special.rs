//! The two special functions that the tests need. Pure.

use std::f64::consts::{PI, TAU};

/// P(Z > `x`) of a standard normal Z, to 14 digits: Marsaglia's series (2004) in the middle, Laplace's continued
/// fraction in the tail, where the series would cancel.
pub fn normal_tail(x: f64) -> f64 {
    if x < 0.0 {
        return 1.0 - normal_tail(-x);
    }
    let density = (-0.5 * x * x).exp() / TAU.sqrt();
    if x > 3.0 {
        let fraction = (1..=80).rev().fold(x, |below, k| x + f64::from(k) / below);
        return density / fraction;
    }
    let (mut sum, mut term, mut k) = (x, x, 1.0);
    while term > sum * 1e-17 {
        k += 2.0;
        term *= x * x / k;
        sum += term;
    }
    0.5 - density * sum
}

/// ln Γ(`x`) for positive `x`, to 14 digits: Stirling's series, moved up to where it is exact enough.
pub fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 1.0);
    while x < 10.0 {
        below *= x;
        x += 1.0;
    }
    let square = (x * x).recip();
    let series = (1.0 / 12.0
        - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square * (1.0 / 1680.0 - square / 1188.0))))
        / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln() + series - f64::ln(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() <= 1e-12 * expected.abs().max(1e-3),
            "{found} is not {expected}"
        );
    }

    #[test]
    fn the_normal_tail_is_the_tables() {
        close(normal_tail(0.0), 0.5);
        close(normal_tail(1.0), 0.158_655_253_931_457_05);
        close(normal_tail(-1.0), 0.841_344_746_068_542_9);
        close(normal_tail(1.959_963_984_540_054), 0.025);
        close(normal_tail(3.0), 0.001_349_898_031_630_094_6);
        assert!((normal_tail(5.0) / 2.866_515_718_791_939e-7 - 1.0).abs() < 1e-12);
        assert!((normal_tail(3.0 - 1e-12) / normal_tail(3.0 + 1e-12) - 1.0).abs() < 1e-10);
    }

    #[test]
    fn the_gamma_function_is_the_factorial_and_knows_one_half() {
        close(ln_gamma(1.0).exp(), 1.0);
        close(ln_gamma(0.5), PI.sqrt().ln());
        close(ln_gamma(6.0), 120.0_f64.ln());
        close(ln_gamma(101.0), (1..=100).map(|n| f64::from(n).ln()).sum());
    }
}
