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
//! wait for the getters settles them all, and they go to the shelf.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
#[cfg(feature = "capi")]
use std::ffi::c_void;
use std::ptr::{self, NonNull};

use crate::class::Class;
use crate::ledger::{self, Holder, Mark, NOBODY};
use crate::shared::{self, Buffer};
use crate::size_class::{Reciprocal, UNIT};

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
    const fn none() -> Self {
        Self { address: AtomicUsize::new(0), slot: AtomicU32::new(0), claim: AtomicU32::new(0) }
    }

    #[inline(always)]
    fn write(&self, address: usize, slot: u32) {
        self.address.store(address, Relaxed);
        self.slot.store(slot, Relaxed);
    }
}

/// One cache line, and a second one of which the fast path only reads the first word. What statistics read meanwhile is
/// atomic.
#[repr(C, align(64))]
pub(crate) struct Bin {
    top: AtomicPtr<Place>,
    /// `first` until the bin is made, and for ever if the class is not cached.
    end: AtomicPtr<Place>,
    slots: Slots,
    pub(super) buffer_size: usize,
    pub(super) puts: AtomicU64,

    /// Of the thread's getter while the class leans, else of none.
    raw_base: AtomicU64,
    first: *mut Place,
    limit: AtomicPtr<Place>,
    slot_size: usize,
    /// The most slots a thread keeps.
    most: u32,
    /// The line this thread takes fresh slots from.
    pub(super) fresh_line: AtomicU32,
    /// The line this thread put to the shelf or took from it last.
    pub(super) shelf_line: AtomicU32,
    pub(super) class: u8,
}

const _: () = assert!(std::mem::offset_of!(Bin, raw_base) == 64);

/// Where a class's slots and their ledger entries are.
#[derive(Clone, Copy)]
#[repr(C)]
struct Slots {
    ledger: *const AtomicU64,
    /// The address of slot 0.
    start: usize,
    /// The length of all slots together, in units.
    units: usize,
    reciprocal: Reciprocal,
}

impl Slots {
    /// The slot that starts at an address.
    #[inline(always)]
    fn at(&self, address: usize) -> Option<usize> {
        // Rotated, so that what lies inside a unit is past the end too.
        let unit = address.wrapping_sub(self.start).rotate_right(UNIT.trailing_zeros());
        if unit >= self.units {
            return None;
        }
        self.reciprocal.slot_starting_at(unit as u64).map(|slot| slot as usize)
    }

    /// The ledger entry of a slot that came from [`at`](Self::at) or from the shelf.
    #[inline(always)]
    fn entry(&self, slot: usize) -> &AtomicU64 {
        // SAFETY:
        // - the ledger lives as long as the pool, and `slot` is below the class's capacity (caller)
        unsafe { &*self.ledger.add(slot) }
    }
}

/// The fast path.
impl Bin {
    /// The slot of this class that starts at an address.
    #[inline(always)]
    pub(super) fn slot_at(&self, address: usize) -> Option<usize> {
        self.slots.at(address)
    }

    #[inline(always)]
    pub(super) fn entry(&self, slot: usize) -> &AtomicU64 {
        debug_assert!(slot * self.slot_size < self.slots.units * UNIT);
        self.slots.entry(slot)
    }

    /// The slot put last, marked in the ledger.
    #[inline(always)]
    pub(super) fn take(&self, holder: Holder) -> Option<Buffer> {
        // SAFETY:
        // - `top` is above `first`, or at it: then the place below is there, too, and says none
        let last = unsafe { &*self.top().sub(1) };
        let address = last.address.load(Relaxed);
        let data = NonNull::new(ptr::with_exposed_provenance_mut(address))?;
        let slot = last.slot.load(Relaxed);
        self.entry(slot as usize).store(holder.mark(self.raw_base()), Relaxed);
        self.top.store(ptr::from_ref(last).cast_mut(), Relaxed);
        let place = shared::Place::Slot { class: self.class, slot };
        Some(Buffer { data, capacity: self.buffer_size, place })
    }

