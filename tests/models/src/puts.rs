//! Puts of one buffer that race: exactly one wins, and is counted.

use std::sync::Arc;

use super::check;
use super::pools::*;
use super::sync::atomic::AtomicU32;
use super::sync::atomic::Ordering::{Acquire, Release};
use super::sync::thread;
use crate::{Pool, PooledBuffer};

#[test]
fn of_a_bias_owners_put_and_a_racing_one_exactly_one_wins() {
    check(1500, || {
        let pool = pool();
        // A class is biased to the threads that get its slots, from a thread's first batch on.
        get_use_and_put(&pool);
        get_use_and_put(&pool);
        let raw = get_raw(&pool).unwrap();
        let other = spawn(&pool, move |pool| put_raw(&pool, raw).is_ok());
        let own = put_raw(&pool, raw).is_ok();
        let other = other.join();
        assert!(own || other);
        pool.trim(usize::MAX);
        assert_eq!(pool.stats().double_puts, 1, "own {own}, other {other}");
        assert_whole(&pool);
    });
}

#[test]
fn a_claim_that_the_bias_owner_wrote_over_does_not_stand() {
    check(600, || {
        // Enough that both threads have room.
        let pool = Pool::builder().size_class(SIZE, 3 * SLOTS).build().unwrap();
        get_use_and_put(&pool);
        get_use_and_put(&pool);
        let raw = get_raw(&pool).unwrap();
        let is_ready = Arc::new(AtomicU32::new(0));
        let ready = is_ready.clone();
        let other = spawn(&pool, move |pool| {
            // With a cache of its own it claims, and settles later.
            get_use_and_put(&pool);
            get_use_and_put(&pool);
            ready.store(1, Release);
            put_raw(&pool, raw).is_ok()
        });
        while is_ready.load(Acquire) == 0 {
            thread::yield_now();
        }
        let own = put_raw(&pool, raw).is_ok();
        assert!(other.join() || own);
        pool.trim(usize::MAX);
        assert_eq!(pool.stats().double_puts, 1);
        assert_whole(&pool);
    });
}

/// One that was written over, and one of the same slot that stands: only their numbers tell them apart.
#[test]
fn a_claim_is_not_taken_for_a_later_one_of_the_same_slot() {
    check(1500, || {
        let pool = Pool::builder().size_class(SIZE, 3 * SLOTS).build().unwrap();
        get_use_and_put(&pool);
        get_use_and_put(&pool);
        let (raw, step) = (get_raw(&pool).unwrap(), Arc::new(AtomicU32::new(0)));
        let handed_over = Arc::new(std::sync::Mutex::new(None));
        let wait_for = |step: &AtomicU32, number| {
            while step.load(Acquire) < number {
                thread::yield_now();
            }
        };
        let (other_step, receiving) = (step.clone(), handed_over.clone());
        let other = spawn(&pool, move |pool| {
            // With a cache of its own it claims, and settles later.
            get_use_and_put(&pool);
            get_use_and_put(&pool);
            other_step.store(1, Release);
            let _ = put_raw(&pool, raw);
            other_step.store(2, Release);
            wait_for(&other_step, 3);
            let again: Raw = receiving.lock().unwrap().take().expect("it was handed over");
            put_raw(&pool, again).unwrap();
            other_step.store(4, Release);
            // Lives on, with both claims.
            wait_for(&other_step, 5);
        });
        wait_for(&step, 1);
        let _ = put_raw(&pool, raw);
        wait_for(&step, 2);
        *handed_over.lock().unwrap() = Some(get_raw(&pool).unwrap());
        step.store(3, Release);
        wait_for(&step, 4);
        pool.stats().assert_consistent();
        step.store(5, Release);
        other.join();
        pool.trim(usize::MAX);
        assert_eq!(pool.stats().double_puts, 1);
        assert_whole(&pool);
    });
}

#[test]
fn of_two_others_puts_exactly_one_wins() {
    check(1500, || {
        let pool = pool();
        get_use_and_put(&pool);
        get_use_and_put(&pool);
        let raw = get_raw(&pool).unwrap();
        let others = [(); 2].map(|()| spawn(&pool, move |pool| put_raw(&pool, raw).is_ok()));
        let [first, second] = others.map(thread::JoinHandle::join);
        assert!(first || second);
        pool.trim(usize::MAX);
        assert_eq!(pool.stats().double_puts, 1);
        assert_whole(&pool);
    });
}

