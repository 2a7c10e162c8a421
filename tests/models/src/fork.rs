//! Forks while other threads use pools: the parent's side, of which the child gets a copy.

use std::array;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use super::pools::{put_raw, spawn};
use super::puts::get_biased;
use super::sync::atomic::AtomicU32;
use super::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use super::sync::{plain_memory, thread};
use super::{check_forking, have_fence, hold, refuse_fence};
use crate::cache::caches::make_state;
use crate::os::barrier;
use crate::os::fork::{ForkGuard, fork_into_child, fork_without_child};
use crate::os::thread_state::vanish;
use crate::{Pool, PooledBuffer};

const SIZE: usize = 4096;

fn pool() -> Pool {
    Pool::builder().size_class(SIZE, 16).build().unwrap()
}

fn use_buffer(buffer: &PooledBuffer) {
    plain_memory::is_used(NonNull::from(&buffer[0]));
}

#[test]
fn nobody_has_a_guard_while_another_thread_forks() {
    check_forking(1500, || {
        let pool = pool();
        let memory = Arc::new([0_u8; 3]);
        let others: [_; 3] = array::from_fn(|number| {
            let (pool, memory) = (pool.clone(), memory.clone());
            thread::spawn(move || {
                let use_memory = || plain_memory::is_used(NonNull::from(&memory[number]));
                // Without a state; while the thread gets one; with one.
                for _ in 0..number + 1 {
                    let _guard = ForkGuard::new();
                    use_memory();
                    if number > 0 {
                        drop(pool.get(SIZE).unwrap());
                    }
                    use_memory();
                }
            })
        });
        fork_without_child(|| memory.iter().for_each(|byte| plain_memory::is_used(NonNull::from(byte))));
        others.into_iter().for_each(thread::JoinHandle::join);
    });
}

/// As in the making of the first pool, by a thread that then has a state.
///
/// The forking thread has a guard from before the other thread starts, as `before` makes one first: later it would find in
/// the count of guards what the other did, and in few schedules miss the registration.
#[test]
fn a_fence_that_is_registered_for_while_a_thread_forks_is_not_missed() {
    check_forking(6000, || {
        barrier::forget();
        let counted = ForkGuard::new();
        let memory = Arc::new(0_u8);
        let of_other = memory.clone();
        let other = thread::spawn(move || {
            let mut guard = ForkGuard::new();
            barrier::prepare();
            make_state(&mut guard);
            drop(guard);
            let _guard = ForkGuard::new();
            plain_memory::is_used(NonNull::from(&*of_other));
        });
        fork_without_child(|| plain_memory::is_used(NonNull::from(&*memory)));
        drop(counted);
        other.join();
    });
}

#[test]
fn pools_stand_still_while_a_process_forks_and_lose_nothing() {
    check_forking(1000, || {
        let pool = pool();
        let others = [1, 3].map(|rounds| {
            let pool = pool.clone();
            thread::spawn(move || {
                for _ in 0..rounds {
                    let both = [(); 2].map(|()| pool.get(SIZE).unwrap());
                    both.iter().for_each(use_buffer);
                }
            })
        });
        fork_without_child(|| {
            let stats = pool.stats();
            stats.assert_consistent();
            (0..3).for_each(|_| thread::yield_now());
            assert_eq!(pool.stats(), stats);
        });
        others.into_iter().for_each(thread::JoinHandle::join);
        let stats = pool.stats();
        stats.assert_consistent();
        // Those whose caches were detached found them as they ended.
        assert_eq!((stats.classes[0].outstanding, stats.classes[0].cached), (0, 0), "{stats:#?}");
    });
}

/// A put that ends a bias waits for the bias owner, and the forking thread for the put.
#[test]
fn a_fork_meets_no_end_of_bias_in_the_middle() {
    check_forking(1500, || {
        let pool = pool();
        let raw = get_biased(&pool);
        let other = spawn(&pool, move |pool| put_raw(&pool, raw).is_ok());
        let forker = spawn(&pool, |pool| {
            fork_without_child(|| {
                let stats = pool.stats();
                stats.assert_consistent();
                (0..3).for_each(|_| thread::yield_now());
                assert_eq!(pool.stats(), stats);
            });
        });
        let own = put_raw(&pool, raw).is_ok();
        assert!(own != other.join());
        forker.join();
        assert_eq!(pool.stats().double_puts, 1);
    });
}

