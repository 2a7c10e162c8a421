//! Overflow that a spare serves: its making, closing, and puts that race.

use super::check;
use super::pools::{Raw, SIZE, assert_gone, get_raw, put_raw, spawn, use_buffer};
use super::sync::thread;
use crate::Pool;

/// A pool whose slots are all out. Its next gets overflow, and soon are served by a spare.
fn used_up() -> (Pool, [Raw; 2]) {
    let pool = Pool::builder().size_class(SIZE, 2).build().unwrap();
    let slots = [(); 2].map(|()| get_raw(&pool).unwrap());
    (pool, slots)
}

fn with_spare() -> (Pool, [Raw; 2]) {
    let (pool, slots) = used_up();
    while pool.reference().spare().is_none() {
        put_raw(&pool, get_raw(&pool).unwrap()).unwrap();
    }
    (pool, slots)
}

/// At a quiet moment: nothing but the slots is out.
fn assert_is_put(pool: &Pool, double_puts: u64) {
    pool.trim(usize::MAX);
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.classes[0].outstanding, stats.classes[0].overflow), (2, 0), "{stats:#?}");
    assert_eq!(stats.double_puts, double_puts, "{stats:#?}");
}

#[test]
fn a_spare_that_is_made_while_the_pool_closes_goes_with_the_last_put() {
    check(1000, || {
        let (pool, slots) = used_up();
        let workers = [(); 2].map(|()| {
            spawn(&pool, |pool| {
                for _ in 0..3 {
                    let Ok(buffer) = pool.get(SIZE) else { return };
                    use_buffer(&buffer);
                    let raw = get_raw(&pool);
                    drop(buffer);
                    let Ok(raw) = raw else { return };
                    put_raw(&pool, raw).unwrap();
                }
            })
        });
        let closer = spawn(&pool, |pool| pool.close());
        workers.into_iter().for_each(thread::JoinHandle::join);
        closer.join();
        slots.into_iter().for_each(|raw| put_raw(&pool, raw).unwrap());
        assert_gone(&pool);
        assert!(pool.reference().spare().is_none_or(|spare| spare.core().classes().region().is_unmapped()));
    });
}

#[test]
fn overflow_is_handed_over_and_comes_back_once_each() {
    check(1000, || {
        let (pool, slots) = with_spare();
        let getter = spawn(&pool, |pool| [(); 3].map(|()| get_raw(&pool).unwrap()));
        let handed_over = getter.join();
        let putters = [0, 1].map(|part| {
            let mine: Vec<Raw> = handed_over.iter().copied().skip(part).step_by(2).collect();
            spawn(&pool, move |pool| {
                mine.into_iter().for_each(|raw| put_raw(&pool, raw).unwrap());
                put_raw(&pool, get_raw(&pool).unwrap()).unwrap();
            })
        });
        let trimmer = spawn(&pool, |pool| pool.trim(0));
        putters.into_iter().for_each(thread::JoinHandle::join);
        trimmer.join();
        assert_is_put(&pool, 0);
        slots.into_iter().for_each(|raw| put_raw(&pool, raw).unwrap());
    });
}

#[test]
fn of_two_puts_of_overflow_exactly_one_wins() {
    check(1500, || {
        let (pool, slots) = with_spare();
        put_raw(&pool, get_raw(&pool).unwrap()).unwrap();
        let raw = get_raw(&pool).unwrap();
        let other = spawn(&pool, move |pool| put_raw(&pool, raw).is_ok());
        let own = put_raw(&pool, raw).is_ok();
        assert!(other.join() || own);
        assert_is_put(&pool, 1);
        slots.into_iter().for_each(|raw| put_raw(&pool, raw).unwrap());
    });
}

#[test]
fn the_last_put_of_overflow_ends_the_pool() {
    check(1000, || {
        let (pool, slots) = with_spare();
        let buffer = pool.get(SIZE).unwrap();
        let user = thread::spawn(move || {
            use_buffer(&buffer);
            drop(buffer);
        });
        let slots = slots.map(|raw| spawn(&pool, move |pool| put_raw(&pool, raw).unwrap()));
        drop(pool);
        user.join();
        slots.into_iter().for_each(thread::JoinHandle::join);
    });
}

/// What its cache has of the spare holds a reference to the pool.
#[test]
fn a_thread_that_ends_may_be_the_last_to_know_the_pool() {
    check(2000, || {
        let (pool, slots) = with_spare();
        let worker = spawn(&pool, |pool| put_raw(&pool, get_raw(&pool).unwrap()).unwrap());
        slots.into_iter().for_each(|raw| put_raw(&pool, raw).unwrap());
        drop(pool);
        worker.join();
    });
}

/// More ways than a block has places for: caches of pools and of spares are given up for one another, while others
/// take them away.
#[test]
fn caches_of_spares_give_way_to_those_of_other_pools() {
    check(500, || {
        let pools = [(); 5].map(|()| with_spare());
        let user = {
            let pools = pools.each_ref().map(|(pool, _)| pool.clone());
            thread::spawn(move || {
                for pool in pools {
                    put_raw(&pool, get_raw(&pool).unwrap()).unwrap();
                }
            })
        };
        let trimmer = spawn(&pools[0].0, |pool| pool.trim(0));
        for (pool, _) in pools.iter().rev() {
            put_raw(pool, get_raw(pool).unwrap()).unwrap();
        }
        trimmer.join();
        user.join();
        for (pool, slots) in pools {
            assert_is_put(&pool, 0);
            slots.into_iter().for_each(|raw| put_raw(&pool, raw).unwrap());
            pool.close();
            assert_gone(&pool);
        }
    });
}
