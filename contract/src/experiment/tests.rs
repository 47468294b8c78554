//! What the tests share.

mod decide;
mod ledger;
mod merge;
mod simulated;
mod tally;

use super::split::Users;
use super::*;

fn tally() -> Tally {
    Tally::new(["control", "candidate"].map(String::from))
}

fn even() -> Split {
    Split::new(&[50, 50]).unwrap()
}

/// Scores of `arm`, each from a request without a key.
fn score(tally: &mut Tally, split: &Split, arm: usize, scores: impl IntoIterator<Item = f64>) {
    for score in scores {
        let routed = tally.route(split, arm, None, 0).unwrap();
        tally.score(routed, score).unwrap();
    }
}

/// `ones` scores of 1 and the rest of `n` 0.
fn shares(ones: usize, n: usize) -> impl Iterator<Item = f64> {
    (0..n).map(move |i| if i < ones { 1.0 } else { 0.0 })
}

fn close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= 1e-9 * expected.abs().max(1e-3),
        "{found} is not {expected}"
    );
}