/// Before that all guards of threads with a state were ordered by the fence, afterwards by themselves.
#[test]
fn nobody_has_a_guard_while_another_thread_forks_although_the_fence_is_refused() {
    check_forking(3000, || {
        have_fence();
        let pool = pool();
        let memory = Arc::new([0_u8; 2]);
        let others: [_; 2] = array::from_fn(|number| {
            let (pool, memory) = (pool.clone(), memory.clone());
            thread::spawn(move || {
                drop(pool.get(SIZE).unwrap());
                for _ in 0..2 {
                    let _guard = ForkGuard::new();
                    plain_memory::is_used(NonNull::from(&memory[number]));
                }
                // Gives up what rests on the fence, unless the fork did.
                pool.trim(0);
            })
        });
        refuse_fence();
        for _ in 0..2 {
            fork_without_child(|| memory.iter().for_each(|byte| plain_memory::is_used(NonNull::from(byte))));
        }
        others.into_iter().for_each(thread::JoinHandle::join);
        pool.trim(0);
        assert_eq!(pool.stats().classes[0].cached, 0);
        pool.stats().assert_consistent();
    });
}

/// The child's threads, which get the states of those that it does not have, come to one pool after the other.
#[test]
fn a_child_s_first_use_of_a_pool_finds_what_other_threads_cached() {
    check_forking(1000, || {
        let pools = Arc::new([pool(), pool()]);
        let (ready, forked) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let use_both = |pools: &[Pool; 2], first: usize| {
            for number in [first, 1 - first] {
                let both = [(); 2].map(|()| pools[number].get(SIZE).unwrap());
                both.iter().for_each(use_buffer);
            }
        };
        let others = [0, 1].map(|first| {
            let (pools, ready, forked) = (pools.clone(), ready.clone(), forked.clone());
            thread::spawn(move || {
                use_both(&pools, first);
                ready.fetch_add(1, AcqRel);
                barrier::wait_until(|| forked.load(Acquire) == 1);
                vanish();
            })
        });
        drop(pools[0].get(SIZE).unwrap());
        barrier::wait_until(|| ready.load(Acquire) == 2);
        fork_into_child();
        let children = [0, 1].map(|first| {
            let pools = pools.clone();
            thread::spawn(move || use_both(&pools, first))
        });
        use_both(&pools, 1);
        children.into_iter().for_each(thread::JoinHandle::join);
        for pool in &*pools {
            let all = [(); 16].map(|()| pool.get(SIZE).unwrap());
            all.iter().for_each(use_buffer);
            let stats = pool.stats();
            stats.assert_consistent();
            assert_eq!((stats.classes[0].outstanding, stats.system_allocations), (16, 0), "{stats:#?}");
        }
        forked.store(1, Release);
        others.into_iter().for_each(thread::JoinHandle::join);
    });
}

#[test]
fn who_forks_may_use_pools_and_another_who_does_waits() {
    check_forking(1000, || {
        // The user's function runs unguarded.
        let pool = Pool::builder().size_class(SIZE, 16).round(|size| size).build().unwrap();
        let forking = Arc::new(AtomicU32::new(0));
        let forkers = [(); 3].map(|()| {
            let (pool, forking) = (pool.clone(), forking.clone());
            thread::spawn(move || {
                use_buffer(&pool.get(SIZE).unwrap());
                fork_without_child(|| {
                    hold(&forking, 1);
                    use_buffer(&pool.get(SIZE).unwrap());
                });
                use_buffer(&pool.get(SIZE).unwrap());
            })
        });
        forkers.into_iter().for_each(thread::JoinHandle::join);
        pool.stats().assert_consistent();
    });
}

#[test]
fn who_waits_keeps_nobody_from_forking() {
    check_forking(1000, || {
        let pool = Pool::builder().size_class(SIZE, 16).max_bytes(SIZE).build().unwrap();
        let buffer = pool.get(SIZE).unwrap();
        let other = pool.clone();
        let waiter = thread::spawn(move || drop(other.get_timeout(SIZE, Duration::MAX).unwrap()));
        fork_without_child(|| ());
        drop(buffer);
        waiter.join();
        pool.stats().assert_consistent();
    });
}
