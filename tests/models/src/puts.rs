//! Puts of one buffer that race: exactly one wins, and is counted.

use std::sync::Arc;

use super::pools::*;
use super::sync::atomic::AtomicU32;
use super::sync::atomic::Ordering::{Acquire, Release};
use super::sync::thread;
use super::{check, have_fence, refuse_fence};
use crate::{Pool, PooledBuffer};

/// A class is biased to the threads that get its slots, from a thread's first batch on.
pub(super) fn get_biased(pool: &Pool) -> Raw {
    get_use_and_put(pool);
    get_use_and_put(pool);
    get_raw(pool).unwrap()
}

/// A number that threads wait for.
#[derive(Clone, Default)]
struct Step(Arc<AtomicU32>);

impl Step {
    fn reach(&self, step: u32) {
        self.0.store(step, Release);
    }

    fn wait_for(&self, step: u32) {
        while self.0.load(Acquire) < step {
            thread::yield_now();
        }
    }
}

#[test]
fn of_a_bias_owners_put_and_a_racing_one_exactly_one_wins() {
    check(1500, || {
        let pool = pool();
        let raw = get_biased(&pool);
        let other = spawn(&pool, move |pool| put_raw(&pool, raw).is_ok());
        let own = put_raw(&pool, raw).is_ok();
        let other = other.join();
        assert!(own != other, "own {own}, other {other}");
        assert_eq!(pool.stats().double_puts, 1);
        assert_whole(&pool);
    });
}

/// The other thread has a cache, in which it marks what it gets with a bias of its own.
#[test]
fn of_a_bias_owners_put_and_another_bias_owners_exactly_one_wins() {
    check(1000, || {
        // Enough that both threads have room.
        let pool = Pool::builder().size_class(SIZE, 3 * SLOTS).build().unwrap();
        let raw = get_biased(&pool);
        let ready = Step::default();
        let is_ready = ready.clone();
        let other = spawn(&pool, move |pool| {
            let own = get_biased(&pool);
            is_ready.reach(1);
            let put = put_raw(&pool, raw).is_ok();
            put_raw(&pool, own).unwrap();
            put
        });
        ready.wait_for(1);
        let own = put_raw(&pool, raw).is_ok();
        assert!(other.join() != own);
        assert_eq!(pool.stats().double_puts, 1);
        assert_whole(&pool);
    });
}

/// The bias owner puts and gets the slot again, under the same mark, while another thread ends its bias: as often as it
/// was got, a put wins.
#[test]
fn an_end_of_bias_that_meets_the_slots_next_life_lets_one_put_win_in_each() {
    check(3000, || {
        let pool = pool();
        let raw = get_biased(&pool);
        let other = spawn(&pool, move |pool| put_raw(&pool, raw).is_ok());
        let mut won = usize::from(put_raw(&pool, raw).is_ok());
        let again = get_raw(&pool).unwrap();
        won += usize::from(put_raw(&pool, again).is_ok());
        won += usize::from(other.join());
        assert_eq!((won, pool.stats().double_puts), (2, 1));
        assert_whole(&pool);
    });
}

/// The bias owner gives the buffer another size while another thread puts it: one put wins, and no size is written over
/// an idle slot's mark.
#[test]
fn of_a_bias_owners_resize_and_put_and_a_racing_put_exactly_one_wins() {
    check(3000, || {
        let pool = pool();
        let raw = get_biased(&pool);
        let other = spawn(&pool, move |pool| put_raw(&pool, raw).is_ok());
        // SAFETY:
        // - as for `put_raw`
        let resized = unsafe { pool.realloc_raw(raw.0, SIZE - 1) }.is_ok();
        let own = resized && put_raw(&pool, raw).is_ok();
        let other = other.join();
        assert!(if resized { own != other } else { other }, "resized {resized}, own {own}, other {other}");
        assert_eq!(pool.stats().double_puts, 1);
        assert_whole(&pool);
    });
}

