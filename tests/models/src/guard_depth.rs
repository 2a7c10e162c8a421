//! How many fork guards each of a model's threads has, while it has no state. They all run on one thread of the system.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::thread_number;

thread_local! {
    static DEPTHS: RefCell<HashMap<usize, &'static Cell<u32>>> = RefCell::default();
}

fn own() -> &'static Cell<u32> {
    // Never freed: an address is one thread's for ever.
    let new = || Box::leak(Box::new(Cell::new(0)));
    DEPTHS.with_borrow_mut(|depths| {
        let number = thread_number();
        depths.retain(|other, _| other >> 16 == number >> 16);
        *depths.entry(number).or_insert_with(|| new())
    })
}

pub(crate) fn get() -> u32 {
    own().get()
}

pub(crate) fn set(depth: u32) {
    own().set(depth);
}

/// An address that no other thread has.
pub(crate) fn address() -> usize {
    std::ptr::from_ref(own()).addr()
}
