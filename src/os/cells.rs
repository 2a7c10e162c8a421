//! A growing table of numbered cells. They stay where they are, and are used again.
//!
//! ```text
//! chunk 0        chunk 1        chunk 2
//! | FIRST cells | FIRST cells | 2 * FIRST cells | ...
//! ```
//!
//! Looking a cell up takes no lock. Taking one and giving one back do. Giving one back never allocates.

use std::collections::VecDeque;

use super::fork::ForkGuard;
use super::lock::{Lock, Once};
use super::memory::{self, OutOfMemory, Zeroable};

/// A table of at most `FIRST << (CHUNKS - 1)` cells of type `T`, each zero at first.
pub(crate) struct Cells<T, const FIRST: usize, const CHUNKS: usize> {
    chunks: [Once<Box<[T]>>; CHUNKS],
    unused: Lock<Unused>,
}

/// Cells that nobody has, longest unused first, and how many cells were ever made.
struct Unused {
    cells: VecDeque<u32>,
    made: u32,
}

/// No cell could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoCell {
    /// As many as allowed are in use.
    TooMany,
    OutOfMemory(OutOfMemory),
}

impl From<OutOfMemory> for NoCell {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}

/// Which cell is taken where there are both kinds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefer {
    Unused,
    #[cfg(any(feature = "capi", test))]
    New,
}

impl<T: Zeroable, const FIRST: usize, const CHUNKS: usize> Cells<T, FIRST, CHUNKS> {
    pub(crate) const fn new() -> Self {
        assert!(FIRST.is_power_of_two());
        Self {
            chunks: [const { Once::new() }; CHUNKS],
            unused: Lock::new(Unused { cells: VecDeque::new(), made: 0 }),
        }
    }

    /// The chunk of a cell, and its place there.
    fn place(index: u32) -> (usize, usize) {
        let index = index as usize;
        match (index / FIRST).checked_ilog2() {
            None => (0, index),
            Some(log) => (log as usize + 1, index - (FIRST << log)),
        }
    }

    /// The cell of a number; `None` if it was not made yet.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let (chunk, offset) = Self::place(index);
        self.chunks.get(chunk)?.get()?.get(offset)
    }

    /// How many cells were ever made. They have the numbers below this one.
    pub(crate) fn made(&self, guard: &ForkGuard) -> u32 {
        self.unused.lock(guard).made
    }

    /// Takes a cell that nobody has, and returns its number. At most `most` cells are made.
    ///
    /// What was done with the cell before it was given back comes before this returns.
    pub(crate) fn take(&self, guard: &ForkGuard, prefer: Prefer, most: usize) -> Result<u32, NoCell> {
        let mut unused = self.unused.lock(guard);
        if prefer == Prefer::Unused {
            if let Some(index) = unused.cells.pop_front() {
                return Ok(index);
            }
        }
        let new = self.make(guard, &mut unused, most);
        new.or_else(|error| unused.cells.pop_front().ok_or(error))
    }

    fn make(&self, guard: &ForkGuard, unused: &mut Unused, most: usize) -> Result<u32, NoCell> {
        let index = unused.made;
        if index as usize >= most {
            return Err(NoCell::TooMany);
        }
        let (chunk, _) = Self::place(index);
        let table = self.chunks.get(chunk).ok_or(NoCell::TooMany)?;
        if table.get().is_none() {
            let cells = memory::zeroed_slice(FIRST << chunk.saturating_sub(1))?;
            table.get_or_init(guard, || cells);
        }
        // So that giving a cell back never allocates.
        let made = index as usize + 1;
        let refused = OutOfMemory { bytes: made * size_of::<u32>() };
        unused.cells.try_reserve(made).map_err(|_| refused)?;
        unused.made += 1;
        Ok(index)
    }

    /// Gives a cell back that was taken.
    pub(crate) fn give_back(&self, guard: &ForkGuard, index: u32) {
        self.unused.lock(guard).cells.push_back(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::AtomicU32;

    type Few = Cells<AtomicU32, 1, 5>;
    type Many = Cells<AtomicU32, 64, 13>;

    #[test]
    fn every_number_has_one_place() {
        fn places(sizes: impl Iterator<Item = usize>) -> impl Iterator<Item = (usize, usize)> {
            sizes.enumerate().flat_map(|(chunk, size)| (0..size).map(move |offset| (chunk, offset)))
        }
        let sizes = |first: usize, chunks: usize| (0..chunks).map(move |n| first << n.saturating_sub(1));
        assert!((0..16).map(Few::place).eq(places(sizes(1, 5))));
        assert!((0..1 << 18).map(Many::place).eq(places(sizes(64, 13))));
    }

    #[test]
    fn cells_are_made_up_to_a_limit_and_used_again() {
        let guard = ForkGuard::new();
        let cells = Few::new();
        let take = |prefer| cells.take(&guard, prefer, 3);
        assert_eq!([(); 3].map(|()| take(Prefer::Unused)), [Ok(0), Ok(1), Ok(2)]);
        assert_eq!(take(Prefer::New), Err(NoCell::TooMany));
        cells.give_back(&guard, 1);
        cells.give_back(&guard, 0);
        assert_eq!([(); 2].map(|()| take(Prefer::New)), [Ok(1), Ok(0)]);
        assert_eq!(cells.made(&guard), 3);
        assert!(cells.get(2).is_some() && cells.get(u32::MAX).is_none());
    }
}
