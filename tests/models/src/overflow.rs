//! Overflow: slots in the room beyond a class's capacity, which go back to the system when they are idle.

use super::check;
use super::pools::{Raw, SIZE, assert_gone, get_raw, put_raw, spawn, use_buffer};
use super::sync::thread;
use crate::Pool;

/// A pool whose capacity is out. Its next gets overflow.
fn used_up() -> (Pool, [Raw; 2]) {
    let pool = Pool::builder().size_class(SIZE, 2).build().unwrap();
    let slots = [(); 2].map(|()| get_raw(&pool).unwrap());
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
fn what_is_idle_beyond_the_capacity_goes_back_while_others_get_and_the_pool_closes() {
    check(1000, || {
        let pool = Pool::builder().size_class(SIZE, 2).thread_cache(false).build().unwrap();
        let workers = [(); 2].map(|()| {
            spawn(&pool, |pool| {
                for _ in 0..2 {
                    let got = [(); 4].map(|()| get_raw(&pool));
                    got.into_iter().flatten().for_each(|raw| put_raw(&pool, raw).unwrap());
                }
            })
        });
        let closer = spawn(&pool, |pool| pool.close());
        workers.into_iter().for_each(thread::JoinHandle::join);
        closer.join();
        assert_gone(&pool);
    });
}

fn use_four(pool: Pool) {
    let got = [(); 4].map(|()| get_raw(&pool).unwrap());
    got.into_iter().for_each(|raw| put_raw(&pool, raw).unwrap());
}

#[test]
fn little_beyond_the_capacity_stays_idle() {
    check(1000, || {
        let pool = Pool::builder().size_class(SIZE, 2).thread_cache(false).build().unwrap();
        let workers = [(); 2].map(|()| spawn(&pool, use_four));
        workers.into_iter().for_each(thread::JoinHandle::join);
        // A look that raced may have left some more. A thread alone leaves no more than it should.
        use_four(pool.clone());
        let stats = pool.stats();
        stats.assert_consistent();
        let class = &stats.classes[0];
        // The capacity, and the slack of one.
        assert!(class.idle <= 3 && class.overflow == 0, "{stats:#?}");
    });
}

#[test]
fn overflow_is_handed_over_and_comes_back_once_each() {
    check(1000, || {
        let (pool, slots) = used_up();
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
        let (pool, slots) = used_up();
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
        let (pool, slots) = used_up();
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

/// What its cache has holds a reference to the pool.
#[test]
fn a_thread_that_ends_may_be_the_last_to_know_the_pool() {
    check(2000, || {
        let (pool, slots) = used_up();
        let worker = spawn(&pool, |pool| put_raw(&pool, get_raw(&pool).unwrap()).unwrap());
        slots.into_iter().for_each(|raw| put_raw(&pool, raw).unwrap());
        drop(pool);
        worker.join();
    });
}
