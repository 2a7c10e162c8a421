//! What a buffer holds: never an uninitialised byte, zeros where they are promised, and what was written
//! where it is kept.

use std::ptr::NonNull;

use bytepool::{Builder, Pool, PooledBuffer, ReallocError, ResizeError};

const SMALL: usize = 1000;
const LARGE: usize = 20_000;
fn builder() -> Builder {
    Pool::builder().size_class(SMALL, 3).size_class(LARGE, 2)
}

/// All bytes of the buffer, to its capacity.
fn whole(buffer: &mut PooledBuffer) -> &mut [u8] {
    buffer.resize(buffer.capacity()).unwrap();
    buffer
}

fn is_all(bytes: &[u8], value: u8) -> bool {
    bytes.iter().all(|&byte| byte == value)
}

/// What an address holds now, whoever owns it.
fn peek(data: NonNull<u8>, bytes: usize) -> Vec<u8> {
    // SAFETY:
    // - callers pass slots of a pool that exists: their memory stays, initialised, and nobody writes to it
    //   meanwhile
    unsafe { std::slice::from_raw_parts(data.as_ptr(), bytes) }.to_vec()
}

/// Leaves every slot, and whatever the system allocator reuses, full of 0xEE.
fn make_dirty(pool: &Pool) {
    let sizes = [SMALL, SMALL, SMALL, SMALL, LARGE, LARGE, LARGE, LARGE + 1, 60_000];
    let mut buffers = sizes.map(|size| pool.get(size).unwrap());
    buffers.iter_mut().for_each(|buffer| whole(buffer).fill(0xEE));
}

#[test]
fn fresh_slots_are_zeros_to_their_capacity() {
    let pool = builder().build().unwrap();
    for size in [1, SMALL, 0, SMALL + 1, LARGE] {
        let mut buffer = pool.get(size).unwrap();
        assert_eq!(buffer.len(), size);
        assert!(is_all(whole(&mut buffer), 0), "a get of {size} bytes");
        std::mem::forget(buffer); // or the next would reuse it
    }
    assert_eq!(pool.stats().system_allocations, 0);
}

#[test]
fn a_reused_slot_holds_what_was_there_and_nothing_else() {
    let pool = builder().build().unwrap();
    let mut buffer = pool.get(SMALL).unwrap();
    let address = buffer.as_ptr();
    let pattern: Vec<u8> = (0..SMALL).map(|n| (n * 7) as u8).collect();
    buffer.copy_from_slice(&pattern);
    drop(buffer);
    let mut again = pool.get(10).unwrap();
    assert_eq!(again.as_ptr(), address);
    assert_eq!(again[..], pattern[..10]);
    assert!(*whole(&mut again) == pattern[..]);
}

#[test]
fn system_buffers_are_zeros_for_rust_although_the_system_reuses_memory() {
    // Pinned, and so without room beyond the capacities: overflow is the system's.
    let pool = builder().pinned(true).build().unwrap();
    for _ in 0..20 {
        make_dirty(&pool);
        let slots: Vec<_> = (0..3).map(|_| pool.get(SMALL).unwrap()).collect();
        let large_slots: Vec<_> = (0..2).map(|_| pool.get(LARGE).unwrap()).collect();
        let before = pool.stats().system_allocations;
        for size in [1, SMALL, LARGE, LARGE + 1, 60_000] {
            let mut buffer = pool.get(size).unwrap();
            assert!(is_all(whole(&mut buffer), 0), "a get of {size} bytes");
        }
        assert_eq!(pool.stats().system_allocations, before + 5);
        drop((slots, large_slots));
    }
}

/// Zeros, or what was in the slot before.
#[test]
fn overflow_that_is_a_slot_holds_what_a_slot_holds() {
    let pool = builder().build().unwrap();
    for round in 0..3 {
        let mut all: Vec<_> = (0..20).map(|_| pool.get(LARGE).unwrap()).collect();
        for buffer in &mut all {
            let first = buffer[0];
            assert!(first == 0 || round > 0 && first == 0xEE);
            assert!(is_all(whole(buffer), first));
            buffer.fill(0xEE);
        }
        assert_eq!(pool.stats().classes[1].overflow, 18);
    }
    // What went back to the system reads as zeros again.
    if pool.trim(0) > 0 {
        let mut all: Vec<_> = (0..20).map(|_| pool.get(LARGE).unwrap()).collect();
        assert!(all.iter_mut().all(|buffer| is_all(whole(buffer), 0)));
    }
}

