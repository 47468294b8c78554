//! How long to wait before an object is tried again. Needs no client.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use rand::RngExt;

/// Waits that double with each failure in a row, with jitter so that many objects do not come back together.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: Mutex<HashMap<String, u32>>,
}

impl Backoff {
    /// The first wait.
    pub const FIRST: Duration = Duration::from_secs(1);
    /// The longest wait.
    pub const LONGEST: Duration = Duration::from_mins(5);

    /// How often something is looked for that comes by itself.
    const COMING: Duration = Duration::from_secs(5);
    /// How often, at least, something is looked for that a person must mend.
    const MENDED: Duration = Duration::from_mins(1);

    /// Counts a failure of `key` and says how long to wait: between half and all of [`ceiling`].
    pub fn failed(&self, key: &str) -> Duration {
        let mut failures = self
            .failures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = failures.entry(key.to_owned()).or_default();
        *count = count.saturating_add(1);
        ceiling(*count).mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// How long to wait for something that is missing. What comes by itself is looked for often; what a person
    /// must mend less and less, since looking may mean asking a Hub.
    pub fn missing(&self, key: &str, comes: bool) -> Duration {
        if comes {
            return spread(Self::COMING);
        }
        self.failed(key).clamp(Self::COMING, Self::MENDED)
    }

    /// Forgets the failures of `key`.
    pub fn succeeded(&self, key: &str) {
        self.failures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(key);
    }
}

/// The longest wait after `failures` failures in a row (at least 1).
pub fn ceiling(failures: u32) -> Duration {
    let doubled = Backoff::FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(Backoff::LONGEST)
}

/// `period` give or take a tenth, for objects that are looked at now and then.
pub fn spread(period: Duration) -> Duration {
    period.mul_f64(rand::rng().random_range(0.9..=1.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_start_over_after_a_success() {
        assert_eq!([1, 2, 3, 4].map(|n| ceiling(n).as_secs()), [1, 2, 4, 8]);
        assert_eq!(ceiling(u32::MAX), Backoff::LONGEST);
        let backoff = Backoff::default();
        for _ in 0..5 {
            backoff.failed("a");
        }
        assert!(backoff.failed("a") >= Duration::from_secs(16));
        assert!(backoff.failed("b") <= Backoff::FIRST);
        assert!(backoff.missing("a", false) <= Backoff::MENDED);
        assert!(backoff.missing("a", true) < Duration::from_secs(6));
        backoff.succeeded("a");
        assert!(backoff.failed("a") <= Backoff::FIRST);
    }
}
