//! How many fork guards each of a model's threads has, while it has no state, and how far it is with its wakers. They all
//! run on one thread of the system.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::thread_number;

#[derive(Default)]
struct Own {
    depth: Cell<u32>,
    step: Cell<u8>,
    skipped: Cell<u32>,
}

thread_local! {
    static THREADS: RefCell<HashMap<usize, &'static Own>> = RefCell::default();
}

fn own() -> &'static Own {
    // Never freed: an address is one thread's for ever.
    let new = || Box::leak(Box::new(Own::default()));
    THREADS.with_borrow_mut(|threads| {
        let number = thread_number();
        threads.retain(|other, _| other >> 16 == number >> 16);
        *threads.entry(number).or_insert_with(|| new())
    })
}

pub(crate) fn get() -> u32 {
    own().depth.get()
}

pub(crate) fn set(depth: u32) {
    own().depth.set(depth);
}

/// An address that no other thread has.
pub(crate) fn address() -> usize {
    std::ptr::from_ref(own()).addr()
}

pub(crate) mod skipped_forks {
    use super::own;

    pub(crate) fn get() -> u32 {
        own().skipped.get()
    }

    pub(crate) fn set(skipped: u32) {
        own().skipped.set(skipped);
    }
}

pub(crate) mod wake_step {
    use super::own;

    pub(crate) fn get() -> u8 {
        own().step.get()
    }

    pub(crate) fn set(step: u8) {
        own().step.set(step);
    }
}
