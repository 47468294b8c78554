//! The boundary that a standardised difference must cross, at whatever moment one looks. Pure.
//!
//! Let S be a sum of independent errors and V its variance, the intrinsic time. If S is a Brownian motion,
//! M(S, V) = Σ_k w_k cosh(θ_k S) exp(−θ_k² V / 2), a mixture of likelihood ratios of the drifts ±θ_k, is a martingale,
//! so S stays for ever where M < b, except with a probability that b decides. Waudby-Smith, Arbour, Sinha, Kennedy
//! and Ramdas (arXiv 2103.06476, Annals of Statistics 2024) show that such boundaries hold asymptotically with an
//! estimated variance, for any scores with a little more than two moments.
//!
//! Watched from V = 0, b = 1/α. Nothing is said here before a start, so no error is spent there, and b is smaller:
//! P(M reaches b at or after the start) = P(M ≥ b at the start) + E[M; M < b at the start] / b, of normal
//! probabilities (Robbins and Siegmund, Annals of Mathematical Statistics 41, 1970, for any mixture; their invariance
//! theorem makes it the limit for sums as the start grows). b makes that α.

use super::special::normal_tail;

/// The greatest drift of the mixture is found at about this many starts; each next one takes twice as long.
const FIRST: f64 = 1.3;

/// Drifts of full weight: they are found by ten starts, before which most experiments end.
const FULL: usize = 4;

/// The weight of the next drift, of which the later ones have a fourth, a ninth, a sixteenth: smaller differences are
/// found too, only not as soon as by a mixture made for them.
const BEYOND: f64 = 0.4;

/// Drifts in all: the least is found at 700,000 starts.
const DRIFTS: usize = 20;

/// The part of the error that the boundary spends. The rest is for what is asymptotic: variances are estimated, and
/// sums of scores are not quite normal.
const SPENT: f64 = 0.97;

/// The boundary of level α from a start on. Time is what the scores are worth, in independent scores of an even
/// split, which grows with V in proportion.
#[derive(Clone, Copy, Debug)]
pub struct Boundary {
    start: f64,
    level: f64,
    /// 2 ln `level`: M is exp(z²/2) at most, whatever the drift, so no smaller z² reaches it.
    least: f64,
    /// Weight, and drift a square root of `start`.
    drifts: [(f64, f64); DRIFTS],
}

impl Boundary {
    /// Crossed with probability `alpha` by two arms without a difference, over all time from `start` on.
    pub fn new(alpha: f64, start: f64) -> Self {
        // A drift θ is found about when θ²V is this (Waudby-Smith et al., where their mixture is tightest).
        let tail = -2.0 * alpha.ln();
        let found = tail + tail.ln() + 1.0;
        let full = |k: usize| {
            if k < FULL {
                1.0
            } else {
                BEYOND / ((k - FULL + 1) as f64).powi(2)
            }
        };
        let total: f64 = (0..DRIFTS).map(full).sum();
        let drifts = std::array::from_fn(|k| {
            let starts = FIRST * 2f64.powi(k as i32);
            (full(k) / total, (found / starts).sqrt())
        });
        let mut boundary = Self {
            start,
            level: 0.0,
            least: 0.0,
            drifts,
        };
        // The edge at the start decides the level, and the farther it lies, the less is crossed.
        let (mut near, mut far) = (0.0, found.sqrt() + 3.0);
        for _ in 0..60 {
            let edge = f64::midpoint(near, far);
            boundary.level = boundary.mixture(edge, start);
            if boundary.crossing(edge) > SPENT * alpha {
                near = edge;
            } else {
                far = edge;
            }
        }
        boundary.level = boundary.mixture(far, start);
        boundary.least = 2.0 * boundary.level.ln();
        boundary
    }

    /// The time before which nothing is said.
    pub fn start(&self) -> f64 {
        self.start
    }

