//! Size classes: where slots are, who holds them, and which are idle.
//!
//! - [`index`]: size to class, and offset to slot: arithmetic only
//! - [`layout`]: how the region is divided into spans
//! - [`ledger`]: who holds each slot
//! - [`shelf`]: the idle and fresh slots that all threads share
//! - [`quota`]: how many idle slots threads may keep
//! - [`bias`]: whether puts are to be cheap, or hand-overs
//! - [`slots`]: from an address to a slot and its mark
//! - [`discard`]: giving idle memory back
//! - [`table`]: all classes of a pool, and its region
//! - `arithmetic`: `index`, for the fuzz targets
//! - [`location`]: an outstanding buffer, as the layers above pass it on
//!
//! Here is one class of a pool: its span of the region, with all of that.

#[cfg(fuzzing)]
pub mod arithmetic;
pub(crate) mod bias;
mod discard;
pub(crate) mod index;
pub(crate) mod layout;
pub(crate) mod ledger;
pub(crate) mod location;
pub(crate) mod quota;
pub(crate) mod shelf;
pub(crate) mod slots;
pub(crate) mod table;

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU64, AtomicUsize};
use std::io;

use self::bias::Bias;
use self::layout::Span;
use self::ledger::Ledger;
use self::quota::Quota;
use self::shelf::Shelf;
use self::slots::Slots;
use crate::os::fork::ForkGuard;
use crate::os::lock::Lock;
use crate::os::memory::OutOfMemory;
use crate::os::region::{HUGE_PAGE, MAX_OPEN_STEP, MIN_OPEN_STEP, Region, page_size};

/// One size class of a pool.
pub(crate) struct Class {
    number: u8,
    span: Span,
    slots: Slots,
    pub(crate) ledger: Ledger,
    pub(crate) shelf: Shelf,
    pub(crate) quota: Quota,
    pub(crate) bias: Bias,
    pub(crate) counters: ClassCounters,
    /// Bytes of the span, from its start, that are readable and writable.
    opened: AtomicUsize,
    opening: Lock<()>,
    open_step: usize,
}

/// What a class counts as it happens; the rest of its statistics is derived. All accesses are Relaxed:
/// figures only.
#[derive(Default)]
pub(crate) struct ClassCounters {
    /// Buffers put, overflow included, but for those that thread caches count until they end.
    pub(crate) puts: AtomicU64,
    /// Gets served by overflow.
    pub(crate) overflow_gets: AtomicU64,
    /// Batches moved between thread caches and the shelf.
    pub(crate) moves: AtomicU64,
    /// Overflow buffers outstanding.
    pub(crate) overflow: AtomicUsize,
}

impl Class {
    /// The `number`th class of a pool, whose region starts at address `base`.
    fn new(number: u8, span: Span, base: usize, huge_pages: bool) -> Result<Self, OutOfMemory> {
        let ledger = Ledger::new(span.capacity)?;
        Ok(Self {
            number,
            slots: Slots::new(&span, base, &ledger),
            span,
            ledger,
            shelf: Shelf::new(span.capacity)?,
            quota: Quota::new(span.capacity),
            bias: Bias::new(),
            counters: ClassCounters::default(),
            opened: AtomicUsize::new(0),
            opening: Lock::new(()),
            open_step: if huge_pages { HUGE_PAGE } else { MIN_OPEN_STEP },
        })
    }

    /// Which class of its pool this is, by ascending buffer size.
    #[inline]
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// What a buffer holds, in bytes.
    #[inline]
    pub(crate) fn buffer_size(&self) -> usize {
        self.span.buffer_size
    }

    /// What a buffer takes of the region, in bytes.
    #[inline]
    pub(crate) fn slot_size(&self) -> usize {
        self.span.slot_size
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.span.capacity
    }

    /// From address to slot.
    pub(crate) fn slots(&self) -> Slots {
        self.slots
    }

    /// Where a slot starts, in bytes from the start of the region.
    #[inline]
    pub(crate) fn offset_of(&self, slot: u32) -> usize {
        self.span.start + slot as usize * self.span.slot_size
    }

    /// Whether all slots are idle on the shelf, or fresh. A slot goes back to the count it came from, and `fresh` is
    /// read first, lest one be counted twice for another that is out.
    pub(crate) fn is_whole(&self) -> bool {
        self.shelf.fresh() + self.shelf.idle() == self.capacity()
    }

    /// Makes the memory of `slot` readable and writable.
    #[inline]
    pub(crate) fn open(&self, guard: &ForkGuard, region: &Region, slot: u32) -> io::Result<()> {
        let end = (slot as usize + 1) * self.span.slot_size;
        // Acquire pairs with the Release in `open_up_to`: the pages were opened before.
        if end <= self.opened.load(Acquire) { Ok(()) } else { self.open_up_to(guard, region, end) }
    }

    /// Opens in steps that grow with what is open, so that a large class takes few system calls and a small
    /// one little memory.
    #[cold]
    fn open_up_to(&self, guard: &ForkGuard, region: &Region, end: usize) -> io::Result<()> {
        let _opening = self.opening.lock(guard);
        // Relaxed: changed under this lock only.
        let opened = self.opened.load(Relaxed);
        if end <= opened {
            return Ok(());
        }
        let step = opened.clamp(self.open_step, MAX_OPEN_STEP);
        let granularity = self.open_step.max(page_size());
        let generous = end.max(opened + step).next_multiple_of(granularity).min(self.span.len);
        let open_to = |target: usize| region.open(self.span.start + opened, target - opened).map(|()| target);
        // Where address space is short, what this slot needs may still fit.
        let target = open_to(generous).or_else(|_| open_to(end.next_multiple_of(page_size())))?;
        // Release: partner in `open`.
        self.opened.store(target, Release);
        Ok(())
    }
}
