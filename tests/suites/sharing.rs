//! `PooledBytes`: several share one buffer, which is put once, whoever has it last.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytepool::{GetError, Pool, PooledBuffer, PooledBytes};

use crate::valgrind;

const SIZE: usize = 4096;

fn pool() -> Pool {
    Pool::builder().size_class(64, 100).size_class(SIZE, 4).build().unwrap()
}

/// A slot's size, one beyond the classes, and more slots than a class keeps.
const SIZES: [usize; 2] = [SIZE, 10 * SIZE];

/// Counts up from a first byte.
fn filled(pool: &Pool, size: usize, first: u8) -> PooledBuffer {
    let mut buffer = pool.get(size).unwrap();
    buffer.iter_mut().zip(0..).for_each(|(byte, at): (_, usize)| *byte = first.wrapping_add(at as u8));
    buffer
}

fn has_nothing_out(pool: &Pool) {
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.gets, stats.oversize_buffers), (stats.puts, 0));
}

#[test]
fn a_buffer_is_put_with_its_last_sharer() {
    let pool = pool();
    for size in SIZES {
        let puts = pool.stats().puts;
        let bytes = filled(&pool, size, 7).freeze();
        let (clone, slice) = (bytes.clone(), bytes.slice(1..3));
        drop(bytes);
        drop(clone);
        assert_eq!(pool.stats().puts, puts);
        assert_eq!(slice, [8, 9]);
        drop(slice);
        assert_eq!(pool.stats().puts, puts + 1);
    }
    has_nothing_out(&pool);
}

#[test]
fn sharers_on_many_threads_read_the_same_and_put_once() {
    let pool = pool();
    for size in SIZES {
        for round in 0..valgrind::rounds(200) {
            let bytes = filled(&pool, size, round as u8).freeze();
            thread::scope(|scope| {
                for part in 0..4 {
                    let mine = bytes.slice(part * 64..);
                    scope.spawn(move || {
                        let copies: Vec<PooledBytes> = (0..8).map(|_| mine.clone()).collect();
                        drop(mine);
                        for copy in copies {
                            assert_eq!(copy[0], (round as u8).wrapping_add((part * 64) as u8));
                        }
                    });
                }
                drop(bytes);
            });
            has_nothing_out(&pool);
        }
    }
}

#[test]
fn sharing_neither_moves_nor_copies() {
    let pool = pool();
    let buffer = filled(&pool, SIZE, 0);
    let data = buffer.as_ptr();
    let mut bytes = buffer.freeze();
    assert_eq!((bytes.as_ptr(), bytes.clone().as_ptr()), (data, data));
    assert_eq!(bytes.slice(5..).as_ptr(), data.wrapping_add(5));
    let head = bytes.split_to(10);
    assert_eq!((head.as_ptr(), head.len()), (data, 10));
    assert_eq!((bytes.as_ptr(), bytes.len()), (data.wrapping_add(10), SIZE - 10));
    assert_eq!(pool.stats().gets, 1);
}

#[test]
fn slices_take_every_kind_of_range_and_refuse_others() {
    let pool = pool();
    let bytes = pool.copy(b"0123456789").unwrap().freeze();
    assert_eq!(bytes.slice(..), b"0123456789");
    assert_eq!(bytes.slice(2..=4), b"234");
    assert_eq!(bytes.slice(..0), b"");
    assert_eq!(bytes.slice(10..), b"");
    let inner = bytes.slice(3..6);
    assert_eq!(inner.slice(1..), b"45");
    let refused: [fn(&PooledBytes); 3] = [
        |bytes| drop(bytes.slice(..4)),
        |bytes| drop(bytes.clone().split_to(4)),
        |bytes| drop(bytes.copy_range(4..)),
    ];
    for refused in refused {
        assert!(std::panic::catch_unwind(|| refused(&inner)).is_err(), "beyond the slice, within the buffer");
    }
    drop((bytes, inner));
    has_nothing_out(&pool);
}

#[test]
fn only_the_sole_sharer_gets_the_buffer_back() {
    let pool = pool();
    for size in SIZES {
        let capacity = pool.get(size).unwrap().capacity();
        let bytes = filled(&pool, size, 3).freeze();
        let other = bytes.clone();
        let bytes = bytes.try_into_buffer().unwrap_err();
        drop(other);
        let tail = bytes.slice(1..);
        drop(bytes);
        let tail = tail.try_into_buffer().expect_err("it does not begin where the buffer does");
        assert_eq!(tail[0], 4);
        drop(tail);
        let mut head = filled(&pool, size, 3).freeze();
        head = head.slice(..2);
        let mut buffer = head.try_into_buffer().unwrap();
        assert_eq!((buffer.len(), buffer.capacity()), (2, capacity));
        buffer[0] = 9;
        assert_eq!(buffer, [9, 4]);
    }
    has_nothing_out(&pool);
}

