//! The ledger: the state of every slot of a class, kept apart from the buffers themselves.
//!
//! One 64-bit mark per slot. A user who writes past a buffer cannot reach it, and a put reads no byte of the
//! buffer. Between two gets of a slot exactly one put takes it from its holder, whatever threads race: that
//! is the whole double-put and wrong-size check.
//!
//! ```text
//! mark    63       62 ....... 32   31 .......... 0
//!         0        0               0                  idle or fresh: nobody may put it
//!         0        bias or 0       1 + n              outstanding as a raw pointer, requested with n bytes
//!         1        claimant        claim's number     put by a thread that is not its bias owner, not settled yet
//!         1 ................................... 1     outstanding in a PooledBuffer: no raw put matches it
//! ```
//!
//! **Bias.** An atomic exchange costs more than all other checks together, so a mark may be biased to the thread that
//! got the slot. On the fast path its *bias owner* reads the mark and then writes it, plainly. Every other thread
//! *claims* it by an atomic exchange, waits for the fast paths, and then looks whether its claim still stands
//! ([`Ledger::pass`], or for many claims at once the thread cache).
//!
//! - The bias owner read the claim: its put is a double put.
//! - The bias owner read the mark before the claim: the claim is overwritten. The claimant's wait is the bias owner's
//!   partner ([`wait_for_fast_paths`](crate::os::thread_state::wait_for_fast_paths)): after it no bias owner is between
//!   its read and its write, and those to come read the claim. So a claim that stands, stands for good.
//!
//! Only the winner puts the slot back into circulation. The bias owner's own slow paths exchange atomically.
//!
//! One unlocked `cmpxchg` of the bias owner would save the wait, as no interrupt divides it. But it writes what it read
//! even where it refuses: stopped before it, the bias owner would write over whoever has the slot by then.
//!
//! Every access is Relaxed: a mark is the only word its decision rests on. What the owners wrote into the
//! buffer is published by the shelf (Release when a slot is put, Acquire when it is taken).

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::books::{Books, Words};
use crate::os::bits::bits_of;
use crate::os::region::page_size;
use crate::os::thread_state::MAX_THREADS;

/// A mark's value.
pub(crate) type Mark = u64;

/// Idle or fresh.
pub(crate) const NOBODY: Mark = 0;
/// In a `PooledBuffer`.
pub(crate) const OWNED: Mark = Mark::MAX;

const BIAS_SHIFT: u32 = 32;
const CLAIMED: Mark = 1 << 63;
// A thread's number fits between the two, and is never that of `OWNED`.
const _: () = assert!(MAX_THREADS < (1 << 31) - 1);

/// What a size is added to for the mark of a raw pointer with a bias, or with 0 for none.
#[inline(always)]
pub(crate) const fn raw_base(bias: Mark) -> Mark {
    bias + 1
}

/// Out as a raw pointer asked for with `size` bytes (at most [`MAX_BUFFER_SIZE`]), without a bias.
fn raw(size: usize) -> Mark {
    Holder::Raw(size).mark(raw_base(0))
}

/// What a thread adds to the raw marks of slots that are biased to it; 0 for no thread.
pub(crate) const fn bias_to(thread: u32) -> Mark {
    (thread as Mark) << BIAS_SHIFT
}

/// The mark of a claim; `bias` is the claimant's.
pub(crate) fn claim(bias: Mark, number: u32) -> Mark {
    CLAIMED | bias | Mark::from(number)
}

/// Whether a mark is of a raw pointer with this bias, a thread's.
#[inline(always)]
pub(crate) fn is_biased(mark: Mark, bias: Mark) -> bool {
    debug_assert_ne!(bias, 0);
    // Other marks never have a thread's number where the bias stands.
    mark >> BIAS_SHIFT == bias >> BIAS_SHIFT
}

/// Whether a mark is of a raw pointer that anybody may put by an atomic exchange, or of nobody.
#[inline(always)]
pub(crate) fn is_unbiased(mark: Mark) -> bool {
    mark >> BIAS_SHIFT == 0
}

/// The size asked for, if a mark is of a raw pointer.
#[inline]
pub(crate) fn raw_size(mark: Mark) -> Option<usize> {
    match decode(mark) {
        Some(Holder::Raw(size)) => Some(size),
        _ => None,
    }
}

