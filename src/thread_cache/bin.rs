//! A bin: the idle slots of one class that one thread keeps, and what the fast path needs to know of the
//! class.
//!
//! ```text
//! [ NO_SLOT | idle | idle | idle |      |      | claim | claim ]
//!             ^ first            ^ top         ^ end            ^ limit
//! ```
//!
//! A stack of addresses with their slot numbers. The address is kept, though the number would do: so a get
//! that follows a put waits for neither of the two multiplications between them. Under the first slot lies
//! one that is none, which an empty bin's get runs into.
//!
//! From the other end grow the claims: slots put by this thread that another one got (see the ledger). One
//! wait for the getters settles them all.

use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

use crate::class::Class;
use crate::ledger::{self, Mark, NOBODY};
use crate::shared::{self, Buffer};
use crate::size_class::{GRANULE, Reciprocal};

/// A slot in a bin. Only the owner changes it; statistics read it meanwhile.
#[repr(C)]
pub(super) struct Place {
    /// 0 for none.
    address: AtomicUsize,
    slot: AtomicU32,
    /// The number of the claim.
    claim: AtomicU32,
}

impl Place {
    #[inline(always)]
    fn write(&self, address: usize, slot: u32) {
        self.address.store(address, Relaxed);
        self.slot.store(slot, Relaxed);
    }
}

/// One cache line, and a second one that the fast path does not read. What statistics read meanwhile is
/// atomic.
#[repr(C, align(64))]
pub(super) struct Bin {
    top: AtomicPtr<Place>,
    /// `first` until the bin is made, and for ever if the class is not cached.
    end: AtomicPtr<Place>,
    /// The class's ledger.
    ledger: *const AtomicU64,
    /// The address of slot 0.
    start: usize,
    /// The length of all slots together, in granules.
    granules: usize,
    reciprocal: Reciprocal,
    pub(super) buffer_size: usize,
    pub(super) puts: AtomicU64,

    first: *mut Place,
    limit: AtomicPtr<Place>,
    slot_size: usize,
    /// The line this thread takes fresh slots from.
    pub(super) fresh_line: AtomicU32,
    pub(super) class: u8,
}

const _: () = assert!(std::mem::offset_of!(Bin, first) == 64);

/// The fast path.
impl Bin {
    /// The slot of this class that starts at an address.
    #[inline(always)]
    pub(super) fn slot_at(&self, address: usize) -> Option<usize> {
        // Rotated, so that what lies inside a granule is past the end too.
        let granule = address.wrapping_sub(self.start).rotate_right(GRANULE.trailing_zeros());
        if granule >= self.granules {
            return None;
        }
        self.reciprocal.slot_starting_at(granule as u64).map(|slot| slot as usize)
    }

    #[inline(always)]
    pub(super) fn entry(&self, slot: usize) -> &AtomicU64 {
        debug_assert!(slot * self.slot_size < self.granules * GRANULE);
        // SAFETY:
        // - the ledger lives as long as the pool, and `slot` is below the class's capacity: it came from
        //   `slot_at` or from the shelf
        unsafe { &*self.ledger.add(slot) }
    }

    /// The slot put last, marked in the ledger.
    #[inline(always)]
    pub(super) fn take(&self, mark: Mark) -> Option<Buffer> {
        // SAFETY:
        // - `top` is above `first`, or at it: then the place below is there, too, and says none
        let last = unsafe { &*self.top.load(Relaxed).sub(1) };
        let address = last.address.load(Relaxed);
        let data = NonNull::new(ptr::with_exposed_provenance_mut(address))?;
        let slot = last.slot.load(Relaxed);
        self.entry(slot as usize).store(mark, Relaxed);
        self.top.store(ptr::from_ref(last).cast_mut(), Relaxed);
        let place = shared::Place::Slot { class: self.class, slot };
        Some(Buffer { data, capacity: self.buffer_size, place })
    }

    /// Takes a slot, if there is room, that its caller alone has; or that this thread got, as its entry said
    /// since the block is [`FAST`](super::block::FAST).
    #[inline(always)]
    pub(super) fn put(&self, address: usize, slot: usize) -> bool {
        let has_room = self.has_room();
        if has_room {
            // Relaxed: at most over a claim, whose claimant looks again; see the ledger.
            self.entry(slot).store(NOBODY, Relaxed);
            // SAFETY:
            // - there is room
            unsafe { self.lay_in_room(address, slot) };
        }
        has_room
    }

    #[inline(always)]
    pub(super) fn has_room(&self) -> bool {
        // SAFETY:
        // - only the calling thread changes them
        unsafe { *self.top.as_ptr() != *self.end.as_ptr() }
    }

