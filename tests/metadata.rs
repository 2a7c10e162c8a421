//! What a pool needs for itself beside its buffers: bytes per slot, by the allocator's own count.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytepool::Pool;

/// The system's allocator, which counts bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY:
// - as System, which does the work
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Relaxed);
        // SAFETY: as the caller promised
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promised
        unsafe { System.dealloc(data, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that a pool of so many slots, all of them touched, has taken from the allocator.
fn bytes_of_a_pool(slots: usize) -> usize {
    let before = IN_USE.load(Relaxed);
    let pool = Pool::builder().size_class(64, slots).thread_cache(false).build().unwrap();
    let buffers: Vec<_> = (0..slots).map(|_| pool.get_raw(64).unwrap()).collect();
    for data in buffers {
        // SAFETY:
        // - got above, and used no more
        unsafe { pool.put_raw(data, 64) }.unwrap();
    }
    assert_eq!(pool.stats().classes[0].touched, slots);
    IN_USE.load(Relaxed) - before
}

#[test]
fn a_slot_costs_at_most_12_bytes() {
    if cfg!(any(not(unix), bytepool_portable)) {
        return; // that region is the allocator's, too
    }
    bytes_of_a_pool(1); // what the process pays once
    let of_one = bytes_of_a_pool(1);
    for slots in [1000, 10_000, 1_000_000] {
        let bytes = bytes_of_a_pool(slots);
        let per_slot = (bytes - of_one) as f64 / (slots - 1) as f64;
        println!("{slots} slots: {bytes} bytes, of which {of_one} are the pool's: {per_slot:.2} a slot");
        assert!((8.0..=12.0).contains(&per_slot), "{per_slot} bytes for each of {slots} slots");
    }
}