#[test]
fn a_zeroed_get_is_zeros_as_far_as_asked_over_dirty_buffers_of_every_kind() {
    let pool = builder().build().unwrap();
    for _ in 0..5 {
        make_dirty(&pool);
        for size in [0, 1, SMALL - 1, SMALL, SMALL + 1, LARGE, LARGE + 1, 60_000] {
            // More than the classes have: slots, then overflow.
            let buffers: Vec<_> = (0..4).map(|_| pool.get_zeroed(size).unwrap()).collect();
            for mut buffer in buffers {
                assert_eq!(buffer.len(), size);
                assert!(is_all(&buffer, 0), "a get of {size} bytes");
                whole(&mut buffer).fill(0xEE);
            }
        }
    }
}

#[test]
fn a_zeroed_get_writes_no_more_of_a_slot_than_was_asked_for() {
    let pool = builder().build().unwrap();
    make_dirty(&pool);
    let mut buffer = pool.get_zeroed(100).unwrap();
    let bytes = whole(&mut buffer);
    assert!(is_all(&bytes[..100], 0) && is_all(&bytes[100..], 0xEE));
}

#[test]
fn a_slot_from_the_threads_own_cache_is_zeroed_or_as_it_was_like_any_other() {
    let pool = Pool::builder().size_class(SMALL, 400).build().unwrap();
    for _ in 0..10 {
        let mut buffers: Vec<_> = (0..50).map(|_| pool.get(SMALL).unwrap()).collect();
        buffers.iter_mut().for_each(|buffer| buffer.fill(0xEE));
        drop(buffers);
        let zeroed: Vec<_> = (0..50).map(|_| pool.get_zeroed(SMALL - 1).unwrap()).collect();
        for mut buffer in zeroed {
            let bytes = whole(&mut buffer);
            assert!(is_all(&bytes[..SMALL - 1], 0) && bytes[SMALL - 1] == 0xEE);
            bytes.fill(0xEE);
        }
        let raw: Vec<_> = (0..50).map(|_| pool.get_raw(1).unwrap()).collect();
        for data in raw {
            assert!(is_all(&peek(data, SMALL), 0xEE));
            // SAFETY:
            // - this test's buffer, put once
            unsafe { pool.put_raw(data, 1) }.unwrap();
        }
    }
    assert_eq!(pool.stats().system_allocations, 0);
}

#[test]
fn zero_on_get_makes_the_whole_capacity_zeros_for_every_way_to_get() {
    let pool = builder().zero_on_get(true).build().unwrap();
    for _ in 0..5 {
        make_dirty(&pool);
        for size in [0, 1, SMALL, SMALL + 1, LARGE, LARGE + 1, 60_000] {
            for _ in 0..4 {
                let mut buffer = pool.get(size).unwrap();
                assert!(is_all(whole(&mut buffer), 0), "a get of {size} bytes");
                whole(&mut buffer).fill(0xEE);
                drop(buffer);

                let data = pool.get_raw(size).unwrap();
                let capacity = pool.usable_size(data);
                assert!(is_all(&peek(data, capacity), 0), "a raw get of {size} bytes");
                // SAFETY:
                // - this test's buffer, of this capacity
                unsafe { data.as_ptr().write_bytes(0xEE, capacity) };
                // SAFETY:
                // - this test's buffer, put once
                unsafe { pool.put_raw(data, size) }.unwrap();
            }
        }
    }
    // Overflow too: all three slots are out.
    let _slots: Vec<_> = (0..3).map(|_| pool.get(SMALL).unwrap()).collect();
    make_dirty(&pool);
    let data = pool.get_raw(SMALL).unwrap();
    assert!(is_all(&peek(data, SMALL), 0), "a raw overflow buffer");
    // SAFETY:
    // - this test's buffer, put once
    unsafe { pool.put_raw(data, SMALL) }.unwrap();
}

#[test]
fn without_zero_on_get_a_raw_get_leaves_the_slot_as_it_was() {
    let pool = builder().build().unwrap();
    make_dirty(&pool);
    let data = pool.get_raw(10).unwrap();
    assert!(is_all(&peek(data, SMALL), 0xEE));
    // SAFETY:
    // - this test's buffer, put once
    unsafe { pool.put_raw(data, 10) }.unwrap();
}

#[test]
fn zero_on_put_overwrites_the_whole_capacity_of_a_slot() {
    let pool = builder().zero_on_put(true).build().unwrap();
    for size in [1, SMALL, LARGE] {
        let mut buffer = pool.get(size).unwrap();
        let data = NonNull::new(buffer.as_mut_ptr()).unwrap();
        let bytes = whole(&mut buffer).len();
        whole(&mut buffer).fill(0xEE);
        buffer.resize(size / 2).unwrap();
        drop(buffer);
        let mut again = pool.get(size).unwrap();
        assert_eq!(again.as_ptr(), data.as_ptr());
        assert!(is_all(whole(&mut again), 0), "a PooledBuffer of {size} bytes");
        drop(again);

        let raw = pool.get_raw(size).unwrap();
        assert_eq!(raw, data);
        // SAFETY:
        // - this test's buffer, of this capacity
        unsafe { raw.as_ptr().write_bytes(0xEE, bytes) };
        // SAFETY:
        // - this test's buffer, put once
        unsafe { pool.put_raw(raw, size) }.unwrap();
        let mut again = pool.get(size).unwrap();
        assert_eq!(again.as_ptr(), data.as_ptr());
        assert!(is_all(whole(&mut again), 0), "a raw buffer of {size} bytes");
    }
}

