//! The shelf: the slots of a class that nobody holds, idle or fresh, shared by all threads without a lock.
//!
//! Slots are kept by *ledger line*: the 16 slots whose ledger entries share a pair of cache lines. Each line has one
//! word that says which of its slots are on the shelf and which were touched; a queue holds the numbers of
//! the lines that have idle slots. So a slot costs 1.5 bytes here, and slots that mixed threads put in any
//! order go out again as neighbours.
//!
//! ```text
//! word of a line    bit 32     31 ......... 16   15 .......... 0
//!                   queued     touched slots     idle slots
//! ```
//!
//! Invariants, at every moment:
//!
//! - a slot is *idle* if its idle bit is set, *fresh* if its touched bit is clear, else *out*: held by a
//!   caller
//! - `idle` and `fresh` are permits: never more than there are such bits. Who takes a slot takes a permit
//!   first, so the search that follows ends
//! - a line is in the queue at most once, and its queued bit is set while it is: the queue never fills up
//!
//! Any thread may call anything at any time.

mod claim;
mod permits;

use crate::sync::ArrayQueue;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::sync::atomic::{AtomicU32, AtomicU64};

pub(crate) use self::claim::{Claim, LINES_SEEN, MAX_CLAIM_LINES};
use self::permits::Permits;
use crate::memory::{self, OutOfMemory};

/// Slots per ledger line: 64-bit ledger entries in two cache lines, which processors fetch as a pair.
pub(crate) const LINE_SLOTS: u32 = 16;

const LINE_MASK: u64 = (1 << LINE_SLOTS) - 1;
const TOUCHED_SHIFT: u32 = LINE_SLOTS;
const QUEUED: u64 = 1 << (2 * LINE_SLOTS);

/// The word of a line, read once.
#[derive(Clone, Copy)]
struct Line(u64);

impl Line {
    fn idle(self) -> u64 {
        self.0 & LINE_MASK
    }

    fn fresh(self) -> u64 {
        !(self.0 >> TOUCHED_SHIFT) & LINE_MASK
    }

    fn is_queued(self) -> bool {
        self.0 & QUEUED != 0
    }
}

/// The idle and fresh slots of one class.
pub(crate) struct Shelf {
    lines: Box<[AtomicU64]>,
    /// Lines with idle slots; some may have lost theirs since.
    queue: ArrayQueue<u32>,
    /// The line a slot was last put to or taken from: tried first. A hint.
    recent: AtomicU32,
    /// The line where the search for fresh slots goes on. A hint.
    fresh_line: AtomicU32,
    idle: Permits,
    fresh: Permits,
}

impl Shelf {
    /// A shelf whose `slots` slots (at least one) are all fresh.
    pub(crate) fn new(slots: u32) -> Result<Self, OutOfMemory> {
        let line_count = slots.div_ceil(LINE_SLOTS);
        let lines: Box<[AtomicU64]> = memory::zeroed_slice(line_count as usize)?;
        // Two words per line.
        memory::probe(line_count as usize * 2 * size_of::<AtomicU64>())?;
        let queue = ArrayQueue::new(line_count as usize);
        // Slots that the last line lacks are neither fresh nor idle, for ever.
        let absent = line_count * LINE_SLOTS - slots;
        let touched = LINE_MASK & !(LINE_MASK >> absent);
        lines[line_count as usize - 1].store(touched << TOUCHED_SHIFT, Relaxed);
        Ok(Self {
            lines,
            queue,
            recent: AtomicU32::new(0),
            fresh_line: AtomicU32::new(0),
            idle: Permits::new(0),
            fresh: Permits::new(slots),
        })
    }

    /// How many slots are idle.
    pub(crate) fn idle(&self) -> u32 {
        self.idle.available()
    }

    /// How often slots became idle, but for those of settled claims; wraps. While it stays the same, a class that was
    /// seen without an idle slot has none.
    pub(crate) fn times_put(&self) -> u32 {
        self.idle.times_given()
    }

    /// How many slots are fresh.
    pub(crate) fn fresh(&self) -> u32 {
        self.fresh.available()
    }

    pub(crate) fn line_count(&self) -> u32 {
        self.lines.len() as u32
    }

    /// Takes one idle slot, if there is any.
    #[inline]
    pub(crate) fn take_idle(&self) -> Option<u32> {
        if self.idle.take(1) == 0 {
            return None;
        }
        // Relaxed: a hint.
        if let Some(slot) = self.take_from(self.recent.load(Relaxed)) {
            return Some(slot);
        }
        let (line, bit) = self.search_idle(1);
        // Relaxed: a hint.
        self.recent.store(line, Relaxed);
        Some(line * LINE_SLOTS + bit.trailing_zeros())
    }