    /// Takes a slot, if there is room, that its caller alone has; or that this thread got, as its entry said
    /// since the block is [`FAST`](super::block::FAST).
    #[inline(always)]
    pub(super) fn put(&self, address: usize, slot: usize) -> bool {
        let top = self.top();
        let has_room = top != self.end();
        if has_room {
            // Relaxed: at most over a claim, whose claimant looks again; see the ledger.
            self.entry(slot).store(NOBODY, Relaxed);
            // SAFETY:
            // - there is room
            unsafe { self.lay_at(top, address, slot) };
        }
        has_room
    }

    /// Puts a slot, if there is room, that whoever exchanges its entry may put. `false`: nothing was done, as also for a
    /// slot that another thread got, and once in a batch, so that it is looked whether the class is to lean.
    #[inline(always)]
    pub(super) fn put_not_own(&self, address: usize, slot: usize) -> bool {
        let found = self.entry(slot).load(Relaxed);
        let is_anybodys = ledger::has_no_getter(found) && found != NOBODY;
        is_anybodys && self.has_room() && !self.is_last_of_batch() && self.exchange(address, slot, found)
    }

    /// Whether the next put is the last of a batch.
    #[inline(always)]
    fn is_last_of_batch(&self) -> bool {
        (self.puts.load(Relaxed) + 1).is_multiple_of(MAX_BATCH as u64)
    }

    /// Puts a slot, there is room, if its entry is what was found.
    #[inline(always)]
    pub(super) fn exchange(&self, address: usize, slot: usize, found: Mark) -> bool {
        let top = self.top();
        // Relaxed: see the ledger.
        let taken = self.entry(slot).compare_exchange(found, NOBODY, Relaxed, Relaxed).is_ok();
        if taken {
            // SAFETY:
            // - there is room (caller)
            unsafe { self.lay_at(top, address, slot) };
        }
        taken
    }

    /// Read plainly, as compilers keep atomic loads apart from the instruction that uses them.
    #[inline(always)]
    fn top(&self) -> *mut Place {
        // SAFETY:
        // - only the calling thread changes it
        unsafe { *self.top.as_ptr() }
    }

    /// As [`top`](Self::top).
    #[inline(always)]
    fn end(&self) -> *mut Place {
        // SAFETY: as in `top`
        unsafe { *self.end.as_ptr() }
    }

    /// As [`top`](Self::top).
    #[inline(always)]
    fn raw_base(&self) -> Mark {
        // SAFETY: as in `top`
        unsafe { *self.raw_base.as_ptr() }
    }

    #[inline(always)]
    pub(super) fn has_room(&self) -> bool {
        self.top() != self.end()
    }

    /// Adds a slot at the top, and counts the put.
    ///
    /// # Safety
    /// - `top` is the top, and there is room
    #[inline(always)]
    unsafe fn lay_at(&self, top: *mut Place, address: usize, slot: usize) {
        debug_assert!(top == self.top() && self.has_room());
        // SAFETY:
        // - there is room (caller): below `end`
        unsafe {
            (*top).write(address, slot as u32);
            self.top.store(top.add(1), Relaxed);
        }
        self.puts.store(self.puts.load(Relaxed) + 1, Relaxed);
    }
}

/// Many at once.
#[cfg(feature = "capi")]
impl Bin {
    /// As [`take`](Self::take), as many as there are and `out` has room for; how many.
    pub(super) fn take_many(&self, holder: Holder, out: &mut [*mut c_void]) -> usize {
        let mark = holder.mark(self.raw_base());
        let count = out.len().min(self.len());
        let slots = self.slots; // in registers: the stores below could change it, for all a compiler knows
        let mut top = self.top();
        for data in &mut out[..count] {
            // SAFETY:
            // - at least `count` slots lie below `top`
            let idle = unsafe {
                top = top.sub(1);
                &*top
            };
            *data = ptr::with_exposed_provenance_mut(idle.address.load(Relaxed));
            slots.entry(idle.slot.load(Relaxed) as usize).store(mark, Relaxed);
        }
        self.top.store(top, Relaxed);
        count
    }

