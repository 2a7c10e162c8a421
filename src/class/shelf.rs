//! The shelf: the slots of a class that nobody holds, idle or fresh, shared by all threads without a lock.
//!
//! Slots are kept by *slot group*: the 16 slots whose marks share a pair of cache lines. Each group has one word that
//! says which of its slots are on the shelf and which were touched; the [`queue`] holds the numbers of the groups that
//! have idle slots. So a slot costs half a byte here. Slots that threads put in any order go out again as neighbours.
//!
//! ```text
//! word of a group   bit 32     31 ......... 16   15 .......... 0
//!                   queued     touched slots     idle slots
//! ```
//!
//! Invariants, at every moment:
//!
//! - a slot is *idle* if its idle bit is set, *fresh* if its touched bit is clear, else *out*: held by a caller, cached
//!   by a thread, or in a reservation
//! - `idle` and `fresh` are permits: there are never more of them than such bits. A thread takes a permit before a
//!   slot, so the search that follows ends
//! - a group is in the queue at most once, and its queued bit is set while it is: the queue never fills up
//!
//! Any thread may call anything at any time.

mod permits;
mod queue;
mod reservation;

use std::ops::Range;

use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU32, AtomicU64};

use self::permits::Permits;
use self::queue::GroupQueue;
pub(crate) use self::reservation::{GROUPS_SEEN, MAX_RESERVED_GROUPS, Reservation};
use super::books::{Books, Words};
use crate::os::bits::bits_of;
use crate::os::memory::OutOfMemory;
use crate::os::region::page_size;

/// Slots per group: 64-bit marks in two cache lines, which processors fetch as a pair.
pub(crate) const GROUP_SLOTS: u32 = 16;

/// A hint that leads to no group yet.
pub(crate) const NO_GROUP: u32 = u32::MAX;

const GROUP_MASK: u64 = (1 << GROUP_SLOTS) - 1;
const TOUCHED_SHIFT: u32 = GROUP_SLOTS;
const QUEUED: u64 = 1 << (2 * GROUP_SLOTS);

/// The word of a group, read once.
#[derive(Clone, Copy)]
struct Group(u64);

impl Group {
    fn idle(self) -> u64 {
        self.0 & GROUP_MASK
    }

    fn fresh(self) -> u64 {
        !(self.0 >> TOUCHED_SHIFT) & GROUP_MASK
    }

    fn is_queued(self) -> bool {
        self.0 & QUEUED != 0
    }
}

/// The idle and fresh slots of one class.
pub(crate) struct Shelf {
    groups: Words,
    /// Groups with idle slots; some may have lost theirs since.
    queue: GroupQueue,
    /// Groups from this one on were never used.
    used_groups: AtomicU32,
    /// The group a slot was last put to or taken from: tried first. A hint.
    recent: AtomicU32,
    /// The run that the next thread takes fresh slots from: by its number, modulo how many there are. A hint.
    next_run: AtomicU32,
    /// The group that threads without one of their own take fresh slots from. A hint.
    shared_group: AtomicU32,
    /// The fresh slot that is taken first.
    first: u32,
    /// How many groups a run has.
    run: u32,
    idle: Permits,
    fresh: Permits,
}

/// How many words of the pool's books a shelf of so many slots takes.
pub(crate) fn words_of(slots: u32) -> usize {
    let groups = slots.div_ceil(GROUP_SLOTS);
    groups as usize + GroupQueue::words_of(groups)
}

impl Shelf {
    /// A shelf whose slots are all fresh, with words from the books. `slots` is at least one, and `first` is below it.
    /// A thread takes fresh slots from `run` groups in a row.
    pub(crate) fn new(slots: u32, first: u32, run: u32, books: &mut Books) -> Result<Self, OutOfMemory> {
        let group_count = slots.div_ceil(GROUP_SLOTS);
        let queue = GroupQueue::new(group_count, books)?;
        let groups = books.take(group_count as usize);
        // Slots that the last group lacks are neither fresh nor idle, for ever.
        let absent = group_count * GROUP_SLOTS - slots;
        if absent > 0 {
            let touched = GROUP_MASK & !(GROUP_MASK >> absent);
            groups[group_count as usize - 1].store(touched << TOUCHED_SHIFT, Relaxed);
        }
        Ok(Self {
            groups,
            queue,
            used_groups: AtomicU32::new(0),
            recent: AtomicU32::new(0),
            next_run: AtomicU32::new(0),
            shared_group: AtomicU32::new(NO_GROUP),
            first,
            run,
            idle: Permits::new(0),
            fresh: Permits::new(slots),
        })
    }

