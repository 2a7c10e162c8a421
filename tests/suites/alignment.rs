//! Every buffer starts at a multiple of the pool's alignment, and no two buffers share a byte.

use std::ops::Range;

use bytepool::{ClassStats, GetError, MAX_ALIGNMENT, Pool, PooledBuffer};

/// Buffers of every kind, pooled, overflow and oversize, each as long as its capacity.
fn buffers_of_every_kind(pool: &Pool) -> Vec<PooledBuffer> {
    let small = (0..6).map(|n| 100 - n);
    let large = (0..4).map(|n| 5000 - n);
    let oversize = [5001, 9000, 70_000];
    let mut buffers = Vec::new();
    for size in small.chain(large).chain(oversize) {
        let mut buffer = pool.get(size).unwrap();
        buffer.resize(buffer.capacity()).unwrap();
        buffers.push(buffer);
    }
    let stats = pool.stats();
    let kinds = |f: fn(&ClassStats) -> usize| stats.classes.iter().map(f).collect::<Vec<_>>();
    assert_eq!(kinds(|class| class.outstanding), [4, 3]);
    assert_eq!(kinds(|class| class.overflow), [2, 1]);
    assert_eq!(stats.oversize_buffers, 3);
    buffers
}

fn pool_aligned_to(alignment: usize) -> Pool {
    Pool::builder().size_class(100, 4).size_class(5000, 3).alignment(alignment).build().unwrap()
}

fn addresses(buffer: &PooledBuffer) -> Range<usize> {
    let start = buffer.as_ptr().addr();
    start..start + buffer.capacity()
}

fn assert_disjoint(buffers: &[PooledBuffer]) {
    let mut ranges: Vec<_> = buffers.iter().map(addresses).collect();
    ranges.sort_by_key(|range| range.start);
    for pair in ranges.windows(2) {
        assert!(pair[0].end <= pair[1].start, "{:x?} and {:x?} overlap", pair[0], pair[1]);
    }
}

/// Fills each buffer with a mark of its own, then looks whether all marks are there.
fn assert_independent(buffers: &mut [PooledBuffer]) {
    let mark = |number: usize| (number % 251) as u8 + 1;
    for (number, buffer) in buffers.iter_mut().enumerate() {
        buffer.fill(mark(number));
    }
    for (number, buffer) in buffers.iter().enumerate() {
        let intact = buffer.iter().all(|&byte| byte == mark(number));
        assert!(intact, "buffer {number} was written by another");
    }
}

#[test]
fn every_buffer_is_aligned_at_every_alignment_and_overlaps_no_other() {
    let mut alignment = 1;
    while alignment <= MAX_ALIGNMENT {
        let pool = pool_aligned_to(alignment);
        assert_eq!(pool.alignment(), alignment);
        // The second time around slots are reused.
        for round in ["fresh", "reused"] {
            let mut buffers = buffers_of_every_kind(&pool);
            for buffer in &buffers {
                let address = buffer.as_ptr().addr();
                let capacity = buffer.capacity();
                assert!(
                    address % alignment == 0,
                    "a {round} buffer of {capacity} bytes at {address:#x} is not aligned to {alignment}"
                );
            }
            assert_disjoint(&buffers);
            assert_independent(&mut buffers);
        }
        for class in pool.stats().classes {
            assert!(class.slot_size % alignment == 0 && class.slot_size >= class.buffer_size);
        }
        alignment *= 2;
    }
}

#[test]
fn raw_buffers_are_aligned_too() {
    for alignment in [1, 64, 256, 64 << 10, MAX_ALIGNMENT] {
        let pool = pool_aligned_to(alignment);
        let sizes = [0, 1, 100, 100, 100, 100, 101, 5000, 5000, 5000, 5001, 0];
        let buffers = sizes.map(|size| (pool.get_raw(size).unwrap(), size));
        for (data, size) in buffers {
            assert!(data.as_ptr().addr() % alignment == 0, "{size} bytes aligned to {alignment}");
            assert!(pool.usable_size(data) >= size);
            // SAFETY:
            // - this test's buffer, put once
            unsafe { pool.put_raw(data, size) }.unwrap();
        }
        pool.stats().assert_consistent();
    }
}