    /// Puts slots that this thread got, while there is room, up to the first address that is not such a one's;
    /// how many. The block is [`FAST`](super::block::FAST).
    pub(super) fn put_many(&self, data: &[*mut c_void], getter: Mark) -> usize {
        let top = self.top();
        let count = data.len().min(self.free_room());
        let slots = self.slots; // as in `take_many`
        let mut put = 0;
        for data in &data[..count] {
            let address = data.addr();
            let Some(slot) = slots.at(address) else { break };
            let found = slots.entry(slot).load(Relaxed);
            if !ledger::is_raw_of(found, getter) {
                break;
            }
            // Relaxed: as in `put`.
            slots.entry(slot).store(NOBODY, Relaxed);
            // SAFETY:
            // - there is room for `count` slots
            unsafe { (*top.add(put)).write(address, slot as u32) };
            put += 1;
        }
        // SAFETY: as above
        self.top.store(unsafe { top.add(put) }, Relaxed);
        self.puts.store(self.puts.load(Relaxed) + put as u64, Relaxed);
        put
    }
}

/// The most slots that move between a bin and the shelf at a time.
pub(super) const MAX_BATCH: usize = 64;

/// A thread keeps at most this many slots of a class, and at most this many bytes.
const MAX_BIN_SLOTS: usize = 128;
const MAX_BIN_BYTES: usize = 2 << 20;
/// Slots larger than this, in bytes, are *large*: a thread keeps two of them, and none strands there, as whoever misses
/// one looks into all caches.
pub(crate) const LARGE: usize = 128 << 10;
/// Slots larger than this are not cached, in bytes.
const MAX_CACHED_SIZE: usize = 16 << 20;
/// A bin has room for at least this many slots, or none.
const MIN_SHARE: u32 = 2;
/// The room that a bin starts with, in slots.
const FIRST_ROOM: u32 = 4;

/// How many slots of a class a thread keeps at most.
fn most_slots(slot_size: usize) -> u32 {
    if slot_size > MAX_CACHED_SIZE {
        0
    } else if slot_size > LARGE {
        MIN_SHARE
    } else {
        (MAX_BIN_BYTES / slot_size).min(MAX_BIN_SLOTS) as u32
    }
}

/// Under the first slot of [`Bin::none`] lies one that is none, too.
static NO_PLACES: [Place; 2] = [const { Place::none() }; 2];

/// The slow half: making, filling and emptying.
impl Bin {
    /// How many [`Place`]s a bin of this class needs memory for.
    pub(super) fn needed(class: &Class) -> usize {
        1 + most_slots(class.slot_size()) as usize
    }