    /// How many slots are idle.
    pub(crate) fn idle(&self) -> u32 {
        self.idle.available()
    }

    /// How often slots became idle. It wraps, and leaves out reservations that were given back. While it stays the
    /// same, a class that was seen without an idle slot has none.
    pub(crate) fn times_put(&self) -> u32 {
        self.idle.times_given()
    }

    /// How many slots are fresh.
    pub(crate) fn fresh(&self) -> u32 {
        self.fresh.available()
    }

    /// How many slots are idle and how many are fresh, those of reservations included. These are figures only.
    pub(crate) fn counted(&self) -> (u32, u32) {
        (self.idle.counted(), self.fresh.counted())
    }

    pub(crate) fn group_count(&self) -> u32 {
        self.groups.len() as u32
    }

    /// How many groups, from the first on, may have slots that are not fresh.
    ///
    /// Relaxed: a thread with a permit sees which groups were used before the permit was given.
    pub(crate) fn used_groups(&self) -> u32 {
        self.used_groups.load(Relaxed)
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
        let (group, bit) = self.search_idle(1);
        // Relaxed: a hint.
        self.recent.store(group, Relaxed);
        Some(group * GROUP_SLOTS + bit.trailing_zeros())
    }

    /// Fills `out` with idle slots, as far as there are any. Returns how many. It takes whole groups where possible,
    /// that of `near` first, and neighbours after one another. The last one becomes `near`.
    ///
    /// So a thread with a `near` of its own gets back the slots that it put last, and mostly keeps off groups that
    /// other threads used last.
    pub(crate) fn take_idle_batch(&self, out: &mut [u32], near: &AtomicU32) -> usize {
        let permits = self.idle.take(out.len() as u32);
        let mut got = 0;
        // Relaxed: a hint.
        let mut group = near.load(Relaxed);
        let mut bits = if group < self.group_count() { self.take_many_from(group, permits) } else { 0 };
        loop {
            for bit in bits_of(bits) {
                out[got as usize] = group * GROUP_SLOTS + bit;
                got += 1;
            }
            if got == permits {
                near.store(group, Relaxed);
                return got as usize;
            }
            let next = group.saturating_add(1);
            bits = if self.is_all_idle(next) { self.take_many_from(next, permits - got) } else { 0 };
            if bits != 0 {
                group = next;
            } else {
                (group, bits) = self.search_idle(permits - got);
            }
        }
    }

    /// Whether there is such a group, and no slot of it is fresh or out.
    fn is_all_idle(&self, group: u32) -> bool {
        // Relaxed: a hint.
        let word = self.groups.get(group as usize);
        word.is_some_and(|word| Group(word.load(Relaxed)).idle() == GROUP_MASK)
    }

    /// Puts slots that are out back as idle. Neighbours that follow each other take one write. The last group becomes
    /// `near`. The orderings are those of [`put`](Self::put).
    pub(crate) fn put_batch(&self, slots: &[u32], near: &AtomicU32) {
        for same_group in slots.chunk_by(|a, b| a / GROUP_SLOTS == b / GROUP_SLOTS) {
            let group = same_group[0] / GROUP_SLOTS;
            let bits = same_group.iter().fold(0, |bits, slot| bits | 1 << (slot % GROUP_SLOTS));
            self.put_bits(group, bits);
            // Relaxed: a hint.
            near.store(group, Relaxed);
        }
        self.idle.give(slots.len() as u32);
    }

    /// Puts a slot that is out back as idle.
    ///
    /// Release on the group publishes the buffer's bytes to the thread that takes the slot. Partner: the Acquire in
    /// [`take_from`](Self::take_from). The permit is given with SeqCst, and then the pool's state is read. The closing
    /// thread closes the pool, and then takes permits with SeqCst. So the put sees that the pool closed, or the closing
    /// thread sees the slot.
    #[inline]
    pub(crate) fn put(&self, slot: u32) {
        let group = slot / GROUP_SLOTS;
        self.put_bits(group, 1 << (slot % GROUP_SLOTS));
        // Relaxed: a hint.
        if self.recent.load(Relaxed) != group {
            self.recent.store(group, Relaxed);
        }
        self.idle.give(1);
    }

