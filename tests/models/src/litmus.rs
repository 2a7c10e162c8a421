//! Models of the model: what the C11 memory allows is found, and what it forbids is not.

use std::ptr::NonNull;
use std::sync::Arc;

use super::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
use super::sync::atomic::{AtomicU32, fence};
use super::sync::{Mutex, plain_memory, thread};
use super::{check, fails, weak};

const EXECUTIONS: usize = 1000;

fn two() -> Arc<[AtomicU32; 2]> {
    Arc::new([AtomicU32::new(0), AtomicU32::new(0)])
}

/// A value is written, then a flag; who sees the flag must see the value.
fn pass_message(store: Ordering, load: Ordering) -> impl Fn() + Send + Sync {
    move || {
        let words = two();
        let other = words.clone();
        let writer = thread::spawn(move || {
            other[0].store(1, Relaxed);
            other[1].store(1, store);
        });
        if words[1].load(load) == 1 {
            assert_eq!(words[0].load(Relaxed), 1);
        }
        writer.join();
        assert_eq!(words[0].load(Relaxed), 1);
    }
}

#[test]
fn a_message_needs_release_and_acquire() {
    check(EXECUTIONS, pass_message(Release, Acquire));
    assert!(fails(EXECUTIONS, pass_message(Relaxed, Acquire)));
    assert!(fails(EXECUTIONS, pass_message(Release, Relaxed)));
}

#[test]
fn a_message_passes_through_others_read_modify_writes_and_fences() {
    let body = |acquire_by_fence: bool| {
        move || {
            let words = two();
            let (first, second) = (words.clone(), words.clone());
            let writer = thread::spawn(move || {
                first[0].store(1, Relaxed);
                first[1].fetch_add(1, Release);
            });
            let passing = thread::spawn(move || second[1].fetch_add(2, Relaxed));
            if words[1].load(Relaxed) == 3 {
                if acquire_by_fence {
                    fence(Acquire);
                }
                assert_eq!(words[0].load(Relaxed), 1);
            }
            writer.join();
            passing.join();
        }
    };
    check(EXECUTIONS, body(true));
    assert!(fails(EXECUTIONS, body(false)));
}

/// Each of two threads writes its word and reads the other's: one of them must see what the other wrote.
fn store_and_look(store: Ordering, load: Ordering, between: fn()) -> impl Fn() + Send + Sync {
    move || {
        let words = two();
        let other = words.clone();
        let second = thread::spawn(move || {
            other[1].store(1, store);
            between();
            other[0].load(load)
        });
        words[0].store(1, store);
        between();
        let seen = words[1].load(load);
        assert_eq!(seen.max(second.join()), 1);
    }
}

#[test]
fn two_who_write_and_look_need_sequential_consistency() {
    check(EXECUTIONS, store_and_look(SeqCst, SeqCst, || ()));
    check(EXECUTIONS, store_and_look(Relaxed, Relaxed, || fence(SeqCst)));
    assert!(fails(EXECUTIONS, store_and_look(Release, Acquire, || ())));
    assert!(fails(EXECUTIONS, store_and_look(Release, Acquire, || fence(AcqRel))));
}

#[test]
fn a_fence_on_all_threads_orders_those_who_have_none() {
    let body = |heavy: bool| {
        move || {
            let words = two();
            let other = words.clone();
            let light = thread::spawn(move || {
                other[1].store(1, Relaxed);
                other[0].load(Relaxed)
            });
            words[0].store(1, Relaxed);
            if heavy {
                weak::fence_all_threads();
            }
            let seen = words[1].load(Relaxed);
            assert_eq!(seen.max(light.join()), 1);
        }
    };
    check(EXECUTIONS, body(true));
    assert!(fails(EXECUTIONS, body(false)));
}

#[test]
fn a_value_once_read_is_not_unread() {
    check(EXECUTIONS, || {
        let words = two();
        let other = words.clone();
        let writer = thread::spawn(move || (1..5).for_each(|value| other[0].store(value, Relaxed)));
        let seen = [(); 5].map(|()| words[0].load(Relaxed));
        assert!(seen.is_sorted());
        writer.join();
    });
}

#[test]
fn locks_exclude_and_order() {
    check(EXECUTIONS, || {
        let words = Arc::new((Mutex::new(0), AtomicU32::new(0)));
        let add = |words: Arc<(Mutex<u32>, AtomicU32)>| {
            move || {
                let mut sum = words.0.lock().unwrap();
                let before = *sum;
                words.1.store(words.1.load(Relaxed) + 1, Relaxed);
                *sum = before + 1;
            }
        };
        let threads = [(); 2].map(|()| thread::spawn(add(words.clone())));
        threads.into_iter().for_each(thread::JoinHandle::join);
        assert_eq!((*words.0.lock().unwrap(), words.1.load(Relaxed)), (2, 2));
    });
}

#[test]
fn memory_used_by_two_at_once_is_found_out() {
    let body = |order: Ordering| {
        move || {
            let words = Arc::new((AtomicU32::new(0), 0_u64));
            let other = words.clone();
            let payload = |words: &(AtomicU32, u64)| plain_memory::is_used(NonNull::from(&words.1).cast());
            let second = thread::spawn(move || {
                payload(&other);
                other.0.store(1, order);
            });
            if words.0.load(Acquire) == 1 {
                payload(&words);
            }
            second.join();
        }
    };
    check(EXECUTIONS, body(Release));
    assert!(fails(EXECUTIONS, body(Relaxed)));
}
