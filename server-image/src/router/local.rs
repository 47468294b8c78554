//! The table in force, as a thread has it: counted there alone, so that requests on several cores share no count.

use std::ops::Deref;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use super::table::Table;
use super::variant::{Revision, Variant};

/// A table, for the requests of one thread.
#[derive(Clone, Debug)]
pub struct Local(Rc<Inner>);

#[derive(Debug)]
struct Inner(Arc<Table>);

impl Local {
    /// For the thread that asks.
    pub fn new(table: Arc<Table>) -> Self {
        Self(Rc::new(Inner(table)))
    }

    /// Whether it is this very table.
    pub fn is(&self, table: &Arc<Table>) -> bool {
        Arc::ptr_eq(&self.0.0, table)
    }

    /// A revision of its arm `variant`, to be kept.
    pub fn keep(&self, variant: &Variant, revision: &Revision) -> Kept {
        let mut variants = self.variants.iter();
        Kept {
            arm: variants
                .position(|known| ptr::eq(known, variant))
                .expect("the arm is one of this table's"),
            canary: !ptr::eq(revision, &raw const variant.stable),
            table: self.clone(),
        }
    }
}

impl Deref for Local {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.0.0
    }
}

/// A revision, whatever table is in force meanwhile.
#[derive(Debug)]
pub struct Kept {
    table: Local,
    arm: usize,
    canary: bool,
}

impl Deref for Kept {
    type Target = Revision;

    fn deref(&self) -> &Revision {
        let variant = &self.table.variants[self.arm];
        match &variant.canary {
            Some(canary) if self.canary => &canary.revision,
            _ => &variant.stable,
        }
    }
}