#[test]
fn of_two_others_puts_exactly_one_wins() {
    check(1500, || {
        let pool = pool();
        let raw = get_biased(&pool);
        let others = [(); 2].map(|()| spawn(&pool, move |pool| put_raw(&pool, raw).is_ok()));
        let [first, second] = others.map(thread::JoinHandle::join);
        assert!(first != second);
        assert_eq!(pool.stats().double_puts, 1);
        assert_whole(&pool);
    });
}

/// Two end the bias of one slot, and its bias owner puts it as well.
#[test]
fn of_two_others_puts_and_the_bias_owners_exactly_one_wins() {
    check(3000, || {
        let pool = pool();
        let raw = get_biased(&pool);
        let others = [(); 2].map(|()| spawn(&pool, move |pool| put_raw(&pool, raw).is_ok()));
        let own = put_raw(&pool, raw).is_ok();
        let winners = others.map(thread::JoinHandle::join).into_iter().chain([own]).filter(|&won| won);
        assert_eq!(winners.count(), 1);
        assert_eq!(pool.stats().double_puts, 2);
        assert_whole(&pool);
    });
}

/// Two slots of one window: each thread that ends a bias ends both.
#[test]
fn ends_of_bias_of_neighbours_leave_each_its_one_winner() {
    check(2000, || {
        let pool = pool();
        get_use_and_put(&pool);
        get_use_and_put(&pool);
        let both = [(); 2].map(|()| get_raw(&pool).unwrap());
        let others = both.map(|raw| spawn(&pool, move |pool| put_raw(&pool, raw).is_ok()));
        let own = both.map(|raw| put_raw(&pool, raw).is_ok());
        let others = others.map(thread::JoinHandle::join);
        assert!(own[0] != others[0] && own[1] != others[1], "own {own:?}, others {others:?}");
        assert_eq!(pool.stats().double_puts, 2);
        assert_whole(&pool);
    });
}

/// Between two ends the slot is put and got again: who finishes the first end must not take the second for it.
#[test]
fn who_finishes_an_end_of_bias_takes_no_later_one_for_it() {
    check(6000, || {
        let pool = pool();
        let raw = get_biased(&pool);
        let others = [(); 3].map(|()| spawn(&pool, move |pool| put_raw(&pool, raw).is_ok()));
        let mut won = 0;
        for _ in 0..2 {
            won += usize::from(put_raw(&pool, raw).is_ok());
            // Often the same slot, and under the same mark.
            let again = get_raw(&pool).unwrap();
            won += usize::from(put_raw(&pool, again).is_ok());
        }
        won += others.map(thread::JoinHandle::join).into_iter().filter(|&won| won).count();
        // Got three times, put seven times; a put of a slot that is idle is refused.
        assert_eq!((won, pool.stats().double_puts), (3, 4));
        assert_whole(&pool);
    });
}

/// Cooldowns are short in models: slots are handed over while the class gets its bias back. What was got before goes to
/// the shelf then, also while a third thread takes the caches away.
#[test]
fn a_class_that_is_biased_again_hands_over_as_well() {
    for drains in [false, true] {
        check(300, move || {
            have_fence();
            let pool = Pool::builder().size_class(SIZE, 3 * SLOTS).build().unwrap();
            let (mut ends, mut turns) = (0, 0);
            for _ in 0..2 {
                // Past a cooldown.
                while pool.stats().classes[0].bias_ends == ends {
                    let many = [(); 4].map(|()| get_raw(&pool).unwrap());
                    many.into_iter().for_each(|raw| put_raw(&pool, raw).unwrap());
                    let raw = get_raw(&pool).unwrap();
                    let other = spawn(&pool, move |pool| put_raw(&pool, raw).is_ok());
                    // Seldom, for a new cache has nothing from before a cooldown.
                    turns += 1;
                    let drains = drains && turns % 4 == 0;
                    let drainer = drains.then(|| spawn(&pool, |pool| _ = pool.trim(usize::MAX)));
                    let own = put_raw(&pool, raw).is_ok();
                    assert!(own != other.join());
                    drainer.map(thread::JoinHandle::join);
                }
                ends = pool.stats().classes[0].bias_ends;
            }
            assert_whole(&pool);
        });
    }
}

