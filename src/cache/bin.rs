//! A bin: the idle slots of one class that one thread keeps, and what the fast path needs to know of the
//! class.
//!
//! ```text
//! [ none | idle | idle | idle |      |      |      |      ]
//!          ^ first            ^ top                         ^ end
//! ```
//!
//! A stack of addresses with their slot numbers. The number alone would do. The address is kept so that a get that
//! follows a put waits for no multiplication. Under the first slot lies one without an address: a get from an empty bin
//! finds that.

mod moves;

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
use std::ptr::{self, NonNull};

use crate::class::ledger::{self, Holder, Mark, NOBODY};
use crate::class::location::{Buffer, Location};
use crate::class::slots::Slots;

/// A slot in a bin. Only the owner changes it; statistics read it meanwhile.
#[repr(C)]
pub(super) struct CachedSlot {
    /// 0 for none.
    pub(super) address: AtomicUsize,
    pub(super) slot: AtomicU32,
}

impl CachedSlot {
    const fn none() -> Self {
        Self { address: AtomicUsize::new(0), slot: AtomicU32::new(0) }
    }

    #[inline(always)]
    pub(super) fn write(&self, address: usize, slot: u32) {
        self.address.store(address, Relaxed);
        self.slot.store(slot, Relaxed);
    }
}

/// Two cache lines. The fast path writes only the first one. What statistics read meanwhile is atomic.
#[repr(C, align(64))]
pub(super) struct Bin {
    pub(super) top: AtomicPtr<CachedSlot>,
    /// Where the quota ends: `first` until the bin grows, and for ever if the class is not cached.
    end: AtomicPtr<CachedSlot>,
    pub(super) slots: Slots,
    pub(super) buffer_size: usize,
    pub(super) puts: AtomicU64,

    /// What a size is added to for a mark: with the thread's bias while the class is biased, else without.
    raw_base: AtomicU64,
    first: *mut CachedSlot,
    slot_size: usize,
    /// The most slots a thread keeps.
    most: u32,
    /// The slot group this thread takes fresh slots from.
    pub(super) fresh_group: AtomicU32,
    /// The slot group this thread put to the shelf or took from it last.
    pub(super) shelf_group: AtomicU32,
    /// The slow half looks at the first put without a bias after so many puts.
    next_look: AtomicU64,
    /// How many cooldowns of the class were over when this thread last gave its slots to the shelf for that.
    cooldowns_over: AtomicU32,
    /// After a cooldown: so many slots that are put without a bias go to the shelf. Mostly they were got in it.
    mixed_puts_left: AtomicU32,
    /// Of the class's slot 0.
    pub(super) first_location: Location,
}

const _: () = assert!(std::mem::offset_of!(Bin, raw_base) == 64);

/// The most slots that move between a bin and the shelf at a time.
pub(super) const MAX_BATCH: usize = 64;

/// The fast path.
impl Bin {
    /// The slot of this class that starts at an address.
    #[inline(always)]
    pub(super) fn slot_at(&self, address: usize) -> Option<usize> {
        self.slots.at(address)
    }

    #[inline(always)]
    pub(super) fn location_of(&self, slot: u32) -> Location {
        self.first_location.with_slot(slot)
    }

    #[inline(always)]
    pub(super) fn mark(&self, slot: usize) -> &AtomicU64 {
        debug_assert!(self.slots.has(slot, self.slot_size));
        self.slots.mark(slot)
    }

    /// The slot put last, marked in the ledger.
    #[inline(always)]
    pub(super) fn take(&self, holder: Holder) -> Option<Buffer> {
        // SAFETY:
        // - `top` is above `first`, or at it: what lies below is there then, too, and has no address
        let last = unsafe { &*self.top().sub(1) };
        let address = last.address.load(Relaxed);
        let data = NonNull::new(ptr::with_exposed_provenance_mut(address))?;
        let slot = last.slot.load(Relaxed);
        self.mark(slot as usize).store(holder.mark(self.raw_base()), Relaxed);
        self.top.store(ptr::from_ref(last).cast_mut(), Relaxed);
        Some(Buffer { data, capacity: self.buffer_size, location: self.location_of(slot) })
    }

