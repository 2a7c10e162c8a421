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
//!         1        end's number    1 + n              the same, and its bias is being ended
//!         1 ............... 1  n                  shared by n: no raw put matches it
//!         1 ................................... 1     outstanding in a PooledBuffer: the same
//! ```
//!
//! **The mark says how the slot is put.** Without a bias anybody puts it, by a compare-exchange. That costs more than
//! all other checks together, so a mark may be biased to the thread that got the slot. On the fast path its *bias
//! owner* reads the mark and then writes it, plainly. Every other thread [ends the bias](Ledger::end_bias) first: it
//! replaces the mark by one that says so, waits until the bias owner is not in the fast path, and takes the bias off
//! what is still there. Then it puts by compare-exchange.
//!
//! - The bias owner reads that the bias is being ended: it puts as every other thread does.
//! - The bias owner read the mark before: its write may come after the first exchange, and is a put that won. The wait
//!   is its partner ([`wait_for_fast_path`](crate::os::thread_state::wait_for_fast_path)): after it the bias owner is
//!   not between its read and its write, and reads what was written since. So what is still there, stays.
//!
//! Each end of a bias has a number, so that no thread takes a bias off without having waited for its owner. A thread
//! that finds an end under way does the wait itself and finishes the end. So a thread that is stopped in the middle
//! delays no other.
//!
//! The bias owner's own slow paths exchange atomically.
//!
//! One unlocked `cmpxchg` of the bias owner would save the wait, as no interrupt divides it. But it writes what it read
//! even where it refuses: stopped before it, the bias owner would write over whoever has the slot by then.
//!
//! Every access is Relaxed, but a sharer's release of its share, and the last sharer's load: a mark is the only word
//! its decision rests on. The shelf publishes what the owners wrote into the buffer: Release when a slot is put,
//! Acquire when it is taken.
//!
//! **Sharers** count themselves in the mark. The last one has the slot alone, and becomes its owner.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU32, AtomicU64};

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
/// Of a mark whose bias is being ended.
const ENDING: Mark = 1 << 63;
/// How many numbers there are for ends of a bias. So few keep such marks apart from [`SHARED`].
const END_NUMBERS: u32 = 1 << 30;
/// A shared slot's mark is this and the number of sharers. From here on no mark is of a raw pointer.
const SHARED: Mark = !SIZE_BITS;
/// The most sharers. As many threads again may add a share at once, before each takes its own off again. Even then the
/// count does not reach [`OWNED`].
pub(crate) const MAX_SHARERS: u32 = 1 << 31;
/// Of a raw mark: the size plus 1.
const SIZE_BITS: Mark = (1 << BIAS_SHIFT) - 1;
// A thread's number fits between the two, and no end's number makes a mark a shared one.
const _: () = assert!(MAX_THREADS < 1 << 31);
const _: () = assert!((ENDING | bias_to(END_NUMBERS - 1) | SIZE_BITS) < SHARED);

/// The marks whose bias ends together: those of one thread among so many neighbours. One wait costs more than to look
/// at them all.
const END_TOGETHER: usize = if cfg!(bytepool_shuttle) { 4 } else { 512 };

/// What a size is added to for the mark of a raw pointer with a bias, or with 0 for none.
#[inline(always)]
pub(crate) const fn raw_base(bias: Mark) -> Mark {
    bias + 1
}

/// Out as a raw pointer asked for with `size` bytes, without a bias. That is at most [`MAX_BUFFER_SIZE`].
#[inline]
fn raw(size: usize) -> Mark {
    Holder::Raw(size).mark(raw_base(0))
}

