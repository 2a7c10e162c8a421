//! What stands in for `fork.rs` in models that do not fork: sections that keep nobody from it, and order nothing. In those
//! that [fork](super::forks) it is `fork.rs` itself, but that nobody calls its handlers, and no child comes of it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::os::memory::OutOfMemory;
use crate::models::thread_number;

#[path = "../fork.rs"]
mod real;

pub(crate) use real::fork_without_child;

/// Whether the model that runs forks.
pub(crate) static FORKS: AtomicBool = AtomicBool::new(false);

fn forks() -> bool {
    FORKS.load(Relaxed)
}

pub(crate) struct Section {
    _real: Option<real::Section>,
}

pub(crate) fn section() -> Section {
    Section { _real: forks().then(real::section) }
}

pub(crate) fn outside<R>(run: impl FnOnce() -> R) -> R {
    if forks() { real::outside(run) } else { run() }
}

pub(crate) fn is_inside() -> bool {
    !forks() || real::is_inside()
}

pub(crate) fn change_block(set_block: impl FnOnce()) {
    if forks() { real::change_block(set_block) } else { set_block() }
}

pub(crate) fn prepare() -> Result<(), OutOfMemory> {
    Ok(())
}

/// A number of each of the model's threads, which all run on one of the system.
struct OwnNumber;
static DEPTH: OwnNumber = OwnNumber;

thread_local! {
    static NUMBERS: RefCell<HashMap<usize, &'static Cell<u32>>> = RefCell::default();
}

impl OwnNumber {
    fn own(&self) -> &'static Cell<u32> {
        // Never freed: an address is one thread's for ever.
        let new = || Box::leak(Box::new(Cell::new(0)));
        NUMBERS.with_borrow_mut(|numbers| {
            let number = thread_number();
            numbers.retain(|other, _| other >> 16 == number >> 16);
            *numbers.entry(number).or_insert_with(|| new())
        })
    }

    fn with<R>(&self, using: impl FnOnce(&Cell<u32>) -> R) -> R {
        using(self.own())
    }

    fn get(&self) -> u32 {
        self.own().get()
    }

    fn set(&self, value: u32) {
        self.own().set(value);
    }

    fn replace(&self, value: u32) -> u32 {
        self.own().replace(value)
    }
}
