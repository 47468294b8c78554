//! A coarse clock for limits that need no better, and a bell that wakes the tasks which look at it. The runtime's own
//! timers cost a lock and, where a timer is the next one due, a system call for each request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// Between two strokes. A limit ends up to two of them late, never early.
pub const STEP: Duration = Duration::from_secs(5);

/// Time in whole steps, for one thread: [`Timer`] wants it shareable, and a counter of its own keeps threads apart.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    steps: Arc<AtomicU32>,
}

impl Clock {
    /// One that stands at now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            steps: Arc::default(),
        }
    }

    /// Puts it forward to `now`.
    pub fn set(&self, now: Instant) {
        let steps = now.duration_since(self.start).as_secs() / STEP.as_secs();
        self.steps.store(steps as u32, Relaxed);
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Timer for Clock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let length = deadline.saturating_duration_since(self.start).as_secs();
        Box::pin(Limit {
            steps: self.steps.clone(),
            // A step more: the clock was up to one late when the limit was set.
            due: (length.div_ceil(STEP.as_secs()) + 1) as u32,
        })
    }

    fn now(&self) -> Instant {
        self.start + STEP * self.steps.load(Relaxed)
    }
}

/// The end of a length of time. Nobody is woken for it: its task is woken at each step by a [`Bell`].
#[derive(Debug)]
struct Limit {
    steps: Arc<AtomicU32>,
    due: u32,
}

impl Sleep for Limit {}

impl Future for Limit {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.steps.load(Relaxed) >= self.due {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Wakes the tasks of a thread together, at each step and when the thread is to stop.
#[derive(Debug, Default)]
pub struct Bell {
    listeners: RefCell<HashMap<u64, Waker>>,
    next: Cell<u64>,
    stopping: Cell<bool>,
}

impl Bell {
    /// Whether the thread is to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Has every task finish what it does and no more.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.ring();
    }

    /// Wakes them all.
    pub fn ring(&self) {
        for waker in self.listeners.borrow().values() {
            waker.wake_by_ref();
        }
    }

    /// Wakes the task of `waker` too, for the length of the returned value's life.
    pub fn listen(&self, waker: &Waker) -> Listening<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        self.listeners.borrow_mut().insert(number, waker.clone());
        Listening { bell: self, number }
    }
}

/// A task that a bell wakes.
#[derive(Debug)]
pub struct Listening<'a> {
    bell: &'a Bell,
    number: u64,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.bell.listeners.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_limit_ends_at_most_two_steps_late_and_never_early() {
        let clock = Clock::new();
        let start = clock.start;
        for set in [0, 3, 4, 5, 12] {
            let set = Duration::from_secs(set);
            clock.set(start + set);
            let length = Duration::from_secs(75);
            let mut limit = clock.sleep_until(clock.now() + length);
            let mut after = set;
            loop {
                clock.set(start + after);
                let mut context = Context::from_waker(Waker::noop());
                if limit.as_mut().poll(&mut context).is_ready() {
                    break;
                }
                after += Duration::from_secs(1);
            }
            let took = after.checked_sub(set).unwrap();
            assert!(
                took >= length && took <= length + 2 * STEP,
                "{took:?} from {set:?}"
            );
        }
    }

    #[test]
    fn a_bell_wakes_who_listens_and_no_other() {
        let bell = Bell::default();
        let counts = [Arc::<Count>::default(), Arc::default()];
        let [first, second] = counts.clone().map(Waker::from);
        let stays = bell.listen(&first);
        let leaves = bell.listen(&second);
        bell.ring();
        drop(leaves);
        assert!(!bell.is_stopping());
        bell.stop();
        assert!(bell.is_stopping());
        assert_eq!(counts.map(|count| count.0.load(Relaxed)), [2, 1]);
        drop(stays);
        assert!(bell.listeners.borrow().is_empty());
    }
}