#[test]
fn without_zero_on_put_a_put_leaves_the_slot_as_it_was() {
    let pool = builder().build().unwrap();
    let mut buffer = pool.get(SMALL).unwrap();
    buffer.fill(0xEE);
    drop(buffer);
    assert!(is_all(&pool.get(SMALL).unwrap(), 0xEE));
}

#[test]
fn a_refused_put_overwrites_nothing_although_puts_do() {
    let pool = builder().zero_on_put(true).build().unwrap();
    let mut buffer = pool.get(SMALL).unwrap();
    buffer.fill(0xEE);
    let data = NonNull::new(buffer.as_mut_ptr()).unwrap();
    // SAFETY:
    // - refused: a `PooledBuffer` owns it
    unsafe { pool.put_raw(data, SMALL) }.unwrap_err();
    assert!(is_all(&buffer, 0xEE));
    let (data, _) = buffer.into_raw();
    // SAFETY:
    // - refused: the size is of another class
    unsafe { pool.put_raw(data, LARGE) }.unwrap_err();
    assert!(is_all(&peek(data, SMALL), 0xEE));
    // SAFETY:
    // - this test's buffer, put once
    unsafe { pool.put_raw(data, SMALL) }.unwrap();
}

#[test]
fn resize_changes_the_length_only_and_stops_at_the_capacity() {
    let pool = builder().build().unwrap();
    for (size, capacity) in [(100, SMALL), (SMALL + 1, LARGE), (LARGE + 1, LARGE + 1)] {
        let mut buffer = pool.get(size).unwrap();
        assert_eq!((buffer.len(), buffer.capacity()), (size, capacity));
        buffer.fill(7);
        let address = buffer.as_ptr();
        buffer.resize(10).unwrap();
        assert!(buffer.len() == 10 && is_all(&buffer, 7));
        buffer.resize(0).unwrap();
        assert!(buffer.is_empty());
        buffer.resize(capacity).unwrap();
        assert!(is_all(&buffer[..size], 7) && is_all(&buffer[size..], 0), "what was there");
        for requested in [capacity + 1, usize::MAX] {
            let error = buffer.resize(requested).unwrap_err();
            assert_eq!(error, ResizeError { requested, capacity });
            let message = error.to_string();
            assert!(message.contains(&format!("{requested} bytes")), "{message}");
            assert!(message.ends_with(&format!("capacity of {capacity}")), "{message}");
            assert_eq!((buffer.len(), buffer.as_ptr()), (capacity, address), "as it was");
            assert!(is_all(&buffer[..size], 7));
        }
    }
}

#[test]
fn a_copy_holds_the_bytes_whatever_was_there_before() {
    let pool = builder().build().unwrap();
    let source: Vec<u8> = (0..60_000).map(|n| (n % 253) as u8).collect();
    for dirty in [false, true] {
        if dirty {
            make_dirty(&pool);
        }
        for bytes in [0, 1, 11, SMALL, SMALL + 1, LARGE, LARGE + 1, 60_000] {
            let copy = pool.copy(&source[..bytes]).unwrap();
            assert!(*copy == source[..bytes], "{bytes} bytes");
        }
    }
}

#[test]
fn a_buffer_of_zero_bytes_is_a_real_buffer_with_an_address_of_its_own() {
    for pool in [builder().build().unwrap(), Pool::builder().build().unwrap()] {
        let buffers: Vec<_> = (0..6).map(|_| pool.get(0).unwrap()).collect();
        let mut addresses: Vec<_> = buffers.iter().map(|buffer| buffer.as_ptr()).collect();
        assert!(buffers.iter().all(|buffer| buffer.is_empty() && buffer[..].is_empty()));
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 6);
    }
}

#[test]
fn content_survives_every_change_of_hands() {
    let pool = builder().build().unwrap();
    let pattern: Vec<u8> = (0..60_000).map(|n| (n % 251) as u8).collect();
    // Slots, overflow, oversize.
    let sizes = [SMALL, SMALL, SMALL, SMALL, LARGE, LARGE, LARGE, 60_000];
    let mut buffers: Vec<_> = sizes.map(|size| pool.copy(&pattern[..size]).unwrap()).into();
    for _ in 0..3 {
        let released: Vec<_> = buffers.into_iter().map(PooledBuffer::into_raw).collect();
        buffers = released
            .into_iter()
            .map(|(data, size)| {
                // SAFETY:
                // - just released, and initialised all over: `get` hands out no uninitialised byte
                unsafe { PooledBuffer::from_raw(&pool, data, size) }.unwrap()
            })
            .collect();
    }
    for (buffer, size) in buffers.iter().zip(sizes) {
        assert!(**buffer == pattern[..size], "{size} bytes");
    }
}

