//! Numbered handles on one pool: what a context from C names besides the pool.
//!
//! Each live handle has a cell `{ uses, live }`. A handle's number is its cell and the cell's use count, so a handle given
//! up twice is noticed. New cells come first, then those longest unused, and a cell's use count starts anew after
//! 16,384: so the number of a handle that was given up comes back, on the same pool, after 2^28 later handles.
//!
//! Looking a handle up takes no lock; making one and giving one up do.

use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};
use crate::sync::{Mutex, OnceLock, PoisonError};
use std::collections::VecDeque;

use crate::memory;

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

/// Chunk 0 holds one cell, chunk `n` holds `1 << (n - 1)` more.
const CHUNKS: usize = CELL_BITS as usize + 1;

fn place(cell: u32) -> (usize, usize) {
    match cell.checked_ilog2() {
        None => (0, 0),
        Some(log) => (log as usize + 1, (cell - (1 << log)) as usize),
    }
}

/// What a handle's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandleState {
    Live,
    /// It was given up.
    GivenUp,
    /// No handle ever had this number.
    Unknown,
}

/// No handle could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandleError {
    /// The pool has [`MAX_HANDLES`] live ones.
    TooMany,
    OutOfMemory,
}

struct Unused {
    cells: VecDeque<u32>,
    made: u32,
}

/// The numbered handles of one pool.
pub(crate) struct Handles {
    chunks: [OnceLock<Box<[AtomicU32]>>; CHUNKS],
    unused: Mutex<Unused>,
}

impl Handles {
    pub(crate) fn new() -> Self {
        Self {
            chunks: [const { OnceLock::new() }; CHUNKS],
            unused: Mutex::new(Unused { cells: VecDeque::new(), made: 0 }),
        }
    }

    /// Makes a handle; its number.
    pub(crate) fn make(&self) -> Result<u32, HandleError> {
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        // New cells first: the longer a number rests, the later it is mistaken for another.
        let may_make = (unused.made as usize) < MAX_HANDLES;
        let made = if may_make { self.make_cell(&mut unused) } else { Err(HandleError::TooMany) };
        let index = made.or_else(|error| unused.cells.pop_front().ok_or(error))?;
        let cell = self.cell(index).expect("this cell was made");
        // Relaxed: the number reaches other threads through the caller.
        let word = cell.fetch_or(LIVE, Relaxed);
        Ok(index << USE_BITS | (word >> 1 & USE_MASK))
    }

    fn make_cell(&self, unused: &mut Unused) -> Result<u32, HandleError> {
        let index = unused.made;
        let (chunk, _) = place(index);
        if self.chunks[chunk].get().is_none() {
            let cells = 1 << chunk.saturating_sub(1);
            let cells = memory::zeroed_slice(cells).map_err(|_| HandleError::OutOfMemory)?;
            self.chunks[chunk].get_or_init(|| cells);
        }
        // So that giving a handle up never allocates.
        unused.cells.try_reserve(index as usize + 1).map_err(|_| HandleError::OutOfMemory)?;
        unused.made += 1;
        Ok(index)
    }

    /// Gives a handle up; `false` if it was not live. Of racing callers one gets `true`.
    pub(crate) fn give_up(&self, number: u32) -> bool {
        let (index, uses) = (number >> USE_BITS, number & USE_MASK);
        let Some(cell) = self.cell(index) else { return false };
        let next = (uses + 1) & USE_MASK;
        // Relaxed: only the word itself decides.
        let word = cell.load(Relaxed);
        let wrapped = if next == 0 { WRAPPED } else { word & WRAPPED };
        let is_live = word & !WRAPPED == uses << 1 | LIVE;
        if !is_live || cell.compare_exchange(word, wrapped | next << 1, Relaxed, Relaxed).is_err() {
            return false;
        }
        self.unused.lock().unwrap_or_else(PoisonError::into_inner).cells.push_back(index);
        true
    }

    /// What `number` says now.
    #[inline]
    pub(crate) fn state(&self, number: u32) -> HandleState {
        let (index, uses) = (number >> USE_BITS, number & USE_MASK);
        let Some(cell) = self.cell(index) else { return HandleState::Unknown };
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

    #[inline]
    fn cell(&self, index: u32) -> Option<&AtomicU32> {
        let (chunk, offset) = place(index);
        self.chunks.get(chunk)?.get()?.get(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::valgrind;
    use std::collections::HashSet;

    #[test]
    fn a_handle_is_given_up_once() {
        let handles = Handles::new();
        let number = handles.make().unwrap();
        assert_eq!(handles.state(number), HandleState::Live);
        assert!(handles.give_up(number));
        assert_eq!(handles.state(number), HandleState::GivenUp);
        assert!(!handles.give_up(number));
        assert_eq!(handles.state(number + 1), HandleState::Unknown);
        assert_eq!(handles.state(u32::MAX), HandleState::Unknown);
    }

    #[test]
    fn a_million_handles_one_after_another_have_different_numbers() {
        let handles = Handles::new();
        let mut seen = HashSet::new();
        for _ in 0..valgrind::rounds(1_000_000) {
            let number = handles.make().unwrap();
            assert!(seen.insert(number));
            assert!(handles.give_up(number));
        }
        assert_eq!(handles.unused.lock().unwrap().made as usize, MAX_HANDLES, "cells are used again");
    }

    #[test]
    fn live_handles_are_limited_and_differ() {
        let handles = Handles::new();
        let live: HashSet<u32> = (0..MAX_HANDLES).map(|_| handles.make().unwrap()).collect();
        assert_eq!(live.len(), MAX_HANDLES);
        assert_eq!(handles.make(), Err(HandleError::TooMany));
        assert!(handles.give_up(*live.iter().next().unwrap()));
        assert!(handles.make().is_ok());
    }
}
