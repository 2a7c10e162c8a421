//! Whole pools by the library's Rust functions: draining, hand-overs, closing, and threads that end.

use std::ptr::NonNull;
use std::sync::Arc;

use super::sync::atomic::AtomicU32;
use super::sync::atomic::Ordering::{Acquire, Release};
use super::sync::{plain_memory, thread};
use super::{check, hold, refuse_fence};
use crate::core::reference::Reference;
use crate::error::{GetError, Misuse};
use crate::os::fork::ForkGuard;
use crate::{Pool, PooledBuffer};

pub(super) const SIZE: usize = 4096;

/// Enough that two threads may cache some.
pub(super) const SLOTS: usize = 16;

pub(super) fn pool() -> Pool {
    Pool::builder().size_class(SIZE, SLOTS).build().unwrap()
}

pub(super) fn spawn<T: Send + 'static>(
    pool: &Pool,
    body: impl FnOnce(Pool) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let pool = pool.clone();
    thread::spawn(move || body(pool))
}

/// A raw pointer that changes hands.
#[derive(Clone, Copy)]
pub(super) struct Raw(pub(super) NonNull<u8>);
// SAFETY:
// - the models use it as their threads may
unsafe impl Send for Raw {}

pub(super) fn use_buffer(buffer: &PooledBuffer) {
    plain_memory::is_used(NonNull::from(&buffer[0]));
}

pub(super) fn get_raw(pool: &Pool) -> Result<Raw, GetError> {
    let data = pool.get_raw(SIZE)?;
    plain_memory::is_used(data);
    Ok(Raw(data))
}

pub(super) fn put_raw(pool: &Pool, raw: Raw) -> Result<(), Misuse> {
    // SAFETY:
    // - the models own what they put, or put twice on purpose and use it no more
    unsafe { pool.put_raw(raw.0, SIZE) }
}

/// At a quiet moment: the figures fit each other, and all buffers can be got, each once.
pub(super) fn assert_whole(pool: &Pool) {
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.classes[0].outstanding, stats.classes[0].overflow), (0, 0), "{stats:#?}");
    // Fresh slots come last: once all that was idle is out, nothing more was touched, unless a slot was lost.
    let most = stats.classes[0].capacity.max(stats.classes[0].touched);
    let all: Vec<Raw> = (0..most).map(|_| get_raw(pool).unwrap()).collect();
    let mut addresses: Vec<_> = all.iter().map(|raw| raw.0).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), all.len(), "a slot was got twice");
    let class = pool.stats().classes[0];
    assert_eq!((class.touched, class.system_overflow), (most, 0), "a slot was lost");
    all.into_iter().for_each(|raw| put_raw(pool, raw).unwrap());
}

pub(super) fn get_use_and_put(pool: &Pool) {
    let raw = get_raw(pool).unwrap();
    let buffer = pool.get(SIZE).unwrap();
    use_buffer(&buffer);
    put_raw(pool, raw).unwrap();
}

#[test]
fn draining_takes_no_slot_from_its_owner_and_loses_none() {
    check(600, || {
        let pool = pool();
        let workers = [(); 2].map(|()| {
            spawn(&pool, |pool| {
                for _ in 0..3 {
                    get_use_and_put(&pool);
                }
            })
        });
        let drainer = spawn(&pool, |pool| {
            pool.trim(0);
            pool.trim(usize::MAX);
        });
        workers.into_iter().for_each(thread::JoinHandle::join);
        drainer.join();
        assert_whole(&pool);
    });
}

#[test]
fn figures_can_be_read_at_any_time() {
    check(600, || {
        let pool = pool();
        let worker = spawn(&pool, |pool| {
            let many: Vec<Raw> = (0..6).map(|_| get_raw(&pool).unwrap()).collect();
            many.iter().for_each(|&raw| put_raw(&pool, raw).unwrap());
            many[0]
        });
        let reader = spawn(&pool, |pool| {
            for _ in 0..3 {
                let stats = pool.stats();
                assert!(stats.classes[0].cached <= SLOTS, "{stats:#?}");
            }
        });
        worker.join();
        reader.join();
        assert_whole(&pool);
    });
}