    /// A bin without anything, for ever.
    pub(super) const fn none() -> Self {
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
    pub(super) unsafe fn new(class: &Class, number: u8, region_base: usize, memory: *mut Place) -> Self {
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
    pub(super) fn lean(&self, getter: Mark) {
        self.raw_base.store(ledger::raw_base(getter), Relaxed);
    }

    /// Whether the class is cached at all: huge ones are not.
    pub(super) fn may_cache(&self) -> bool {
        self.most >= MIN_SHARE
    }

    /// How many idle slots it holds.
    pub(super) fn len(&self) -> usize {
        (self.top.load(Relaxed).addr() - self.first.addr()) / size_of::<Place>()
    }

    /// How many slots it has room for, claims included.
    pub(super) fn room(&self) -> usize {
        (self.limit.load(Relaxed).addr() - self.first.addr()) / size_of::<Place>()
    }

    /// Gives a bin without claims its first room, or twice what it has, as far as a thread and the class may:
    /// so a thread that needs little leaves room to others. The memory is there already: nothing is allocated
    /// while a block is active, as the allocator may be one that uses a pool.
    pub(super) fn grow(&self, class: &Class) {
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
                (*top).write(self.slots.start + slot as usize * self.slot_size, slot);
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
            self.set_end(ptr::from_ref(end).cast_mut());
        }
        claimed
    }

    fn set_end(&self, end: *mut Place) {
        // Release: partner in `claims`.
        self.end.store(end, Release);
    }

    fn claims(&self) -> &[Place] {
        // Acquire pairs with the Release in `set_end`: statistics find no limit below this end, as after `grow`.
        let end = self.end.load(Acquire);
        let limit = self.limit.load(Relaxed);
        // SAFETY:
        // - the places between `end` and `limit` are there as long as the bin
        unsafe { std::slice::from_raw_parts(end, (limit.addr() - end.addr()) / size_of::<Place>()) }
    }

    /// Takes the slots whose claims stand, and gives them to `put` in batches; how many do not. The caller
    /// waited for the getters since the last claim.
    pub(super) fn settle(&self, getter: Mark, mut put: impl FnMut(&[u32])) -> usize {
        let claims = self.claims();
        let mut taken = 0;
        for claims in claims.chunks(MAX_BATCH) {
            let mut batch = [0; MAX_BATCH];
            let mut len = 0;
            for place in claims.iter().filter(|place| self.stands(place, getter)) {
                batch[len] = place.slot.load(Relaxed);
                self.entry(batch[len] as usize).store(NOBODY, Relaxed);
                len += 1;
            }
            put(&batch[..len]);
            taken += len;
        }
        self.set_end(self.limit.load(Relaxed));
        self.puts.store(self.puts.load(Relaxed) + taken as u64, Relaxed);
        claims.len() - taken
    }

    fn stands(&self, place: &Place, getter: Mark) -> bool {
        let claim = ledger::claim(getter, place.claim.load(Relaxed));
        self.entry(place.slot.load(Relaxed) as usize).load(Relaxed) == claim
    }

    /// How many claims stand as it looks now, and how many do not. Any thread, at a quiet moment.
    pub(super) fn count_claims(&self, getter: Mark) -> (u32, u32) {
        let claims = self.claims();
        let standing = claims.iter().filter(|place| self.stands(place, getter)).count();
        (standing as u32, (claims.len() - standing) as u32)
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

    /// Room for one bin, up to `wanted` slots: at most half of what is left, so that others get some, unless `last` may
    /// be taken, too. 0 or at least 2.
    fn take(&self, wanted: u32, last: bool) -> u32 {
        let most = |left: u32| if last { left } else { left.div_ceil(2) };
        let share = |left: u32| Some(wanted.min(most(left))).filter(|&share| share >= MIN_SHARE);
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
            let bins: Vec<u32> = (0..100).map(|_| room.take(MAX_BIN_SLOTS as u32, false)).collect();
            assert!(bins.iter().sum::<u32>() <= capacity / 2, "{bins:?}");
            assert!(bins.iter().all(|&slots| slots != 1 && slots <= MAX_BIN_SLOTS as u32));
            bins.iter().for_each(|&slots| room.give(slots as usize));
            assert_eq!(room.left.load(Relaxed), capacity / 2);
        }
    }

    #[test]
    fn huge_slots_are_not_cached() {
        assert_eq!([17 << 20, 16 << 20, 129 << 10, 128 << 10, 16 << 10].map(most_slots), [0, 2, 2, 16, 128]);
        assert_eq!(CachingRoom::new(1000).take(1, false), 0);
        assert_eq!(CachingRoom::new(1000).take(2, false), 2);
        assert_eq!([4, 3].map(|capacity| CachingRoom::new(capacity).take(2, false)), [0, 0]);
        assert_eq!([4, 3].map(|capacity| CachingRoom::new(capacity).take(2, true)), [2, 0]);
    }
}
