//! Prints how many bytes of a freed buffer are not zero, as its allocator sees it: overwritten anyhow, and wiped.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use freeing::{SIZE, overwrite_and_free, wipe_and_free};

/// The system's allocator, which looks at what it is given back.
struct Looking;

static NOT_ZERO: AtomicUsize = AtomicUsize::new(usize::MAX);

// SAFETY:
// - as System, which does the work
unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        if layout.size() == SIZE {
            // SAFETY:
            // - whoever gives it back wrote to all of it
            let not_zero = (0..SIZE).filter(|&at| unsafe { data.add(at).read_volatile() } != 0).count();
            NOT_ZERO.store(not_zero, Relaxed);
        }
        // SAFETY: as the caller promised
        unsafe { System.dealloc(data, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Looking = Looking;

fn main() {
    let found = [overwrite_and_free, wipe_and_free].map(|free: fn()| {
        free();
        NOT_ZERO.swap(usize::MAX, Relaxed)
    });
    println!("{} {}", found[0], found[1]);
}
