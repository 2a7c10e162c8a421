//! Pinned pools: all slots are memory from the start, and stay; colored ones; and aligned gets, which classes serve.

use std::collections::HashSet;

use bytepool::{BuildError, Builder, GetError, Pool, PooledBuffer};

use crate::valgrind;

const SIZE: usize = 4096;
const CAPACITY: usize = 10;
const LARGE: usize = 64 << 10;

fn builder() -> Builder {
    Pool::builder().size_class(SIZE, CAPACITY).size_class(LARGE, 2).pinned(true)
}

const PINNED: usize = SIZE * CAPACITY + LARGE * 2;

/// Whether a buffer lies in one of the pool's regions, at the start of a slot.
fn is_in_regions(pool: &Pool, buffer: &PooledBuffer) -> bool {
    pool.pinned_regions().any(|region| {
        let offset = buffer.as_ptr().addr().wrapping_sub(region.start.as_ptr().addr());
        offset < region.len && offset % region.slot_size == 0
    })
}

#[test]
fn all_slots_are_mapped_from_the_start_and_trim_keeps_them() {
    let pool = builder().build().unwrap();
    for _ in 0..3 {
        let stats = pool.stats();
        stats.assert_consistent();
        assert_eq!((stats.mapped_bytes, stats.classes[0].idle, stats.classes[1].idle), (PINNED, CAPACITY, 2));
        drop((pool.get(SIZE).unwrap(), pool.get(LARGE).unwrap()));
        assert_eq!(pool.trim(0), 0);
    }
    pool.close();
    assert_eq!(pool.stats().mapped_bytes, 0);
    assert_eq!(pool.pinned_regions().count(), 0, "a closed pool's memory went back");
}

#[test]
fn regions_hold_every_slot_and_nothing_else() {
    let pool = builder().build().unwrap();
    let regions: Vec<_> = pool.pinned_regions().collect();
    assert_eq!(
        regions.iter().map(|region| (region.len, region.slot_size)).collect::<Vec<_>>(),
        [(SIZE * CAPACITY, SIZE), (LARGE * 2, LARGE)]
    );
    let slots: Vec<_> = (0..CAPACITY).map(|_| pool.get(SIZE).unwrap()).collect();
    let overflow = pool.get(SIZE).unwrap();
    let oversize = pool.get(LARGE + 1).unwrap();
    if !valgrind::replacements() {
        assert!(slots.iter().all(|buffer| is_in_regions(&pool, buffer)));
    }
    assert!(![&overflow, &oversize].into_iter().any(|buffer| is_in_regions(&pool, buffer)));
    assert_eq!(pool.stats().classes[0].system_overflow, usize::from(!valgrind::replacements()));
    let other = Pool::builder().size_class(SIZE, CAPACITY).build().unwrap();
    assert_eq!(other.pinned_regions().count(), 0);
}

#[test]
fn a_limit_below_the_slots_is_an_error_and_one_above_leaves_the_rest() {
    let refused = builder().max_bytes(PINNED - 1).build();
    assert!(
        matches!(refused, Err(BuildError::PinnedBeyondLimit { pinned: PINNED, limit }) if limit == PINNED - 1)
    );
    let pool = builder().max_bytes(PINNED + SIZE).build().unwrap();
    let expected =
        GetError::Pinned { pinned: PINNED, limit: PINNED + SIZE, mapped: PINNED, requested: 100_000 };
    assert_eq!(pool.get(100_000).unwrap_err(), expected, "although all slots are idle");
    assert!(expected.to_string().contains(&format!("{PINNED} of them are pinned")));
    let all: Vec<_> = (0..=CAPACITY).map(|_| pool.get(SIZE).unwrap()).collect();
    assert!(matches!(pool.get(SIZE), Err(GetError::Pinned { .. })));
    assert_eq!(pool.stats().limit_failures, 2);
    drop(all);
    pool.stats().assert_consistent();
}

#[test]
fn a_waiter_gets_a_pinned_slot() {
    let pool = builder().max_bytes(PINNED).build().unwrap();
    let all: Vec<_> = (0..2).map(|_| pool.get(LARGE).unwrap()).collect();
    let other = pool.clone();
    let waiter = std::thread::spawn(move || other.get_timeout(LARGE, std::time::Duration::MAX).is_ok());
    while pool.stats().waits == 0 {
        std::thread::yield_now();
    }
    drop(all);
    assert!(waiter.join().unwrap());
}

#[test]
fn what_the_pinned_slots_leave_no_room_for_fails_at_once() {
    let pool = builder().max_bytes(PINNED + LARGE).build().unwrap();
    let requested = LARGE + 1;
    let hopeless = GetError::Pinned { pinned: PINNED, limit: PINNED + LARGE, mapped: PINNED, requested };
    let without_end = std::time::Duration::MAX;
    assert_eq!(
        pool.get_timeout(requested, without_end).unwrap_err(),
        hopeless,
        "although it is below the limit"
    );
    assert_eq!((pool.stats().waits, pool.stats().limit_failures), (0, 1));
}

/// Where each slot starts in its page, by cache line.
fn lines(pool: &Pool, count: usize) -> HashSet<usize> {
    let all: Vec<_> = (0..count).map(|_| pool.get(SIZE).unwrap()).collect();
    all.iter().map(|buffer| buffer.as_ptr().addr() % 4096 / 64).collect()
}

#[test]
fn colored_slots_start_at_every_line_of_a_page() {
    if valgrind::replacements() {
        return; // the addresses are malloc's
    }
    let pool = Pool::builder().size_class(SIZE, 64).coloring(true).build().unwrap();
    assert_eq!(lines(&pool, 64).len(), 64);
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.classes[0].buffer_size, stats.classes[0].slot_size), (SIZE, SIZE + 64));
    let plain = Pool::builder().size_class(SIZE, 64).build().unwrap();
    assert_eq!(lines(&plain, 64).len(), 1);
}

#[test]
fn a_class_serves_every_alignment_that_its_slots_have() {
    let pool =
        Pool::builder().size_class(512, 10).size_class(1100, 10).size_class(LARGE, 10).build().unwrap();
    // Alignment and size, and the buffer size of the class that serves them.
    for (alignment, size, buffer_size) in
        [(64, 100, 512), (512, 512, 512), (512, 513, LARGE), (1024, 100, LARGE), (LARGE, LARGE, LARGE)]
    {
        let before = pool.stats().system_allocations;
        let buffer = pool.get_aligned(alignment, size).unwrap();
        assert!(buffer.as_ptr().addr() % alignment == 0, "{alignment}, {size}");
        assert_eq!((buffer.len(), buffer.capacity()), (size, valgrind::capacity(size, buffer_size)));
        assert_eq!(pool.stats().system_allocations, before);
        let raw = pool.get_raw_aligned(alignment, size).unwrap();
        assert!(raw.as_ptr().addr() % alignment == 0);
        // SAFETY:
        // - just got, of this size
        unsafe { pool.put_raw(raw, size) }.unwrap();
    }
    for (alignment, size) in [(2 * LARGE, 100), (2 << 20, LARGE), (64, LARGE + 1)] {
        let before = pool.stats().system_allocations;
        let buffer = pool.get_aligned(alignment, size).unwrap();
        assert!(buffer.as_ptr().addr() % alignment == 0);
        assert_eq!(pool.stats().system_allocations, before + 1, "{alignment}, {size}: no class has it");
    }
    assert_eq!(pool.get_aligned(3, 100).unwrap_err(), GetError::Alignment { alignment: 3 });
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!(stats.gets, stats.puts);
}
