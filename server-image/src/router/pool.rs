//! Connections to servers that wait for their next request. One pool a thread, so that none is locked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use hyper::client::conn::http1::SendRequest;

use super::body::RequestBody;

/// Idle connections kept to one server.
const IDLE: usize = 256;

/// A connection that takes one request at a time.
pub type Sender = SendRequest<RequestBody>;

/// Idle connections by server. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Pool(Rc<RefCell<HashMap<u64, Vec<Sender>>>>);

impl Pool {
    /// The connection used last: the one least likely to have been closed meanwhile.
    pub fn take(&self, backend: u64) -> Option<Sender> {
        let mut pools = self.0.borrow_mut();
        let idle = pools.get_mut(&backend)?;
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
            // Neither ready nor closed: its end is read in a moment.
            if !sender.is_closed() {
                idle.insert(0, sender);
                return None;
            }
        }
        pools.remove(&backend);
        None
    }

    /// Keeps a connection whose answer was read to its end.
    pub fn put(&self, backend: u64, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut pools = self.0.borrow_mut();
        let idle = pools.entry(backend).or_default();
        if idle.len() < IDLE {
            idle.push(sender);
        }
    }

    /// Forgets the connections to a server that closed one under a request: it closed the others too.
    pub fn clear(&self, backend: u64) {
        self.0.borrow_mut().remove(&backend);
    }
}
