//! Size classes: where slots are, who holds them, and which are idle.
//!
//! - [`general`]: classes for those who do not know their sizes
//! - [`index`]: size to class, and offset to slot: arithmetic only
//! - [`layout`]: how the region is divided into spans
//! - [`books`]: the memory that ledgers and shelves are in
//! - [`ledger`]: who holds each slot
//! - [`shelf`]: the idle and fresh slots that all threads share
//! - [`quota`]: how many idle slots threads may keep
//! - [`bias`]: whether marks are biased to the threads that get slots
//! - [`slots`]: from an address to a slot and its mark
//! - [`discard`]: giving idle memory back
//! - [`excess`]: how many idle slots are too many
//! - [`huge`]: huge pages
//! - [`mapped_bytes`]: what is memory, and the limit on it
//! - [`table`]: all classes of a pool, and its region
//! - `arithmetic`: shows `index` to the fuzz targets
//! - [`location`]: an outstanding buffer, as the layers above pass it on
//!
//! This file has one class of a pool: its span of the region, with all of these parts.

#[cfg(fuzzing)]
pub mod arithmetic;
pub(crate) mod bias;
pub(crate) mod books;
mod discard;
mod excess;
pub(crate) mod general;
mod huge;
pub(crate) mod index;
pub(crate) mod layout;
pub(crate) mod ledger;
pub(crate) mod location;
pub(crate) mod mapped_bytes;
pub(crate) mod quota;
pub(crate) mod shelf;
pub(crate) mod slots;
pub(crate) mod table;

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::io;
use std::mem::MaybeUninit;

use self::bias::Bias;
use self::books::Books;
use self::excess::Excess;
use self::huge::HugeBlocks;
use self::layout::Span;
use self::ledger::{Ledger, Mark};
use self::quota::Quota;
use self::shelf::Shelf;
use self::slots::Slots;
use crate::os::fork::ForkGuard;
use crate::os::lock::Lock;
use crate::os::memory::OutOfMemory;
use crate::os::region::{HUGE_PAGE, MAX_OPEN_STEP, MIN_OPEN_STEP, Region, page_size};
use crate::os::thread_state::wait_for_fast_path;

/// One size class of a pool.
pub(crate) struct Class {
    number: u8,
    span: Span,
    slots: Slots,
    pub(crate) ledger: Ledger,
    pub(crate) shelf: Shelf,
    pub(crate) quota: Quota,
    pub(crate) bias: Bias,
    pub(crate) excess: Excess,
    /// `None`: the pool asks for no huge pages.
    huge: Option<HugeBlocks>,
    pub(crate) counters: ClassCounters,
    /// Bytes of the span, from its start, that are readable and writable.
    opened: AtomicUsize,
    opening: Lock<()>,
    open_step: usize,
}

/// What a class counts as it happens. The rest of its statistics is derived. All accesses are Relaxed: figures only.
#[derive(Default)]
pub(crate) struct ClassCounters {
    /// Buffers put, overflow included. A thread cache adds its own puts when it ends.
    pub(crate) puts: AtomicU64,
    /// Gets of the class served by the system allocator.
    pub(crate) overflow_gets: AtomicU64,
    /// Batches moved between thread caches and the shelf.
    pub(crate) moves: AtomicU64,
    /// Puts, adoptions and moves that had to end a bias.
    pub(crate) bias_ends: AtomicU64,
    /// Overflow buffers outstanding that are no slots.
    pub(crate) overflow: AtomicUsize,
    /// The most slots that were out, or in other threads' caches, when slots left the shelf.
    pub(crate) peak: AtomicU32,
}

