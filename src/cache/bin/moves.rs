//! Making a bin, and what moves between it and the shelf: not on the fast path.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};
use std::ptr::{self, NonNull};

use super::{Bin, CachedSlot, MAX_BATCH};
use crate::class::Class;
use crate::class::ledger::{self, Holder, Mark};
use crate::class::location::{Buffer, Location};
use crate::class::quota::{FIRST_QUOTA, LARGE, MIN_SHARE, most_slots};
use crate::class::shelf::NO_GROUP;
use crate::class::slots::Slots;

/// The slots of [`Bin::none`]: the first one, and the one without an address under it.
static NO_SLOTS: [CachedSlot; 2] = [const { CachedSlot::none() }; 2];

impl Bin {
    /// How many [`CachedSlot`]s a bin of this class needs memory for.
    pub(in crate::cache) fn needed(class: &Class) -> usize {
        1 + most_slots(class.slot_size()) as usize
    }

    /// A bin that holds and takes nothing, for sizes that no class fits.
    pub(in crate::cache) const fn none() -> Self {
        // SAFETY:
        // - stays inside
        let first = unsafe { (&raw const NO_SLOTS).cast::<CachedSlot>().add(1).cast_mut() };
        Self {
            top: AtomicPtr::new(first),
            end: AtomicPtr::new(first),
            slots: Slots::none(),
            buffer_size: usize::MAX,
            puts: AtomicU64::new(0),
            raw_base: AtomicU64::new(0),
            first,
            slot_size: 0,
            most: 0,
            fresh_group: AtomicU32::new(NO_GROUP),
            shelf_group: AtomicU32::new(NO_GROUP),
            next_look: AtomicU64::new(MAX_BATCH as u64 - 1),
            cooldowns_over: AtomicU32::new(0),
            mixed_puts_left: AtomicU32::new(0),
            first_location: Location::SYSTEM,
        }
    }

    /// A bin without room.
    ///
    /// # Safety
    /// - `memory` has [`needed`](Self::needed) zeroed elements, good as long as the bin is used
    pub(in crate::cache) unsafe fn new(class: &Class, memory: *mut CachedSlot) -> Self {
        // SAFETY:
        // - there is one element at least
        let first = unsafe { memory.add(1) };
        Self {
            top: AtomicPtr::new(first),
            end: AtomicPtr::new(first),
            slots: class.slots(),
            buffer_size: class.buffer_size(),
            puts: AtomicU64::new(0),
            raw_base: AtomicU64::new(ledger::raw_base(0)),
            first,
            slot_size: class.slot_size(),
            most: most_slots(class.slot_size()),
            fresh_group: AtomicU32::new(NO_GROUP),
            shelf_group: AtomicU32::new(NO_GROUP),
            next_look: AtomicU64::new(MAX_BATCH as u64 - 1),
            cooldowns_over: AtomicU32::new(class.bias.cooldowns_over()),
            mixed_puts_left: AtomicU32::new(0),
            first_location: Location::first_of(class.number()),
        }
    }

    /// Marks what is got from now on without a bias: the class cools down.
    pub(in crate::cache) fn cool_down(&self) {
        self.raw_base.store(ledger::raw_base(0), Relaxed);
        self.mixed_puts_left.store(0, Relaxed);
        self.look_later();
    }

    /// Marks what is got from now on with this bias.
    pub(in crate::cache) fn warm_up(&self, bias: Mark) {
        self.raw_base.store(ledger::raw_base(bias), Relaxed);
        self.look_later();
    }

    /// Notes how many cooldowns of the class are over. Returns whether one ended since it was noted last. Then slots
    /// that are put without a bias are [mixed](Self::is_mixed), as many as the thread may keep.
    pub(in crate::cache) fn note_cooldowns(&self, over: u32) -> bool {
        let cooled = self.cooldowns_over.load(Relaxed) != over;
        if cooled {
            self.cooldowns_over.store(over, Relaxed);
            self.mixed_puts_left.store(self.most, Relaxed);
            self.look_later();
        }
        cooled
    }

    /// The slow half looks at the next put without a bias while slots are mixed, else once in a batch.
    fn look_later(&self) {
        let is_sorting = self.mixed_puts_left.load(Relaxed) > 0;
        let next = if is_sorting { 0 } else { self.puts.load(Relaxed) + MAX_BATCH as u64 - 1 };
        self.next_look.store(next, Relaxed);
    }

