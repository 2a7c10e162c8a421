//! The shelf, the limit and the handles, each alone.

use std::ptr::NonNull;
use std::sync::Arc;

use super::sync::atomic::AtomicU32;
use super::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use super::sync::{plain_memory, thread};
use super::{check, hold};
use crate::class::mapped_bytes::MappedBytes;
use crate::class::shelf::{GROUP_SLOTS, TestShelf};
#[cfg(feature = "capi")]
use crate::os::fork::ForkGuard;
#[cfg(feature = "capi")]
use crate::os::handle::{HandleState, Handles};

/// A shelf, and a byte of memory for each of its slots.
struct Slots {
    shelf: TestShelf,
    memory: Box<[u8]>,
}

impl Slots {
    /// With as many idle slots; the others are fresh.
    fn new(slots: u32, idle: u32) -> Arc<Self> {
        let shelf = TestShelf::new(slots);
        let taken: Vec<u32> = (0..idle).map(|_| shelf.take_fresh(None).unwrap()).collect();
        taken.into_iter().for_each(|slot| shelf.put(slot));
        Arc::new(Self { shelf, memory: vec![0; slots as usize].into() })
    }

    /// Uses a slot that is the caller's.
    fn use_slot(&self, slot: u32) {
        plain_memory::is_used(NonNull::from(&self.memory[slot as usize]));
    }

    fn spawn(self: &Arc<Self>, body: fn(&Slots)) -> thread::JoinHandle<()> {
        let own = self.clone();
        thread::spawn(move || body(&own))
    }

    /// Every slot is idle or fresh, and comes once.
    fn assert_whole(&self) {
        assert_eq!(self.shelf.idle() + self.shelf.fresh(), self.memory.len() as u32);
        let slots = std::iter::from_fn(|| self.shelf.take_idle().or_else(|| self.shelf.take_fresh(None)));
        let mut slots: Vec<u32> = slots.inspect(|&slot| self.use_slot(slot)).collect();
        slots.sort_unstable();
        assert!(slots.into_iter().eq(0..self.memory.len() as u32));
    }
}

#[test]
fn a_slot_has_one_owner_and_none_that_is_idle_is_missed() {
    check(2000, || {
        // One for each thread, on two lines.
        let slots = Slots::new(GROUP_SLOTS + 3, GROUP_SLOTS + 3);
        let others: Vec<u32> = (0..GROUP_SLOTS).map(|_| slots.shelf.take_idle().unwrap()).collect();
        let take_and_put = |slots: &Slots| {
            for _ in 0..2 {
                let slot = slots.shelf.take_idle().expect("an idle slot was missed");
                slots.use_slot(slot);
                slots.shelf.put(slot);
            }
        };
        let threads = [(); 3].map(|()| slots.spawn(take_and_put));
        threads.into_iter().for_each(thread::JoinHandle::join);
        others.into_iter().for_each(|slot| slots.shelf.put(slot));
        slots.assert_whole();
    });
}

#[test]
fn batches_take_and_put_each_slot_once() {
    check(1000, || {
        let slots = Slots::new(2 * GROUP_SLOTS, GROUP_SLOTS + 4);
        let move_batches = |slots: &Slots| {
            let near = AtomicU32::new(u32::MAX);
            for size in [6, 3] {
                let mut batch = [0; 6];
                let got = slots.shelf.take_idle_batch(&mut batch[..size], &near);
                assert_eq!(got, size, "there are more than both threads want");
                batch[..got].iter().for_each(|&slot| slots.use_slot(slot));
                slots.shelf.put_batch(&batch[..got], &near);
            }
        };
        let threads = [(); 2].map(|()| slots.spawn(move_batches));
        threads.into_iter().for_each(thread::JoinHandle::join);
        slots.assert_whole();
    });
}

#[test]
fn a_fresh_slot_has_one_owner() {
    check(2000, || {
        let slots = Slots::new(4, 0);
        let near = |slots: &Slots| {
            let near = AtomicU32::new(u32::MAX);
            for _ in 0..2 {
                let slot = slots.shelf.take_fresh(Some(&near)).expect("a fresh slot was missed");
                slots.use_slot(slot);
                slots.shelf.put(slot);
            }
        };
        let any = |slots: &Slots| {
            let slot = slots.shelf.take_fresh(None).expect("a fresh slot was missed");
            slots.shelf.untake_fresh(slot);
            let slot = slots.shelf.take_fresh(None).expect("a fresh slot was missed");
            slots.use_slot(slot);
            slots.shelf.put(slot);
        };
        [slots.spawn(near), slots.spawn(any)].into_iter().for_each(thread::JoinHandle::join);
        slots.assert_whole();
    });
}

