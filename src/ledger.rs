//! The ledger: the state of every slot of a class, kept apart from the buffers themselves.
//!
//! One 64-bit entry per slot. A user who writes past a buffer cannot reach it, and a put reads no byte of the
//! buffer. Between two gets of a slot exactly one put takes it from its holder, whatever threads race: that
//! is the whole double-put and wrong-size check.
//!
//! ```text
//! entry   63       62 ....... 32   31 .......... 0
//!         0        0               0                  idle or fresh: nobody may put it
//!         0        getter or 0     1 + n              outstanding as a raw pointer, requested with n bytes
//!         1        claimant        claim's number     put by a thread that is not its getter, not settled yet
//!         1 ................................... 1     outstanding in a PooledBuffer: no raw put matches it
//! ```
//!
//! **Getters.** An atomic exchange costs more than all other checks together, so an entry leans towards the
//! thread that got the slot. On the fast path its *getter* reads the entry and then writes it, plainly; every
//! other thread *claims* it by an atomic exchange, waits for the getters, and then looks whether its claim
//! still stands ([`Ledger::pass`], or for many claims at once the thread cache).
//!
//! - The getter read the claim: its put is a double put.
//! - The getter read the entry before the claim: the claim is overwritten. The claimant's wait is the
//!   getter's partner ([`wait_for_getters`](crate::thread_cache::wait_for_getters)): after it no getter is
//!   between its read and its write, and those to come read the claim. So a claim that stands, stands for
//!   good.
//!
//! Only the winner puts the slot back into circulation. The getter's own slow paths exchange atomically.
//!
//! (One unlocked `cmpxchg` of the getter would save the wait, as no interrupt divides it. But it writes what
//! it read even where it refuses: stopped before it, the getter would write over whoever has the slot by
//! then.)
//!
//! Every access is Relaxed: an entry is the only word its decision rests on. What the owners wrote into the
//! buffer is published by the shelf (Release when a slot is put, Acquire when it is taken).

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::memory::{self, OutOfMemory};

/// An entry's value.
pub(crate) type Mark = u64;

/// Idle or fresh.
pub(crate) const NOBODY: Mark = 0;
/// In a `PooledBuffer`.
pub(crate) const OWNED: Mark = Mark::MAX;

const GETTER_SHIFT: u32 = 32;
const CLAIMED: Mark = 1 << 63;

/// Threads have numbers from 1 to this.
pub(crate) const MAX_THREADS: u32 = (1 << 31) - 2;

/// What a size is added to for the mark of a raw pointer with a getter, or with 0 for none.
#[inline(always)]
pub(crate) const fn raw_base(getter: Mark) -> Mark {
    getter + 1
}

/// Out as a raw pointer asked for with `size` bytes (at most [`MAX_BUFFER_SIZE`]), without a getter.
fn raw(size: usize) -> Mark {
    Holder::Raw(size).mark(raw_base(0))
}

/// What a thread adds to the raw marks of slots it gets.
pub(crate) const fn getter(thread: u32) -> Mark {
    (thread as Mark) << GETTER_SHIFT
}

/// The mark of a claim; `getter` is the claimant's.
pub(crate) fn claim(getter: Mark, number: u32) -> Mark {
    CLAIMED | getter | Mark::from(number)
}

/// Whether a mark is of a raw pointer with this getter, a thread's.
#[inline(always)]
pub(crate) fn is_raw_of(mark: Mark, getter: Mark) -> bool {
    debug_assert_ne!(getter, 0);
    // Other marks never have a thread's number where a getter stands.
    mark >> GETTER_SHIFT == getter >> GETTER_SHIFT
}

/// Whether a mark is of a raw pointer that anybody may put by an atomic exchange.
pub(crate) fn has_no_getter(mark: Mark) -> bool {
    mark >> GETTER_SHIFT == 0
}

/// The size asked for, if a mark is of a raw pointer.
#[inline]
pub(crate) fn raw_size(mark: Mark) -> Option<usize> {
    match decode(mark) {
        Some(Holder::Raw(size)) => Some(size),
        _ => None,
    }
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
    /// As a ledger entry; for a raw pointer of a size up to [`MAX_BUFFER_SIZE`], with the getter of this
    /// [`raw_base`].
    #[inline(always)]
    pub(crate) fn mark(self, raw_base: Mark) -> Mark {
        match self {
            Holder::Owned => OWNED,
            Holder::Raw(size) => {
                debug_assert!(size <= MAX_BUFFER_SIZE);
                raw_base + size as Mark
            }
        }
    }
}

/// A slot's holder, as its entry without a getter; `None` while nobody has it.
#[inline]
fn encode(holder: Option<Holder>) -> Mark {
    match holder {
        None => NOBODY,
        Some(holder) => holder.mark(raw_base(0)),
    }
}