/// A thread ends, and the next one has its number: what was biased to the one is to the other.
#[test]
fn of_a_put_by_who_has_the_bias_owners_number_and_a_racing_one_exactly_one_wins() {
    check(2000, || {
        let pool = pool();
        let raw = spawn(&pool, |pool| get_biased(&pool)).join();
        // Either may have the number.
        let both = [(); 2].map(|()| {
            spawn(&pool, move |pool| {
                get_use_and_put(&pool);
                put_raw(&pool, raw).is_ok()
            })
        });
        let [first, second] = both.map(thread::JoinHandle::join);
        assert!(first != second);
        assert_eq!(pool.stats().double_puts, 1);
        pool.trim(usize::MAX);
        assert_whole(&pool);
    });
}

/// The bias owner ends in the middle of it, and its state goes to the next thread.
#[test]
fn an_end_of_bias_outlives_the_bias_owner() {
    check(2000, || {
        let pool = pool();
        let handed_over = Arc::new(std::sync::Mutex::new(None));
        let ready = Step::default();
        let (giving, is_ready) = (handed_over.clone(), ready.clone());
        let owner = spawn(&pool, move |pool| {
            // The upper one of two slots. The next thread gets the lower one as a raw buffer: had it this one, a late put
            // would rightly succeed.
            get_use_and_put(&pool);
            let raw = get_biased(&pool);
            *giving.lock().unwrap() = Some(raw);
            is_ready.reach(1);
            put_raw(&pool, raw).is_ok()
        });
        ready.wait_for(1);
        let raw = handed_over.lock().unwrap().take().expect("it was handed over");
        let other = spawn(&pool, move |pool| put_raw(&pool, raw).is_ok());
        let own = owner.join();
        let next = spawn(&pool, |pool| get_use_and_put(&pool));
        assert!(own != other.join());
        next.join();
        assert_eq!(pool.stats().double_puts, 1);
        pool.trim(usize::MAX);
        assert_whole(&pool);
    });
}

/// The other one's put and the bias owner's, while a third thread takes the caches away.
#[test]
fn of_racing_puts_exactly_one_wins_whoever_drains() {
    check(1500, || {
        let pool = pool();
        let raw = get_biased(&pool);
        let other = spawn(&pool, move |pool| put_raw(&pool, raw).is_ok());
        let drainer = spawn(&pool, |pool| {
            pool.trim(usize::MAX);
        });
        let own = put_raw(&pool, raw).is_ok();
        assert!(other.join() != own);
        drainer.join();
        assert_eq!(pool.stats().double_puts, 1);
        assert_whole(&pool);
    });
}

/// The system refuses the heavy fence from some moment on.
#[test]
fn of_racing_puts_exactly_one_wins_where_the_fence_is_refused() {
    check(3000, || {
        have_fence();
        let pool = pool();
        let raw = get_biased(&pool);
        let refuser = thread::spawn(refuse_fence);
        let others = [(); 2].map(|()| spawn(&pool, move |pool| put_raw(&pool, raw).is_ok()));
        let own = put_raw(&pool, raw).is_ok();
        let winners = others.map(thread::JoinHandle::join).into_iter().chain([own]).filter(|&won| won);
        assert_eq!(winners.count(), 1);
        refuser.join();
        assert_eq!(pool.stats().double_puts, 2);
        pool.trim(usize::MAX);
        assert_eq!(pool.stats().classes[0].cached, 0);
        // No mark is biased any more.
        let ends = pool.stats().classes[0].bias_ends;
        let raw = get_biased(&pool);
        assert!(spawn(&pool, move |pool| put_raw(&pool, raw).is_ok()).join());
        assert_eq!(pool.stats().classes[0].bias_ends, ends);
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
        let raw = get_biased(&pool);
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