/// The largest buffer size whose every requested size fits a mark, in bytes.
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
    /// As a mark; for a raw pointer of a size up to [`MAX_BUFFER_SIZE`], with the bias of this
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

/// A slot's holder, as its mark without a bias; `None` while nobody has it.
#[inline]
fn encode(holder: Option<Holder>) -> Mark {
    match holder {
        None => NOBODY,
        Some(holder) => holder.mark(raw_base(0)),
    }
}

/// The holder that a mark is of; `None` if nobody has the slot.
#[inline]
pub(crate) fn decode(mark: Mark) -> Option<Holder> {
    match mark {
        OWNED => Some(Holder::Owned),
        NOBODY | CLAIMED.. => None,
        _ => Some(Holder::Raw(mark as u32 as usize - 1)),
    }
}

/// The marks of one class.
pub(crate) struct Ledger {
    marks: Words,
    /// A bit for each page of marks that may be memory: some slot of it was got since the page was given back.
    used: Words,
}

impl Ledger {
    /// With a mark for each of so many slots. It begins two parts of the books.
    pub(crate) fn new(slots: u32, books: &mut Books) -> Self {
        let marks = books.take_pages(slots as usize);
        Self { marks, used: books.take_pages(Self::more_words_of(slots)) }
    }

    /// How many words it takes besides its marks.
    pub(super) fn more_words_of(slots: u32) -> usize {
        (slots as usize).div_ceil(Self::marks_per_page()).div_ceil(64)
    }

    pub(super) fn marks_per_page() -> usize {
        page_size() / size_of::<Mark>()
    }

    /// Notes that the mark of a slot, which was fresh and is the caller's, is going to be written.
    pub(crate) fn use_first(&self, slot: u32) {
        let page = slot as usize / Self::marks_per_page();
        let (word, bit) = (&self.used[page / 64], 1 << (page % 64));
        // Relaxed: the page is given back only while all of its slots are fresh, and known to be.
        if word.load(Relaxed) & bit == 0 {
            word.fetch_or(bit, Relaxed);
        }
    }

    /// The pages of marks that may be memory, by number.
    pub(super) fn used_pages(&self) -> impl Iterator<Item = usize> {
        let words = self.used.iter().enumerate();
        words.flat_map(|(at, word)| bits_of(word.load(Relaxed)).map(move |bit| at * 64 + bit as usize))
    }

    /// Gives a page of marks back.
    ///
    /// # Safety
    /// - all of them are zero, and nobody writes one meanwhile
    pub(super) unsafe fn discard_page(&self, books: &Books, page: usize) {
        let start = page * Self::marks_per_page();
        // SAFETY:
        // - as the caller promised
        if unsafe { self.marks.discard(books, start, start + Self::marks_per_page()) } {
            self.used[page / 64].fetch_and(!(1 << (page % 64)), Relaxed);
        }
    }

    /// Who holds `slot` now.
    #[inline]
    pub(crate) fn holder(&self, slot: u32) -> Option<Holder> {
        decode(self.word(slot).load(Relaxed))
    }

    /// Sets the holder (of a size up to [`MAX_BUFFER_SIZE`]) of a slot that the caller alone has: one it just
    /// took, or one in a `PooledBuffer`.
    #[inline]
    pub(crate) fn set(&self, slot: u32, holder: Option<Holder>) {
        self.word(slot).store(encode(holder), Relaxed);
    }

    /// The mark of `slot` now.
    #[inline]
    pub(crate) fn mark(&self, slot: u32) -> Mark {
        self.word(slot).load(Relaxed)
    }

