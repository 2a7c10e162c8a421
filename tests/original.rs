//! What the original library's own tests check, kept, with its figures; and its faults, gone.
//!
//! The figures count buffer sizes after rounding, as the original does. Each program runs twice: with raw
//! pointers, as C has them, and with `PooledBuffer`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::atomic::AtomicIsize;
use std::sync::atomic::Ordering::SeqCst;

use bytepool::{ClassStats, GetError, Misuse, Pool, PooledBuffer, Stats, round_original};

#[path = "support/valgrind.rs"]
mod valgrind;

/// Counts the live allocations of the sizes that one test below has for itself.
struct CountingAllocator;

/// Whether classes have room beyond their capacities here, so that overflow is slots; else the global allocator serves it.
const HAS_ROOM: bool = cfg!(all(unix, not(bytepool_portable)));

/// Sizes that nothing else in this program allocates, in bytes, and how many of each are live. A block may be longer by
/// what alignment takes.
const OVERFLOW_SIZE: usize = 99_968;
const OVERSIZE_SIZE: usize = 777_777;
static LIVE_OVERFLOW: AtomicIsize = AtomicIsize::new(0);
static LIVE_OVERSIZE: AtomicIsize = AtomicIsize::new(0);

fn count(layout: Layout, change: isize) {
    let is_of = |size: usize| (size..size + 64).contains(&layout.size());
    if is_of(OVERFLOW_SIZE) {
        LIVE_OVERFLOW.fetch_add(change, SeqCst);
    } else if is_of(OVERSIZE_SIZE) {
        LIVE_OVERSIZE.fetch_add(change, SeqCst);
    }
}