    /// Lays a slot in the bin, if there is room. Returns whether it did. Either the slot is the caller's alone. Or its
    /// mark said that it is biased to this thread, after the state became [`FAST`](crate::os::thread_state::FAST).
    #[inline(always)]
    pub(super) fn put(&self, address: usize, slot: usize) -> bool {
        let top = self.top();
        let has_room = top != self.end();
        if has_room {
            // Relaxed: this may overwrite an end of the bias, whose thread then looks again. See the ledger.
            self.mark(slot).store(NOBODY, Relaxed);
            // SAFETY:
            // - there is room
            unsafe { self.lay_at(top, address, slot) };
        }
        has_room
    }

    /// Puts a slot whose mark has no bias, if there is room. `false`: nothing was done. Once in a batch it does nothing
    /// on purpose: the slow half then looks whether the class is to be biased. For a while after a cooldown the slow
    /// half does all of it.
    #[inline(always)]
    pub(super) fn put_unbiased(&self, address: usize, slot: usize) -> bool {
        let found = self.mark(slot).load(Relaxed);
        let is_anybodys = ledger::is_unbiased(found) && found != NOBODY;
        is_anybodys && self.has_room() && !self.is_look_due() && self.exchange(address, slot, found)
    }

    /// Whether the slow half is to look at the next put without a bias.
    #[inline(always)]
    pub(super) fn is_look_due(&self) -> bool {
        self.puts.load(Relaxed) >= self.next_look.load(Relaxed)
    }

    /// Puts a slot if its mark still is what was found. The caller saw that there is room.
    #[inline(always)]
    pub(super) fn exchange(&self, address: usize, slot: usize, found: Mark) -> bool {
        let top = self.top();
        let taken = self.clear(slot, found);
        if taken {
            // SAFETY:
            // - there is room (caller)
            unsafe { self.lay_at(top, address, slot) };
        }
        taken
    }

    /// Clears a mark if it still is what was found.
    #[inline(always)]
    pub(super) fn clear(&self, slot: usize, found: Mark) -> bool {
        // Relaxed: see the ledger.
        self.mark(slot).compare_exchange(found, NOBODY, Relaxed, Relaxed).is_ok()
    }

    /// Read plainly: compilers do not fold an atomic load into the instruction that uses it.
    #[inline(always)]
    pub(super) fn top(&self) -> *mut CachedSlot {
        // SAFETY:
        // - only the calling thread changes it
        unsafe { *self.top.as_ptr() }
    }

    /// Read plainly, as `top` is.
    #[inline(always)]
    fn end(&self) -> *mut CachedSlot {
        // SAFETY: as in `top`
        unsafe { *self.end.as_ptr() }
    }

    /// Read plainly, as `top` is.
    #[inline(always)]
    pub(super) fn raw_base(&self) -> Mark {
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
    unsafe fn lay_at(&self, top: *mut CachedSlot, address: usize, slot: usize) {
        debug_assert!(top == self.top() && self.has_room());
        #[cfg(all(test, feature = "capi", not(bytepool_shuttle)))]
        reached::note();
        // SAFETY:
        // - there is room (caller): below `end`
        unsafe {
            (*top).write(address, slot as u32);
            self.top.store(top.add(1), Relaxed);
        }
        self.count_put();
    }

    #[inline(always)]
    pub(super) fn count_put(&self) {
        self.puts.store(self.puts.load(Relaxed) + 1, Relaxed);
    }
}

/// For tests: by what calls the calling thread came to lay a slot.
#[cfg(all(test, feature = "capi", not(bytepool_shuttle)))]
pub(crate) mod reached {
    use std::backtrace::Backtrace;
    use std::cell::RefCell;

    thread_local! {
        static NOTED: RefCell<Option<Vec<Backtrace>>> = const { RefCell::new(None) };
    }

    pub(super) fn note() {
        NOTED.with_borrow_mut(|noted| noted.iter_mut().for_each(|all| all.push(Backtrace::force_capture())));
    }

    /// The stack of each slot that was laid while `run` ran.
    pub(crate) fn while_running(run: impl FnOnce()) -> Vec<Backtrace> {
        NOTED.set(Some(Vec::new()));
        run();
        NOTED.take().unwrap_or_default()
    }
}
