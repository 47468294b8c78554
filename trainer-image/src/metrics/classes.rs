//! Metrics of classification, each equal to scikit-learn's. Pure.

use slipway_contract::Average;

use super::Undefined;

/// How often each class was found for each true class.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Confusion {
    classes: usize,
    /// `counts[truth · classes + found]`.
    counts: Vec<u64>,
}

/// A figure that each class has of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OfClass {
    /// Right among those found.
    Precision,
    /// Right among those of the class.
    Recall,
    /// The harmonic mean of both.
    F1,
}

/// What one class contributes.
#[derive(Clone, Copy, Debug)]
struct Tally {
    right: u64,
    /// Examples of the class.
    truth: u64,
    /// Examples taken for the class.
    found: u64,
}

impl Confusion {
    /// No examples yet.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            counts: vec![0; classes * classes],
        }
    }

    /// Counts the examples whose classes, by id below `classes`, are `truth` and for which `found` were found.
    pub fn of(classes: usize, truth: &[u32], found: &[u32]) -> Result<Self, Undefined> {
        if truth.len() != found.len() {
            return Err(Undefined::Lengths {
                truth: truth.len(),
                found: found.len(),
            });
        }
        if let Some(&class) = truth
            .iter()
            .chain(found)
            .find(|&&class| class as usize >= classes)
        {
            return Err(Undefined::ClassUnknown { class, classes });
        }
        let mut confusion = Self::new(classes);
        for (&truth, &found) in truth.iter().zip(found) {
            confusion.add(truth, found);
        }
        Ok(confusion)
    }

    /// Counts one example by the ids of its class and of the class found for it.
    pub fn add(&mut self, truth: u32, found: u32) {
        self.counts[truth as usize * self.classes + found as usize] += 1;
    }

    /// Examples.
    pub fn examples(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Examples answered right.
    pub fn right(&self) -> u64 {
        (0..self.classes)
            .map(|class| self.counts[class * self.classes + class])
            .sum()
    }

    /// Share of examples answered right: `accuracy_score`.
    pub fn accuracy(&self) -> Result<f64, Undefined> {
        Ok(ratio(self.right(), self.some_examples()?))
    }

    /// `precision_score`, `recall_score` or `f1_score` with `zero_division=0`. Classes that occur neither as truth nor as
    /// answer do not count, and a class with an empty denominator scores 0. The binary average is that of class 1, as
    /// with `pos_label=1`.
    pub fn averaged(&self, figure: OfClass, average: Average) -> Result<f64, Undefined> {
        let examples = self.some_examples()?;
        let tallies = (0..self.classes)
            .map(|class| self.tally(class))
            .filter(|tally| tally.truth + tally.found > 0);
        Ok(match average {
            Average::Macro => {
                let (sum, count) = tallies.fold((0.0, 0u32), |(sum, count), tally| {
                    (sum + tally.figure(figure), count + 1)
                });
                sum / f64::from(count)
            }
            Average::Weighted => {
                tallies
                    .map(|tally| tally.truth as f64 * tally.figure(figure))
                    .sum::<f64>()
                    / examples as f64
            }
            Average::Micro => Tally {
                right: self.right(),
                truth: examples,
                found: examples,
            }
            .figure(figure),
            Average::Binary if self.classes == 2 => self.tally(1).figure(figure),
            Average::Binary => return Err(Undefined::NotBinary(self.classes)),
        })
    }

    /// The Matthews correlation coefficient, for any number of classes, −1 to 1: `matthews_corrcoef`. 0 where either side
    /// is of one class only.
    pub fn matthews(&self) -> Result<f64, Undefined> {
        let examples = self.some_examples()? as f64;
        let tallies = || (0..self.classes).map(|class| self.tally(class));
        let sum = |term: fn(Tally) -> f64| tallies().map(term).sum::<f64>();
        let together = self.right() as f64 * examples - sum(|tally| tally.truth as f64 * tally.found as f64);
        let of_truth = examples * examples - sum(|tally| (tally.truth as f64).powi(2));
        let of_found = examples * examples - sum(|tally| (tally.found as f64).powi(2));
        let spread = of_truth * of_found;
        Ok(if spread == 0.0 {
            0.0
        } else {
            together / spread.sqrt()
        })
    }

    fn some_examples(&self) -> Result<u64, Undefined> {
        match self.examples() {
            0 => Err(Undefined::NoExamples),
            examples => Ok(examples),
        }
    }

    fn tally(&self, class: usize) -> Tally {
        let at = |truth: usize, found: usize| self.counts[truth * self.classes + found];
        Tally {
            right: at(class, class),
            truth: (0..self.classes).map(|other| at(class, other)).sum(),
            found: (0..self.classes).map(|other| at(other, class)).sum(),
        }
    }
}