#[test]
fn what_a_trim_reserves_nobody_gets_until_it_is_given_back() {
    check(2000, || {
        let slots = Slots::new(4, 2);
        let trim = |slots: &Slots| {
            for _ in 0..2 {
                let Some(mut reservation) = slots.shelf.reserve(0, 1, u32::MAX) else { continue };
                for slot in 0..4 {
                    if reservation.holds(slot) {
                        plain_memory::is_cleared(NonNull::from(&slots.memory[slot as usize]), 1);
                    }
                    if slot % 2 == 0 && reservation.is_idle(slot) {
                        reservation.make_fresh(slot);
                    }
                }
                slots.shelf.give_back(reservation);
            }
        };
        let use_and_put = |slots: &Slots| {
            for _ in 0..2 {
                if let Some(slot) = slots.shelf.take_idle().or_else(|| slots.shelf.take_fresh(None)) {
                    slots.use_slot(slot);
                    slots.shelf.put(slot);
                }
            }
        };
        [slots.spawn(trim), slots.spawn(use_and_put), slots.spawn(use_and_put)]
            .into_iter()
            .for_each(thread::JoinHandle::join);
        slots.assert_whole();
    });
}

#[test]
fn while_all_slots_are_fresh_nobody_gets_one() {
    check(2000, || {
        // The permits of the third group are of use in the others, too.
        let slots = Slots::new(3 * GROUP_SLOTS, 0);
        let trim = |slots: &Slots| {
            for _ in 0..2 {
                slots.shelf.while_all_are_fresh(0..2, || {
                    plain_memory::is_cleared(NonNull::from(&slots.memory[0]), 2 * GROUP_SLOTS as usize);
                });
            }
        };
        let use_and_return = |slots: &Slots| {
            for _ in 0..2 {
                if let Some(slot) = slots.shelf.take_fresh(None) {
                    slots.use_slot(slot);
                    slots.shelf.put(slot);
                    let Some(mut reservation) = slots.shelf.reserve(0, 2, u32::MAX) else { continue };
                    for slot in 0..2 * GROUP_SLOTS {
                        if reservation.is_idle(slot) {
                            slots.use_slot(slot);
                            reservation.make_fresh(slot);
                        }
                    }
                    slots.shelf.give_back(reservation);
                }
            }
        };
        [slots.spawn(trim), slots.spawn(use_and_return), slots.spawn(use_and_return)]
            .into_iter()
            .for_each(thread::JoinHandle::join);
        slots.assert_whole();
    });
}

#[test]
fn a_reservation_keeps_no_permit_for_what_others_took_from_its_group() {
    check(3000, || {
        // One idle slot on each of two lines: a permit is for either.
        let slots = Slots::new(2 * GROUP_SLOTS, 2 * GROUP_SLOTS);
        let all = (0..2 * GROUP_SLOTS).map(|_| slots.shelf.take_idle().unwrap());
        let (idle, out): (Vec<u32>, Vec<u32>) = all.partition(|slot| slot % GROUP_SLOTS == 0);
        idle.into_iter().for_each(|slot| slots.shelf.put(slot));
        let trim = |slots: &Slots| {
            if let Some(reservation) = slots.shelf.reserve(0, 1, u32::MAX) {
                slots.shelf.give_back(reservation);
            }
        };
        let use_and_put = |slots: &Slots| {
            if let Some(slot) = slots.shelf.take_idle() {
                slots.use_slot(slot);
                slots.shelf.put(slot);
            }
        };
        [slots.spawn(trim), slots.spawn(use_and_put)].into_iter().for_each(thread::JoinHandle::join);
        out.into_iter().for_each(|slot| slots.shelf.put(slot));
        slots.assert_whole();
    });
}

#[test]
fn reserved_bytes_never_exceed_the_limit() {
    check(2000, || {
        let bytes = Arc::new((MappedBytes::new(2), AtomicU32::new(0)));
        let threads = [(); 3].map(|()| {
            let bytes = bytes.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    if bytes.0.try_reserve(1) {
                        hold(&bytes.1, 2);
                        bytes.0.release(1);
                    }
                }
            })
        });
        threads.into_iter().for_each(thread::JoinHandle::join);
        assert!(bytes.0.get() == 0 && bytes.0.try_reserve(2) && !bytes.0.try_reserve(1));
    });
}

#[cfg(feature = "capi")]
#[test]
fn a_handle_is_given_up_once_and_its_number_does_not_come_back() {
    check(2000, || {
        let handles = Arc::new((Handles::new(), AtomicU32::new(0)));
        let number = handles.0.make(&ForkGuard::new()).unwrap();
        let threads = [(); 2].map(|()| {
            let handles = handles.clone();
            thread::spawn(move || {
                let guard = ForkGuard::new();
                let won = handles.0.give_up(&guard, number);
                let other = handles.0.make(&guard).unwrap();
                assert_ne!(other, number);
                assert_eq!(handles.0.state(other), HandleState::Live);
                won
            })
        });
        let looking = handles.clone();
        let looker = thread::spawn(move || {
            let was_given_up = looking.1.load(Acquire) == 1;
            assert!(!was_given_up || looking.0.state(number) == HandleState::GivenUp);
        });
        let [first, second] = threads.map(thread::JoinHandle::join);
        assert!(first != second, "of two that give it up one does");
        handles.1.store(1, Release);
        looker.join();
        assert_eq!(handles.0.state(number), HandleState::GivenUp);
        let _ = handles.1.load(Relaxed);
    });
}