#[test]
fn a_raw_buffer_can_be_aligned_more_strictly_than_its_pool() {
    let pool = pool_aligned_to(64);
    for alignment in (0..=24).map(|exponent| 1 << exponent) {
        let before = pool.stats().oversize_buffers;
        let data = pool.get_raw_aligned(alignment, 100).unwrap();
        assert!(data.as_ptr().addr() % alignment.max(64) == 0, "aligned to {alignment}");
        assert_eq!(
            pool.stats().oversize_buffers - before,
            usize::from(alignment > 128),
            "slots of 128 bytes serve up to that"
        );
        // SAFETY:
        // - this test's buffer, put once
        unsafe { pool.put_raw(data, 100) }.unwrap();
    }
    for alignment in [0, 3, 65, usize::MAX] {
        let before = pool.stats();
        let error = pool.get_raw_aligned(alignment, 100).unwrap_err();
        assert_eq!(error, GetError::Alignment { alignment });
        assert!(error.to_string().contains(&format!("{alignment} bytes")), "{error}");
        assert_eq!(pool.stats(), before);
    }
}

#[test]
fn the_default_alignment_is_64_bytes() {
    for pool in [pool_aligned_to(0), Pool::builder().size_class(100, 4).size_class(5000, 3).build().unwrap()]
    {
        assert_eq!(pool.alignment(), 64);
        for buffer in buffers_of_every_kind(&pool) {
            assert!(buffer.as_ptr().addr() % 64 == 0);
        }
    }
}

#[test]
fn buffers_share_no_cache_line_by_default() {
    let pool = Pool::builder().size_class(1, 500).size_class(65, 500).build().unwrap();
    let buffers: Vec<_> = (0..1000).map(|n| pool.get(if n % 2 == 0 { 1 } else { 65 }).unwrap()).collect();
    let mut lines: Vec<_> = buffers
        .iter()
        .flat_map(|buffer| {
            let range = addresses(buffer);
            range.start / 64..range.end.div_ceil(64)
        })
        .collect();
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!((all, lines.len()), (500 + 2 * 500, all));
}

#[test]
fn with_an_alignment_of_16_small_buffers_lie_closer() {
    const SIZES: [usize; 5] = [1, 48, 80, 112, 160];
    for alignment in [1, 16] {
        let builder = SIZES.iter().fold(Pool::builder(), |builder, &size| builder.size_class(size, 1000));
        let pool = builder.alignment(alignment).build().unwrap();
        let slots: Vec<_> = pool.stats().classes.iter().map(|class| class.slot_size).collect();
        assert_eq!(slots, [16, 48, 80, 112, 160]);
        let got = |size| std::iter::repeat_with(move || size).take(1000);
        let mut buffers: Vec<_> =
            SIZES.into_iter().flat_map(got).map(|size| pool.get(size).unwrap()).collect();
        assert!(buffers.iter().all(|buffer| buffer.as_ptr().addr() % 16 == 0));
        assert_disjoint(&buffers);
        assert_independent(&mut buffers);
        // Every other one goes, and its memory where a page is idle. What stays is intact.
        let mut number = 0;
        buffers.retain(|_| {
            number += 1;
            number % 2 == 0
        });
        pool.trim(0);
        assert_independent(&mut buffers);
        drop(buffers);
        pool.trim(0);
        assert_eq!(pool.stats().outstanding(), 0);
        let gives_back = cfg!(all(unix, not(bytepool_portable)));
        assert!(!gives_back || pool.stats().mapped_bytes == 0, "{:?}", pool.stats());
    }
}

#[test]
fn no_address_inside_a_small_buffer_is_one() {
    for size in [16, 48, 80] {
        let pool = Pool::builder().size_class(size, 100).alignment(16).build().unwrap();
        let data = pool.get_raw(size).unwrap();
        for inside in 1..size {
            let address = data.as_ptr().wrapping_add(inside);
            // SAFETY:
            // - no buffer starts there, so nothing is put
            let refused = unsafe { pool.put_raw(std::ptr::NonNull::new(address).unwrap(), size) };
            assert!(refused.is_err(), "{inside} bytes into a buffer of {size}");
        }
        // SAFETY:
        // - got above, and put once
        unsafe { pool.put_raw(data, size) }.unwrap();
        assert_eq!(pool.stats().misuse(), size as u64 - 1);
    }
}

#[test]
fn buffers_of_many_classes_never_overlap() {
    let classes = (1..=64usize).map(|n| (n * n * 17, n % 7 + 1));
    let pool = classes.clone().fold(Pool::builder(), |b, (size, n)| b.size_class(size, n)).build().unwrap();
    let mut buffers = Vec::new();
    for (size, capacity) in classes {
        for _ in 0..capacity + 1 {
            let mut buffer = pool.get(size).unwrap();
            buffer.resize(buffer.capacity()).unwrap();
            buffers.push(buffer);
        }
    }
    assert_disjoint(&buffers);
    assert_independent(&mut buffers);
}
