//! The bounded queue between HTTP handlers and the compute thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Work that nobody may be waiting for any more.
pub trait Abandon {
    /// Whether the client has gone.
    fn abandoned(&self) -> bool;
}

/// The queue holds as many requests as it may.
#[derive(Debug, Eq, PartialEq)]
pub struct Full;

/// First in, first out. Requests that were taken out no longer count against the bound.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: Mutex<VecDeque<T>>,
    arrived: Condvar,
    capacity: usize,
}

impl<T: Abandon> Queue<T> {
    /// A queue in which `capacity` requests may wait.
    pub fn new(capacity: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            capacity,
        }
    }

    /// Adds a request. In a full queue, requests whose client has gone make room first.
    pub fn push(&self, request: T) -> Result<(), Full> {
        let mut waiting = self.lock();
        if waiting.len() >= self.capacity {
            waiting.retain(|request| !request.abandoned());
        }
        if waiting.len() >= self.capacity {
            return Err(Full);
        }
        waiting.push_back(request);
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes the oldest request that somebody still waits for.
    pub fn try_pop(&self) -> Option<T> {
        next(&mut self.lock())
    }

    /// Waits for a request.
    pub fn pop(&self) -> T {
        let mut waiting = self.lock();
        loop {
            if let Some(request) = next(&mut waiting) {
                return request;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Requests waiting.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        // Nothing panics while holding the lock; were it so, the deque would still be whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn next<T: Abandon>(waiting: &mut VecDeque<T>) -> Option<T> {
    while let Some(request) = waiting.pop_front() {
        if !request.abandoned() {
            return Some(request);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Item(u32, bool);

    impl Abandon for Item {
        fn abandoned(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn a_full_queue_refuses_until_one_is_taken() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(Item(1, false)), Ok(()));
        assert_eq!(queue.push(Item(2, false)), Ok(()));
        assert_eq!(queue.push(Item(3, false)), Err(Full));
        assert_eq!(queue.try_pop(), Some(Item(1, false)));
        assert_eq!(queue.push(Item(3, false)), Ok(()));
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn clients_that_left_make_room_and_are_never_computed() {
        let queue = Queue::new(2);
        queue.push(Item(1, true)).unwrap();
        queue.push(Item(2, true)).unwrap();
        queue.push(Item(3, false)).unwrap();
        queue.push(Item(4, true)).unwrap();
        assert_eq!(queue.try_pop(), Some(Item(3, false)));
        assert_eq!(queue.try_pop(), None);
    }

    #[test]
    fn a_waiting_taker_wakes() {
        let queue = Arc::new(Queue::new(1));
        let taker = std::thread::spawn({
            let queue = queue.clone();
            move || queue.pop()
        });
        std::thread::sleep(Duration::from_millis(20));
        queue.push(Item(9, false)).unwrap();
        assert_eq!(taker.join().unwrap(), Item(9, false));
    }
}