    /// Marks slots of a group as idle. Their permits are the caller's to give.
    #[inline]
    fn put_bits(&self, group: u32, bits: u64) {
        // AcqRel: partner in `take_from_dequeued`. The thread that sets the queued bit, and then pushes, sees the pop
        // that came before the bit was cleared.
        let before = Group(self.groups[group as usize].fetch_or(bits | QUEUED, AcqRel));
        debug_assert!(before.idle() & bits == 0, "a slot of group {group} was put on the shelf twice");
        debug_assert!(
            before.fresh() & bits == 0,
            "a slot of group {group} was put on the shelf before it was taken"
        );
        if !before.is_queued() {
            self.queue.push(group);
        }
    }

    /// Takes one slot that was never handed out, from the group of `near`. If that group has none, `near` becomes the
    /// next one of its run, or the first of another run. `None` if there is no such slot.
    ///
    /// So a thread with a `near` of its own mostly has groups for itself, and seldom shares a cache line of marks.
    /// Threads without one share the shelf's.
    pub(crate) fn take_fresh(&self, near: Option<&AtomicU32>) -> Option<u32> {
        if self.fresh.take(1) == 0 {
            return None;
        }
        let near = near.unwrap_or(&self.shared_group);
        loop {
            // Relaxed: hints; stale ones cost a longer search.
            let group = near.load(Relaxed);
            if group < self.group_count() {
                if group >= self.used_groups() {
                    self.used_groups.fetch_max(group + 1, Relaxed);
                }
                if let Some(slot) = self.take_fresh_from(group) {
                    return Some(slot);
                }
            }
            near.store(self.fresh_group_after(group), Relaxed);
        }
    }

    /// Where fresh slots are looked for after this group: the next one of its run, or another run's first. Runs are
    /// counted from the group of the first slot.
    fn fresh_group_after(&self, group: u32) -> u32 {
        let count = self.group_count();
        if group < count {
            let after = (group + 1) % count;
            if self.place(after) % self.run != 0 {
                return after;
            }
        }
        let run = self.next_run.fetch_add(1, Relaxed) % count.div_ceil(self.run);
        (self.first / GROUP_SLOTS + run * self.run) % count
    }

    /// Which group this is, counted from the first slot's.
    fn place(&self, group: u32) -> u32 {
        let count = self.group_count();
        (group + count - self.first / GROUP_SLOTS) % count
    }

    /// Whether a slot is idle, or out: it was handed out since it was fresh.
    pub(super) fn is_touched(&self, slot: u32) -> bool {
        // Relaxed: a hint; another thread may be about to take it.
        let group = Group(self.groups[(slot / GROUP_SLOTS) as usize].load(Relaxed));
        group.fresh() & 1 << (slot % GROUP_SLOTS) == 0
    }

    /// Runs `then` if all slots of these groups are fresh, and keeps them from being taken meanwhile.
    pub(crate) fn while_all_are_fresh(&self, groups: Range<u32>, then: impl FnOnce()) {
        const ALL: u64 = GROUP_MASK << TOUCHED_SHIFT;
        let words = &self.groups[groups.start as usize..groups.end as usize];
        // A group that lost its idle slots may be queued still.
        let all_taken = |seen: u64| (seen & !QUEUED == 0).then_some(seen | ALL);
        // Relaxed: a hint.
        if words.iter().any(|word| all_taken(word.load(Relaxed)).is_none()) {
            return;
        }
        let slots = words.len() as u32 * GROUP_SLOTS;
        let permits = self.fresh.reserve(slots);
        // Acquire: as in `take_fresh_from`.
        let take = |word: &&AtomicU64| word.fetch_update(Acquire, Relaxed, all_taken).is_ok();
        let taken = if permits == slots { words.iter().take_while(take).count() } else { 0 };
        if taken == words.len() {
            then();
        }
        // Release: partner in `take_fresh_from`.
        words[..taken].iter().for_each(|word| _ = word.fetch_and(!ALL, Release));
        self.fresh.return_reserved(permits, permits);
    }

    /// The bytes that its words and its queue take: whole pages, as far as groups were used.
    pub(super) fn book_bytes(&self) -> usize {
        let words = self.used_groups().max(1) as usize * size_of::<AtomicU64>();
        words.next_multiple_of(page_size()) + self.queue.bytes()
    }

