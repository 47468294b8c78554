//! How far an evaluation is.

use std::time::Instant;

use slipway_contract::Phase;

use crate::host::Host;

/// How far the evaluation is, over all models.
#[derive(Debug)]
pub(super) struct Progress {
    done: u64,
    total: u64,
    started: Option<Instant>,
}

impl Progress {
    /// Nothing is done of `total` examples.
    pub fn new(total: u64) -> Self {
        Self {
            done: 0,
            total,
            started: None,
        }
    }

    /// A model is loaded and answers from now on.
    pub fn begin(&mut self, host: &Host) {
        self.started.get_or_insert_with(Instant::now);
        let (done, total) = (self.done, self.total);
        host.board.update(|progress| {
            progress.phase = Phase::Evaluating;
            (progress.step, progress.total_steps) = (done, total);
        });
    }

    /// So many more examples are done.
    pub fn advance(&mut self, examples: usize, host: &Host) {
        self.done += examples as u64;
        let (done, total) = (self.done, self.total);
        let seconds = self
            .started
            .map(|started| started.elapsed().as_secs_f64())
            .unwrap_or_default();
        host.board.update(|progress| {
            (progress.step, progress.total_steps) = (done, total);
            progress.estimated_remaining_seconds =
                Some((seconds / done as f64 * (total - done) as f64) as u64);
        });
        host.terminal.step(done, total, "examples");
    }
}
