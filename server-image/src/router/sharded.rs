//! Counters that threads write side by side: one shared by all would go from core to core with each request.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Threads up to this number have a shard of their own; more share them.
const SHARDS: usize = 8;

/// A value for each thread to write; who reads goes through all.
#[derive(Debug)]
pub struct Sharded<T>(Box<[Shard<T>]>);

/// Starts at a cache line of its own, and the line fetched along with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard<T>(T);

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        Self::from_fn(T::default)
    }
}

impl<T> Sharded<T> {
    /// Each as `new` makes it.
    pub fn from_fn(new: impl Fn() -> T) -> Self {
        Self((0..SHARDS).map(|_| Shard(new())).collect())
    }

    /// That of the thread which asks.
    pub fn mine(&self) -> &T {
        &self.0[slot()].0
    }

    /// Those of all threads.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|shard| &shard.0)
    }
}

fn slot() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SLOT: Cell<Option<usize>> = const { Cell::new(None) };
    }
    SLOT.get().unwrap_or_else(|| {
        let slot = NEXT.fetch_add(1, Relaxed) % SHARDS;
        SLOT.set(Some(slot));
        slot
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn what_threads_count_adds_up() {
        let counts = Sharded::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| {
                    for _ in 0..100 {
                        counts.mine().fetch_add(1, Relaxed);
                    }
                });
            }
        });
        let counted: Vec<u64> = counts.all().map(|count| count.load(Relaxed)).collect();
        assert_eq!(counted.iter().sum::<u64>(), 200 * SHARDS as u64);
        assert!(
            counted.iter().filter(|&&count| count > 0).count() > 1,
            "{counted:?}"
        );
    }
}
