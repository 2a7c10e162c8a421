//! One size class: its span of the region, its ledger and its shelf, and the arithmetic between slots and
//! addresses.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU64, AtomicUsize};
use crate::sync::{Mutex, PoisonError};
use std::io;
use std::ops::Range;

use crate::layout::Span;
use crate::ledger::Ledger;
use crate::memory::OutOfMemory;
use crate::region::{HUGE_PAGE, MAX_OPEN_STEP, MIN_OPEN_STEP, Region, page_size};
use crate::shelf::{Claim, LINE_SLOTS, LINES_SEEN, MAX_CLAIM_LINES, Shelf};
use crate::size_class::{GRANULE, Reciprocal, UNIT};
use crate::thread_cache::{CachingRoom, Leaning};

/// One size class of a pool.
pub(crate) struct Class {
    span: Span,
    pub(crate) ledger: Ledger,
    pub(crate) shelf: Shelf,
    /// Bytes of the span, from its start, that are readable and writable.
    opened: AtomicUsize,
    opening: Mutex<()>,
    open_step: usize,
    pub(crate) caching: CachingRoom,
    pub(crate) leaning: Leaning,
    pub(crate) counters: ClassCounters,
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
    pub(crate) fn new(span: Span, huge_pages: bool) -> Result<Self, OutOfMemory> {
        Ok(Self {
            span,
            ledger: Ledger::new(span.capacity)?,
            shelf: Shelf::new(span.capacity)?,
            opened: AtomicUsize::new(0),
            opening: Mutex::new(()),
            open_step: if huge_pages { HUGE_PAGE } else { MIN_OPEN_STEP },
            caching: CachingRoom::new(span.capacity),
            leaning: Leaning::new(),
            counters: ClassCounters::default(),
        })
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

    pub(crate) fn reciprocal(&self) -> Reciprocal {
        self.span.reciprocal
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.span.capacity
    }

    /// Where a slot starts, in bytes from the start of the region.
    #[inline]
    pub(crate) fn offset_of(&self, slot: u32) -> usize {
        self.span.start + slot as usize * self.span.slot_size
    }

    /// The slot that starts at an offset inside this class's span; `None` if none does.
    #[inline]
    pub(crate) fn slot_at(&self, offset: usize) -> Option<u32> {
        let in_span = offset - self.span.start;
        // The reciprocal is exact up to the last slot's end.
        if !in_span.is_multiple_of(UNIT) || in_span >= self.span.slot_size * self.span.capacity as usize {
            return None;
        }
        self.span.reciprocal.slot_starting_at((in_span / UNIT) as u64).map(|slot| slot as u32)
    }

    /// Makes the memory of `slot` readable and writable.
    #[inline]
    pub(crate) fn open(&self, region: &Region, slot: u32) -> io::Result<()> {
        let end = (slot as usize + 1) * self.span.slot_size;
        // Acquire pairs with the Release in `open_up_to`: the pages were opened before.
        if end <= self.opened.load(Acquire) { Ok(()) } else { self.open_up_to(region, end) }
    }

    /// Opens in steps that grow with what is open, so that a large class takes few system calls and a small
    /// one little memory.
    #[cold]
    fn open_up_to(&self, region: &Region, end: usize) -> io::Result<()> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Giving idle memory back.
impl Class {
    /// Slots per window: as many as start and end on a page boundary together, whatever the slot size (a
    /// multiple of [`GRANULE`]).
    fn window_slots() -> u32 {
        (page_size() / GRANULE) as u32
    }

    /// Gives back the whole pages of up to `max_slots` idle slots; how many slots became fresh.
    pub(crate) fn discard_idle(&self, region: &Region, max_slots: usize) -> usize {
        let windows = self.span.capacity.div_ceil(Self::window_slots());
        let mut discarded = 0;
        for window in 0..windows {
            if discarded >= max_slots || self.shelf.idle() == 0 {
                break;
            }
            discarded += self.discard_window(region, window, max_slots - discarded);
        }
        discarded
    }

    /// As [`discard_idle`](Self::discard_idle), only in the window of `slot`.
    pub(crate) fn discard_around(&self, region: &Region, slot: u32) -> usize {
        self.discard_window(region, slot / Self::window_slots(), usize::MAX)
    }

    /// Makes all idle slots fresh although their pages were not given back: the region goes as a whole. How
    /// many.
    pub(crate) fn forget_idle(&self) -> usize {
        let mut forgotten = 0;
        for first_line in (0..self.shelf.line_count()).step_by(MAX_CLAIM_LINES as usize) {
            let lines = MAX_CLAIM_LINES.min(self.shelf.line_count() - first_line);
            let Some(mut claim) = self.shelf.claim(first_line, lines, u32::MAX) else { continue };
            for slot in claim.first_slot()..claim.end_slot() {
                if claim.is_idle(slot) {
                    claim.make_fresh(slot);
                    forgotten += 1;
                }
            }
            self.shelf.settle(claim);
        }
        forgotten
    }

    fn discard_window(&self, region: &Region, window: u32, max_slots: usize) -> usize {
        let lines = Self::window_slots() / LINE_SLOTS;
        if lines > MAX_CLAIM_LINES {
            return 0; // pages above 64 KiB: not on any target this is built for
        }
        let first_line = window * lines;
        let lines = lines.min(self.shelf.line_count() - first_line);
        // A look costs less than a claim, and of small slots few windows have a whole page to give. (The last window may
        // have a page that is not full.)
        let slots_of_page = page_size().div_ceil(self.span.slot_size);
        let is_last = first_line + lines == self.shelf.line_count();
        if !is_last && lines == LINES_SEEN && !has_run(self.shelf.held_slots(first_line), slots_of_page) {
            return 0;
        }
        let max_idle = u32::try_from(max_slots).unwrap_or(u32::MAX);
        let Some(mut claim) = self.shelf.claim(first_line, lines, max_idle) else { return 0 };

        let mut discarded = 0;
        let mut slot = claim.first_slot();
        while let Some(run) = next_run(&claim, slot) {
            slot = run.end;
            discarded += self.discard_run(region, &mut claim, run);
        }
        self.shelf.settle(claim);
        discarded
    }

    /// Discards the whole pages inside a run of claimed slots, from its first idle slot to its last.
    fn discard_run(&self, region: &Region, claim: &mut Claim, run: Range<u32>) -> usize {
        let Some(first_idle) = run.clone().find(|&slot| claim.is_idle(slot)) else { return 0 };
        let last_idle = run.clone().rev().find(|&slot| claim.is_idle(slot)).unwrap_or(first_idle);
        let page = page_size();
        // The last slot of the class shares its last page with nothing.
        let run_end = if run.end >= self.span.capacity {
            self.offset_of(self.span.capacity).next_multiple_of(page)
        } else {
            self.offset_of(run.end)
        };
        let start =
            self.offset_of(run.start).next_multiple_of(page).max(self.offset_of(first_idle) / page * page);
        let end = (run_end / page * page).min(self.offset_of(last_idle + 1).next_multiple_of(page));
        // SAFETY:
        // - all of these pages belong to slots of the claim, which nobody holds and nobody can get
        // - what idle buffers hold may be lost
        if start >= end || !unsafe { region.discard(start, end - start) } {
            return 0;
        }
        let whole =
            |slot: &u32| self.offset_of(*slot) >= start && self.offset_of(*slot) + self.slot_size() <= end;
        let mut discarded = 0;
        for slot in (first_idle..=last_idle).filter(whole) {
            if claim.is_idle(slot) {
                claim.make_fresh(slot);
                discarded += 1;
            }
        }
        discarded
    }
}

/// Whether so many bits in a row (at least one) are set.
fn has_run(mut bits: u64, mut len: usize) -> bool {
    while len > 1 {
        // A bit now stands for itself and as many above it as are left out of `len`.
        let half = len / 2;
        bits &= bits >> half;
        len -= half;
    }
    bits != 0
}

/// The first run of slots from `from` on that the claim holds, one after another.
fn next_run(claim: &Claim, from: u32) -> Option<Range<u32>> {
    let start = (from..claim.end_slot()).find(|&slot| claim.holds(slot))?;
    let end = (start..claim.end_slot()).find(|&slot| !claim.holds(slot)).unwrap_or(claim.end_slot());
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_bits_are_found_wherever_they_are() {
        for len in 1..=64 {
            for start in 0..=64 - len {
                let run = u64::MAX >> (64 - len) << start;
                // Every third bit besides, but for its neighbours.
                let others = 0x9249_2492_4924_9249 & !(run << 1 | run >> 1 | run);
                for shorter in 1..=len {
                    assert!(has_run(run | others, shorter));
                }
                assert!(len == 64 || !has_run(run | others, len + 1), "{len} bits from {start}");
            }
        }
        assert!(!has_run(0, 1));
    }
}
