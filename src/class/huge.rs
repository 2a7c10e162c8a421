//! Huge pages are asked for only where a class's slots fill them, and given back whole. So nothing becomes resident
//! that is not mapped memory anyway.
//!
//! A span's *huge block* is as large as a huge page, and starts with one. Once all slots in it were handed out, the
//! system is asked to put its pages together. A block whose slots are not all idle is not given back in parts: the
//! system would keep the huge page until it is short of memory.

use super::Class;
use super::books::{Books, Words};
use super::layout::Span;
use super::shelf::GROUP_SLOTS;
use crate::os::region::{HUGE_PAGE, Region};
use crate::sync::atomic::Ordering::Relaxed;

/// A bit for each huge block of a span that the system was asked to make one page.
pub(super) struct HugeBlocks(Words);

impl HugeBlocks {
    pub(super) fn words_of(span: &Span) -> usize {
        (span.len / HUGE_PAGE).div_ceil(64)
    }

    pub(super) fn new(span: &Span, books: &mut Books) -> Self {
        Self(books.take(Self::words_of(span)))
    }

    fn has(&self, block: usize) -> bool {
        // Relaxed: a bit changes while a slot of the block is out, in `fill_huge_pages`, or while all are reserved, in
        // `are_small_again`.
        self.0.get(block / 64).is_some_and(|word| word.load(Relaxed) & 1 << (block % 64) != 0)
    }

    /// Sets a block's bit. Returns whether this call did.
    fn set(&self, block: usize) -> bool {
        self.0[block / 64].fetch_or(1 << (block % 64), Relaxed) & 1 << (block % 64) == 0
    }

    fn clear(&self, block: usize) {
        self.0[block / 64].fetch_and(!(1 << (block % 64)), Relaxed);
    }
}

impl Class {
    pub(crate) fn has_huge_pages(&self) -> bool {
        self.huge.is_some()
    }

    /// Makes the pages huge that `slot` filled. The slot is the caller's, and was just handed out for the first time.
    pub(crate) fn fill_huge_pages(&self, region: &Region, slot: u32) {
        let Some(blocks) = &self.huge else { return };
        let start = slot as usize * self.span.slot_size;
        for block in start / HUGE_PAGE..(start + self.span.slot_size).div_ceil(HUGE_PAGE) {
            if !blocks.has(block) && self.fills(block) && blocks.set(block) {
                // A large slot holds nothing yet that would have to move.
                let now = self.span.slot_size < HUGE_PAGE;
                region.make_huge(self.span.start + block * HUGE_PAGE, HUGE_PAGE, now);
            }
        }
    }

    /// Whether all slots that share a block were handed out. `false` where they lie in two windows: such a block could
    /// not be given back whole.
    fn fills(&self, block: usize) -> bool {
        let first = (block * HUGE_PAGE / self.span.slot_size) as u32;
        let end = ((block + 1) * HUGE_PAGE).div_ceil(self.span.slot_size) as u32;
        let window = |slot: u32| slot / (self.window_groups() * GROUP_SLOTS);
        end <= self.span.slots
            && window(first) == window(end - 1)
            && (first..end).rev().all(|slot| self.shelf.is_touched(slot)) // fresh slots go out in ascending order
    }

    /// A range of the region without the huge blocks that it covers only in part. Both ends are offsets.
    pub(super) fn without_parts_of_huge_pages(&self, start: usize, end: usize) -> (usize, usize) {
        let Some(blocks) = &self.huge else { return (start, end) };
        let (mut from, mut to) = (start - self.span.start, end.max(start) - self.span.start);
        if from % HUGE_PAGE != 0 && blocks.has(from / HUGE_PAGE) {
            from = from.next_multiple_of(HUGE_PAGE);
        }
        if to % HUGE_PAGE != 0 && blocks.has(to / HUGE_PAGE) {
            to = to / HUGE_PAGE * HUGE_PAGE;
        }
        (self.span.start + from, self.span.start + to)
    }

    /// Makes the huge blocks of a range that was given back small pages, until they are filled again.
    pub(super) fn are_small_again(&self, region: &Region, start: usize, end: usize) {
        let Some(blocks) = &self.huge else { return };
        let first = (start - self.span.start).div_ceil(HUGE_PAGE);
        for block in (first..(end - self.span.start) / HUGE_PAGE).filter(|&block| blocks.has(block)) {
            region.keep_small(self.span.start + block * HUGE_PAGE, HUGE_PAGE);
            blocks.clear(block);
        }
    }
}