    /// Passes an outstanding slot from the holder that was found, a mark of [`mark`](Self::mark), to another, or to
    /// nobody. Of racing callers that found the same one succeeds; `false` if the mark is another by now.
    ///
    /// A raw buffer that stays raw keeps its bias: a put of it that races is misuse, and wins.
    ///
    /// `own` is the calling thread's bias, 0 for none. `wait_for_fast_paths` is run between a claim of what is biased
    /// to another thread and the look at it.
    pub(crate) fn pass(
        &self,
        slot: u32,
        found: Mark,
        to: Option<Holder>,
        own: Mark,
        wait_for_fast_paths: impl FnOnce(),
    ) -> bool {
        let word = self.word(slot);
        let exchange = |from: Mark, to: Mark| word.compare_exchange(from, to, Relaxed, Relaxed).is_ok();
        match (decode(found), to) {
            (None, _) => return false,
            (Some(Holder::Raw(from)), Some(Holder::Raw(to))) => {
                return exchange(found, found - raw(from) + raw(to));
            }
            _ if is_unbiased(found) || found == OWNED || found >> BIAS_SHIFT == own >> BIAS_SHIFT => {
                return exchange(found, encode(to));
            }
            _ => {}
        }
        // Numbered from all threads, so that no other claim is taken for this one.
        static CLAIMS: AtomicU32 = AtomicU32::new(0);
        let claim = claim(bias_to(0), CLAIMS.fetch_add(1, Relaxed));
        if !exchange(found, claim) {
            return false;
        }
        wait_for_fast_paths();
        exchange(claim, encode(to))
    }

    /// The first mark, for the fast path, which checks slot numbers itself.
    pub(crate) fn first_entry(&self) -> *const AtomicU64 {
        self.marks.as_ptr()
    }

    #[inline]
    fn word(&self, slot: u32) -> &AtomicU64 {
        &self.marks[slot as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::valgrind;

    /// Of one slot.
    fn ledger() -> (Books, Ledger) {
        let mut books = Books::with_parts([1, Ledger::more_words_of(1)]).unwrap();
        let ledger = Ledger::new(1, &mut books);
        (books, ledger)
    }

    #[test]
    fn holders_survive_encoding() {
        let raw = [0, 1, MAX_BUFFER_SIZE].map(|size| Some(Holder::Raw(size)));
        for holder in raw.into_iter().chain([None, Some(Holder::Owned)]) {
            assert_eq!(decode(encode(holder)), holder);
        }
    }

    #[test]
    fn a_bias_changes_no_holder_and_a_claim_is_none() {
        for size in [0, 1, MAX_BUFFER_SIZE] {
            for thread in [1, 2, MAX_THREADS] {
                assert_eq!(decode(bias_to(thread) | raw(size)), Some(Holder::Raw(size)));
                assert!(is_biased(bias_to(thread) | raw(size), bias_to(thread)));
                assert!(!is_biased(bias_to(thread) | raw(size), bias_to(thread + 1)));
            }
        }
        for thread in [0, 1, MAX_THREADS] {
            for number in [0, 1, u32::MAX] {
                let claim = claim(bias_to(thread), number);
                assert_eq!(decode(claim), None);
                assert!(!is_unbiased(claim));
                assert!(thread == 0 || !is_biased(claim, bias_to(thread)));
            }
            if thread != 0 {
                assert!(!is_biased(NOBODY, bias_to(thread)) && !is_biased(OWNED, bias_to(thread)));
            }
        }
    }

    #[test]
    fn of_racing_puts_exactly_one_wins() {
        let (_books, ledger) = ledger();
        for size in 0..valgrind::rounds(2000) {
            ledger.set(0, Some(Holder::Raw(size)));
            let found = ledger.mark(0);
            let won: usize = std::thread::scope(|scope| {
                let put = || usize::from(ledger.pass(0, found, None, 0, || ()));
                [scope.spawn(put), scope.spawn(put)].map(|thread| thread.join().unwrap()).iter().sum()
            });
            assert_eq!(won, 1);
            assert_eq!(ledger.holder(0), None);
        }
    }

    #[test]
    fn a_raw_buffer_that_stays_raw_keeps_its_bias() {
        let (_books, ledger) = ledger();
        ledger.word(0).store(bias_to(7) | raw(100), Relaxed);
        let to = Some(Holder::Raw(5));
        assert!(!ledger.pass(0, bias_to(7) | raw(99), to, 0, || panic!("nothing to wait for")));
        assert!(ledger.pass(0, bias_to(7) | raw(100), to, 0, || panic!("nothing to wait for")));
        assert_eq!(ledger.mark(0), bias_to(7) | raw(5));
        assert!(!ledger.pass(0, NOBODY, to, 0, || ()));
    }
}