    /// Whether a difference whose square is `squared` times its variance lies beyond the boundary at `time`: what `at`
    /// says, fast enough to be asked at every request of 10,000 experiments.
    #[cfg(test)]
    pub fn crossed(&self, squared: f64, time: f64) -> bool {
        time >= self.start && squared >= self.least && self.mixture(squared.sqrt(), time) >= self.level
    }

    /// The boundary at `time`, for a difference divided by its standard error; none before the start.
    pub fn at(&self, time: f64) -> Option<f64> {
        if time < self.start {
            return None;
        }
        let (mut within, mut beyond) = (self.least.sqrt(), 4.0);
        while self.mixture(beyond, time) < self.level {
            beyond *= 2.0;
        }
        for _ in 0..60 {
            let middle = f64::midpoint(within, beyond);
            if self.mixture(middle, time) < self.level {
                within = middle;
            } else {
                beyond = middle;
            }
        }
        Some(beyond)
    }

    /// M where S / √V is `z`.
    fn mixture(&self, z: f64, time: f64) -> f64 {
        let root = (time / self.start).sqrt();
        let ratio = |&(weight, drift): &(f64, f64)| {
            let shift = drift * root;
            let half = 0.5 * shift * shift;
            0.5 * weight * ((z * shift - half).exp() + (-z * shift - half).exp())
        };
        self.drifts.iter().map(ratio).sum()
    }

    /// The probability that M reaches the level at or after the start, where it lies at `edge`.
    fn crossing(&self, edge: f64) -> f64 {
        let within =
            |&(weight, drift): &(f64, f64)| weight * (normal_tail(drift - edge) - normal_tail(drift + edge));
        2.0 * normal_tail(edge) + self.drifts.iter().map(within).sum::<f64>() / self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The normal mixture of Waudby-Smith et al. at level .05, tuned for 2,000 scores: the square of its boundary.
    fn plain(time: f64) -> f64 {
        let r = 8.781 * time / 2000.0;
        (r + 1.0) / r * (r.ln_1p() + 2.0 * 20.0_f64.ln())
    }

    #[test]
    fn nothing_is_said_before_the_start_and_less_is_asked_after_it_than_of_the_plain_mixture() {
        let boundary = Boundary::new(0.05, 1000.0);
        assert_eq!(boundary.at(999.9), None);
        assert!(!boundary.crossed(1e9, 999.9));
        for time in [1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0] {
            let ours = boundary.at(time).unwrap().powi(2);
            assert!(
                ours < plain(time) && ours > 0.8 * plain(time),
                "{time}: {ours} and {}",
                plain(time)
            );
        }
    }

    #[test]
    fn crossed_is_beyond_the_boundary() {
        for alpha in [0.5, 0.05, 0.05 / 28.0, 0.0001] {
            let boundary = Boundary::new(alpha, 200.0);
            for time in [200.0, 1e3, 1e5, 1e9] {
                let at = boundary.at(time).unwrap();
                assert!(
                    boundary.crossed((at * 1.000_001).powi(2), time),
                    "{alpha} {time} {at}"
                );
                assert!(
                    !boundary.crossed((at * 0.999_999).powi(2), time),
                    "{alpha} {time} {at}"
                );
            }
        }
    }

    #[test]
    fn a_smaller_error_asks_for_more_and_a_start_scales_time() {
        let [loose, strict] = [0.05, 0.05 / 3.0].map(|alpha| Boundary::new(alpha, 500.0));
        assert!(strict.at(800.0) > loose.at(800.0));
        let later = Boundary::new(0.05, 5000.0);
        assert!((later.at(8000.0).unwrap() - loose.at(800.0).unwrap()).abs() < 1e-9);
    }

    #[test]
    fn the_level_spends_the_error_that_it_may_and_less_than_ville_asks_for() {
        let boundary = Boundary::new(0.05, 1.0);
        assert!((boundary.crossing(boundary.at(1.0).unwrap()) - SPENT * 0.05).abs() < 1e-9);
        assert!(
            boundary.level > 10.0 && boundary.level < 20.0,
            "{}",
            boundary.level
        );
    }
}
