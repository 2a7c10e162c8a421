//! Making a bin, and what moves between it and the shelf: not on the fast path.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};
use std::ptr;

use super::{Bin, MAX_BATCH, Place, Slots};
use crate::class::Class;
use crate::ledger::{self, Mark};
use crate::size_class::{Reciprocal, UNIT};
use crate::thread_cache::room::{FIRST_ROOM, LARGE, MIN_SHARE, most_slots};

/// Under the first slot of [`Bin::none`] lies one that is none, too.
static NO_PLACES: [Place; 2] = [const { Place::none() }; 2];

impl Bin {
    /// How many [`Place`]s a bin of this class needs memory for.
    pub(in crate::thread_cache) fn needed(class: &Class) -> usize {
        1 + most_slots(class.slot_size()) as usize
    }

    /// A bin without anything, for ever.
    pub(in crate::thread_cache) const fn none() -> Self {
        // SAFETY:
        // - stays inside
        let first = unsafe { (&raw const NO_PLACES).cast::<Place>().add(1).cast_mut() };
        Self {
            top: AtomicPtr::new(first),
            end: AtomicPtr::new(first),
            slots: Slots { ledger: ptr::null(), start: 0, units: 0, reciprocal: Reciprocal::none() },
            buffer_size: 0,
            puts: AtomicU64::new(0),
            raw_base: AtomicU64::new(0),
            first,
            limit: AtomicPtr::new(first),
            slot_size: 0,
            most: 0,
            fresh_line: AtomicU32::new(u32::MAX),
            shelf_line: AtomicU32::new(u32::MAX),
            class: u8::MAX,
        }
    }

    /// A bin without room.
    ///
    /// # Safety
    /// - `memory` has [`needed`](Self::needed) zeroed elements, good as long as the bin is used
    pub(in crate::thread_cache) unsafe fn new(
        class: &Class,
        number: u8,
        region_base: usize,
        memory: *mut Place,
    ) -> Self {
        // SAFETY:
        // - there is one element at least
        let first = unsafe { memory.add(1) };
        Self {
            top: AtomicPtr::new(first),
            end: AtomicPtr::new(first),
            slots: Slots {
                ledger: class.ledger.first_entry(),
                start: region_base + class.offset_of(0),
                units: class.capacity() as usize * (class.slot_size() / UNIT),
                reciprocal: class.reciprocal(),
            },
            buffer_size: class.buffer_size(),
            puts: AtomicU64::new(0),
            raw_base: AtomicU64::new(ledger::raw_base(0)),
            first,
            limit: AtomicPtr::new(first),
            slot_size: class.slot_size(),
            most: most_slots(class.slot_size()),
            fresh_line: AtomicU32::new(u32::MAX),
            shelf_line: AtomicU32::new(u32::MAX),
            class: number,
        }
    }

    /// Marks what is got from now on with this getter, or with none.
    pub(in crate::thread_cache) fn lean(&self, getter: Mark) {
        self.raw_base.store(ledger::raw_base(getter), Relaxed);
    }

    /// Whether the class is cached at all: huge ones are not.
    pub(in crate::thread_cache) fn may_cache(&self) -> bool {
        self.most >= MIN_SHARE
    }

    /// How many idle slots it holds.
    pub(in crate::thread_cache) fn len(&self) -> usize {
        (self.top.load(Relaxed).addr() - self.first.addr()) / size_of::<Place>()
    }

    /// How many slots it has room for, claims included.
    pub(in crate::thread_cache) fn room(&self) -> usize {
        (self.limit.load(Relaxed).addr() - self.first.addr()) / size_of::<Place>()
    }

    /// Gives a bin without claims its first room, or twice what it has, as far as a thread and the class may:
    /// so a thread that needs little leaves room to others. The memory is there already: nothing is allocated
    /// while a block is active, as the allocator may be one that uses a pool.
    pub(in crate::thread_cache) fn grow(&self, class: &Class) {
        debug_assert!(!self.has_claims());
        let (room, most) = (self.room() as u32, self.most);
        if room == most {
            return;
        }
        let wanted = if room == 0 { FIRST_ROOM } else { room }.min(most - room);
        let room = (room + class.caching.take(wanted, self.slot_size > LARGE)) as usize;
        // SAFETY:
        // - there is memory for the most slots
        let limit = unsafe { self.first.add(room) };
        self.limit.store(limit, Relaxed);
        self.set_end(limit);
    }

    /// How many slots move between this bin and the shelf at a time.
    pub(in crate::thread_cache) fn batch(&self) -> usize {
        self.room().div_ceil(2).min(MAX_BATCH)
    }

    /// How many slots may be added.
    pub(in crate::thread_cache) fn free_room(&self) -> usize {
        (self.end.load(Relaxed).addr() - self.top.load(Relaxed).addr()) / size_of::<Place>()
    }

    /// Adds slots that this thread took from the shelf; there is room for them.
    pub(in crate::thread_cache) fn push(&self, slots: &[u32]) {
        debug_assert!(slots.len() <= self.free_room());
        let mut top = self.top.load(Relaxed);
        for &slot in slots {
            // SAFETY:
            // - there is room for all of them
            unsafe {
                (*top).write(self.slots.start + slot as usize * self.slot_size, slot);
                top = top.add(1);
            }
        }
        self.top.store(top, Relaxed);
    }

    /// Removes the slots that were put first, as many as `out` has room for; it holds that many.
    pub(in crate::thread_cache) fn remove_first(&self, out: &mut [u32]) {
        let len = self.len();
        debug_assert!(out.len() <= len);
        for (index, slot) in out.iter_mut().enumerate() {
            *slot = self.place(index).slot.load(Relaxed);
        }
        let left = len - out.len();
        // One by one: statistics may still read a place that was a claim's.
        for index in 0..left {
            let place = self.place(index + out.len());
            self.place(index).write(place.address.load(Relaxed), place.slot.load(Relaxed));
        }
        // SAFETY:
        // - stays between `first` and `top`
        self.top.store(unsafe { self.first.add(left) }, Relaxed);
    }

    fn place(&self, index: usize) -> &Place {
        debug_assert!(index < self.room());
        // SAFETY:
        // - there is memory for as many places as there is room
        unsafe { &*self.first.add(index) }
    }
}