    /// Notes that slots of this group became fresh. They are taken before those of higher groups, so that what is
    /// touched stays dense.
    pub(super) fn prefer_fresh(&self, group: u32) {
        let run = self.place(group) / self.run;
        // Relaxed: a hint.
        if self.next_run.load(Relaxed) > run {
            self.next_run.fetch_min(run, Relaxed);
        }
    }

    /// Gives back a slot of [`take_fresh`](Self::take_fresh) that was not handed out after all.
    pub(crate) fn untake_fresh(&self, slot: u32) {
        let bit = 1 << (slot % GROUP_SLOTS);
        // Relaxed: nobody wrote to the buffer.
        self.groups[(slot / GROUP_SLOTS) as usize].fetch_and(!(bit << TOUCHED_SHIFT), Relaxed);
        self.fresh.give(1);
    }

    /// Takes the lowest idle slot of a group.
    ///
    /// Acquire pairs with the Release in [`put`](Self::put). Other threads may change the word in between:
    /// read-modify-writes continue a release sequence.
    #[inline]
    fn take_from(&self, group: u32) -> Option<u32> {
        let bit = self.take_many_from(group, 1);
        (bit != 0).then(|| group * GROUP_SLOTS + bit.trailing_zeros())
    }

    /// Takes the lowest idle slots of a group, up to `max`. Returns their bits. Acquire: see
    /// [`take_from`](Self::take_from).
    #[inline]
    fn take_many_from(&self, group: u32, max: u32) -> u64 {
        let word = &self.groups[group as usize];
        let mut seen = Group(word.load(Relaxed));
        while seen.idle() != 0 {
            let bits = lowest_bits(seen.idle(), max);
            match word.compare_exchange_weak(seen.0, seen.0 & !bits, Acquire, Relaxed) {
                Ok(_) => return bits,
                Err(found) => seen = Group(found),
            }
        }
        0
    }

    /// Takes at least one idle slot and at most `max`, all of one group. Returns the group and their bits. The caller
    /// has `max` permits, so there is one.
    #[cold]
    fn search_idle(&self, max: u32) -> (u32, u64) {
        loop {
            let found = match self.queue.pop() {
                Some(group) => Some((group, self.take_from_dequeued(group, max))),
                // Another thread holds the group between its pop and its push: look at the words themselves.
                None => (0..self.used_groups())
                    .map(|group| (group, self.take_many_from(group, max)))
                    .find(|&(_, bits)| bits != 0),
            };
            if let Some(found) = found.filter(|&(_, bits)| bits != 0) {
                return found;
            }
            crate::sync::hint::spin_loop();
        }
    }

    /// Takes up to `max` idle slots of a group that was popped from the queue. Returns their bits. If more are left,
    /// the group is queued again.
    fn take_from_dequeued(&self, group: u32, max: u32) -> u64 {
        let word = &self.groups[group as usize];
        let mut seen = Group(word.load(Relaxed));
        loop {
            let bits = lowest_bits(seen.idle(), max);
            let mut after = seen.0 & !bits;
            if Group(after).idle() == 0 {
                after &= !QUEUED;
            }
            // Acquire: as in `take_from`. Release: its partner is in `put_bits`.
            match word.compare_exchange_weak(seen.0, after, AcqRel, Relaxed) {
                Ok(_) => {
                    if Group(after).is_queued() {
                        self.queue.push(group);
                    }
                    return bits;
                }
                Err(found) => seen = Group(found),
            }
        }
    }

    fn take_fresh_from(&self, group: u32) -> Option<u32> {
        let word = &self.groups[group as usize];
        let mut seen = Group(word.load(Relaxed));
        while seen.fresh() != 0 {
            let from_first = seen.fresh() & (GROUP_MASK << (self.first % GROUP_SLOTS));
            let preferred =
                if group == self.first / GROUP_SLOTS && from_first != 0 { from_first } else { seen.fresh() };
            let bit = preferred & preferred.wrapping_neg();
            // Acquire pairs with the Release in `give_back`: the pages were discarded before the slot became
            // fresh again.
            match word.compare_exchange_weak(seen.0, seen.0 | bit << TOUCHED_SHIFT, Acquire, Relaxed) {
                Ok(_) => return Some(group * GROUP_SLOTS + bit.trailing_zeros()),
                Err(found) => seen = Group(found),
            }
        }
        None
    }
}

