//! Books: the ledgers and shelf words of all classes of a pool, in a mapping of their own. On Unix a guard page on
//! either side keeps what runs out of other memory from them, and them from the slots.
//!
//! ```text
//! | guard | ledger of class 0 | words of its shelf | ledger of class 1 | words of its shelf | ... | guard |
//! ```
//!
//! The whole is readable from the start, and memory only where it was written: where slots were touched.

use std::io;
use std::ops::Deref;
use std::ptr::NonNull;

use super::huge::HugeBlocks;
use super::layout::Span;
use super::ledger::Ledger;
use super::shelf::words_of;
use crate::os::region::{Region, page_size};
use crate::sync::atomic::AtomicU64;

/// See the module documentation.
pub(crate) struct Books {
    region: Region,
    /// What is handed out, in bytes from the region's start.
    used: usize,
}

/// Words of a pool's books. They are zero at first, and valid as long as the books.
#[derive(Clone, Copy)]
pub(crate) struct Words {
    first: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY:
// - it leads to atomic words
unsafe impl Send for Words {}
// SAFETY: as for Send.
unsafe impl Sync for Words {}

impl Deref for Words {
    type Target = [AtomicU64];
    #[inline(always)]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY:
        // - the books have these words, open and zero at first, as long as they are (`Books::take`)
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl Words {
    const WORD: usize = size_of::<AtomicU64>();

    /// Gives the memory of words `start..end` back to the system. The range begins and ends with a page, and reads as
    /// zeros afterwards. `false` if the system refused.
    ///
    /// # Safety
    /// - all of them are zero, and nobody writes them meanwhile
    pub(crate) unsafe fn discard(&self, books: &Books, start: usize, end: usize) -> bool {
        debug_assert!(start < end && end <= self.len.next_multiple_of(page_size() / Self::WORD));
        let Some(offset) = books.region.offset_of(self.first.as_ptr().addr() + start * Self::WORD) else {
            return false;
        };
        // SAFETY:
        // - nobody writes them (caller), and who reads them reads zeros before and after; books are unmapped only with
        //   the pool
        unsafe { books.region.discard(offset, (end - start) * Self::WORD) }
    }
}

impl Books {
    /// What the ledgers and shelves of these classes take, with the guard pages, in bytes.
    pub(super) fn len_for(spans: &[Span]) -> usize {
        let more = |span: &Span| {
            Ledger::more_words_of(span.slots) + words_of(span.slots) + HugeBlocks::words_of(span)
        };
        Self::len_of(spans.iter().flat_map(|span| [span.slots as usize, more(span)]))
    }

    /// The bytes of parts of so many words. Each part begins with a page.
    fn len_of(parts: impl IntoIterator<Item = usize>) -> usize {
        let page = page_size();
        let len: usize = parts.into_iter().map(|words| (words * Words::WORD).next_multiple_of(page)).sum();
        if len == 0 { 0 } else { len + 2 * page }
    }

    /// Makes books in a region whose length came from [`len_for`](Self::len_for).
    pub(super) fn new(region: Region) -> io::Result<Self> {
        let page = page_size();
        if region.len() > 0 {
            region.open(page, region.len() - 2 * page)?;
        }
        Ok(Self { region, used: page })
    }

    /// Makes books for parts of so many words.
    #[cfg(test)]
    pub(crate) fn with_parts(parts: impl IntoIterator<Item = usize>) -> io::Result<Self> {
        Self::new(Region::reserve(Self::len_of(parts), page_size())?)
    }

    /// The first words of the next part.
    pub(crate) fn take_pages(&mut self, len: usize) -> Words {
        self.used = self.used.next_multiple_of(page_size());
        self.take(len)
    }

    /// The next words of a part.
    pub(crate) fn take(&mut self, len: usize) -> Words {
        let at = self.used;
        self.used += len * Words::WORD;
        assert!(
            self.used <= self.region.len(),
            "books of {} bytes have not {}",
            self.region.len(),
            self.used
        );
        Words { first: self.region.at(at).cast(), len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::Ordering::Relaxed;

    #[test]
    fn parts_are_zero_apart_and_end_where_the_next_begins() {
        let per_page = page_size() / Words::WORD;
        let mut books = Books::with_parts([1, per_page, per_page + 1, 5]).unwrap();
        let parts = [books.take_pages(1), books.take_pages(per_page), books.take_pages(per_page + 1)];
        let rest = [books.take_pages(2), books.take(3)];
        for (number, part) in parts.iter().chain(&rest).enumerate() {
            assert!(part.iter().all(|word| word.load(Relaxed) == 0), "part {number}");
            part.iter().for_each(|word| word.store(number as u64 + 1, Relaxed));
        }
        for (number, part) in parts.iter().chain(&rest).enumerate() {
            assert!(part.iter().all(|word| word.load(Relaxed) == number as u64 + 1), "part {number}");
        }
    }

    #[test]
    fn a_pool_without_classes_has_no_books() {
        assert_eq!(Books::len_for(&[]), 0);
        assert_eq!(Books::with_parts([]).unwrap().region.len(), 0);
    }
}