// SAFETY:
// - every call is passed on to the system allocator as it is; counting allocates nothing
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY:
        // - the caller's promises are those of `System`
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY:
        // - the caller's promises are those of `System`
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        count(layout, -1);
        // SAFETY:
        // - the caller's promises are those of `System`
        unsafe { System.dealloc(data, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The two ways to hold a buffer in Rust.
#[derive(Clone, Copy, Debug)]
enum Way {
    Raw,
    Owned,
}

enum Held {
    Raw(NonNull<u8>, usize),
    Owned(PooledBuffer),
}

impl Way {
    const BOTH: [Self; 2] = [Self::Raw, Self::Owned];

    fn get(self, pool: &Pool, size: usize) -> Held {
        match self {
            Self::Raw => Held::Raw(pool.get_raw(size).unwrap(), size),
            Self::Owned => Held::Owned(pool.get(size).unwrap()),
        }
    }

    fn get_many(self, pool: &Pool, size: usize, count: usize) -> Vec<Held> {
        (0..count).map(|_| self.get(pool, size)).collect()
    }
}

impl Held {
    fn put(self, pool: &Pool) {
        match self {
            // SAFETY:
            // - this value owned the outstanding buffer
            Self::Raw(data, size) => unsafe { pool.put_raw(data, size) }.unwrap(),
            Self::Owned(buffer) => drop(buffer),
        }
    }
}

/// Rounded to 352, 456 and 552 bytes.
fn three_classes() -> Pool {
    let sizes = Pool::builder().size_class(100, 1).size_class(200, 1).size_class(300, 1);
    sizes.round(round_original).build().unwrap()
}

fn ten_of_100_bytes() -> Pool {
    Pool::builder().size_class(100, 10).build().unwrap()
}

fn by_class(pool: &Pool, figure: impl Fn(&ClassStats) -> usize) -> Vec<usize> {
    pool.stats().classes.iter().map(figure).collect()
}

fn allocated_by_class(pool: &Pool) -> Vec<usize> {
    by_class(pool, |class| class.allocated_bytes)
}

fn total(pool: &Pool) -> usize {
    let stats = pool.stats();
    stats.assert_consistent();
    stats.allocated_bytes
}

// ---- kept ----

#[test]
fn classes_are_rounded_and_their_overflow_is_counted_and_given_back() {
    for way in Way::BOTH {
        let pool = three_classes();
        assert_eq!(by_class(&pool, |class| class.buffer_size), [352, 456, 552]);
        assert_eq!(allocated_by_class(&pool), [0, 0, 0]);

        let mut first: Vec<Held> = [100, 200, 300].map(|size| way.get(&pool, size)).into();
        assert_eq!(allocated_by_class(&pool), [352, 456, 552], "{way:?}");
        let second: Vec<Held> = [100, 200, 300].map(|size| way.get(&pool, size)).into();
        assert_eq!(allocated_by_class(&pool), [704, 912, 1104], "{way:?}");

        first.drain(..).for_each(|held| held.put(&pool));
        assert_eq!(allocated_by_class(&pool), [704, 912, 1104], "{way:?}: kept by the pool");
        second.into_iter().for_each(|held| held.put(&pool));
        assert_eq!(allocated_by_class(&pool), [352, 456, 552], "{way:?}: given back");
        assert_eq!(total(&pool), 352 + 456 + 552);
    }
}

#[test]
fn oversize_is_counted_apart_and_given_back_on_put() {
    for way in Way::BOTH {
        let pool = Pool::builder().size_class(100, 2).round(round_original).build().unwrap();
        let oversize = way.get(&pool, 500);
        assert_eq!((pool.stats().oversize_bytes, total(&pool)), (752, 752), "{way:?}");
        let pooled = way.get(&pool, 100);
        assert_eq!((pool.stats().oversize_bytes, total(&pool)), (752, 1104), "{way:?}");
        oversize.put(&pool);
        assert_eq!((pool.stats().oversize_bytes, total(&pool)), (0, 352), "{way:?}");
        pooled.put(&pool);
        assert_eq!(total(&pool), 352, "{way:?}: kept by the pool");
        pool.close();
        assert_eq!(total(&pool), 0, "{way:?}: closed");
    }
}

#[test]
fn a_class_grows_to_its_capacity_and_overflows_beyond() {
    for way in Way::BOTH {
        let pool = ten_of_100_bytes();
        let three = way.get_many(&pool, 100, 3);
        assert_eq!(total(&pool), 300, "{way:?}");
        three.into_iter().for_each(|held| held.put(&pool));
        assert_eq!(total(&pool), 300, "{way:?}: kept by the pool");

        let ten = way.get_many(&pool, 100, 10);
        assert_eq!(total(&pool), 1000, "{way:?}");
        let eleventh = way.get(&pool, 100);
        assert_eq!(total(&pool), 1100, "{way:?}");
        ten.into_iter().for_each(|held| held.put(&pool));
        assert_eq!(total(&pool), 1100, "{way:?}: the eleventh is still out");
        eleventh.put(&pool);
        assert_eq!(total(&pool), 1000, "{way:?}");
    }
}

#[test]
fn a_buffer_put_and_got_again_holds_what_was_written() {
    let pool = ten_of_100_bytes();
    let mut buffer = pool.get(100).unwrap();
    let address = buffer.as_ptr();
    buffer.copy_from_slice(&[0xA5; 100]);
    drop(buffer);
    let again = pool.get(100).unwrap();
    if valgrind::replacements() {
        assert_eq!(again[..], [0; 100], "another block");
    } else {
        assert_eq!((again.as_ptr(), &again[..]), (address, &[0xA5; 100][..]));
    }
}

#[test]
fn rounding_is_the_originals_or_the_users() {
    assert_eq!(round_original(500), 752);
    let capacity = |round: fn(usize) -> usize| {
        let pool = Pool::builder().size_class(500, 1).round(round).build().unwrap();
        assert_eq!(by_class(&pool, |class| class.buffer_size), [round(500)]);
        pool.get(500).unwrap().capacity()
    };
    for (round, rounded) in [
        (round_original as fn(usize) -> usize, 752),
        (|n| ((n + 8) >> 3) << 3, 504),
        (|n| ((n + 16) >> 3) << 3, 512),
    ] {
        assert_eq!(capacity(round), valgrind::capacity(500, rounded));
    }
}

#[test]
fn rounding_never_makes_a_buffer_smaller() {
    let pool = Pool::builder().size_class(100, 1).round(|size| size / 2).build().unwrap();
    assert_eq!(by_class(&pool, |class| class.buffer_size), [100]);
    assert_eq!(pool.get(100).unwrap().capacity(), 100);
    assert_eq!(pool.get(101).unwrap().capacity(), 101, "oversize, as asked for");
}

#[test]
fn a_copy_allocates_its_class_and_reads_back_the_same() {
    let pool = three_classes();
    let copy = pool.copy(b"hello world").unwrap();
    assert_eq!((copy.len(), total(&pool)), (11, 352));
    assert_eq!(&copy[..], b"hello world");
}

#[test]
fn stats_tell_each_class_and_oversize_apart() {
    let pool = Pool::builder().size_class(200, 3).size_class(100, 2).build().unwrap();
    let identity = |pool: &Pool| -> Vec<(usize, usize)> {
        pool.stats().classes.iter().map(|class| (class.buffer_size, class.capacity)).collect()
    };
    assert_eq!(identity(&pool), [(100, 2), (200, 3)], "ascending, whatever order they were given in");
    assert_eq!(by_class(&pool, |class| class.slot_size), [128, 256]);

    let small = [100, 50, 1].map(|size| pool.get(size).unwrap());
    let large = [101, 200].map(|size| pool.get(size).unwrap());
    let oversize = [201, 5000].map(|size| pool.get(size).unwrap());
    assert_eq!(allocated_by_class(&pool), [300, 400]);
    assert_eq!(by_class(&pool, |class| class.outstanding), [2, 2]);
    assert_eq!(by_class(&pool, |class| class.overflow), [1, 0]);
    assert_eq!(by_class(&pool, |class| class.idle), [0, 0]);
    let stats = pool.stats();
    assert_eq!((stats.oversize_buffers, stats.oversize_bytes), (2, 5201));
    assert_eq!((stats.allocated_bytes, stats.mapped_bytes), (300 + 400 + 5201, 3 * 128 + 2 * 256 + 5201));
    let from_system = if HAS_ROOM { 2 } else { 3 };
    assert_eq!((stats.gets, stats.puts, stats.system_allocations), (7, 0, from_system));

    drop((small, large, oversize));
    assert_eq!(allocated_by_class(&pool), [200, 400]);
    assert_eq!(by_class(&pool, |class| class.outstanding), [0, 0]);
    assert_eq!(by_class(&pool, |class| class.overflow), [0, 0]);
    // One beyond the capacity shares its page with the others.
    assert_eq!(by_class(&pool, |class| class.idle), [if HAS_ROOM { 3 } else { 2 }, 2]);
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.oversize_buffers, stats.oversize_bytes), (0, 0));
    assert_eq!((stats.gets, stats.puts, stats.system_allocations), (7, 7, from_system));
    assert_eq!(identity(&pool), [(100, 2), (200, 3)]);
}