#[inline]
fn decode(mark: Mark) -> Option<Holder> {
    match mark {
        OWNED => Some(Holder::Owned),
        NOBODY | CLAIMED.. => None,
        _ => Some(Holder::Raw(mark as u32 as usize - 1)),
    }
}

/// The entries of one class.
pub(crate) struct Ledger {
    entries: Box<[AtomicU64]>,
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
    ///
    /// `own` is the calling thread's getter, 0 for none. `wait_for_getters` is run between another's claim and
    /// the look at it.
    pub(crate) fn pass(
        &self,
        slot: u32,
        from: Holder,
        to: Option<Holder>,
        own: Mark,
        wait_for_getters: impl FnOnce(),
    ) -> bool {
        let entry = self.entry(slot);
        let found = entry.load(Relaxed);
        if decode(found) != Some(from) {
            return false;
        }
        if has_no_getter(found) || found == OWNED || found >> GETTER_SHIFT == own >> GETTER_SHIFT {
            return entry.compare_exchange(found, encode(to), Relaxed, Relaxed).is_ok();
        }
        // Numbered from all threads, so that no other claim is taken for this one.
        static CLAIMS: AtomicU32 = AtomicU32::new(0);
        let claim = claim(getter(0), CLAIMS.fetch_add(1, Relaxed));
        if entry.compare_exchange(found, claim, Relaxed, Relaxed).is_err() {
            return false;
        }
        wait_for_getters();
        entry.compare_exchange(claim, encode(to), Relaxed, Relaxed).is_ok()
    }

    /// Changes the size of an outstanding raw buffer that the caller owns. As [`pass`](Self::pass), but its
    /// getter stays: a put of it that races is misuse, and wins.
    pub(crate) fn resize(&self, slot: u32, from: usize, to: usize) -> bool {
        let entry = self.entry(slot);
        let found = entry.load(Relaxed);
        raw_size(found) == Some(from)
            && entry.compare_exchange(found, found - raw(from) + raw(to), Relaxed, Relaxed).is_ok()
    }

    /// The first entry, for the fast path, which checks slot numbers itself.
    pub(crate) fn first_entry(&self) -> *const AtomicU64 {
        self.entries.as_ptr()
    }

    #[inline]
    fn entry(&self, slot: u32) -> &AtomicU64 {
        &self.entries[slot as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::valgrind;

    #[test]
    fn holders_survive_encoding() {
        let raw = [0, 1, MAX_BUFFER_SIZE].map(|size| Some(Holder::Raw(size)));
        for holder in raw.into_iter().chain([None, Some(Holder::Owned)]) {
            assert_eq!(decode(encode(holder)), holder);
        }
    }

    #[test]
    fn a_getter_changes_no_holder_and_a_claim_is_none() {
        for size in [0, 1, MAX_BUFFER_SIZE] {
            for thread in [1, 2, MAX_THREADS] {
                assert_eq!(decode(getter(thread) | raw(size)), Some(Holder::Raw(size)));
                assert!(is_raw_of(getter(thread) | raw(size), getter(thread)));
                assert!(!is_raw_of(getter(thread) | raw(size), getter(thread + 1)));
            }
        }
        for thread in [0, 1, MAX_THREADS] {
            for number in [0, 1, u32::MAX] {
                let claim = claim(getter(thread), number);
                assert_eq!(decode(claim), None);
                assert!(!has_no_getter(claim));
                assert!(thread == 0 || !is_raw_of(claim, getter(thread)));
            }
            if thread != 0 {
                assert!(!is_raw_of(NOBODY, getter(thread)) && !is_raw_of(OWNED, getter(thread)));
            }
        }
    }

    /// The first caller gets the slot, the others race to put it.
    fn race(ledger: &Ledger, getter: Mark, size: usize, puts: &[&(dyn Fn() -> bool + Sync)]) -> usize {
        ledger.entry(0).store(getter | raw(size), Relaxed);
        std::thread::scope(|scope| {
            let threads: Vec<_> = puts.iter().map(|put| scope.spawn(|| usize::from(put()))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        })
    }

    #[test]
    fn of_racing_puts_exactly_one_wins() {
        let ledger = Ledger::new(1).unwrap();
        for size in 0..valgrind::rounds(2000) {
            let put = || ledger.pass(0, Holder::Raw(size), None, 0, || ());
            assert_eq!(race(&ledger, getter(0), size, &[&put, &put]), 1);
            assert_eq!(ledger.holder(0), None);
        }
    }

    #[test]
    fn a_resize_keeps_the_getter() {
        let ledger = Ledger::new(1).unwrap();
        ledger.entry(0).store(getter(7) | raw(100), Relaxed);
        assert!(!ledger.resize(0, 99, 5));
        assert!(ledger.resize(0, 100, 5));
        assert_eq!(ledger.entry(0).load(Relaxed), getter(7) | raw(5));
    }
}