#[test]
fn an_adopted_buffer_has_the_length_it_is_adopted_with() {
    let pool = builder().build().unwrap();
    let data = pool.get_raw(100).unwrap();
    // SAFETY:
    // - this test's slot; slots are always initialised
    let buffer = unsafe { PooledBuffer::from_raw(&pool, data, 700) }.unwrap();
    assert_eq!((buffer.len(), buffer.capacity()), (700, SMALL));
}

#[test]
fn a_reallocation_keeps_as_many_bytes_as_both_have() {
    let pool = builder().build().unwrap();
    let pattern: Vec<u8> = (0..60_000).map(|n| (n % 241) as u8).collect();
    let sizes = [0, 1, 900, SMALL, SMALL + 1, LARGE, LARGE + 1, 60_000];
    for old_size in sizes {
        for new_size in sizes {
            make_dirty(&pool);
            let old = pool.get_raw(old_size).unwrap();
            // SAFETY:
            // - this test's buffer, of at least this size
            unsafe { old.copy_from_nonoverlapping(NonNull::from(&pattern[..]).cast(), old_size) };
            // SAFETY:
            // - this test's buffer, given up for the new one
            let new = unsafe { pool.realloc_raw(old, new_size) }.unwrap();
            assert!(pool.usable_size(new) >= new_size);
            let kept = old_size.min(new_size);
            assert!(peek(new, kept) == pattern[..kept], "{old_size} to {new_size} bytes");
            let same_class = pool.get(old_size).unwrap().capacity() == pool.get(new_size).unwrap().capacity();
            if same_class && old_size <= LARGE {
                assert_eq!(old, new, "{old_size} to {new_size} bytes are of one class");
            }
            // SAFETY:
            // - this test's buffer, put once
            unsafe { pool.put_raw(new, new_size) }.unwrap();
            let stats = pool.stats();
            stats.assert_consistent();
            assert_eq!(stats.gets, stats.puts, "{old_size} to {new_size} bytes");
        }
    }
}

#[test]
fn with_zero_on_get_bytes_that_appear_in_an_oversize_buffer_are_zeros() {
    let pool = builder().zero_on_get(true).build().unwrap();
    // Below and above what is mapped, inside a page and beyond it.
    for sizes in
        [[30_000, 20_001, 50_000], [40 << 20, (33 << 20) + 5, 41 << 20], [31 << 20, 30_000, 33 << 20]]
    {
        let mut data = pool.get_raw(sizes[0]).unwrap();
        let mut old_size = sizes[0];
        for (new_size, value) in
            [(sizes[0], 0xEE), (sizes[1], 0xEE), (sizes[2], 0), (sizes[1], 0), (sizes[2], 0)]
        {
            // SAFETY:
            // - this test's buffer, of this size; given up for the new one
            data = unsafe {
                data.as_ptr().write_bytes(0xEE, old_size);
                pool.realloc_raw(data, new_size).unwrap()
            };
            let kept = old_size.min(new_size);
            // SAFETY:
            // - this test's buffer, all of it written
            let bytes = unsafe { std::slice::from_raw_parts(data.as_ptr(), new_size) };
            assert!(is_all(&bytes[..kept], 0xEE), "{old_size} to {new_size} bytes");
            assert!(is_all(&bytes[kept..], value), "{old_size} to {new_size} bytes");
            old_size = new_size;
        }
        // SAFETY:
        // - this test's buffer, put once
        unsafe { pool.put_raw(data, old_size) }.unwrap();
    }
}

#[test]
fn a_failed_reallocation_leaves_the_old_buffer_as_it_was() {
    let pool = builder().max_bytes(LARGE).build().unwrap();
    let data = pool.get_raw(SMALL).unwrap();
    // SAFETY:
    // - this test's buffer, of this size
    unsafe { data.as_ptr().write_bytes(0x42, SMALL) };
    let before = pool.stats();
    for new_size in [LARGE, LARGE + 1, usize::MAX] {
        // SAFETY:
        // - this test's buffer, and it stays this test's when the call fails
        let error = unsafe { pool.realloc_raw(data, new_size) }.unwrap_err();
        assert!(matches!(error, ReallocError::Get(_)), "{error:?}");
        assert!(is_all(&peek(data, SMALL), 0x42));
    }
    let after = pool.stats();
    assert_eq!((after.gets, after.puts, &after.classes), (before.gets, before.puts, &before.classes));
    // SAFETY:
    // - this test's buffer, put once
    unsafe { pool.put_raw(data, SMALL) }.unwrap();
}