    /// Takes up to as many idle slots as `out` has room for; how many. Whole lines where possible, the one
    /// `near` says first; the last one becomes `near`.
    ///
    /// So each thread with a `near` of its own gets back the slots it put last, and slots of lines that other
    /// threads did not use last.
    pub(crate) fn take_idle_batch(&self, out: &mut [u32], near: &AtomicU32) -> usize {
        let permits = self.idle.take(out.len() as u32);
        let mut got = 0;
        // Relaxed: a hint.
        let mut line = near.load(Relaxed);
        let mut bits = if line < self.line_count() { self.take_many_from(line, permits) } else { 0 };
        loop {
            for bit in bits_of(bits) {
                out[got as usize] = line * LINE_SLOTS + bit;
                got += 1;
            }
            if got == permits {
                near.store(line, Relaxed);
                return got as usize;
            }
            (line, bits) = self.search_idle(permits - got);
        }
    }

    /// Puts slots that are out back as idle; their last line becomes `near`. As [`put`](Self::put), with one
    /// write for neighbours that follow each other.
    pub(crate) fn put_batch(&self, slots: &[u32], near: &AtomicU32) {
        for same_line in slots.chunk_by(|a, b| a / LINE_SLOTS == b / LINE_SLOTS) {
            let line = same_line[0] / LINE_SLOTS;
            let bits = same_line.iter().fold(0, |bits, slot| bits | 1 << (slot % LINE_SLOTS));
            self.put_bits(line, bits);
            // Relaxed: a hint.
            near.store(line, Relaxed);
        }
        self.idle.give(slots.len() as u32);
    }

    /// Puts a slot that is out back as idle.
    ///
    /// Release on the line publishes the buffer's bytes to the thread that takes the slot (Acquire in
    /// [`take_from`](Self::take_from)). The permit is given with SeqCst, and the pool's state is read after
    /// it: so either the put sees that the pool closed, or the closing thread's trim (which takes permits
    /// with SeqCst after it closed) sees the slot.
    #[inline]
    pub(crate) fn put(&self, slot: u32) {
        let line = slot / LINE_SLOTS;
        self.put_bits(line, 1 << (slot % LINE_SLOTS));
        // Relaxed: a hint.
        if self.recent.load(Relaxed) != line {
            self.recent.store(line, Relaxed);
        }
        self.idle.give(1);
    }

    /// Marks slots of a line as idle. Their permits are the caller's to give.
    #[inline]
    fn put_bits(&self, line: u32, bits: u64) {
        // AcqRel: who clears the queued bit after a pop, and who sets it before the next push, see each
        // other's queue.
        let before = Line(self.lines[line as usize].fetch_or(bits | QUEUED, AcqRel));
        debug_assert!(before.idle() & bits == 0, "a slot of line {line} was put on the shelf twice");
        debug_assert!(
            before.fresh() & bits == 0,
            "a slot of line {line} was put on the shelf before it was taken"
        );
        if !before.is_queued() {
            self.enqueue(line);
        }
    }

    /// Takes one slot that was never handed out, from the line `near` says if it has one; else `near` becomes
    /// the next line. `None` if there is no such slot.
    ///
    /// So each thread with a `near` of its own gets slots of lines that no other thread gets slots of, and
    /// does not share their ledger entries' cache lines.
    pub(crate) fn take_fresh_near(&self, near: &AtomicU32) -> Option<u32> {
        if self.fresh.take(1) == 0 {
            return None;
        }
        loop {
            // Relaxed: hints; stale ones cost a longer search.
            let line = near.load(Relaxed);
            if line < self.line_count()
                && let Some(slot) = self.take_fresh_from(line)
            {
                return Some(slot);
            }
            near.store(self.fresh_line.fetch_add(1, Relaxed) % self.line_count(), Relaxed);
        }
    }

    /// As [`take_fresh_near`](Self::take_fresh_near), for threads without a line of their own.
    pub(crate) fn take_fresh(&self) -> Option<u32> {
        if self.fresh.take(1) == 0 {
            return None;
        }
        loop {
            // Relaxed: a hint; a stale one costs a longer search.
            let line = self.fresh_line.load(Relaxed);
            if let Some(slot) = self.take_fresh_from(line % self.line_count()) {
                return Some(slot);
            }
            let _ = self.fresh_line.compare_exchange(line, line.wrapping_add(1), Relaxed, Relaxed);
        }
    }