/// The `count` lowest set bits of `bits`.
#[inline]
fn lowest_bits(bits: u64, count: u32) -> u64 {
    if count >= GROUP_SLOTS {
        return bits;
    }
    let mut rest = bits;
    for _ in 0..count {
        rest &= rest.wrapping_sub(1);
    }
    bits & !rest
}

/// A shelf of so many slots with books of its own, for tests.
#[cfg(test)]
pub(crate) struct TestShelf {
    shelf: Shelf,
    _books: Books,
}

#[cfg(test)]
impl TestShelf {
    const RUN: u32 = 4;

    pub(crate) fn new(slots: u32) -> Self {
        Self::beginning_with(0, slots)
    }

    fn beginning_with(first: u32, slots: u32) -> Self {
        Self::with_runs(first, slots, Self::RUN)
    }

    fn with_runs(first: u32, slots: u32, run: u32) -> Self {
        let mut books = Books::with_parts([words_of(slots)]).unwrap();
        Self { shelf: Shelf::new(slots, first, run, &mut books).unwrap(), _books: books }
    }
}

#[cfg(test)]
impl std::ops::Deref for TestShelf {
    type Target = Shelf;
    fn deref(&self) -> &Shelf {
        &self.shelf
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::Ordering::SeqCst;
    use std::collections::HashSet;

    const RUN: u32 = TestShelf::RUN;

    #[test]
    fn every_fresh_slot_comes_once_in_order() {
        for slots in [1, 15, 16, 17, 100] {
            let shelf = TestShelf::new(slots);
            assert_eq!(shelf.fresh(), slots);
            let taken: Vec<u32> = std::iter::from_fn(|| shelf.take_fresh(None)).collect();
            assert_eq!(taken, (0..slots).collect::<Vec<_>>());
            assert_eq!((shelf.fresh(), shelf.idle()), (0, 0));
        }
    }

    #[test]
    fn fresh_slots_begin_where_they_are_to_and_none_is_left_out() {
        for first in [1, 15, 16, 21, 99] {
            let shelf = TestShelf::beginning_with(first, 100);
            let taken: Vec<u32> = std::iter::from_fn(|| shelf.take_fresh(None)).collect();
            let group = first / GROUP_SLOTS * GROUP_SLOTS;
            let end = (group + GROUP_SLOTS).min(100);
            let expected = (first..end).chain(group..first).chain(end..100).chain(0..group);
            assert_eq!(taken, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn threads_with_groups_of_their_own_share_none_until_the_rest_is_used_up() {
        // The second set begins within a run, and its number of groups is no multiple of a run's.
        for (first, groups) in [(0, 6 * RUN), (21, 6 * RUN + 1)] {
            let shelf = TestShelf::beginning_with(first, groups * GROUP_SLOTS);
            let near = [const { AtomicU32::new(NO_GROUP) }; 2];
            let mut of_threads = [HashSet::new(), HashSet::new()];
            let mut all = HashSet::new();
            for turn in 0..6 * (RUN * GROUP_SLOTS) as usize {
                let slot = shelf.take_fresh(Some(&near[turn % 2])).unwrap();
                assert!(all.insert(slot));
                of_threads[turn % 2].insert(slot / GROUP_SLOTS);
            }
            assert!(of_threads[0].is_disjoint(&of_threads[1]));
            assert_eq!((of_threads[0].len(), of_threads[1].len()), (12, 12));
            let left = (groups - 6 * RUN) * GROUP_SLOTS;
            assert_eq!(std::iter::from_fn(|| shelf.take_fresh(Some(&near[0]))).count(), left as usize);
        }
    }

    #[test]
    fn runs_of_any_length_leave_no_fresh_slot_out_also_when_their_count_wraps() {
        for (run, groups) in (1..=4).flat_map(|run| (1..30).map(move |groups| (run, groups))) {
            let (first, slots) = (groups / 2 * GROUP_SLOTS, groups * GROUP_SLOTS);
            for begin in [0, u32::MAX - 2] {
                let shelf = TestShelf::with_runs(first, slots, run);
                shelf.next_run.store(begin, Relaxed);
                let near = AtomicU32::new(NO_GROUP);
                let taken = std::iter::from_fn(|| shelf.take_fresh(Some(&near)));
                assert_eq!(taken.collect::<HashSet<_>>().len(), slots as usize);
                // What becomes fresh again is found, in the run of the first slot before another.
                let other = (first / GROUP_SLOTS + run) % groups * GROUP_SLOTS;
                if other != first {
                    shelf.untake_fresh(other);
                    shelf.prefer_fresh(other / GROUP_SLOTS);
                }
                shelf.untake_fresh(first);
                shelf.prefer_fresh(first / GROUP_SLOTS);
                near.store(NO_GROUP, Relaxed);
                assert_eq!(shelf.take_fresh(Some(&near)), Some(first));
            }
        }
    }

    #[test]
    fn put_slots_come_back_once_each() {
        let shelf = TestShelf::new(100);
        let taken: Vec<u32> = std::iter::from_fn(|| shelf.take_fresh(None)).collect();
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
    fn a_batch_is_neighbours_as_far_as_whole_groups_are_idle() {
        let shelf = TestShelf::new(12 * GROUP_SLOTS);
        while shelf.take_fresh(None).is_some() {}
        let near = AtomicU32::new(NO_GROUP);
        let put = |group: u32, slots: u32| {
            let first = group * GROUP_SLOTS;
            shelf.put_batch(&(first..first + slots).collect::<Vec<_>>(), &near);
        };
        // The queue has them in this order, and of group 6 one slot is out.
        for group in [7, 2, 11, 4, 9, 5, 8, 3, 10] {
            put(group, GROUP_SLOTS);
        }
        put(6, GROUP_SLOTS - 1);
        near.store(2, Relaxed);
        let mut batch = [0; 64];
        let groups =
            |batch: &[u32]| -> Vec<u32> { batch.iter().step_by(16).map(|slot| slot / GROUP_SLOTS).collect() };
        assert_eq!(shelf.take_idle_batch(&mut batch, &near), 64);
        assert_eq!(groups(&batch), [2, 3, 4, 5]);
        assert!(batch.is_sorted_by(|a, b| a + 1 == *b));
        assert_eq!(shelf.take_idle_batch(&mut batch, &near), 64);
        assert_eq!(groups(&batch), [7, 8, 9, 10]);
    }

    #[test]
    fn a_slot_just_put_is_found_without_the_queue() {
        let shelf = TestShelf::new(64);
        let taken: Vec<u32> = std::iter::from_fn(|| shelf.take_fresh(None)).collect();
        taken.iter().for_each(|&slot| shelf.put(slot));
        let slot = shelf.take_idle().unwrap();
        shelf.put(slot);
        assert_eq!(shelf.take_idle(), Some(slot));
    }

    #[test]
    fn threads_never_share_a_slot_nor_miss_an_idle_one() {
        const THREADS: usize = 8;
        let shelf = TestShelf::new(THREADS as u32);
        let held: Vec<AtomicU32> = (0..THREADS).map(|_| AtomicU32::new(0)).collect();
        for _ in 0..THREADS {
            shelf.put(shelf.take_fresh(None).unwrap());
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

    /// If it did not, gets would find the queue empty and look at all groups.
    #[test]
    fn a_group_stays_queued_while_it_has_idle_slots() {
        const GROUP: u32 = 2;
        let shelf = TestShelf::new(4 * GROUP_SLOTS);
        assert_eq!(std::iter::from_fn(|| shelf.take_fresh(None)).count(), 4 * GROUP_SLOTS as usize);
        // The hint leads to another group.
        let take = || {
            shelf.recent.store(0, Relaxed);
            shelf.take_idle().map(|slot| slot / GROUP_SLOTS)
        };
        let is_queued = || {
            shelf.queue.pop().is_some_and(|group| {
                shelf.queue.push(group);
                group == GROUP
            })
        };
        shelf.put(GROUP * GROUP_SLOTS);
        shelf.put(GROUP * GROUP_SLOTS + 1);
        assert!(take() == Some(GROUP) && is_queued());
        let reservation = shelf.reserve(GROUP, 1, u32::MAX).unwrap();
        // While its slots are reserved a get may dequeue it.
        assert_eq!(shelf.take_from_dequeued(shelf.queue.pop().unwrap(), 1), 0);
        shelf.give_back(reservation);
        assert!(is_queued());
        assert!(take() == Some(GROUP) && !is_queued());
    }
}