    /// Whether a slot that is out with this mark may have been got while the class cooled down.
    pub(in crate::cache) fn is_mixed(&self, found: Mark) -> bool {
        self.mixed_puts_left.load(Relaxed) > 0 && ledger::is_unbiased(found)
    }

    /// Takes a [mixed](Self::is_mixed) slot that was out, for the shelf. `false`: the mark is another by now.
    pub(in crate::cache) fn take_mixed(&self, slot: usize, found: Mark) -> bool {
        let taken = self.clear(slot, found);
        if taken {
            self.count_put();
            self.mixed_puts_left.store(self.mixed_puts_left.load(Relaxed) - 1, Relaxed);
            self.look_later();
        }
        taken
    }

    /// Whether the class is cached at all: huge ones are not.
    pub(in crate::cache) fn may_cache(&self) -> bool {
        self.most >= MIN_SHARE
    }

    /// How many idle slots it holds.
    pub(in crate::cache) fn len(&self) -> usize {
        (self.top.load(Relaxed).addr() - self.first.addr()) / size_of::<CachedSlot>()
    }

    /// How many slots it may hold: its share of the class's quota.
    pub(in crate::cache) fn quota(&self) -> usize {
        (self.end.load(Relaxed).addr() - self.first.addr()) / size_of::<CachedSlot>()
    }

    /// Gives a bin its first quota, or doubles it, as far as the thread and the class may. So a thread that needs
    /// little leaves some to others. The memory is there already: the allocator may use a pool itself, so nothing is
    /// allocated while a thread's state is active.
    pub(in crate::cache) fn grow(&self, class: &Class) {
        let (quota, most) = (self.quota() as u32, self.most);
        if quota == most {
            return;
        }
        let wanted = if quota == 0 { FIRST_QUOTA } else { quota }.min(most - quota);
        let quota = (quota + class.quota.take(wanted, self.slot_size > LARGE)) as usize;
        // SAFETY:
        // - there is memory for the most slots
        let end = unsafe { self.first.add(quota) };
        self.end.store(end, Relaxed);
    }

    /// How many slots move between this bin and the shelf at a time.
    pub(in crate::cache) fn batch(&self) -> usize {
        self.quota().div_ceil(2).min(MAX_BATCH)
    }

    /// How many slots may be added.
    pub(in crate::cache) fn free_room(&self) -> usize {
        (self.end.load(Relaxed).addr() - self.top.load(Relaxed).addr()) / size_of::<CachedSlot>()
    }

    /// Adds slots that this thread took from the shelf. Gets take the first of them first: a program that gets many
    /// buffers, and writes to them in turn, goes up in memory. The caller saw that there is room.
    pub(in crate::cache) fn push(&self, slots: &[u32]) {
        debug_assert!(slots.len() <= self.free_room());
        let mut top = self.top.load(Relaxed);
        for &slot in slots.iter().rev() {
            // SAFETY:
            // - there is room for all of them
            unsafe {
                (*top).write(self.slots.start() + slot as usize * self.slot_size, slot);
                top = top.add(1);
            }
        }
        self.top.store(top, Relaxed);
    }

    /// Marks a slot that this thread took from the shelf, and returns it as a buffer.
    pub(in crate::cache) fn hand_out(&self, slot: u32, holder: Holder) -> Buffer {
        let address = self.slots.start() + slot as usize * self.slot_size;
        let data =
            NonNull::new(ptr::with_exposed_provenance_mut(address)).expect("a slot is not at address zero");
        self.mark(slot as usize).store(holder.mark(self.raw_base()), Relaxed);
        Buffer { data, capacity: self.buffer_size, location: self.location_of(slot) }
    }

    /// Moves the slots that were put first into `out`, which is no longer than the bin.
    pub(in crate::cache) fn remove_first(&self, out: &mut [u32]) {
        let len = self.len();
        debug_assert!(out.len() <= len);
        for (index, slot) in out.iter_mut().enumerate() {
            *slot = self.cached(index).slot.load(Relaxed);
        }
        let left = len - out.len();
        for index in 0..left {
            let moved = self.cached(index + out.len());
            self.cached(index).write(moved.address.load(Relaxed), moved.slot.load(Relaxed));
        }
        // SAFETY:
        // - stays between `first` and `top`
        self.top.store(unsafe { self.first.add(left) }, Relaxed);
    }

    fn cached(&self, index: usize) -> &CachedSlot {
        debug_assert!(index < self.quota());
        // SAFETY:
        // - there is memory for the whole quota
        unsafe { &*self.first.add(index) }
    }
}
