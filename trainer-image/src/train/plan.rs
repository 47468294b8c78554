//! Which rows go into which step: a pure function of the configuration, so that a resumed run, and every worker,
//! knows them without being told.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use slipway_contract::Hyperparameters;

/// How the rows of the training set are divided into steps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    rows: usize,
    batch: usize,
    accumulation: usize,
    workers: usize,
    seed: u64,
    /// Optimizer steps in one pass over the data; the last one of a pass may be smaller.
    pub steps_per_epoch: u64,
    /// Optimizer steps in all.
    pub total_steps: u64,
}

/// Rows that go through the network together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rows {
    /// Unique over the run: what dropout is drawn by.
    pub number: u64,
    /// Which rows of the training set.
    pub indices: Vec<usize>,
}

impl Plan {
    /// A plan over `rows` rows for `workers` workers.
    pub fn new(rows: usize, hyperparameters: &Hyperparameters, workers: u32) -> Self {
        let batch = hyperparameters.batch_size.max(1) as usize;
        let accumulation = hyperparameters.gradient_accumulation_steps.max(1) as usize;
        let workers = workers.max(1) as usize;
        let steps_per_epoch = rows.div_ceil(batch * accumulation * workers) as u64;
        let total_steps = hyperparameters
            .max_steps
            .unwrap_or_else(|| (hyperparameters.epochs * steps_per_epoch as f64).ceil() as u64);
        Self {
            rows,
            batch,
            accumulation,
            workers,
            seed: hyperparameters.seed,
            steps_per_epoch,
            total_steps,
        }
    }

    /// The forward passes of worker `rank` in the step that follows `done` steps. Passes are dealt to the workers
    /// in turn, so that two workers compute together what one does with twice the accumulation.
    pub fn step(&self, done: u64, rank: usize) -> Vec<Rows> {
        let order = permutation(self.rows, self.seed, done / self.steps_per_epoch);
        let passes = self.accumulation * self.workers;
        let start = (done % self.steps_per_epoch) as usize * self.batch * passes;
        let end = (start + self.batch * passes).min(self.rows);
        order[start..end]
            .chunks(self.batch)
            .enumerate()
            .skip(rank)
            .step_by(self.workers)
            .map(|(pass, rows)| Rows {
                number: done * passes as u64 + pass as u64,
                indices: rows.to_vec(),
            })
            .collect()
    }

    /// Whether a pass over the data ends with step `done`.
    pub fn ends_epoch(&self, done: u64) -> bool {
        done > 0 && done.is_multiple_of(self.steps_per_epoch)
    }
}

/// The order of `count` things in `epoch`. Written out rather than taken from a library, for the order must stay
/// the same when a run is resumed by a later version.
pub(super) fn permutation(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch);
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        let below = last as u64 + 1;
        // Multiply-shift: bias below 2⁻³², without a loop.
        let chosen = ((u128::from(random.next_u64()) * u128::from(below)) >> 64) as usize;
        order.swap(last, chosen);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rows: usize, batch_size: u32, gradient_accumulation_steps: u32, workers: u32) -> Plan {
        let hyperparameters = Hyperparameters {
            batch_size,
            gradient_accumulation_steps,
            epochs: 2.0,
            ..Hyperparameters::default()
        };
        Plan::new(rows, &hyperparameters, workers)
    }

    #[test]
    fn each_epoch_meets_every_row_once_in_another_order() {
        let plan = plan(23, 4, 2, 1);
        assert_eq!((plan.steps_per_epoch, plan.total_steps), (3, 6));
        let epoch = |first: u64| -> Vec<usize> {
            (first..first + 3)
                .flat_map(|done| plan.step(done, 0))
                .flat_map(|rows| rows.indices)
                .collect()
        };
        let (one, two) = (epoch(0), epoch(3));
        assert_ne!(one, two);
        for mut order in [one, two] {
            order.sort_unstable();
            assert_eq!(order, (0..23).collect::<Vec<_>>());
        }
        assert!(plan.ends_epoch(3) && !plan.ends_epoch(0) && !plan.ends_epoch(4));
    }

    #[test]
    fn workers_share_what_accumulation_does_alone() {
        let (alone, together) = (plan(40, 4, 4, 1), plan(40, 4, 2, 2));
        assert_eq!(alone.total_steps, together.total_steps);
        for done in 0..alone.total_steps {
            let mut shared: Vec<Rows> = (0..2).flat_map(|rank| together.step(done, rank)).collect();
            shared.sort_by_key(|rows| rows.number);
            assert_eq!(alone.step(done, 0), shared);
        }
    }

    #[test]
    fn part_of_an_epoch_is_rounded_up() {
        let hyperparameters = Hyperparameters {
            epochs: 0.5,
            batch_size: 1,
            ..Hyperparameters::default()
        };
        assert_eq!(Plan::new(5, &hyperparameters, 1).total_steps, 3);
    }

    #[test]
    fn the_order_never_changes_between_versions() {
        assert_eq!(permutation(8, 42, 0), permutation(8, 42, 0));
        assert_ne!(permutation(64, 42, 0), permutation(64, 43, 0));
    }
}