/// What a thread adds to the raw marks of slots that are biased to it; 0 for no thread.
pub(crate) const fn bias_to(thread: u32) -> Mark {
    (thread as Mark) << BIAS_SHIFT
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

/// Whether a mark is of a raw pointer that this thread may put only after it [ended a bias](Ledger::end_bias); `own` is
/// the thread's bias, 0 for none.
#[inline]
pub(crate) fn is_biased_to_another(mark: Mark, own: Mark) -> bool {
    mark < SHARED && !is_unbiased(mark) && mark >> BIAS_SHIFT != own >> BIAS_SHIFT
}

/// A raw mark after the [end of its bias](Ledger::end_bias).
pub(crate) fn without_bias(mark: Mark) -> Mark {
    mark & SIZE_BITS
}

/// The thread that a mark is biased to. `None`: its bias is being ended, so it does not say.
fn bias_owner(mark: Mark) -> Option<u32> {
    debug_assert!(mark < SHARED && !is_unbiased(mark));
    (mark & ENDING == 0).then_some((mark >> BIAS_SHIFT) as u32)
}

/// A raw mark with another size; its bias stays.
#[inline]
pub(crate) fn with_size(mark: Mark, size: usize) -> Mark {
    mark & !SIZE_BITS | raw(size)
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
    /// So many that share it, at least one.
    Shared(u32),
}

impl Holder {
    /// As a mark; for a raw pointer of a size up to [`MAX_BUFFER_SIZE`], with the bias of this
    /// [`raw_base`].
    #[inline(always)]
    pub(crate) fn mark(self, raw_base: Mark) -> Mark {
        match self {
            Holder::Owned => OWNED,
            Holder::Shared(sharers) => SHARED | Mark::from(sharers),
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
        NOBODY => None,
        _ if mark >= SHARED => Some(Holder::Shared(mark as u32)),
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
    /// With a mark for each of so many slots. It takes two parts of the books: the marks, and the bits of used pages.
    /// The shelf's words follow in the second.
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

    /// Sets the holder of a slot that the caller alone has: one it just took, or one in a `PooledBuffer`. A size is at
    /// most [`MAX_BUFFER_SIZE`].
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
    /// A raw buffer that stays raw keeps its bias: a put of it that races is misuse, and wins. Otherwise the mark is
    /// not [biased to another](is_biased_to_another) thread, and the caller is not in the fast path.
    pub(crate) fn pass(&self, slot: u32, found: Mark, to: Option<Holder>) -> bool {
        let new = match (decode(found), to) {
            (None, _) => return false,
            (Some(Holder::Raw(_)), Some(Holder::Raw(size))) => with_size(found, size),
            _ => encode(to),
        };
        self.word(slot).compare_exchange(found, new, Relaxed, Relaxed).is_ok()
    }

    /// Ends the bias of a mark that was found biased to another thread, and of the same thread's nearby. It writes only
    /// what is outstanding. `wait_for_fast_path` is run in the middle, with the bias owner's number, or with none for
    /// all threads.
    pub(crate) fn end_bias(&self, slot: u32, found: Mark, wait_for_fast_path: impl FnOnce(Option<u32>)) {
        let (owner, nearby) = (bias_owner(found), self.nearby(slot));
        let ending = if owner.is_some() {
            // A number of all threads' ends, which comes back after 2^30: none is under way that long.
            static ENDS: AtomicU32 = AtomicU32::new(0);
            let ending = ENDING | bias_to(ENDS.fetch_add(1, Relaxed) % END_NUMBERS);
            replace_bias(nearby, found, ending);
            ending
        } else {
            found
        };
        wait_for_fast_path(owner);
        replace_bias(nearby, ending, 0);
    }

    /// Counts another sharer of a slot that the caller shares. `false`: there are [too many](MAX_SHARERS).
    pub(crate) fn add_sharer(&self, slot: u32) -> bool {
        let word = self.word(slot);
        // Relaxed: the caller's own share keeps the slot, and whoever gets the new one is told by other means.
        let before = word.fetch_add(1, Relaxed);
        debug_assert!(matches!(decode(before), Some(Holder::Shared(1..))));
        let fits = before - SHARED < Mark::from(MAX_SHARERS);
        if !fits {
            word.fetch_sub(1, Relaxed);
        }
        fits
    }

    /// Where the mark of `slot` is.
    pub(crate) fn entry(&self, slot: u32) -> *const AtomicU64 {
        self.word(slot)
    }

    /// Gives up the share that the caller has, of the slot with this [`entry`](Self::entry). `true`: it was the last,
    /// and the caller is the slot's owner now. Else the slot and its pool, this ledger too, may be gone before this
    /// returns. So it borrows nothing of them.
    ///
    /// # Safety
    /// - the slot is shared, and one share is the caller's, who does not use it any more
    pub(crate) unsafe fn remove_sharer(entry: *const AtomicU64) -> bool {
        // SAFETY:
        // - the caller's share keeps the ledger until the decrement, which is the last access unless it was the last
        //   share: then the owner's reference keeps it
        let word = unsafe { &*entry };
        // Release: this sharer's reads come before the last sharer's load below, or that in `take_from_sharer`.
        let before = word.fetch_sub(1, Release);
        debug_assert!(matches!(decode(before), Some(Holder::Shared(1..))));
        before == SHARED + 1 && {
            // Acquire: what the others did with the buffer before they gave their shares up. A load instead of a fence,
            // which ThreadSanitizer does not understand.
            word.load(Acquire);
            word.store(OWNED, Relaxed);
            true
        }
    }

    /// Makes the only sharer, the caller, the slot's owner. `false`: there are others.
    pub(crate) fn take_from_sharer(&self, slot: u32) -> bool {
        let word = self.word(slot);
        // Acquire: partner in `remove_sharer`. Nobody else can add a sharer to a single one.
        let is_sole = word.load(Acquire) == SHARED + 1;
        if is_sole {
            word.store(OWNED, Relaxed);
        }
        is_sole
    }

    fn nearby(&self, slot: u32) -> &[AtomicU64] {
        let start = slot as usize / END_TOGETHER * END_TOGETHER;
        let words = &self.marks[start..];
        &words[..words.len().min(END_TOGETHER)]
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

/// Gives those marks that have the bias of `old`, or its end's number, that of `new`.
fn replace_bias(words: &[AtomicU64], old: Mark, new: Mark) {
    for word in words {
        let mark = word.load(Relaxed);
        if mark >> BIAS_SHIFT == old >> BIAS_SHIFT {
            // One that changes meanwhile was put, or got another size. Then who puts it looks again.
            let _ = word.compare_exchange(mark, new & !SIZE_BITS | mark & SIZE_BITS, Relaxed, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::valgrind;

    /// Of so many slots.
    fn ledger(slots: u32) -> (Books, Ledger) {
        let mut books = Books::with_parts([slots as usize, Ledger::more_words_of(slots)]).unwrap();
        let ledger = Ledger::new(slots, &mut books);
        (books, ledger)
    }

    #[test]
    fn holders_survive_encoding() {
        let raw = [0, 1, MAX_BUFFER_SIZE].map(|size| Some(Holder::Raw(size)));
        let shared = [1, 2, MAX_SHARERS, u32::MAX - 1].map(|sharers| Some(Holder::Shared(sharers)));
        for holder in raw.into_iter().chain(shared).chain([None, Some(Holder::Owned)]) {
            assert_eq!(decode(encode(holder)), holder);
        }
    }

    #[test]
    fn a_bias_changes_no_holder_nor_does_its_end() {
        for size in [0, 1, MAX_BUFFER_SIZE] {
            for thread in [1, 2, MAX_THREADS] {
                let biased = bias_to(thread) | raw(size);
                assert_eq!(decode(biased), Some(Holder::Raw(size)));
                assert!(is_biased(biased, bias_to(thread)) && !is_biased(biased, bias_to(thread + 1)));
                assert!(!is_biased_to_another(biased, bias_to(thread)));
                assert!(is_biased_to_another(biased, bias_to(thread + 1)) && is_biased_to_another(biased, 0));
            }
            for number in [0, 1, END_NUMBERS - 1] {
                let ending = ENDING | bias_to(number) | raw(size);
                assert_eq!(decode(ending), Some(Holder::Raw(size)));
                assert!(!is_unbiased(ending) && bias_owner(ending).is_none());
                for thread in [1, MAX_THREADS] {
                    assert!(is_biased_to_another(ending, bias_to(thread)));
                    assert!(!is_biased(ending, bias_to(thread)));
                }
            }
            assert!(!is_biased_to_another(raw(size), bias_to(1)) && !is_biased_to_another(raw(size), 0));
        }
        for mark in [NOBODY, OWNED, SHARED | 1, SHARED | Mark::from(u32::MAX - 1)] {
            for thread in [1, MAX_THREADS] {
                assert!(!is_biased(mark, bias_to(thread)) && !is_biased_to_another(mark, bias_to(thread)));
            }
            assert!(raw_size(mark).is_none() && is_unbiased(mark) == (mark == NOBODY));
        }
    }

    /// Of slot 0, which is shared.
    fn remove_sharer(ledger: &Ledger) -> bool {
        // SAFETY:
        // - this thread has all shares
        unsafe { Ledger::remove_sharer(ledger.entry(0)) }
    }

    #[test]
    fn the_last_sharer_owns_the_slot() {
        let (_books, ledger) = ledger(1);
        ledger.set(0, Some(Holder::Shared(1)));
        assert!(ledger.add_sharer(0));
        assert_eq!(ledger.holder(0), Some(Holder::Shared(2)));
        assert!(!ledger.take_from_sharer(0));
        assert!(!remove_sharer(&ledger));
        assert_eq!(ledger.holder(0), Some(Holder::Shared(1)));
        assert!(remove_sharer(&ledger));
        assert_eq!(ledger.holder(0), Some(Holder::Owned));
        ledger.set(0, Some(Holder::Shared(1)));
        assert!(ledger.take_from_sharer(0));
        assert_eq!(ledger.holder(0), Some(Holder::Owned));
    }

    #[test]
    fn the_count_of_sharers_refuses_to_overflow() {
        let (_books, ledger) = ledger(1);
        ledger.set(0, Some(Holder::Shared(MAX_SHARERS - 1)));
        assert!(ledger.add_sharer(0));
        for _ in 0..3 {
            assert!(!ledger.add_sharer(0));
            assert_eq!(ledger.holder(0), Some(Holder::Shared(MAX_SHARERS)));
        }
        assert!(!remove_sharer(&ledger) && ledger.add_sharer(0));
    }

    #[test]
    fn of_racing_puts_exactly_one_wins() {
        let (_books, ledger) = ledger(1);
        for size in 0..valgrind::rounds(2000) {
            ledger.set(0, Some(Holder::Raw(size)));
            let found = ledger.mark(0);
            let won: usize = std::thread::scope(|scope| {
                let put = || usize::from(ledger.pass(0, found, None));
                [scope.spawn(put), scope.spawn(put)].map(|thread| thread.join().unwrap()).iter().sum()
            });
            assert_eq!(won, 1);
            assert_eq!(ledger.holder(0), None);
        }
    }

    #[test]
    fn a_raw_buffer_that_stays_raw_keeps_its_bias() {
        let (_books, ledger) = ledger(1);
        ledger.word(0).store(bias_to(7) | raw(100), Relaxed);
        let to = Some(Holder::Raw(5));
        assert!(!ledger.pass(0, bias_to(7) | raw(99), to));
        assert!(ledger.pass(0, bias_to(7) | raw(100), to));
        assert_eq!(ledger.mark(0), bias_to(7) | raw(5));
        assert!(!ledger.pass(0, NOBODY, to));
    }

    /// Of two windows of marks, all biased to thread 7 but some of the first.
    fn biased_to_7() -> (Books, Ledger) {
        let (books, ledger) = ledger(2 * END_TOGETHER as u32 - 1);
        for slot in 0..2 * END_TOGETHER as u32 - 1 {
            ledger.word(slot).store(bias_to(7) | raw(slot as usize), Relaxed);
        }
        for (slot, mark) in [(0, NOBODY), (1, OWNED), (2, bias_to(8) | raw(2)), (3, raw(3)), (4, SHARED | 1)]
        {
            ledger.word(slot).store(mark, Relaxed);
        }
        (books, ledger)
    }

    #[test]
    fn an_end_of_bias_takes_what_one_thread_has_nearby_and_nothing_else() {
        let (_books, ledger) = biased_to_7();
        let mut waits = 0;
        ledger.end_bias(9, ledger.mark(9), |owner| {
            assert_eq!(owner, Some(7));
            assert_eq!(ledger.mark(9) & ENDING, ENDING);
            assert_eq!(ledger.holder(9), Some(Holder::Raw(9)));
            waits += 1;
        });
        assert_eq!(waits, 1);
        for (slot, mark) in [(0, NOBODY), (1, OWNED), (2, bias_to(8) | raw(2)), (3, raw(3)), (4, SHARED | 1)]
        {
            assert_eq!(ledger.mark(slot), mark);
        }
        for slot in 5..2 * END_TOGETHER as u32 - 1 {
            let bias = if (slot as usize) < END_TOGETHER { 0 } else { bias_to(7) };
            assert_eq!(ledger.mark(slot), bias | raw(slot as usize));
        }
        // The last window is shorter.
        ledger.end_bias(2 * END_TOGETHER as u32 - 2, ledger.mark(END_TOGETHER as u32), |_| ());
        assert!(is_unbiased(ledger.mark(END_TOGETHER as u32)));
    }

    /// The bias owner puts, and gets again, or who has it reallocates, while its bias ends.
    #[test]
    fn an_end_of_bias_leaves_what_changed_meanwhile() {
        let (_books, ledger) = biased_to_7();
        ledger.end_bias(9, ledger.mark(9), |_| {
            ledger.word(9).store(NOBODY, Relaxed);
            ledger.word(10).store(bias_to(7) | raw(11), Relaxed);
            assert!(ledger.pass(11, ledger.mark(11), Some(Holder::Raw(12))));
        });
        assert_eq!([9, 10, 11].map(|slot| ledger.mark(slot)), [NOBODY, bias_to(7) | raw(11), raw(12)]);
    }

    #[test]
    fn who_finds_an_end_under_way_waits_for_all_and_finishes_it() {
        let (_books, ledger) = biased_to_7();
        ledger.end_bias(9, ledger.mark(9), |_| {
            let found = ledger.mark(9);
            // Another end of a mark nearby, which this one must leave.
            ledger.end_bias(2, ledger.mark(2), |_| {
                ledger.end_bias(9, found, |owner| assert_eq!(owner, None));
                assert_eq!((ledger.mark(9), ledger.mark(10)), (raw(9), raw(10)));
                assert_eq!(ledger.mark(2) & ENDING, ENDING);
            });
            assert!(ledger.pass(9, raw(9), None));
        });
        assert_eq!(ledger.mark(9), NOBODY);
    }
}
