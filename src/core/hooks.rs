//! What the pools do when the system calls: a thread ends, or a child of a fork uses the library for the first time.

use super::Core;
use super::reference::{Reference, live_pools};
use crate::cache::caches::{self, Evicted};
use crate::os::fork::ForkGuard;
use crate::os::hooks::{self, Hooks};
use crate::os::thread_state::ThreadState;

/// Registers the hooks; before the first pool is made.
pub(super) fn register(guard: &ForkGuard) {
    hooks::register(guard, Hooks { thread_ends, child_begins });
}

/// Gives up the calling thread's caches: those that its state leads to, and those that a fork or the loss of the heavy
/// fence detached.
fn thread_ends(guard: &mut ForkGuard, state: &'static ThreadState) {
    while let Some(owner) = caches::some_owner(guard, state) {
        give_up(guard, owner, state);
    }
    if state.take_was_detached() {
        live_pools(guard).for_each(|pool| pool.give_up_cache(guard, state));
    }
}

/// Ends the cache that the calling thread has of a pool.
pub(super) fn give_up(guard: &ForkGuard, owner: Evicted, state: &'static ThreadState) {
    // SAFETY:
    // - a pool said it was the owner when it attached a thread, and the reference came with it
    let pool = unsafe { Reference::from_leaked(owner.cast::<Core>()) };
    pool.give_up_cache(guard, state);
}

fn child_begins(guard: &ForkGuard) {
    live_pools(guard).for_each(|pool| pool.forget_waiters_of_parent(guard));
}