/// Of a slot without a bias, whose puts threads decide in their caches.
#[test]
fn of_two_puts_of_anybodys_slot_exactly_one_wins() {
    check(1500, || {
        let pool = Pool::builder().size_class(SIZE, 3 * SLOTS).build().unwrap();
        // Fresh, and by a thread that had no cache before.
        let raw = get_raw(&pool).unwrap();
        let others = [(); 2].map(|()| {
            spawn(&pool, move |pool| {
                // So that it has a cache with room.
                get_use_and_put(&pool);
                put_raw(&pool, raw).is_ok()
            })
        });
        let [first, second] = others.map(thread::JoinHandle::join);
        assert!(first != second);
        assert_eq!(pool.stats().double_puts, 1);
        pool.trim(usize::MAX);
        assert_whole(&pool);
    });
}

#[test]
fn of_two_puts_without_caches_exactly_one_wins() {
    check(1500, || {
        let pool = Pool::builder().size_class(SIZE, SLOTS).thread_cache(false).build().unwrap();
        let raw = get_raw(&pool).unwrap();
        let others = [(); 2].map(|()| spawn(&pool, move |pool| put_raw(&pool, raw).is_ok()));
        let [first, second] = others.map(thread::JoinHandle::join);
        assert!(first != second);
        assert_eq!(pool.stats().double_puts, 1);
        assert_whole(&pool);
    });
}

/// With a size that is not the one asked for, or none: the ledger's holder is looked up first.
#[test]
fn of_two_inexact_puts_without_caches_exactly_one_wins() {
    check(1500, || {
        let pool = Pool::builder().size_class(SIZE, SLOTS).thread_cache(false).build().unwrap();
        let raw = get_raw(&pool).unwrap();
        let others = [(); 2].map(|()| {
            spawn(&pool, move |pool| {
                // SAFETY:
                // - nobody uses the buffer any more
                unsafe { pool.put_raw({ raw }.0, SIZE - 1) }.is_ok()
            })
        });
        // SAFETY: as above
        let own = unsafe { pool.put_raw_unsized(raw.0) }.is_ok();
        let winners = others.map(thread::JoinHandle::join).into_iter().chain([own]).filter(|&won| won);
        assert_eq!(winners.count(), 1);
        assert_eq!((pool.stats().double_puts, pool.stats().size_mismatches), (2, 0));
        assert_whole(&pool);
    });
}

/// Who adopts a buffer with another size of its class takes it from its bias owner, who may put it on the fast path.
#[test]
fn of_a_bias_owners_put_and_an_inexact_adoption_exactly_one_wins() {
    check(1500, || {
        let pool = pool();
        // A class is biased to the threads that get its slots, from a thread's first batch on.
        get_use_and_put(&pool);
        get_use_and_put(&pool);
        let raw = get_raw(&pool).unwrap();
        let adopters = [(); 2].map(|()| {
            spawn(&pool, move |pool| {
                // SAFETY:
                // - nobody uses the buffer any more
                let adopted = unsafe { PooledBuffer::from_raw(&pool, { raw }.0, SIZE - 1) };
                adopted.inspect(use_buffer).is_ok()
            })
        });
        let own = put_raw(&pool, raw).is_ok();
        let adopted = adopters.map(thread::JoinHandle::join).into_iter().filter(|&adopted| adopted);
        let winners = adopted.count() + usize::from(own);
        pool.trim(usize::MAX);
        assert_eq!((winners, pool.stats().double_puts), (1, 2));
        assert_whole(&pool);
    });
}

#[test]
fn of_two_puts_of_a_system_buffer_exactly_one_wins() {
    check(1500, || {
        let pool = pool();
        let raw = Raw(pool.get_raw(2 * SIZE).unwrap());
        let others = [(); 2].map(|()| {
            // SAFETY:
            // - nobody uses the buffer any more
            spawn(&pool, move |pool| unsafe { pool.put_raw({ raw }.0, 2 * SIZE) }.is_ok())
        });
        let [first, second] = others.map(thread::JoinHandle::join);
        assert!(first != second);
        assert_eq!((pool.stats().foreign_pointers, pool.stats().oversize_buffers), (1, 0));
    });
}
