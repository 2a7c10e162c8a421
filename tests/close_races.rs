//! A get or a realloc that asked the system while the pool closed: what it was given lies where the pool's region just was.
#![cfg(all(target_os = "linux", not(bytepool_portable)))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytepool::{GetError, Pool};

/// The system's allocator, but for blocks of [`CAUGHT`] bytes, or a few more.
struct Catching;

const CAUGHT: usize = 3 << 20;
/// Where a caught block is to lie.
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
/// 1: a block is caught. 2: the pool closed.
static STEP: AtomicUsize = AtomicUsize::new(0);

/// One test at a time: the steps are one test's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_caught(layout: Layout) -> bool {
    (CAUGHT..CAUGHT + 64).contains(&layout.size())
}

fn wait_for(step: usize) {
    while STEP.load(SeqCst) != step {
        std::thread::yield_now();
    }
}

// SAFETY:
// - as System; what is caught is mapped here, aligned to pages, and unmapped when it is freed
unsafe impl GlobalAlloc for Catching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_caught(layout) {
            // SAFETY: as the caller promised
            return unsafe { System.alloc(layout) };
        }
        STEP.store(1, SeqCst);
        wait_for(2);
        let at = ptr::with_exposed_provenance_mut(ADDRESS.load(SeqCst));
        let (access, how) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY:
        // - replaces no other mapping
        let mapped = unsafe { libc::mmap(at, layout.size(), access, how | libc::MAP_FIXED_NOREPLACE, -1, 0) };
        if mapped == at { mapped.cast() } else { ptr::null_mut() }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        // SAFETY:
        // - as the caller promised; blocks of this size were mapped above
        unsafe {
            match is_caught(layout) {
                true => _ = libc::munmap(data.cast(), layout.size()),
                false => System.dealloc(data, layout),
            }
        }
    }
}

#[global_allocator]
static ALLOCATOR: Catching = Catching;

const SIZE: usize = 4 << 10;
/// Together more than [`CAUGHT`], and so are the slots for overflow.
const CAPACITY: usize = 1024;
/// More than it takes for a pool to serve overflow from a region.
const OFTEN: usize = 100;

/// The address of a page near the start of a pool's region, or of the slots that serve its overflow.
fn region_of(pool: &Pool, of_overflow: bool) -> usize {
    let all: Vec<_> = (0..CAPACITY + 2 * OFTEN).map(|_| pool.get_raw(SIZE).unwrap()).collect();
    let part = if of_overflow { &all[CAPACITY + OFTEN..] } else { &all[..CAPACITY] };
    let start = part.iter().min().unwrap().as_ptr().expose_provenance();
    for data in all {
        // SAFETY:
        // - got above, and used no more
        unsafe { pool.put_raw(data, SIZE) }.unwrap();
    }
    // SAFETY:
    // - asks only
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    start.next_multiple_of(usize::try_from(page).unwrap())
}

#[test]
fn a_get_that_loses_against_a_close_gives_nothing_where_the_region_was() {
    let _alone = alone();
    for of_overflow in [false, true] {
        let pool = Pool::builder().size_class(SIZE, CAPACITY).build().unwrap();
        STEP.store(0, SeqCst);
        ADDRESS.store(region_of(&pool, of_overflow), SeqCst);
        let got = std::thread::scope(|scope| {
            let getter = scope.spawn(|| pool.get(CAUGHT).map(drop));
            wait_for(1);
            pool.close();
            STEP.store(2, SeqCst);
            getter.join().unwrap()
        });
        assert_eq!(got, Err(GetError::Closed), "overflow: {of_overflow}");
        let stats = pool.stats();
        stats.assert_consistent();
        assert_eq!((stats.gets, stats.mapped_bytes, stats.oversize_buffers), (stats.puts, 0, 0));
    }
}

/// A realloc cannot be undone: the buffer is the caller's where it is now.
#[test]
fn a_realloc_to_where_the_region_was_gives_a_buffer_that_can_be_put() {
    let _alone = alone();
    let pool = Pool::builder().size_class(SIZE, CAPACITY).build().unwrap();
    STEP.store(0, SeqCst);
    ADDRESS.store(region_of(&pool, false), SeqCst);
    let old = pool.get_raw(2 * SIZE).unwrap().as_ptr().expose_provenance();
    let new = std::thread::scope(|scope| {
        // SAFETY:
        // - this test's buffer
        let grower = scope.spawn(|| unsafe {
            let old = NonNull::new(ptr::with_exposed_provenance_mut::<u8>(old)).unwrap();
            old.write_bytes(7, 2 * SIZE);
            pool.realloc_raw(old, CAUGHT).map(|new| new.as_ptr().expose_provenance())
        });
        wait_for(1);
        pool.close();
        STEP.store(2, SeqCst);
        grower.join().unwrap()
    });
    let new = new.unwrap();
    assert_eq!(new, ADDRESS.load(SeqCst), "it was caught");
    let new = NonNull::new(ptr::with_exposed_provenance_mut::<u8>(new)).unwrap();
    assert_eq!(pool.usable_size(new), CAUGHT);
    // SAFETY:
    // - this test's buffer, put once; the second put is refused
    unsafe {
        assert!((0..2 * SIZE).all(|at| new.add(at).read() == 7));
        assert_eq!(pool.put_raw(new, CAUGHT), Ok(()));
        assert!(pool.put_raw(new, CAUGHT).is_err());
    }
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.gets, stats.mapped_bytes, stats.oversize_buffers), (stats.puts, 0, 0));
}