#[cfg(all(test, unix, not(bytepool_shuttle)))]
mod tests {
    use super::*;
    use crate::cache;
    use crate::cache::caches::count_as_they_are;
    use crate::core::testing::TestPool;
    use crate::os::region::CAN_SEAL;
    use crate::os::{fork, thread_pointer, thread_state};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering};

    const OTHERS: usize = 3;
    const SIZE: usize = 1024;
    const CAPACITY: usize = 1000;

    fn caches(pool: &TestPool) -> usize {
        count_as_they_are(&ForkGuard::new(), &pool.caches)
    }

    /// Runs `child` in a child whose parent has three more threads with caches of these pools.
    fn fork_among_caches(pools: &[TestPool], child: impl FnOnce()) {
        let (ready, done) = (Barrier::new(OTHERS + 1), Barrier::new(OTHERS + 1));
        std::thread::scope(|scope| {
            let others = [(); OTHERS].map(|()| {
                scope.spawn(|| {
                    pools.iter().for_each(|pool| pool.use_buffers(SIZE, 10));
                    ready.wait();
                    done.wait();
                })
            });
            ready.wait();
            let status = in_child(child);
            done.wait();
            // A scope does not wait for the ends of its threads' locals, a join does.
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(status, 0, "the child failed");
        });
    }

    /// Its status.
    fn in_child(child: impl FnOnce()) -> i32 {
        // SAFETY:
        // - the child does what this library promises to be fit for it, and ends without destructors of others
        unsafe {
            match libc::fork() {
                0 => {
                    libc::alarm(30);
                    let run = std::panic::AssertUnwindSafe(child);
                    libc::_exit(i32::from(std::panic::catch_unwind(run).is_err()))
                }
                pid => {
                    let mut status = 0;
                    assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
                    status
                }
            }
        }
    }

    #[test]
    fn a_child_ends_the_caches_of_a_pool_when_it_uses_that_pool() {
        let pools: Vec<_> = (0..7).map(|_| TestPool::new(&[(SIZE, CAPACITY)], usize::MAX)).collect();
        pools.iter().for_each(|pool| pool.use_buffers(SIZE, 10));
        if caches(&pools[0]) == 0 || cfg!(bytepool_sanitized) {
            eprintln!(
                "left out: a build without caches, or ThreadSanitizer, which lets a child start no thread"
            );
            return;
        }
        fork_among_caches(&pools, || {
            let left = || -> Vec<usize> { pools.iter().map(caches).collect() };
            assert_eq!(fork::generation(), 1);
            assert_eq!(left(), [4; 7]);
            pools[0].use_buffers(SIZE, 1);
            assert_eq!(left(), [1, 4, 4, 4, 4, 4, 4], "used");
            let class = pools[1].figures().classes[0];
            assert_eq!((class.outstanding, class.idle), (0, class.touched), "{class:?}");
            assert_eq!(left(), [1, 1, 4, 4, 4, 4, 4], "counted");
            pools[2].trim(&ForkGuard::new(), 0);
            // What was touched stays where pages cannot be given back.
            let kept = if CAN_SEAL { 0 } else { (OTHERS + 1) * 10 * SIZE };
            assert_eq!(
                (left(), pools[2].figures().mapped_bytes),
                (vec![1, 1, 0, 4, 4, 4, 4], kept),
                "trimmed"
            );
            pools[3].close(&mut ForkGuard::new());
            assert_eq!((left(), pools[3].figures().mapped_bytes), (vec![1, 1, 0, 0, 4, 4, 4], 0), "closed");
            // By another thread, which has the state of one that is not here.
            std::thread::scope(|scope| drop(scope.spawn(|| pools[4].use_buffers(SIZE, 1)).join()));
            assert_eq!(left(), [1, 1, 0, 0, 1, 4, 4], "used by another thread, which ended");
            let child = || {
                assert_eq!((fork::generation(), left()), (2, vec![1, 1, 0, 0, 1, 4, 4]));
                pools[5].use_buffers(SIZE, 1);
                assert_eq!(left(), [1, 1, 0, 0, 1, 1, 4], "used by a child's child");
            };
            assert_eq!(in_child(child), 0);
            assert_eq!(left(), [1, 1, 0, 0, 1, 4, 4]);
            // Nothing that was cached is lost.
            for pool in &pools[4..] {
                let all: Vec<_> = (0..CAPACITY).map(|_| pool.get(SIZE)).collect();
                assert_eq!(pool.figures().system_allocations, 0);
                all.into_iter().for_each(|buffer| pool.put(buffer));
            }
        });
        assert_eq!(
            pools.iter().map(caches).collect::<Vec<_>>(),
            [1; 7],
            "those of threads that ended are gone"
        );
    }

    /// As when the child's main thread returns, having used one of many pools.
    #[test]
    fn a_child_s_thread_that_ends_ends_no_caches_but_its_own() {
        let pools = [(); 2].map(|()| TestPool::new(&[(SIZE, CAPACITY)], usize::MAX));
        std::thread::scope(|scope| {
            let forking = scope.spawn(|| {
                pools.iter().for_each(|pool| pool.use_buffers(SIZE, 10));
                if caches(&pools[0]) == 0 {
                    return;
                }
                fork_among_caches(&pools, || {
                    pools[0].use_buffers(SIZE, 1);
                    let mut guard = ForkGuard::new();
                    thread_ends(&mut guard, thread_pointer::get());
                    assert_eq!(pools.each_ref().map(caches), [0, OTHERS]);
                    let class = pools[1].figures().classes[0];
                    assert_eq!((class.idle, class.cached), (class.touched, 0), "{class:?}");
                });
            });
            forking.join().unwrap();
        });
    }

    /// A thread is active for a moment also to find out that a fork detached its cache.
    #[test]
    fn a_child_waits_for_no_thread_that_looked_at_its_cache() {
        let pool = TestPool::new(&[(SIZE, CAPACITY)], usize::MAX);
        let (ready, stop) = (Barrier::new(2), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pool.use_buffers(SIZE, 1);
                ready.wait();
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(cache::usable_size(pool.own_key(), 0), None);
                }
            });
            ready.wait();
            let child = || thread_state::wait_for_fast_path(&ForkGuard::new(), None);
            let failed = (0..100).any(|_| in_child(child) != 0);
            stop.store(true, Ordering::Relaxed);
            assert!(!failed, "a child waits");
        });
    }
}