#[test]
fn buffers_that_are_handed_over_come_back_once_each() {
    check(600, || {
        let pool = pool();
        let getter = spawn(&pool, |pool| {
            get_use_and_put(&pool);
            (0..3).map(|_| get_raw(&pool).unwrap()).collect::<Vec<_>>()
        });
        let handed_over = getter.join();
        let putters = [0, 1].map(|part| {
            let mine: Vec<Raw> = handed_over.iter().copied().skip(part).step_by(2).collect();
            spawn(&pool, move |pool| {
                mine.into_iter().for_each(|raw| put_raw(&pool, raw).unwrap());
                get_use_and_put(&pool);
            })
        });
        get_use_and_put(&pool);
        putters.into_iter().for_each(thread::JoinHandle::join);
        pool.trim(usize::MAX);
        assert_whole(&pool);
    });
}

/// What threads had in their caches when the system refused the fence is found, and what they cached since.
#[test]
fn caches_are_drained_whole_where_the_fence_is_refused() {
    check(2000, || {
        let pool = pool();
        let workers = [(); 2].map(|()| {
            spawn(&pool, |pool| {
                for _ in 0..3 {
                    get_use_and_put(&pool);
                }
            })
        });
        let drainers = [(); 2].map(|()| {
            spawn(&pool, |pool| {
                refuse_fence();
                pool.trim(0);
            })
        });
        // While the fast path is given up, threads get caches.
        let late = spawn(&pool, |pool| get_use_and_put(&pool));
        workers.into_iter().for_each(thread::JoinHandle::join);
        drainers.into_iter().for_each(|drainer| {
            drainer.join();
        });
        late.join();
        get_use_and_put(&pool);
        get_use_and_put(&pool);
        assert!(pool.stats().classes[0].cached > 0, "threads cache as before");
        pool.trim(0);
        assert_eq!(pool.stats().classes[0].cached, 0);
        assert_whole(&pool);
        pool.close();
        assert_gone(&pool);
    });
}

#[test]
fn threads_that_end_give_their_caches_back_whoever_drains() {
    check(600, || {
        let pool = pool();
        // The second often uses the first one's block.
        let first = spawn(&pool, |pool| get_use_and_put(&pool));
        let second = spawn(&pool, move |pool| {
            first.join();
            get_use_and_put(&pool);
        });
        let third = spawn(&pool, |pool| get_use_and_put(&pool));
        pool.trim(0);
        second.join();
        third.join();
        assert_eq!(pool.stats().classes[0].cached, 0, "no thread with a cache is left");
        assert_whole(&pool);
    });
}

/// Closed, its last buffer put: nothing is mapped, and the region is gone.
pub(super) fn assert_gone(pool: &Pool) {
    assert!(matches!(pool.get(SIZE), Err(GetError::Closed)));
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!(stats.mapped_bytes, 0, "{stats:#?}");
    assert!(pool.reference().classes().region().is_unmapped());
}

#[test]
fn closing_lets_nobody_in_and_the_region_goes_with_the_last_put() {
    check(1000, || {
        let pool = pool();
        let workers = [(); 2].map(|()| {
            spawn(&pool, |pool| {
                for _ in 0..2 {
                    // A buffer got is good although the pool closes meanwhile.
                    let Ok(buffer) = pool.get(SIZE) else { return };
                    use_buffer(&buffer);
                    drop(buffer);
                    let Ok(raw) = get_raw(&pool) else { return };
                    put_raw(&pool, raw).unwrap();
                }
            })
        });
        let closer = spawn(&pool, |pool| {
            pool.close();
            assert!(matches!(pool.get(SIZE), Err(GetError::Closed)));
            assert_eq!(pool.stats().classes[0].cached, 0);
        });
        workers.into_iter().for_each(thread::JoinHandle::join);
        closer.join();
        assert_gone(&pool);
    });
}

#[test]
fn a_pool_without_caches_closes_as_well() {
    check(1000, || {
        let pool = Pool::builder().size_class(SIZE, 2).thread_cache(false).build().unwrap();
        let workers = [(); 3].map(|()| {
            spawn(&pool, |pool| match pool.get(SIZE) {
                Ok(buffer) => use_buffer(&buffer),
                Err(error) => assert!(matches!(error, GetError::Closed), "{error}"),
            })
        });
        pool.close();
        workers.into_iter().for_each(thread::JoinHandle::join);
        assert_gone(&pool);
    });
}

