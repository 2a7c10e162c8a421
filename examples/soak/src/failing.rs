//! The program's allocator: the system's, but for allocations that a thread asked to fail.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

struct Failing;

#[global_allocator]
static ALLOCATOR: Failing = Failing;

thread_local! {
    /// How many more allocations succeed; none fails while it is `None`.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this allocation is the one to fail. The one after it succeeds.
fn fails() -> bool {
    match LEFT.get() {
        Some(0) => {
            LEFT.set(None);
            FAILED.set(true);
            true
        }
        left => {
            LEFT.set(left.map(|left| left - 1));
            false
        }
    }
}

// SAFETY:
// - as the system's allocator, or null
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised
        if fails() { ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised
        if fails() { ptr::null_mut() } else { unsafe { System.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, data: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promised
        if fails() { ptr::null_mut() } else { unsafe { System.realloc(data, layout, size) } }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised
        unsafe { System.dealloc(data, layout) }
    }
}

/// This thread's allocation fails that comes after `nth` others.
pub(crate) extern "C" fn arm(nth: u32) {
    FAILED.set(false);
    LEFT.set(Some(nth));
}

/// None fails any more; whether one did.
pub(crate) extern "C" fn disarm() -> bool {
    LEFT.set(None);
    FAILED.replace(false)
}
