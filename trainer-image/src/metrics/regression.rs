//! Metrics of numbers against numbers, each equal to scikit-learn's or scipy's. Pure.

use super::Undefined;

/// Mean of squared errors: `sklearn.metrics.mean_squared_error`.
pub fn mean_squared_error(truth: &[f64], found: &[f64]) -> Result<f64, Undefined> {
    check(truth, found, 1)?;
    Ok(squares(errors(truth, found))? / truth.len() as f64)
}

/// Its square root, in the unit of the values: `root_mean_squared_error`.
pub fn root_mean_squared_error(truth: &[f64], found: &[f64]) -> Result<f64, Undefined> {
    mean_squared_error(truth, found).map(f64::sqrt)
}

/// Mean of absolute errors: `mean_absolute_error`.
pub fn mean_absolute_error(truth: &[f64], found: &[f64]) -> Result<f64, Undefined> {
    check(truth, found, 1)?;
    Ok(errors(truth, found).map(f64::abs).sum::<f64>() / truth.len() as f64)
}

/// The coefficient of determination, 1 − squared errors over squared deviations from the mean: `r2_score`. Where the true
/// values are all equal it is 1 without an error and 0 with one.
pub fn r2(truth: &[f64], found: &[f64]) -> Result<f64, Undefined> {
    check(truth, found, 2)?;
    let missed = squares(errors(truth, found))?;
    let mean = mean(truth);
    let spread = squares(truth.iter().map(|value| value - mean))?;
    Ok(if missed == 0.0 {
        1.0
    } else if spread == 0.0 || constant(truth) {
        0.0
    } else {
        1.0 - missed / spread
    })
}

/// Pearson's correlation, −1 to 1: `scipy.stats.pearsonr`.
pub fn pearson(truth: &[f64], found: &[f64]) -> Result<f64, Undefined> {
    check(truth, found, 2)?;
    let (truth, found) = (unit(truth, "true")?, unit(found, "found")?);
    let product: f64 = truth.iter().zip(&found).map(|(a, b)| a * b).sum();
    // Rounding must not push it past the ends.
    Ok(product.clamp(-1.0, 1.0))
}

/// Spearman's correlation, −1 to 1: Pearson's of the ranks, where equal values share the mean of their ranks:
/// `scipy.stats.spearmanr`.
pub fn spearman(truth: &[f64], found: &[f64]) -> Result<f64, Undefined> {
    check(truth, found, 2)?;
    pearson(&ranks(truth), &ranks(found))
}

fn check(truth: &[f64], found: &[f64], least: usize) -> Result<(), Undefined> {
    if truth.len() != found.len() {
        return Err(Undefined::Lengths {
            truth: truth.len(),
            found: found.len(),
        });
    }
    match truth.len() {
        0 => return Err(Undefined::NoExamples),
        1 if least > 1 => return Err(Undefined::OneExample),
        _ => {}
    }
    let bad = |values: &[f64]| values.iter().position(|value| !value.is_finite());
    for values in [truth, found] {
        if let Some(index) = bad(values) {
            return Err(Undefined::NotFinite {
                index,
                value: values[index],
            });
        }
    }
    Ok(())
}

fn errors(truth: &[f64], found: &[f64]) -> impl Iterator<Item = f64> {
    truth.iter().zip(found).map(|(truth, found)| truth - found)
}

/// The sum of the squares.
fn squares(values: impl Iterator<Item = f64>) -> Result<f64, Undefined> {
    let sum: f64 = values.map(|value| value * value).sum();
    if sum.is_finite() {
        Ok(sum)
    } else {
        Err(Undefined::Overflow)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Whether all values are equal. Their deviations from a rounded mean need not be 0.
fn constant(values: &[f64]) -> bool {
    values.iter().all(|value| value - values[0] == 0.0)
}

/// The deviations from the mean, scaled to length 1.
fn unit(values: &[f64], side: &'static str) -> Result<Vec<f64>, Undefined> {
    if constant(values) {
        return Err(Undefined::Constant { side });
    }
    let mean = mean(values);
    let mut deviations: Vec<f64> = values.iter().map(|value| value - mean).collect();
    // Squares of large numbers would overflow, of small ones vanish.
    let largest = deviations
        .iter()
        .fold(0.0f64, |largest, value| largest.max(value.abs()));
    for value in &mut deviations {
        *value /= largest;
    }
    let length = deviations.iter().map(|value| value * value).sum::<f64>().sqrt();
    for value in &mut deviations {
        *value /= length;
    }
    Ok(deviations)
}

/// Ranks from 1; ties get the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    // In their order none is greater than the next, and 0 ties with -0.
    for tie in order.chunk_by(|&a, &b| values[a] >= values[b]) {
        let rank = before as f64 + (tie.len() + 1) as f64 / 2.0;
        for &index in tie {
            ranks[index] = rank;
        }
        before += tie.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: [f64; 5] = [3.0, -0.5, 2.0, 7.0, 2.0];
    const FOUND: [f64; 5] = [2.5, 0.0, 2.0, 8.0, 1.0];

    // Expected values: scikit-learn and scipy on the same.
    #[test]
    fn figures_are_those_of_scikit_learn_and_scipy() {
        for (figure, expected) in [
            (mean_squared_error(&TRUTH, &FOUND), 0.5),
            (root_mean_squared_error(&TRUTH, &FOUND), 0.5f64.sqrt()),
            (mean_absolute_error(&TRUTH, &FOUND), 0.6),
            (r2(&TRUTH, &FOUND), 1.0 - 2.5 / 29.8),
            (pearson(&TRUTH, &FOUND), 0.971_957_933_478_435_6),
            (spearman(&TRUTH, &FOUND), 0.974_679_434_480_896_3),
        ] {
            let figure = figure.unwrap();
            assert!((figure - expected).abs() < 1e-12, "{figure} {expected}");
        }
    }

    #[test]
    fn what_does_not_vary_does_not_correlate() {
        let constant = pearson(&[0.1; 10], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        assert_eq!(constant, Err(Undefined::Constant { side: "true" }));
        assert_eq!(r2(&[1.0, 1.0], &[1.0, 1.0]), Ok(1.0));
        assert_eq!(r2(&[0.1; 3], &[1.0, 2.0, 3.0]), Ok(0.0));
    }

    #[test]
    fn large_numbers_correlate_but_their_squares_are_refused() {
        let (large, small) = ([1e200, 2e200, 3e200], [1.0, 2.0, 3.0]);
        assert!((pearson(&large, &small).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(mean_squared_error(&large, &small), Err(Undefined::Overflow));
        assert_eq!(r2(&[1e-200, 2e-200], &[1.0, 1.0]), Ok(0.0));
    }

    #[test]
    fn too_few_uneven_and_infinite_values_are_refused() {
        assert_eq!(mean_squared_error(&[], &[]), Err(Undefined::NoExamples));
        assert_eq!(r2(&[1.0], &[1.0]), Err(Undefined::OneExample));
        let uneven = Undefined::Lengths { truth: 1, found: 2 };
        assert_eq!(mean_absolute_error(&[1.0], &[1.0, 2.0]), Err(uneven));
        let infinite = Undefined::NotFinite {
            index: 1,
            value: f64::INFINITY,
        };
        assert_eq!(spearman(&[1.0, f64::INFINITY], &[1.0, 2.0]), Err(infinite));
    }
}