/// A slot that is put after the closing looked for idle ones, and got before the region goes.
#[test]
fn what_is_put_while_a_pool_closes_nobody_gets_when_the_region_is_gone() {
    check(3000, || {
        let pool = Pool::builder().size_class(SIZE, 1).max_bytes(SIZE).thread_cache(false).build().unwrap();
        let buffer = pool.get(SIZE).unwrap();
        let putter = thread::spawn(move || drop(buffer));
        let getter = spawn(&pool, |pool| match pool.get(SIZE) {
            Ok(buffer) => {
                let (shared, address) = (pool.reference(), buffer.as_ptr().addr());
                // Rarely overflow: where the slot was given up for it.
                let is_slot = shared.classes().region().offset_of(address).is_some();
                assert!(
                    !is_slot || !shared.classes().region().is_unmapped(),
                    "the slot at {address:#x} is gone"
                );
            }
            Err(error) => assert!(matches!(error, GetError::Closed | GetError::Limit { .. }), "{error}"),
        });
        pool.close();
        putter.join();
        getter.join();
        assert_gone(&pool);
    });
}

#[test]
fn the_last_handle_closes_and_the_last_reference_destroys() {
    check(1000, || {
        let pool = pool();
        let buffer = pool.get(SIZE).unwrap();
        use_buffer(&buffer);
        let user = thread::spawn(move || {
            use_buffer(&buffer);
            drop(buffer);
        });
        let handles = [(); 2].map(|()| spawn(&pool, |pool| drop(pool.get(SIZE))));
        drop(pool);
        user.join();
        handles.into_iter().for_each(thread::JoinHandle::join);
    });
}

#[test]
fn an_id_reaches_its_pool_or_none() {
    check(1500, || {
        let pool = pool();
        let id = pool.reference().registration().id();
        let finder = thread::spawn(move || {
            for _ in 0..2 {
                let Some(reference) = Reference::to_live_pool(id) else { break };
                assert_eq!(reference.registration().id(), id);
                assert_eq!(reference.stats(&ForkGuard::new()).classes[0].capacity, SLOTS);
            }
        });
        let ender = thread::spawn(move || drop(pool));
        // Takes the anchor over once it is free.
        let next = thread::spawn(|| {
            let other = Pool::builder().build().unwrap();
            other.reference().registration().id()
        });
        finder.join();
        ender.join();
        assert_ne!(next.join(), id);
        assert!(Reference::to_live_pool(id).is_none());
    });
}

#[test]
fn the_id_of_a_new_pool_is_seen_with_the_pool() {
    check(1500, || {
        // Guessed: nothing but the anchor orders the two threads.
        let id = {
            let pool = Pool::builder().build().unwrap();
            pool.reference().registration().id()
        };
        let next = crate::os::anchor::PoolId { generation: id.generation + 1, ..id };
        let finder = thread::spawn(move || {
            let reference = Reference::to_live_pool(next)?;
            assert_eq!(reference.registration().id(), next);
            Some(reference.stats(&ForkGuard::new()).classes[0].capacity)
        });
        // Longest unused first out: until it is this anchor's turn.
        let mut pools = vec![pool()];
        while pools.last().is_some_and(|pool| pool.reference().registration().id() != next) {
            pools.push(pool());
        }
        assert!(finder.join().is_none_or(|capacity| capacity == SLOTS));
        drop(pools);
    });
}

#[test]
fn who_sees_a_pool_closed_gets_nothing_more() {
    check(1000, || {
        let pool = pool();
        let closed = Arc::new(AtomicU32::new(0));
        let seen = closed.clone();
        let worker = spawn(&pool, move |pool| {
            for _ in 0..3 {
                let was_closed = seen.load(Acquire) == 1;
                let got = pool.get(SIZE);
                assert!(!(was_closed && got.is_ok()), "a closed pool hands out buffers");
            }
        });
        pool.close();
        closed.store(1, Release);
        worker.join();
    });
}
