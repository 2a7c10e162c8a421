//! All classes of a pool, and the region that their slots are in.

use std::ops::Deref;
use std::ptr::NonNull;

use super::Class;
use super::books::Books;
use super::index::SizeClassIndex;
use super::layout::Layout;
use super::mapped_bytes::MappedBytes;
use crate::error::BuildError;
use crate::os::memory::{self, OutOfMemory};
use crate::os::region::Region;

/// The classes of a pool, as a slice of [`Class`], ascending by buffer size.
pub(crate) struct Classes {
    region: Region,
    books: Books,
    chunk_shift: u32,
    class_of_chunk: Box<[u8]>,
    classes: Box<[Class]>,
    mapped: MappedBytes,
    /// In a box, as it is large.
    index: Box<SizeClassIndex>,
}

/// What is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// The start of a slot.
    Slot { class: u8, slot: u32 },
    /// No start of a slot, but inside the region.
    Inside,
    /// Nothing of the region.
    Outside,
}

impl Classes {
    /// Reserves the region, and makes the classes' books. `max_bytes` is `usize::MAX` for no limit.
    pub(crate) fn new(layout: Layout, max_bytes: usize, huge_pages: bool) -> Result<Self, BuildError> {
        let (layout, region, mut books) = reserve(layout)?;
        let sizes = memory::boxed_slice(layout.spans.len(), |class| {
            Ok::<_, OutOfMemory>(layout.spans[class].buffer_size)
        })?;
        let classes = memory::written_slice(layout.spans.len(), |class, place| {
            Class::write(place, class as u8, layout.spans[class], &region, &mut books, huge_pages)
        })?;
        Ok(Self {
            region,
            books,
            chunk_shift: layout.chunk_shift,
            class_of_chunk: layout.class_of_chunk,
            classes,
            mapped: MappedBytes::new(max_bytes),
            index: memory::boxed(|| Ok::<_, OutOfMemory>(SizeClassIndex::new(&sizes)))?,
        })
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// What the pool has taken from the system for buffers, and the limit on it.
    #[inline]
    pub(crate) fn mapped(&self) -> &MappedBytes {
        &self.mapped
    }

    pub(crate) fn books(&self) -> &Books {
        &self.books
    }

    pub(crate) fn index(&self) -> &SizeClassIndex {
        &self.index
    }

    /// The smallest class with buffers of at least `size` bytes.
    #[inline]
    pub(crate) fn for_size(&self, size: usize) -> Option<&Class> {
        self.index.class_of(size).map(|class| &self.classes[class])
    }

    /// The smallest class with buffers of at least `size` bytes whose every slot starts at a multiple of `alignment`
    /// bytes.
    pub(crate) fn for_aligned(&self, size: usize, alignment: usize) -> Option<&Class> {
        let first = self.index.class_of(size)?;
        self.classes[first..].iter().find(|class| class.alignment() >= alignment)
    }

    /// The region is divided into chunks of this power of two, in bytes.
    pub(crate) fn chunk_shift(&self) -> u32 {
        self.chunk_shift
    }

    /// The class that each chunk is of.
    pub(crate) fn class_of_chunk(&self) -> &[u8] {
        &self.class_of_chunk
    }

    /// What is at an address.
    #[inline]
    pub(crate) fn locate(&self, address: usize) -> Spot {
        let Some(offset) = self.region.offset_of(address) else { return Spot::Outside };
        let class = &self.classes[usize::from(self.class_of_chunk[offset >> self.chunk_shift])];
        match class.slots().at(address) {
            Some(slot) => Spot::Slot { class: class.number(), slot: slot as u32 },
            None => Spot::Inside,
        }
    }

    /// Where a slot starts.
    #[inline]
    pub(crate) fn address_of(&self, class: &Class, slot: u32) -> NonNull<u8> {
        self.region.at(class.offset_of(slot))
    }
}

/// Reserves the region and the books. Where the system refuses, it tries again with less room.
fn reserve(mut layout: Layout) -> Result<(Layout, Region, Books), BuildError> {
    loop {
        let books_len = Books::len_for(&layout.spans);
        let refused = match Region::reserve_two(layout.len, layout.base_alignment, books_len) {
            Ok((region, books)) => match Books::new(books) {
                Ok(books) => return Ok((layout, region, books)),
                // Where memory is counted when it is opened, by a limit on data or by strict overcommit.
                Err(_) => OutOfMemory { bytes: books_len }.into(),
            },
            Err(source) => BuildError::Reserve { bytes: layout.len, source },
        };
        layout = layout.with_less_room()?.ok_or(refused)?;
    }
}

impl Deref for Classes {
    type Target = [Class];
    #[inline]
    fn deref(&self) -> &[Class] {
        &self.classes
    }
}