    /// Adds a slot at the top, and counts the put.
    ///
    /// # Safety
    /// - there is room
    #[inline(always)]
    unsafe fn lay_in_room(&self, address: usize, slot: usize) {
        debug_assert!(self.has_room());
        let top = self.top.load(Relaxed);
        // SAFETY:
        // - there is room (caller): below `end`
        unsafe {
            (*top).write(address, slot as u32);
            self.top.store(top.add(1), Relaxed);
        }
        self.puts.store(self.puts.load(Relaxed) + 1, Relaxed);
    }

    /// Adds a slot at the top, where there is room, and counts the put.
    pub(super) fn lay(&self, address: usize, slot: usize) {
        assert!(self.has_room());
        // SAFETY:
        // - there is room
        unsafe { self.lay_in_room(address, slot) };
    }
}

/// The most slots that move between a bin and the shelf at a time.
pub(super) const MAX_BATCH: usize = 32;

/// A thread keeps at most this many slots of a class, and at most this many bytes.
const MAX_BIN_SLOTS: usize = 128;
const MAX_BIN_BYTES: usize = 256 << 10;

/// How many slots of a class a thread keeps at most.
fn most_slots(slot_size: usize) -> u32 {
    (MAX_BIN_BYTES / slot_size).min(MAX_BIN_SLOTS) as u32
}

/// The slow half: making, filling and emptying.
impl Bin {
    /// How many [`Place`]s a bin of this class needs memory for.
    pub(super) fn needed(class: &Class) -> usize {
        1 + most_slots(class.slot_size()) as usize
    }

    /// A bin without room.
    ///
    /// # Safety
    /// - `memory` has [`needed`](Self::needed) zeroed elements, good as long as the bin is used
    pub(super) unsafe fn new(class: &Class, number: u8, region_base: usize, memory: *mut Place) -> Self {
        // SAFETY:
        // - there is one element at least
        let first = unsafe { memory.add(1) };
        Self {
            top: AtomicPtr::new(first),
            end: AtomicPtr::new(first),
            ledger: class.ledger.first_entry(),
            start: region_base + class.offset_of(0),
            granules: class.capacity() as usize * (class.slot_size() / GRANULE),
            reciprocal: class.reciprocal(),
            buffer_size: class.buffer_size(),
            puts: AtomicU64::new(0),
            first,
            limit: AtomicPtr::new(first),
            slot_size: class.slot_size(),
            fresh_line: AtomicU32::new(u32::MAX),
            class: number,
        }
    }

    /// How many idle slots it holds.
    pub(super) fn len(&self) -> usize {
        (self.top.load(Relaxed).addr() - self.first.addr()) / size_of::<Place>()
    }

    /// How many slots it has room for, claims included.
    pub(super) fn room(&self) -> usize {
        (self.limit.load(Relaxed).addr() - self.first.addr()) / size_of::<Place>()
    }

    /// Sets the room of an empty bin, at most as many slots as a thread may keep.
    pub(super) fn set_room(&self, slots: u32) {
        debug_assert!(slots <= most_slots(self.slot_size) && self.len() == 0 && !self.has_claims());
        // SAFETY:
        // - there is memory for as many
        let limit = unsafe { self.first.add(slots as usize) };
        self.limit.store(limit, Relaxed);
        self.end.store(limit, Relaxed);
    }

    /// How many slots move between this bin and the shelf at a time.
    pub(super) fn batch(&self) -> usize {
        self.room().div_ceil(2).min(MAX_BATCH)
    }

    /// How many slots may be added.
    pub(super) fn free_room(&self) -> usize {
        (self.end.load(Relaxed).addr() - self.top.load(Relaxed).addr()) / size_of::<Place>()
    }

    /// Adds slots that this thread took from the shelf; there is room for them.
    pub(super) fn push(&self, slots: &[u32]) {
        debug_assert!(slots.len() <= self.free_room());
        let mut top = self.top.load(Relaxed);
        for &slot in slots {
            // SAFETY:
            // - there is room for all of them
            unsafe {
                (*top).write(self.start + slot as usize * self.slot_size, slot);
                top = top.add(1);
            }
        }
        self.top.store(top, Relaxed);
    }

    /// Removes the slots that were put first, as many as `out` has room for; it holds that many.
    pub(super) fn remove_first(&self, out: &mut [u32]) {
        let len = self.len();
        debug_assert!(out.len() <= len);
        for (index, slot) in out.iter_mut().enumerate() {
            *slot = self.place(index).slot.load(Relaxed);
        }
        for index in out.len()..len {
            let place = self.place(index);
            let to = self.place(index - out.len());
            to.write(place.address.load(Relaxed), place.slot.load(Relaxed));
        }
        // SAFETY:
        // - stays between `first` and `top`
        self.top.store(unsafe { self.first.add(len - out.len()) }, Relaxed);
    }