    /// Gives back a slot of [`take_fresh`](Self::take_fresh) that was not handed out after all.
    pub(crate) fn untake_fresh(&self, slot: u32) {
        let bit = 1 << (slot % LINE_SLOTS);
        // Relaxed: nobody wrote to the buffer.
        self.lines[(slot / LINE_SLOTS) as usize].fetch_and(!(bit << TOUCHED_SHIFT), Relaxed);
        self.fresh.give(1);
    }

    /// Takes the lowest idle slot of a line.
    ///
    /// Acquire pairs with the Release in [`put`](Self::put), also across other threads' changes of the word
    /// in between: read-modify-writes continue a release sequence.
    #[inline]
    fn take_from(&self, line: u32) -> Option<u32> {
        let bit = self.take_many_from(line, 1);
        (bit != 0).then(|| line * LINE_SLOTS + bit.trailing_zeros())
    }

    /// As [`take_from`](Self::take_from), up to `max` at once; their bits.
    #[inline]
    fn take_many_from(&self, line: u32, max: u32) -> u64 {
        let word = &self.lines[line as usize];
        let mut seen = Line(word.load(Relaxed));
        while seen.idle() != 0 {
            let bits = lowest_bits(seen.idle(), max);
            match word.compare_exchange_weak(seen.0, seen.0 & !bits, Acquire, Relaxed) {
                Ok(_) => return bits,
                Err(found) => seen = Line(found),
            }
        }
        0
    }

    /// Takes idle slots of any line, one at least and at most `max`; the line and their bits. The caller has
    /// as many permits, so there is one.
    #[cold]
    fn search_idle(&self, max: u32) -> (u32, u64) {
        loop {
            let found = match self.queue.pop() {
                Some(line) => Some((line, self.take_from_dequeued(line, max))),
                // Another thread holds the line between its pop and its push: look at the words themselves.
                None => (0..self.line_count())
                    .map(|line| (line, self.take_many_from(line, max)))
                    .find(|&(_, bits)| bits != 0),
            };
            if let Some((line, bits)) = found
                && bits != 0
            {
                return (line, bits);
            }
            crate::sync::hint::spin_loop();
        }
    }

    /// Takes up to `max` idle slots of a line popped from the queue, and queues the line again if more are
    /// left; their bits.
    fn take_from_dequeued(&self, line: u32, max: u32) -> u64 {
        let word = &self.lines[line as usize];
        let mut seen = Line(word.load(Relaxed));
        loop {
            let bits = lowest_bits(seen.idle(), max);
            let mut after = seen.0 & !bits;
            if Line(after).idle() == 0 {
                after &= !QUEUED;
            }
            // Acquire: as in `take_from`. Release: its partner is in `put_bits`.
            match word.compare_exchange_weak(seen.0, after, AcqRel, Relaxed) {
                Ok(_) => {
                    if Line(after).is_queued() {
                        self.enqueue(line);
                    }
                    return bits;
                }
                Err(found) => seen = Line(found),
            }
        }
    }

    fn take_fresh_from(&self, line: u32) -> Option<u32> {
        let word = &self.lines[line as usize];
        let mut seen = Line(word.load(Relaxed));
        while seen.fresh() != 0 {
            let bit = seen.fresh() & seen.fresh().wrapping_neg();
            // Acquire pairs with the Release in `settle`: the pages were discarded before the slot became
            // fresh again.
            match word.compare_exchange_weak(seen.0, seen.0 | bit << TOUCHED_SHIFT, Acquire, Relaxed) {
                Ok(_) => return Some(line * LINE_SLOTS + bit.trailing_zeros()),
                Err(found) => seen = Line(found),
            }
        }
        None
    }

    /// The caller set the line's queued bit, or popped the line and left the bit set.
    fn enqueue(&self, line: u32) {
        let pushed = self.queue.push(line);
        debug_assert!(pushed.is_ok(), "line {line} was queued twice");
    }
}

/// The `count` lowest set bits of `bits`.
#[inline]
fn lowest_bits(bits: u64, count: u32) -> u64 {
    if count >= LINE_SLOTS {
        return bits;
    }
    let mut rest = bits;
    for _ in 0..count {
        rest &= rest.wrapping_sub(1);
    }
    bits & !rest
}

