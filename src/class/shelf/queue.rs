//! The queue of groups with idle slots.
//!
//! crossbeam's queue takes 16 bytes for each element, and writes them all when it is made. One element for each group
//! would be too much for a large class. So groups are queued by *section*. A section's word says which of its groups
//! are queued. The queue holds the sections whose word is not zero. Where groups are few, a section has one, so that
//! threads do not wait for one another. Where they are many, it has up to 64.
//!
//! ```text
//! 3 sections      section 0: groups 0 3 6 ...    section 1: groups 1 4 7 ...    section 2: groups 2 5 8 ...
//! ```
//!
//! Sections take turns. So neighbours among the groups are in different sections: then they come one after another.
//! With a run of neighbours in each section, what is handed out would jump from run to run, with a step of 64 KiB for
//! slots of 64 bytes: each to another page, and all to the same few sets of a processor's cache.
//!
//! Invariant: a section is in the queue, or held by one thread that popped it, exactly while its word is not zero. Only
//! that thread clears bits of it. So a section is queued at most once, and the queue never fills up.

use super::super::books::{Books, Words};
use crate::os::memory::{self, OutOfMemory};
use crate::sync::ArrayQueue;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{AcqRel, Relaxed};

/// Where there would be more sections than this, each gets more groups, up to [`MOST_SHIFT`].
const MANY_SECTIONS: u32 = if cfg!(bytepool_shuttle) { 1 } else { 256 };
/// The most of [`section_shift`]: a section has at most as many groups as a word has bits.
const MOST_SHIFT: u32 = u64::BITS.trailing_zeros();

/// A section has 2 to the power of this groups.
fn section_shift(groups: u32) -> u32 {
    (groups.div_ceil(MANY_SECTIONS).next_power_of_two().trailing_zeros()).min(MOST_SHIFT)
}

/// See the module documentation.
pub(super) struct GroupQueue {
    sections: Words,
    queue: ArrayQueue<u32>,
}

impl GroupQueue {
    /// How many words of the books it takes for so many groups.
    pub(super) fn words_of(groups: u32) -> usize {
        groups.div_ceil(1 << section_shift(groups)) as usize
    }

    pub(super) fn new(groups: u32, books: &mut Books) -> Result<Self, OutOfMemory> {
        let sections = books.take(Self::words_of(groups));
        // The queue takes two words for each section, and would end the process if it were refused them.
        memory::probe(sections.len() * 2 * size_of::<AtomicU64>())?;
        Ok(Self { sections, queue: ArrayQueue::new(sections.len()) })
    }

    /// What it takes of the global allocator, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.sections.len() * 2 * size_of::<AtomicU64>()
    }

    /// Adds a group that is not queued: the caller set its queued bit, or popped it.
    pub(super) fn push(&self, group: u32) {
        let (section, bit) = (group % self.section_count(), 1 << (group / self.section_count()));
        // AcqRel: partner in `pop`. The thread that sets the first bit, and then pushes, sees the pop that came before
        // the last bit was cleared.
        let before = self.sections[section as usize].fetch_or(bit, AcqRel);
        debug_assert!(before & bit == 0, "group {group} was queued twice");
        if before == 0 {
            self.push_section(section);
        }
    }

    /// Takes a group, the lowest of its section. `None`: no group is queued, or other threads hold the sections that
    /// are.
    pub(super) fn pop(&self) -> Option<u32> {
        let section = self.queue.pop()?;
        let word = &self.sections[section as usize];
        // Relaxed: the queue passed it on, and only this thread clears bits meanwhile.
        let lowest = word.load(Relaxed).trailing_zeros();
        debug_assert!(lowest < u64::BITS, "section {section} was queued without a group");
        // AcqRel: as in `push`.
        if word.fetch_and(!(1 << lowest), AcqRel) & !(1 << lowest) != 0 {
            self.push_section(section);
        }
        Some(lowest * self.section_count() + section)
    }

    fn section_count(&self) -> u32 {
        self.sections.len() as u32
    }

    fn push_section(&self, section: u32) {
        let pushed = self.queue.push(section);
        debug_assert!(pushed.is_ok(), "section {section} was queued twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn queue(groups: u32) -> (Books, GroupQueue) {
        let mut books = Books::with_parts([GroupQueue::words_of(groups)]).unwrap();
        let queue = GroupQueue::new(groups, &mut books).unwrap();
        (books, queue)
    }

    #[test]
    fn every_group_comes_once_and_may_be_queued_again() {
        for groups in [1, 200, 257, 5000, 70_000] {
            let (_books, queue) = queue(groups);
            for _ in 0..3 {
                (0..groups).rev().for_each(|group| queue.push(group));
                let popped: Vec<u32> = std::iter::from_fn(|| queue.pop()).collect();
                assert_eq!(popped.len(), groups as usize);
                assert_eq!(popped.into_iter().collect::<HashSet<_>>(), (0..groups).collect());
            }
        }
    }

    #[test]
    fn neighbours_come_one_after_another() {
        for (groups, used) in [(200, 200), (5000, 5000), (70_000, 3000)] {
            let (_books, queue) = queue(groups);
            (0..used).for_each(|group| queue.push(group));
            let popped: Vec<u32> = std::iter::from_fn(|| queue.pop()).collect();
            let neighbours = popped.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count();
            assert!(neighbours >= popped.len() * 9 / 10, "{groups} groups: {neighbours} pairs of neighbours");
        }
    }

    #[test]
    fn a_queue_takes_little_for_many_groups() {
        let sections = |groups| GroupQueue::words_of(groups);
        assert_eq!([1, 256, 257, 1024, 65_536].map(sections), [1, 256, 129, 256, 1024]);
    }

    #[test]
    fn racing_threads_lose_no_group() {
        let (_books, queue) = queue(1000);
        (0..1000).for_each(|group| queue.push(group));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Some(group) = queue.pop() {
                            queue.push(group);
                        }
                    }
                });
            }
        });
        let left: HashSet<u32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(left, (0..1000).collect());
    }
}