impl Class {
    /// The `number`th class of a pool with this region.
    fn write<'a>(
        place: &'a mut MaybeUninit<Self>,
        number: u8,
        span: Span,
        region: &Region,
        books: &mut Books,
        huge_pages: bool,
    ) -> Result<&'a mut Self, OutOfMemory> {
        let ledger = Ledger::new(span.slots, books);
        // The first huge page would not be filled.
        let first = if huge_pages { 0 } else { span.first_slot(number) };
        // Locked memory counts against a limit when it is opened, and a huge page is made when it is full.
        let run = if region.is_locked() || huge_pages { 1 } else { span.run_of_groups() };
        Ok(place.write(Self {
            number,
            slots: Slots::new(&span, region.base(), &ledger),
            span,
            ledger,
            shelf: Shelf::new(span.slots, first, run, books)?,
            quota: Quota::new(&span),
            bias: Bias::new(),
            excess: Excess::new(&span),
            huge: huge_pages.then(|| HugeBlocks::new(&span, books)),
            counters: ClassCounters::default(),
            opened: AtomicUsize::new(0),
            opening: Lock::new(()),
            open_step: if huge_pages { HUGE_PAGE } else { MIN_OPEN_STEP },
        }))
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

    /// Every slot starts at a multiple of this, in bytes.
    pub(crate) fn alignment(&self) -> usize {
        self.span.alignment
    }

    /// How many idle slots are kept.
    pub(crate) fn capacity(&self) -> u32 {
        self.span.capacity
    }

    /// How many slots there are, with the room beyond the capacity.
    pub(crate) fn slot_count(&self) -> u32 {
        self.span.slots
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

    /// Whether all slots are idle on the shelf, or fresh. A slot returns to the count that it came from. `fresh` is
    /// read first: otherwise a slot could be counted twice, and hide one that is out.
    pub(crate) fn is_whole(&self) -> bool {
        self.shelf.fresh() + self.shelf.idle() == self.slot_count()
    }

    /// What the books of this class take, in bytes: the used pages of the ledger, the used words of the shelf, and the
    /// queue.
    pub(crate) fn book_bytes(&self) -> usize {
        self.ledger.used_pages().count() * page_size() + self.shelf.book_bytes()
    }

    /// How many slots are neither fresh nor on the shelf: out, or in thread caches.
    pub(crate) fn off_shelf(&self) -> u32 {
        let (idle, fresh) = self.shelf.counted();
        // A get or put in flight may be seen half.
        self.slot_count().saturating_sub(fresh).saturating_sub(idle)
    }

    /// Notes how many slots are out. Called where slots are taken off the shelf, because the thread that takes them has
    /// none of the class cached.
    pub(crate) fn sample_peak(&self) {
        let out = self.off_shelf();
        // Relaxed: figures.
        if out > self.counters.peak.load(Relaxed) {
            self.counters.peak.fetch_max(out, Relaxed);
        }
    }

    /// Ends the bias of a slot that was found biased to another thread. The class cools down.
    #[cold]
    pub(crate) fn end_bias(&self, guard: &ForkGuard, slot: u32, found: Mark) {
        // The cooldown comes first, so that slots that are got meanwhile need no end of bias.
        self.bias.cool_down();
        self.counters.bias_ends.fetch_add(1, Relaxed);
        self.ledger.end_bias(slot, found, |owner| wait_for_fast_path(guard, owner));
    }

    /// Whether the memory of `slot` is readable and writable.
    #[inline]
    pub(crate) fn is_open(&self, slot: u32) -> bool {
        // Acquire: partner in `open_up_to`, which opened the pages before.
        self.end_of(slot) <= self.opened.load(Acquire)
    }

    /// Makes the memory of `slot` readable and writable.
    #[inline]
    pub(crate) fn open(&self, guard: &ForkGuard, region: &Region, slot: u32) -> io::Result<()> {
        if self.is_open(slot) { Ok(()) } else { self.open_up_to(guard, region, self.end_of(slot)) }
    }

    /// Makes all slots memory, and idle. Called before anybody gets one.
    pub(crate) fn pin(&self, guard: &ForkGuard, region: &Region) -> io::Result<()> {
        let bytes = self.span.slots as usize * self.span.slot_size;
        self.open_up_to(guard, region, bytes)?;
        let bytes = bytes.next_multiple_of(page_size());
        if self.has_huge_pages() {
            region.make_huge(self.span.start, bytes / HUGE_PAGE * HUGE_PAGE, false);
        }
        region.touch(self.span.start, bytes)?;
        while let Some(slot) = self.shelf.take_fresh(None) {
            self.ledger.use_first(slot);
            self.shelf.put(slot);
        }
        Ok(())
    }

    /// Where a slot ends, in bytes from the start of the span.
    fn end_of(&self, slot: u32) -> usize {
        (slot as usize + 1) * self.span.slot_size
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
        // Locked pages count against a limit when they are opened.
        let most = if region.is_locked() { self.open_step } else { MAX_OPEN_STEP };
        let step = opened.clamp(self.open_step, most);
        let granularity = self.open_step.max(page_size());
        let generous = end.max(opened + step).next_multiple_of(granularity).min(self.span.len);
        let open_to = |target: usize| region.open(self.span.start + opened, target - opened).map(|()| target);
        // Where address space is short, what this slot needs may still fit.
        let target = open_to(generous).or_else(|_| open_to(end.next_multiple_of(page_size())))?;
        // Release: partner in `is_open`.
        self.opened.store(target, Release);
        Ok(())
    }
}