    fn place(&self, index: usize) -> &Place {
        debug_assert!(index < self.room());
        // SAFETY:
        // - there is memory for as many places as there is room
        unsafe { &*self.first.add(index) }
    }
}

/// Claims.
impl Bin {
    pub(super) fn has_claims(&self) -> bool {
        self.end.load(Relaxed) != self.limit.load(Relaxed)
    }

    /// Claims a slot, which another thread got, from the holder that was found, if it is still that one.
    /// There is room. `getter` is this thread's.
    pub(super) fn claim(&self, address: usize, slot: usize, found: Mark, getter: Mark, number: u32) -> bool {
        debug_assert!(self.has_room());
        // Relaxed: see the ledger.
        let claim = ledger::claim(getter, number);
        let claimed = self.entry(slot).compare_exchange(found, claim, Relaxed, Relaxed).is_ok();
        if claimed {
            // SAFETY:
            // - `end` is above `top`
            let end = unsafe { &*self.end.load(Relaxed).sub(1) };
            end.write(address, slot as u32);
            end.claim.store(number, Relaxed);
            self.end.store(ptr::from_ref(end).cast_mut(), Relaxed);
        }
        claimed
    }

    /// Makes the claims that stand idle slots; how many do not. The caller waited for the getters since the
    /// last one.
    pub(super) fn settle(&self, getter: Mark) -> usize {
        let (free, claims) = (self.free_room(), self.room() - self.len() - self.free_room());
        self.end.store(self.limit.load(Relaxed), Relaxed);
        let first_claim = self.len() + free;
        let mut standing = 0;
        for index in first_claim..first_claim + claims {
            let place = self.place(index);
            let (address, slot) = (place.address.load(Relaxed), place.slot.load(Relaxed) as usize);
            if self.stands(place, getter) {
                // Below what was looked at, or where it is.
                self.entry(slot).store(NOBODY, Relaxed);
                self.lay(address, slot);
                standing += 1;
            }
        }
        claims - standing
    }

    fn stands(&self, place: &Place, getter: Mark) -> bool {
        let claim = ledger::claim(getter, place.claim.load(Relaxed));
        self.entry(place.slot.load(Relaxed) as usize).load(Relaxed) == claim
    }

    /// How many claims stand as it looks now, and how many do not. Any thread, at a quiet moment.
    pub(super) fn count_claims(&self, getter: Mark) -> (u32, u32) {
        let (end, limit) = (self.end.load(Relaxed), self.limit.load(Relaxed));
        let claims = (limit.addr() - end.addr()) / size_of::<Place>();
        // SAFETY:
        // - the places between `end` and `limit` are there as long as the bin
        let places = unsafe { std::slice::from_raw_parts(end, claims) };
        let standing = places.iter().filter(|place| self.stands(place, getter)).count();
        (standing as u32, (claims - standing) as u32)
    }
}

/// How much of a class may be in thread caches: at most half of it, whatever the number of threads.
pub(crate) struct CachingRoom {
    left: AtomicU32,
}

impl CachingRoom {
    pub(crate) fn new(capacity: u32) -> Self {
        Self { left: AtomicU32::new(capacity / 2) }
    }

    /// Room for one bin, in slots: at most half of what is left, so that later threads get some. 0 or at
    /// least 2.
    pub(super) fn take(&self, slot_size: usize) -> u32 {
        let most = most_slots(slot_size);
        let share = |left: u32| Some(most.min(left.div_ceil(2))).filter(|&share| share >= 2);
        // Relaxed: only the number itself decides.
        let before = self.left.fetch_update(Relaxed, Relaxed, |left| share(left).map(|share| left - share));
        before.ok().and_then(share).unwrap_or(0)
    }

    pub(super) fn give(&self, slots: usize) {
        self.left.fetch_add(slots as u32, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bins_together_have_at_most_half_of_a_class() {
        for capacity in [1, 3, 4, 10, 1000] {
            let room = CachingRoom::new(capacity);
            let bins: Vec<u32> = (0..100).map(|_| room.take(64)).collect();
            assert!(bins.iter().sum::<u32>() <= capacity / 2, "{bins:?}");
            assert!(bins.iter().all(|&slots| slots != 1 && slots <= MAX_BIN_SLOTS as u32));
            bins.iter().for_each(|&slots| room.give(slots as usize));
            assert_eq!(room.left.load(Relaxed), capacity / 2);
        }
    }

    #[test]
    fn huge_slots_are_not_cached() {
        assert_eq!(CachingRoom::new(1000).take(256 << 10), 0);
        assert_eq!(CachingRoom::new(1000).take(128 << 10), 2);
        assert_eq!(CachingRoom::new(1000).take(4 << 10), 64);
    }
}