// ---- its faults, gone ----

#[test]
fn overflow_and_oversize_buffers_outstanding_at_close_are_freed_once_put() {
    for way in Way::BOTH {
        let pool = Pool::builder().size_class(OVERFLOW_SIZE, 1).build().unwrap();
        let pooled = way.get(&pool, OVERFLOW_SIZE);
        let overflow = way.get_many(&pool, OVERFLOW_SIZE, 5);
        let oversize = way.get_many(&pool, OVERSIZE_SIZE, 7);
        pool.close();
        // Under memcheck they do not come from the global allocator.
        let live = match valgrind::replacements() {
            true => (0, 0),
            false if HAS_ROOM => (0, 7),
            false => (5, 7),
        };
        assert_eq!((LIVE_OVERFLOW.load(SeqCst), LIVE_OVERSIZE.load(SeqCst)), live, "{way:?}: outstanding");
        assert_eq!(total(&pool), 6 * OVERFLOW_SIZE + 7 * OVERSIZE_SIZE);
        overflow.into_iter().chain(oversize).for_each(|held| held.put(&pool));
        assert_eq!((LIVE_OVERFLOW.load(SeqCst), LIVE_OVERSIZE.load(SeqCst)), (0, 0), "{way:?}: put");
        // A slot that shares a page with the one that is out stays with it.
        let kept = if HAS_ROOM { 1 } else { 0 };
        assert_eq!(
            (by_class(&pool, |class| class.idle), total(&pool)),
            (vec![kept], (1 + kept) * OVERFLOW_SIZE)
        );
        pooled.put(&pool);
        assert_eq!(total(&pool), 0);
    }
}

#[test]
fn a_put_after_close_works() {
    for way in Way::BOTH {
        let pool = ten_of_100_bytes();
        let buffers = way.get_many(&pool, 100, 12);
        pool.close();
        assert_eq!(pool.get(100).unwrap_err(), GetError::Closed);
        let before = pool.stats();
        assert_eq!((before.puts, before.classes[0].outstanding, before.classes[0].overflow), (0, 10, 2));
        buffers.into_iter().for_each(|held| held.put(&pool));
        let after = pool.stats();
        after.assert_consistent();
        assert_eq!((after.puts, after.classes[0].outstanding, after.classes[0].overflow), (12, 0, 0));
    }
}

/// The state of `pool` before and after a refused put of `data`: nothing but the count of its kind changes.
fn refused(pool: &Pool, data: NonNull<u8>, size: usize) -> (Misuse, Stats) {
    let before = pool.stats();
    // SAFETY:
    // - the put is one that the pool refuses, or the buffer is this test's
    let misuse = unsafe { pool.put_raw(data, size) }.expect_err("a misuse was accepted");
    let mut expected = before;
    match misuse {
        Misuse::DoublePut { .. } => expected.double_puts += 1,
        Misuse::SizeMismatch { .. } => expected.size_mismatches += 1,
        Misuse::ForeignPointer { .. } => expected.foreign_pointers += 1,
        _ => panic!("a kind of misuse that this test does not know: {misuse:?}"),
    }
    let after = pool.stats();
    assert_eq!(after, expected, "{misuse}");
    (misuse, after)
}