impl Tally {
    fn figure(self, figure: OfClass) -> f64 {
        match figure {
            OfClass::Precision => ratio(self.right, self.found),
            OfClass::Recall => ratio(self.right, self.truth),
            OfClass::F1 => ratio(2 * self.right, self.truth + self.found),
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confusion(pairs: &[(u32, u32)]) -> Confusion {
        let (truth, found): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
        Confusion::of(4, &truth, &found).unwrap()
    }

    // Expected values: sklearn.metrics on y_true = [0,0,0,1,1,2], y_pred = [0,0,1,1,2,2]; class 3 never occurs.
    #[test]
    fn averages_are_those_of_scikit_learn() {
        let all = confusion(&[(0, 0), (0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]);
        assert!((all.accuracy().unwrap() - 4.0 / 6.0).abs() < 1e-12);
        for (figure, average, expected) in [
            (OfClass::Precision, Average::Macro, (1.0 + 0.5 + 0.5) / 3.0),
            (OfClass::Recall, Average::Macro, (2.0 / 3.0 + 0.5 + 1.0) / 3.0),
            (OfClass::F1, Average::Macro, (0.8 + 0.5 + 2.0 / 3.0) / 3.0),
            (
                OfClass::F1,
                Average::Weighted,
                (3.0 * 0.8 + 2.0 * 0.5 + 2.0 / 3.0) / 6.0,
            ),
            (OfClass::Precision, Average::Micro, 4.0 / 6.0),
        ] {
            let score = all.averaged(figure, average).unwrap();
            assert!(
                (score - expected).abs() < 1e-12,
                "{figure:?} {average:?}: {score}"
            );
        }
        // sklearn.metrics.matthews_corrcoef on the same.
        assert!((all.matthews().unwrap() - 0.522_232_967_867_094).abs() < 1e-12);
    }

    #[test]
    fn the_second_of_two_classes_is_the_positive_one() {
        let all = Confusion::of(2, &[1, 1, 1, 0], &[1, 0, 0, 0]).unwrap();
        assert_eq!(all.averaged(OfClass::Precision, Average::Binary), Ok(1.0));
        assert_eq!(all.averaged(OfClass::Recall, Average::Binary), Ok(1.0 / 3.0));
        assert_eq!(all.averaged(OfClass::F1, Average::Binary), Ok(0.5));
        let three = Confusion::of(3, &[0], &[0]).unwrap();
        assert_eq!(
            three.averaged(OfClass::F1, Average::Binary),
            Err(Undefined::NotBinary(3))
        );
    }

    #[test]
    fn nothing_has_no_score_and_one_class_has() {
        assert_eq!(confusion(&[]).accuracy(), Err(Undefined::NoExamples));
        assert_eq!(confusion(&[]).matthews(), Err(Undefined::NoExamples));
        let one = confusion(&[(2, 2), (2, 2)]);
        assert_eq!(one.averaged(OfClass::F1, Average::Macro), Ok(1.0));
        assert_eq!(one.matthews(), Ok(0.0));
        // Never right: no class has a numerator.
        let wrong = confusion(&[(0, 1), (1, 0)]);
        assert_eq!(wrong.averaged(OfClass::Precision, Average::Weighted), Ok(0.0));
        assert_eq!(wrong.matthews(), Ok(-1.0));
    }

    #[test]
    fn lists_that_do_not_pair_up_and_unknown_classes_are_refused() {
        let uneven = Confusion::of(2, &[0], &[0, 1]).unwrap_err();
        assert_eq!(
            uneven.to_string(),
            "there are 1 true values and 2 found ones; give one of each for every example"
        );
        let unknown = Confusion::of(2, &[0, 1], &[0, 2]).unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "class 2 is not among the 2 classes; number them from 0"
        );
    }
}
