//! The ledger: the state of every slot of a class, kept apart from the buffers themselves.
//!
//! One 32-bit entry per slot. A user who writes past a buffer cannot reach it, and a put reads no byte of the
//! buffer. Between two gets of a slot exactly one compare-exchange from "outstanding" to "idle" can succeed,
//! whatever threads race: that is the whole double-put and wrong-size check.
//!
//! ```text
//! entry   0            idle or fresh: nobody may put it
//!         1 + n        outstanding as a raw pointer, requested with n bytes
//!         u32::MAX     outstanding in a PooledBuffer: no raw put matches it
//! ```
//!
//! Every access is Relaxed: an entry is the only word its decision rests on. What the owners wrote into the
//! buffer is published by the shelf (Release when a slot is put, Acquire when it is taken).

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::memory::{self, OutOfMemory};

/// An entry's value.
pub(crate) type Mark = u32;

/// Idle or fresh.
pub(crate) const NOBODY: Mark = 0;
/// In a `PooledBuffer`.
pub(crate) const OWNED: Mark = u32::MAX;

/// Out as a raw pointer asked for with `size` bytes. Only for sizes up to [`MAX_BUFFER_SIZE`]; others give
/// some mark that must not be used.
#[inline(always)]
pub(crate) fn raw(size: usize) -> Mark {
    (size as u32).wrapping_add(1)
}

/// The largest buffer size whose every requested size fits an entry, in bytes.
pub(crate) const MAX_BUFFER_SIZE: usize = (u32::MAX - 2) as usize;

/// Who holds an outstanding buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The owner of a raw pointer; the size asked for, in bytes.
    Raw(usize),
    /// A `PooledBuffer`.
    Owned,
}

impl Holder {
    /// As a ledger entry.
    #[inline]
    pub(crate) fn mark(self) -> Mark {
        encode(Some(self))
    }
}

/// A slot's holder, as its entry; `None` while nobody has it.
#[inline]
fn encode(holder: Option<Holder>) -> Mark {
    match holder {
        None => NOBODY,
        Some(Holder::Owned) => OWNED,
        Some(Holder::Raw(size)) => raw(size),
    }
}

#[inline]
fn decode(entry: Mark) -> Option<Holder> {
    match entry {
        NOBODY => None,
        OWNED => Some(Holder::Owned),
        n => Some(Holder::Raw(n as usize - 1)),
    }
}

/// The entries of one class.
pub(crate) struct Ledger {
    entries: Box<[AtomicU32]>,
}

impl Ledger {
    pub(crate) fn new(slots: u32) -> Result<Self, OutOfMemory> {
        Ok(Self { entries: memory::zeroed_slice(slots as usize)? })
    }

    /// Who holds `slot` now.
    #[inline]
    pub(crate) fn holder(&self, slot: u32) -> Option<Holder> {
        decode(self.entry(slot).load(Relaxed))
    }

    /// Sets the holder (of a size up to [`MAX_BUFFER_SIZE`]) of a slot that the caller alone has: one it just
    /// took, or one in a `PooledBuffer`.
    #[inline]
    pub(crate) fn set(&self, slot: u32, holder: Option<Holder>) {
        self.entry(slot).store(encode(holder), Relaxed);
    }

    /// Passes `slot` from `from` to `to`. Of racing callers with the same `from` one succeeds; `false` if the
    /// holder is another.
    #[inline]
    pub(crate) fn pass(&self, slot: u32, from: Holder, to: Option<Holder>) -> bool {
        self.entry(slot).compare_exchange(encode(Some(from)), encode(to), Relaxed, Relaxed).is_ok()
    }

    /// The first entry, for the fast path, which checks slot numbers itself.
    pub(crate) fn first_entry(&self) -> *const AtomicU32 {
        self.entries.as_ptr()
    }

    #[inline]
    fn entry(&self, slot: u32) -> &AtomicU32 {
        &self.entries[slot as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_survive_encoding() {
        let raw = [0, 1, MAX_BUFFER_SIZE].map(|size| Some(Holder::Raw(size)));
        for holder in raw.into_iter().chain([None, Some(Holder::Owned)]) {
            assert_eq!(decode(encode(holder)), holder);
        }
    }

    #[test]
    fn of_racing_puts_exactly_one_wins() {
        let ledger = Ledger::new(1).unwrap();
        for size in 0..2000 {
            ledger.set(0, Some(Holder::Raw(size)));
            let wins: usize = std::thread::scope(|scope| {
                let put = || usize::from(ledger.pass(0, Holder::Raw(size), None));
                let threads = [scope.spawn(put), scope.spawn(put)];
                threads.into_iter().map(|t| t.join().unwrap()).sum()
            });
            assert_eq!(wins, 1);
            assert_eq!(ledger.holder(0), None);
        }
    }
}