#[test]
fn a_copied_range_lets_the_large_buffer_go() {
    let pool = pool();
    let large = filled(&pool, SIZE, 1).freeze();
    let small = large.copy_range(10..20).unwrap();
    assert_eq!(small, large[10..20]);
    drop(large);
    let classes = pool.stats().classes;
    assert_eq!((classes[0].outstanding, classes[1].outstanding), (1, 0));
    pool.close();
    assert_eq!(small.copy_range(..), Err(GetError::Closed));
    assert_eq!(small[0], 11);
}

#[test]
fn a_shared_buffer_outlives_its_pool() {
    for size in SIZES {
        let pool = pool();
        let bytes = filled(&pool, size, 5).freeze();
        drop(pool);
        let other = bytes.clone();
        drop(bytes);
        assert_eq!(other[..2], [5, 6]);
        thread::spawn(move || drop(other)).join().unwrap();
    }
}

#[test]
fn a_raw_put_of_a_shared_buffer_is_misuse() {
    let pool = pool();
    for size in SIZES {
        let bytes = filled(&pool, size, 5).freeze();
        let refusals = |with: &PooledBytes| {
            let data = NonNull::from(&with[0]);
            let before = pool.stats().double_puts;
            // SAFETY:
            // - all of these are refused, and the buffer stays
            unsafe {
                assert!(pool.put_raw(data, size).is_err());
                assert!(pool.put_raw_unsized(data).is_err());
                assert!(PooledBuffer::from_raw(&pool, data, size).is_err());
                assert!(pool.realloc_raw(data, size / 2).is_err());
            }
            assert_eq!((pool.stats().double_puts, with[0]), (before + 4, 5));
        };
        refusals(&bytes);
        let other = bytes.clone();
        refusals(&other);
        thread::scope(|scope| scope.spawn(|| refusals(&other)).join().unwrap());
        assert_eq!(pool.usable_size(NonNull::from(&bytes[0])), size);
    }
    has_nothing_out(&pool);
}

#[test]
fn bytes_compare_and_hash_like_slices() {
    let pool = pool();
    let bytes = pool.copy(b"key").unwrap().freeze();
    fn equals<T: ?Sized>(bytes: &PooledBytes, other: &T) -> bool
    where
        PooledBytes: PartialEq<T>,
    {
        bytes == other
    }
    assert!(equals(&bytes, b"key") && equals(&bytes, &b"key") && equals(&bytes, &b"key"[..]));
    assert!(equals(&bytes, &&b"key"[..]) && equals(&bytes, &b"key".to_vec()) && equals(&bytes, &bytes));
    assert!(equals(&bytes, &pool.copy(b"key").unwrap()) && !equals(&bytes, &pool.copy(b"kex").unwrap()));
    assert!(*b"key" == bytes && b"key".to_vec() == bytes && !equals(&bytes, b"ke"));
    let state = RandomState::new();
    assert_eq!(state.hash_one(&bytes), state.hash_one(&b"key"[..]));
    let map = HashMap::from([(bytes, 1)]);
    assert_eq!(map.get(&b"key"[..]), Some(&1));
    let (key, _) = map.iter().next().unwrap();
    let (borrowed, referred): (&[u8], &[u8]) = (key.borrow(), key.as_ref());
    assert_eq!((borrowed, referred), (&b"key"[..], &b"key"[..]));
    assert_eq!(key.into_iter().copied().collect::<Vec<u8>>(), b"key");
    assert!(format!("{key:?}").starts_with("PooledBytes { data: 0x"), "{key:?}");
}

#[test]
fn instrumented_pools_share_as_well() {
    let pools = [
        Pool::builder().size_class(SIZE, 4).guard_every(1),
        Pool::builder().size_class(SIZE, 4).track_every(1),
        Pool::builder().size_class(SIZE, 4).zero_on_put(true),
    ];
    for pool in pools.map(|builder| builder.build().unwrap()) {
        let bytes = filled(&pool, 100, 1).freeze();
        let other = bytes.clone();
        drop(bytes);
        assert_eq!(other[..3], [1, 2, 3]);
        assert_eq!(pool.stats().classes[0].outstanding, 1);
        let buffer = other.try_into_buffer().unwrap();
        drop(buffer);
        has_nothing_out(&pool);
    }
}

/// A shared buffer is an owner for any code that asks for a reference to bytes for ever.
#[test]
fn sharers_are_sent_and_shared() {
    fn of_threads<T: Send + Sync + Clone + AsRef<[u8]> + 'static>(bytes: T) -> usize {
        let read = AtomicUsize::new(0);
        thread::scope(|scope| {
            (0..2).for_each(|_| {
                scope.spawn(|| read.fetch_add(bytes.as_ref().len(), Ordering::Relaxed));
            });
        });
        read.into_inner()
    }
    assert_eq!(of_threads(pool().copy(b"key").unwrap().freeze()), 6);
}
