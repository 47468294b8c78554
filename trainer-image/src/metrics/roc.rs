//! The area under the ROC curve, equal to scikit-learn's `roc_auc_score`. Pure.

use super::Undefined;

/// Examples in the order of their scores, sorted once, so that every resample of a bootstrap costs one pass.
#[derive(Clone, Debug, PartialEq)]
pub struct RocAuc {
    /// The class of each example.
    truth: Vec<u32>,
    /// One ranking for two classes, else one a class.
    rankings: Vec<Ranking>,
}

/// The examples by ascending score for one class.
#[derive(Clone, Debug, PartialEq)]
struct Ranking {
    class: u32,
    order: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    example: u32,
    /// The next example has a higher score, or there is none.
    last_of_tie: bool,
}

impl RocAuc {
    /// `truth` holds class ids; `scores` for each example one finite score a class. Of two classes the second is the
    /// positive one; more are taken one against the rest, and the figure is the mean over classes.
    pub fn new(truth: &[u32], scores: &[Vec<f64>]) -> Result<Self, Undefined> {
        if truth.len() != scores.len() {
            return Err(Undefined::Lengths {
                truth: truth.len(),
                found: scores.len(),
            });
        }
        let classes = scores.first().ok_or(Undefined::NoExamples)?.len();
        if let Some(&class) = truth.iter().find(|&&class| class as usize >= classes) {
            return Err(Undefined::ClassUnknown { class, classes });
        }
        for (index, row) in scores.iter().enumerate() {
            if row.len() != classes {
                return Err(Undefined::Lengths {
                    truth: classes,
                    found: row.len(),
                });
            }
            if let Some(&value) = row.iter().find(|score| !score.is_finite()) {
                return Err(Undefined::NotFinite { index, value });
            }
        }
        let ranked = if classes == 2 { 1..2 } else { 0..classes };
        Ok(Self {
            truth: truth.to_vec(),
            rankings: ranked.map(|class| Ranking::new(class, scores)).collect(),
        })
    }

    /// The area over all examples, 0 to 1.
    pub fn score(&self) -> Result<f64, Undefined> {
        self.weighted(&vec![1; self.truth.len()])
    }

    /// The area over the examples at `indices`, each counted as often as it is there.
    pub fn resampled(&self, indices: &[u32]) -> Result<f64, Undefined> {
        let mut weights = vec![0; self.truth.len()];
        for &index in indices {
            weights[index as usize] += 1;
        }
        self.weighted(&weights)
    }

    fn weighted(&self, weights: &[u32]) -> Result<f64, Undefined> {
        let mut sum = 0.0;
        for ranking in &self.rankings {
            sum += ranking.area(&self.truth, weights)?;
        }
        Ok(sum / self.rankings.len() as f64)
    }
}

impl Ranking {
    fn new(class: usize, scores: &[Vec<f64>]) -> Self {
        let score = |example: u32| scores[example as usize][class];
        let mut examples: Vec<u32> = (0..scores.len() as u32).collect();
        examples.sort_by(|&a, &b| score(a).total_cmp(&score(b)));
        let order = examples
            .iter()
            .enumerate()
            .map(|(at, &example)| Place {
                example,
                // By comparison of numbers: 0 and -0 are a tie.
                last_of_tie: examples
                    .get(at + 1)
                    .is_none_or(|&next| score(next) > score(example)),
            })
            .collect();
        Self {
            class: class as u32,
            order,
        }
    }

    /// The share of pairs of a positive and a negative example in which the positive one has the higher score; a tie is
    /// half a pair. This equals the area under the curve by trapezoids (Hanley and McNeil, 1982).
    fn area(&self, truth: &[u32], weights: &[u32]) -> Result<f64, Undefined> {
        let (mut positive, mut negative, mut pairs) = (0u64, 0u64, 0.0);
        let (mut tied_positive, mut tied_negative) = (0u64, 0u64);
        for place in &self.order {
            let weight = u64::from(weights[place.example as usize]);
            if truth[place.example as usize] == self.class {
                tied_positive += weight;
            } else {
                tied_negative += weight;
            }
            if place.last_of_tie {
                pairs += tied_positive as f64 * (negative as f64 + tied_negative as f64 / 2.0);
                positive += tied_positive;
                negative += tied_negative;
                (tied_positive, tied_negative) = (0, 0);
            }
        }
        if positive == 0 || negative == 0 {
            return Err(Undefined::ClassMissing {
                class: self.class,
                every: negative == 0,
            });
        }
        Ok(pairs / (positive as f64 * negative as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(positive: &[f64]) -> Vec<Vec<f64>> {
        positive.iter().map(|score| vec![1.0 - score, *score]).collect()
    }

    // Expected values: sklearn.metrics.roc_auc_score.
    #[test]
    fn areas_are_those_of_scikit_learn() {
        let area = RocAuc::new(&[0, 0, 1, 1], &binary(&[0.1, 0.4, 0.35, 0.8])).unwrap();
        assert_eq!(area.score(), Ok(0.75));
        let tied = RocAuc::new(&[0, 1, 0, 1], &binary(&[0.5, 0.5, 0.2, 0.9])).unwrap();
        assert_eq!(tied.score(), Ok(0.875));
        let three = [vec![0.2, 0.3, 0.5], vec![0.6, 0.3, 0.1], vec![0.1, 0.8, 0.1]];
        let found = RocAuc::new(&[0, 1, 2], &three).unwrap().score().unwrap();
        assert!((found - 1.0 / 3.0).abs() < 1e-12, "{found}");
    }

    #[test]
    fn a_resample_counts_as_the_examples_written_out() {
        let scores = binary(&[0.1, 0.4, 0.35, 0.8]);
        let all = RocAuc::new(&[0, 0, 1, 1], &scores).unwrap();
        let drawn = [3u32, 0, 1, 1, 2, 2, 2];
        let truth: Vec<u32> = drawn.iter().map(|&index| [0, 0, 1, 1][index as usize]).collect();
        let written: Vec<Vec<f64>> = drawn
            .iter()
            .map(|&index| scores[index as usize].clone())
            .collect();
        assert_eq!(
            all.resampled(&drawn),
            RocAuc::new(&truth, &written).unwrap().score()
        );
    }

    #[test]
    fn one_class_has_no_area() {
        let one = RocAuc::new(&[1, 1], &binary(&[0.1, 0.2])).unwrap();
        assert_eq!(
            one.score().unwrap_err().to_string(),
            "class 1 has every example, and ROC AUC tells a class from the others; give examples of every class"
        );
        assert_eq!(RocAuc::new(&[], &[]), Err(Undefined::NoExamples));
        let nan = RocAuc::new(&[0, 1], &binary(&[0.1, f64::NAN])).unwrap_err();
        assert!(matches!(nan, Undefined::NotFinite { index: 1, .. }), "{nan}");
    }
}