#[test]
fn a_double_put_does_not_hand_one_buffer_to_two_owners() {
    let pool = ten_of_100_bytes();
    let data = pool.get_raw(100).unwrap();
    Held::Raw(data, 100).put(&pool);
    let (misuse, after) = refused(&pool, data, 100);
    assert_eq!(misuse, Misuse::DoublePut { address: data.as_ptr().addr(), buffer_size: 100 });
    assert_eq!((after.double_puts, after.classes[0].idle), (1, 1));
    let (a, b) = (pool.get(100).unwrap(), pool.get(100).unwrap());
    assert_ne!(a.as_ptr(), b.as_ptr());
}

#[test]
fn a_wrong_size_does_not_put_a_buffer_into_another_class() {
    let pool = three_classes();
    let data = pool.get_raw(100).unwrap();
    for size in [200, 300, 500, usize::MAX] {
        let (misuse, _) = refused(&pool, data, size);
        let address = data.as_ptr().addr();
        assert_eq!(misuse, Misuse::SizeMismatch { address, size, requested: 100, buffer_size: 352 });
    }
    assert_eq!(by_class(&pool, |class| class.idle), [0, 0, 0]);
    Held::Raw(data, 100).put(&pool);
    assert_eq!(by_class(&pool, |class| class.idle), [1, 0, 0]);
}

#[test]
fn another_size_of_the_same_class_puts_a_buffer_as_in_the_original() {
    let pool = three_classes();
    let data = pool.get_raw(10).unwrap();
    Held::Raw(data, 96).put(&pool);
    assert_eq!(by_class(&pool, |class| class.idle), [1, 0, 0]);
}

#[test]
fn foreign_interior_and_other_pools_pointers_are_not_pooled() {
    let (pool, other) = (three_classes(), three_classes());
    let data = pool.get_raw(100).unwrap();
    // SAFETY:
    // - 8 bytes into a buffer of 100
    let interior = unsafe { data.add(8) };
    let others = other.get_raw(100).unwrap();
    let mut foreign = [0u8; 100];
    for stray in [NonNull::from(&mut foreign).cast(), interior, others] {
        let (misuse, _) = refused(&pool, stray, 100);
        assert_eq!(misuse, Misuse::ForeignPointer { address: stray.as_ptr().addr() });
    }
    assert_eq!(pool.stats().foreign_pointers, 3);
    assert_eq!(other.stats().foreign_pointers, 0);
    Held::Raw(data, 100).put(&pool);
    Held::Raw(others, 100).put(&other);
}

#[cfg(feature = "capi")]
mod through_the_c_functions {
    use super::*;
    use bytepool::ffi::capi::{
        bytepool_get, bytepool_invalid_context_count, bytepool_put, bytepool_put_checked,
    };
    use bytepool::ffi::status::{Status, last_error};
    use std::ffi::c_void;
    use std::ptr;

    #[test]
    fn a_null_put_is_not_pooled() {
        let pool = three_classes();
        let context = pool.context();
        let before = pool.stats();
        // SAFETY:
        // - NULL is no buffer
        unsafe { bytepool_put(context.as_ptr(), ptr::null_mut(), 100) };
        assert_eq!(pool.stats(), before);
        let data = bytepool_get(context.as_ptr(), 100);
        assert!(!data.is_null());
        // SAFETY:
        // - this test's buffer
        unsafe { bytepool_put(context.as_ptr(), data, 100) };
        assert_eq!(by_class(&pool, |class| class.idle), [1, 0, 0]);
    }

    #[test]
    fn a_stale_an_invented_and_a_null_context_are_refused() {
        let stale = three_classes().context().into_raw();
        bytepool::ffi::capi::bytepool_free(stale);
        let pool = three_classes();
        let data = pool.get_raw(100).unwrap();
        let before = pool.stats();
        let invented = ptr::without_provenance_mut::<c_void>(0x1234_5678);
        let strays = [stale, invented, ptr::null_mut(), data.as_ptr().cast()];
        for (done, stray) in strays.into_iter().enumerate() {
            let counted = bytepool_invalid_context_count();
            assert!(done > 0 || counted == 0, "no other test of this program uses an invalid context");
            assert!(bytepool_get(stray, 100).is_null());
            assert_eq!(last_error(), Status::InvalidContext);
            // SAFETY:
            // - refused, as the context is invalid
            let status = unsafe { bytepool_put_checked(stray, data.as_ptr().cast(), 100) };
            assert_eq!(status, Status::InvalidContext as i32);
            assert_eq!(bytepool_invalid_context_count(), counted + 2);
            assert_eq!(pool.stats(), before, "no pool noticed");
        }
        Held::Raw(data, 100).put(&pool);
    }
}
