//! The learning rate over time: `get_constant_schedule_with_warmup`, `get_linear_schedule_with_warmup` and
//! `get_cosine_schedule_with_warmup` of transformers.

use std::f64::consts::PI;

use slipway_contract::Scheduler;

/// A course of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Schedule {
    /// What happens after warm-up.
    pub scheduler: Scheduler,
    /// The rate after warm-up.
    pub peak: f64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps in all.
    pub total: u64,
}

impl Schedule {
    /// The rate of the optimizer step that follows `done` steps. The first step of a warm-up has rate 0, as in
    /// transformers.
    pub fn rate(&self, done: u64) -> f64 {
        let (done, warmup, total) = (done as f64, self.warmup as f64, self.total as f64);
        if done < warmup {
            return self.peak * done / warmup.max(1.0);
        }
        let factor = match self.scheduler {
            Scheduler::Constant => 1.0,
            Scheduler::Linear => ((total - done) / (total - warmup).max(1.0)).max(0.0),
            Scheduler::Cosine => {
                let progress = (done - warmup) / (total - warmup).max(1.0);
                (0.5 * (1.0 + (PI * progress).cos())).max(0.0)
            }
        };
        self.peak * factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(scheduler: Scheduler) -> Vec<f64> {
        let schedule = Schedule {
            scheduler,
            peak: 10.0,
            warmup: 2,
            total: 10,
        };
        (0..10).map(|done| schedule.rate(done)).collect()
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }

    // Expected values: get_*_schedule_with_warmup of transformers 5.23 (rate 10, 2 warm-up steps of 10).
    #[test]
    fn the_rates_are_those_of_transformers() {
        close(
            &rates(Scheduler::Linear),
            &[0.0, 5.0, 10.0, 8.75, 7.5, 6.25, 5.0, 3.75, 2.5, 1.25],
        );
        close(
            &rates(Scheduler::Cosine),
            &[
                0.0, 5.0, 10.0, 9.619_398, 8.535_534, 6.913_417, 5.0, 3.086_583, 1.464_466, 0.380_602,
            ],
        );
        close(
            &rates(Scheduler::Constant),
            &[0.0, 5.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0],
        );
    }

    #[test]
    fn a_run_past_its_end_has_rate_zero() {
        let schedule = Schedule {
            scheduler: Scheduler::Linear,
            peak: 1.0,
            warmup: 0,
            total: 4,
        };
        assert!((schedule.rate(0) - 1.0).abs() < 1e-12 && schedule.rate(5).abs() < 1e-12);
    }
}
