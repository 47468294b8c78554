//! What a person sees: a bar on a terminal, lines in a pipe.

use std::io::{IsTerminal, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// In a pipe a step gets a line at most this often.
const QUIET: Duration = Duration::from_secs(10);

/// Standard error as a terminal or a pipe.
#[derive(Debug)]
pub struct Terminal {
    bar: Option<ProgressBar>,
    last: Mutex<Option<Instant>>,
}

impl Default for Terminal {
    fn default() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::no_length();
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} [{elapsed} < {eta}] {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            bar,
            last: Mutex::new(None),
        }
    }
}

impl Terminal {
    /// Says something once.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Shows how far it is. In a pipe the first and the last of `total` are shown, and some in between.
    pub fn step(&self, done: u64, total: u64, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(message.to_owned());
            return;
        }
        let mut last = self
            .last
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if done >= total || last.is_none_or(|last| last.elapsed() >= QUIET) {
            *last = Some(Instant::now());
            eprintln!("{done}/{total} {message}");
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
