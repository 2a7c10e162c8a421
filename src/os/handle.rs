//! Numbered handles on one pool: what a context from C names besides the pool.
//!
//! Each live handle has a cell `{ uses, live }`. A handle's number is its cell and the cell's use count, so a handle
//! given up twice is noticed. New cells are taken first, then those longest unused. A cell's use count starts anew
//! after 16,384 uses. So the number of a handle that was given up comes back, on the same pool, after 2^28 later
//! handles. While n others stay live, fewer cells take turns: after (16,384 - n) * 16,384.
//!
//! Looking a handle up takes no lock. Making one and giving one up do.

use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::cells::{Cells, NoCell, Prefer};
use super::fork::ForkGuard;

const CELL_BITS: u32 = 14;
const USE_BITS: u32 = 14;
const USE_MASK: u32 = (1 << USE_BITS) - 1;
/// Bits of a handle's number.
pub(crate) const NUMBER_BITS: u32 = CELL_BITS + USE_BITS;
/// The most live handles of one pool.
pub(crate) const MAX_HANDLES: usize = 1 << CELL_BITS;

const LIVE: u32 = 1;
/// The cell's use count has started anew at least once.
const WRAPPED: u32 = 1 << 31;

/// What a handle's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandleState {
    Live,
    /// It was given up.
    GivenUp,
    /// No handle ever had this number.
    Unknown,
}

/// The numbered handles of one pool.
pub(crate) struct Handles {
    cells: Cells<AtomicU32, 1, { CELL_BITS as usize + 1 }>,
}

impl Handles {
    pub(crate) fn new() -> Self {
        Self { cells: Cells::new() }
    }

    /// Makes a handle, and returns its number.
    pub(crate) fn make(&self, guard: &ForkGuard) -> Result<u32, NoCell> {
        // New cells first: the longer a number is unused, the later a stale one is mistaken for it.
        let index = self.cells.take(guard, Prefer::New, MAX_HANDLES)?;
        let cell = self.cells.get(index).expect("this cell was made");
        // Relaxed: the number reaches other threads through the caller.
        let word = cell.fetch_or(LIVE, Relaxed);
        Ok(index << USE_BITS | (word >> 1 & USE_MASK))
    }

    /// Gives a handle up; `false` if it was not live. Of racing callers one gets `true`.
    pub(crate) fn give_up(&self, guard: &ForkGuard, number: u32) -> bool {
        let (index, uses) = (number >> USE_BITS, number & USE_MASK);
        let Some(cell) = self.cells.get(index) else { return false };
        let next = (uses + 1) & USE_MASK;
        // Relaxed: only the word itself decides.
        let word = cell.load(Relaxed);
        let wrapped = if next == 0 { WRAPPED } else { word & WRAPPED };
        let is_live = word & !WRAPPED == uses << 1 | LIVE;
        if !is_live || cell.compare_exchange(word, wrapped | next << 1, Relaxed, Relaxed).is_err() {
            return false;
        }
        self.cells.give_back(guard, index);
        true
    }

    /// What `number` says now.
    #[inline]
    pub(crate) fn state(&self, number: u32) -> HandleState {
        let (index, uses) = (number >> USE_BITS, number & USE_MASK);
        let Some(cell) = self.cells.get(index) else { return HandleState::Unknown };
        // Relaxed: only the word itself decides.
        let word = cell.load(Relaxed);
        if word & !WRAPPED == uses << 1 | LIVE {
            HandleState::Live
        } else if uses < word >> 1 & USE_MASK || word & WRAPPED != 0 {
            HandleState::GivenUp
        } else {
            HandleState::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::valgrind;
    use std::collections::HashSet;

    #[test]
    fn a_handle_is_given_up_once() {
        let (handles, guard) = (Handles::new(), ForkGuard::new());
        let number = handles.make(&guard).unwrap();
        assert_eq!(handles.state(number), HandleState::Live);
        assert!(handles.give_up(&guard, number));
        assert_eq!(handles.state(number), HandleState::GivenUp);
        assert!(!handles.give_up(&guard, number));
        assert_eq!(handles.state(number + 1), HandleState::Unknown);
        assert_eq!(handles.state(u32::MAX), HandleState::Unknown);
    }

    #[test]
    fn a_million_handles_one_after_another_have_different_numbers() {
        let (handles, guard) = (Handles::new(), ForkGuard::new());
        let mut seen = HashSet::new();
        for _ in 0..valgrind::rounds(1_000_000) {
            let number = handles.make(&guard).unwrap();
            assert!(seen.insert(number));
            assert!(handles.give_up(&guard, number));
        }
        assert_eq!(handles.cells.made(&guard) as usize, MAX_HANDLES, "cells are used again");
    }

    #[test]
    fn live_handles_are_limited_and_differ() {
        let (handles, guard) = (Handles::new(), ForkGuard::new());
        let live: HashSet<u32> = (0..MAX_HANDLES).map(|_| handles.make(&guard).unwrap()).collect();
        assert_eq!(live.len(), MAX_HANDLES);
        assert_eq!(handles.make(&guard), Err(NoCell::TooMany));
        assert!(handles.give_up(&guard, *live.iter().next().unwrap()));
        assert!(handles.make(&guard).is_ok());
    }
}
