//! Sums over users of the products of their sums, of which the variance of every difference is made. Pure.
//!
//! Requests of one user resemble each other, so the user is the unit, and users are gathered into a fixed number of
//! buckets by a hash: buckets are as independent as users are. With W the weights of arm a in bucket b and S their
//! scores, the error of the arm's weighted mean μ is Σ_b (S − μW) / ΣW (the linearised ratio, or Hájek, estimator),
//! and its variance Σ_b (S − μW)² / (ΣW)². Multiplied out, that needs ΣSS, ΣSW and ΣWW alone, whatever μ becomes:
//! one request changes them in a handful of steps.

/// Users are gathered into this many groups. The variance then has a relative error of √(2 / 1,024) = 4% at most,
/// and a look stays a look when there are millions of users.
pub const BUCKETS: usize = 1024;

/// Weight and weighted score of each arm in each bucket, and the Gram matrix of those sums over buckets.
#[derive(Clone, Debug)]
pub struct Gram {
    /// Two numbers an arm: weight, weighted score.
    width: usize,
    /// `BUCKETS` rows of `width`.
    cells: Vec<f64>,
    /// `width` × `width`, symmetric.
    products: Vec<f64>,
}

impl Gram {
    /// Of `arms` arms, empty.
    pub fn new(arms: usize) -> Self {
        let width = 2 * arms;
        Self {
            width,
            cells: vec![0.0; BUCKETS * width],
            products: vec![0.0; width * width],
        }
    }

    /// Adds to a bucket. (x + d)(x + d)ᵀ is taken one number of d at a time.
    pub fn add(&mut self, bucket: usize, arm: usize, [weight, weighted]: [f64; 2]) {
        let width = self.width;
        let row = &mut self.cells[bucket * width..][..width];
        for (i, d) in [(2 * arm, weight), (2 * arm + 1, weighted)] {
            for (j, x) in row.iter().enumerate() {
                self.products[i * width + j] += d * x;
                self.products[j * width + i] += d * x;
            }
            self.products[i * width + i] += d * d;
            row[i] += d;
        }
    }

    /// Adds users of their own, of whom only the sums of weight², weight² · score and weight² · score² are kept.
    pub fn add_alone(&mut self, arm: usize, [square, scored, scored_square]: [f64; 3]) {
        let (w, s) = (2 * arm, 2 * arm + 1);
        self.products[w * self.width + w] += square;
        self.products[w * self.width + s] += scored;
        self.products[s * self.width + w] += scored;
        self.products[s * self.width + s] += scored_square;
    }

    /// Weight and weighted score of `arm` in each bucket that has any.
    pub fn filled(&self, arm: usize) -> impl Iterator<Item = (usize, [f64; 2])> {
        self.cells
            .chunks_exact(self.width)
            .map(move |row| [row[2 * arm], row[2 * arm + 1]])
            .enumerate()
            .filter(|(_, cell)| cell[0] > 0.0)
    }

    /// Σ_b (S − μW) of arm `a` times (S − μW) of arm `b`, around the given means.
    pub fn residual(&self, (a, mean_a): (usize, f64), (b, mean_b): (usize, f64)) -> f64 {
        let at = |i: usize, j: usize| self.products[(2 * a + i) * self.width + 2 * b + j];
        at(1, 1) - mean_a * at(0, 1) - mean_b * at(1, 0) + mean_a * mean_b * at(0, 0)
    }

    /// Σ_b W² of `arm`.
    pub fn squared_weight(&self, arm: usize) -> f64 {
        self.products[2 * arm * (self.width + 1)]
    }
}