/// The numbers of the set bits, ascending.
pub(crate) fn bits_of(mut bits: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (bits != 0).then(|| bits.trailing_zeros());
        bits &= bits.wrapping_sub(1);
        bit
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::Ordering::SeqCst;
    use std::collections::HashSet;

    #[test]
    fn every_fresh_slot_comes_once_in_order() {
        for slots in [1, 15, 16, 17, 100] {
            let shelf = Shelf::new(slots).unwrap();
            assert_eq!(shelf.fresh(), slots);
            let taken: Vec<u32> = std::iter::from_fn(|| shelf.take_fresh()).collect();
            assert_eq!(taken, (0..slots).collect::<Vec<_>>());
            assert_eq!((shelf.fresh(), shelf.idle()), (0, 0));
        }
    }

    #[test]
    fn threads_with_lines_of_their_own_share_none_until_the_rest_is_used_up() {
        let shelf = Shelf::new(20 * LINE_SLOTS).unwrap();
        let near = [const { AtomicU32::new(u32::MAX) }; 2];
        let mut lines = [HashSet::new(), HashSet::new()];
        let mut all = HashSet::new();
        for turn in 0..20 * LINE_SLOTS as usize {
            let slot = shelf.take_fresh_near(&near[turn % 2]).unwrap();
            assert!(all.insert(slot));
            lines[turn % 2].insert(slot / LINE_SLOTS);
        }
        assert_eq!(shelf.take_fresh_near(&near[0]), None);
        assert!(lines[0].is_disjoint(&lines[1]));
        assert_eq!((lines[0].len(), lines[1].len()), (10, 10));
    }

    #[test]
    fn put_slots_come_back_once_each() {
        let shelf = Shelf::new(100).unwrap();
        let taken: Vec<u32> = std::iter::from_fn(|| shelf.take_fresh()).collect();
        assert_eq!(shelf.take_idle(), None);
        for slot in taken.iter().rev() {
            shelf.put(*slot);
        }
        assert_eq!(shelf.idle(), 100);
        let again: HashSet<u32> = std::iter::from_fn(|| shelf.take_idle()).collect();
        assert_eq!(again.len(), 100);
        assert_eq!(shelf.idle(), 0);
    }

    #[test]
    fn a_slot_just_put_is_found_without_the_queue() {
        let shelf = Shelf::new(64).unwrap();
        let taken: Vec<u32> = std::iter::from_fn(|| shelf.take_fresh()).collect();
        taken.iter().for_each(|&slot| shelf.put(slot));
        let slot = shelf.take_idle().unwrap();
        shelf.put(slot);
        assert_eq!(shelf.take_idle(), Some(slot));
    }

    #[test]
    fn threads_never_share_a_slot_nor_miss_an_idle_one() {
        const THREADS: usize = 8;
        let shelf = Shelf::new(THREADS as u32).unwrap();
        let held: Vec<AtomicU32> = (0..THREADS).map(|_| AtomicU32::new(0)).collect();
        for _ in 0..THREADS {
            shelf.put(shelf.take_fresh().unwrap());
        }
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        // As many slots as threads, one held by each: a slot must always be there.
                        let slot = shelf.take_idle().expect("an idle slot was missed");
                        assert_eq!(held[slot as usize].swap(1, SeqCst), 0, "slot {slot} has two owners");
                        held[slot as usize].store(0, SeqCst);
                        shelf.put(slot);
                    }
                });
            }
        });
        assert_eq!(shelf.idle(), THREADS as u32);
    }

    /// Else gets that find the queue empty look at all lines.
    #[test]
    fn a_line_stays_queued_while_it_has_idle_slots() {
        const LINE: u32 = 2;
        let shelf = Shelf::new(4 * LINE_SLOTS).unwrap();
        assert_eq!(std::iter::from_fn(|| shelf.take_fresh()).count(), 4 * LINE_SLOTS as usize);
        // The hint leads to another line.
        let take = || {
            shelf.recent.store(0, Relaxed);
            shelf.take_idle().map(|slot| slot / LINE_SLOTS)
        };
        let is_queued =
            || shelf.queue.pop().is_some_and(|line| line == LINE && shelf.queue.push(line).is_ok());
        shelf.put(LINE * LINE_SLOTS);
        shelf.put(LINE * LINE_SLOTS + 1);
        assert!(take() == Some(LINE) && is_queued());
        let claim = shelf.claim(LINE, 1, u32::MAX).unwrap();
        // While its slots are claimed a get may dequeue it.
        assert_eq!(shelf.take_from_dequeued(shelf.queue.pop().unwrap(), 1), 0);
        shelf.settle(claim);
        assert!(is_queued());
        assert!(take() == Some(LINE) && !is_queued());
    }
}
