//! Gets at the limit: no idle slot anywhere makes one fail, and none goes beyond it.

use std::sync::Arc;

use super::pools::*;
use super::sync::atomic::AtomicU32;
use super::sync::thread;
use super::{check, hold};
use crate::Pool;
use crate::error::GetError;

#[test]
fn no_idle_slot_anywhere_makes_a_get_fail() {
    check(600, || {
        // Room for as many bytes as the threads hold at once: what one has idle, the other may need.
        let pool = Pool::builder()
            .size_class(SIZE, SLOTS)
            .size_class(2 * SIZE, SLOTS)
            .max_bytes(4 * SIZE)
            .build()
            .unwrap();
        let get_of_both_classes = |pool: Pool| {
            for size in [SIZE, 2 * SIZE, SIZE, 2 * SIZE] {
                let buffer = pool.get(size).expect("an idle slot was not found");
                use_buffer(&buffer);
            }
        };
        let threads = [(); 2].map(|()| spawn(&pool, get_of_both_classes));
        threads.into_iter().for_each(thread::JoinHandle::join);
        pool.stats().assert_consistent();
    });
}

#[test]
fn room_that_others_free_and_take_hides_no_idle_slot() {
    check(1500, || {
        const OVERSIZE: usize = 2 * SIZE;
        let pool =
            Pool::builder().size_class(SIZE, SLOTS).max_bytes(2 * OVERSIZE + 4 * SIZE).build().unwrap();
        // Enough idle for both gets, whatever becomes of the buffers that are out.
        drop([(); 4].map(|()| pool.get(SIZE).unwrap()));
        let (_kept, put) = (pool.get(OVERSIZE).unwrap(), pool.get(OVERSIZE).unwrap());
        let get = |pool: Pool| pool.get(OVERSIZE).expect("idle slots were not found");
        let getters = [(); 2].map(|()| spawn(&pool, get));
        drop(put);
        drop(getters.map(thread::JoinHandle::join));
        pool.stats().assert_consistent();
    });
}

/// Between a search's drain and its look at the shelf: what a thread then filled a new cache with would be idle, and
/// not found.
#[test]
fn a_cache_that_is_made_during_a_search_hides_no_idle_slot() {
    check(1500, || {
        const OVERSIZE: usize = 2 * SIZE;
        let pool = Pool::builder().size_class(SIZE, SLOTS).max_bytes(OVERSIZE + SIZE).build().unwrap();
        // Idle on the shelf, and no thread has a cache.
        drop([(); 3].map(|()| pool.get(SIZE).unwrap()));
        pool.trim(usize::MAX);
        let user = spawn(&pool, |pool| {
            for _ in 0..3 {
                use_buffer(&pool.get(SIZE).expect("there is room for one beside the other thread's"));
            }
        });
        drop(pool.get(OVERSIZE).expect("idle slots were not found"));
        user.join();
        pool.stats().assert_consistent();
    });
}

/// The large slot is put behind the search for idle ones, and the small one taken before it: one of them always is idle.
#[test]
fn a_search_looks_again_where_something_was_put_meanwhile() {
    check(3000, || {
        let builder =
            [SIZE, 2 * SIZE, 4 * SIZE].into_iter().fold(Pool::builder(), |b, size| b.size_class(size, 1));
        let pool = builder.max_bytes(6 * SIZE).thread_cache(false).build().unwrap();
        let large = pool.get(4 * SIZE).unwrap();
        drop(pool.get(2 * SIZE).unwrap());
        let putter = thread::spawn(move || drop(large));
        let other = spawn(&pool, |pool| {
            while pool.stats().classes[2].outstanding > 0 {
                thread::yield_now();
            }
            pool.get(2 * SIZE).expect("the large slot is idle, or this one")
        });
        drop(pool.get(SIZE).expect("an idle slot was not found"));
        putter.join();
        drop(other.join());
        pool.stats().assert_consistent();
    });
}

#[test]
fn mapped_bytes_stay_within_the_limit() {
    check(600, || {
        let pool = Pool::builder().size_class(SIZE, SLOTS).max_bytes(2 * SIZE).build().unwrap();
        let held = Arc::new(AtomicU32::new(0));
        let workers = [(); 3].map(|()| {
            let held = held.clone();
            spawn(&pool, move |pool| {
                for _ in 0..2 {
                    if let Ok(buffer) = pool.get(SIZE) {
                        hold(&held, 2);
                        use_buffer(&buffer);
                        assert!(pool.stats().mapped_bytes <= 2 * SIZE);
                    }
                }
            })
        });
        workers.into_iter().for_each(thread::JoinHandle::join);
        pool.stats().assert_consistent();
    });
}
