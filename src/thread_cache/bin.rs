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
//! From the other end grow the [`claims`]: slots put by this thread that another one got (see the ledger). One
//! wait for the getters settles them all, and they go to the shelf.

mod claims;
mod moves;

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
#[cfg(feature = "capi")]
use std::ffi::c_void;
use std::ptr::{self, NonNull};

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

/// The most slots that move between a bin and the shelf at a time.
pub(super) const MAX_BATCH: usize = 64;

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
