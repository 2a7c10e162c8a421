//! How a region is divided: each size class has a span of whole chunks, and a table leads from chunk to class.
//!
//! ```text
//! region   | class 0           | class 1       | class 2                          |
//! chunks   | 0 | 0 | 0 | 0 | 0 | 1 | 1 | 1 | 1 | 2 | 2 | 2 | 2 | 2 | 2 | 2 | 2 | 2 |
//! ```
//!
//! Numbers only, fixed when the pool is built.

use super::index::{GRANULE, Reciprocal, UNIT};
use crate::error::BuildError;
use crate::os::memory::{self, OutOfMemory};
use crate::os::region::{HUGE_PAGE, page_size};

/// The most address space a pool can reserve, in bytes. Up to here offsets divide by slot sizes exactly (see
/// [`Reciprocal`]).
pub(crate) const MAX_ADDRESS_SPACE: usize = 1 << 44;

/// The part of the region that one class has.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) buffer_size: usize,
    pub(crate) slot_size: usize,
    pub(crate) capacity: u32,
    /// Where it starts, in bytes from the start of the region.
    pub(crate) start: usize,
    /// Its length in bytes: whole chunks.
    pub(crate) len: usize,
    pub(crate) reciprocal: Reciprocal,
}

/// How the region is divided: spans of whole chunks, and the table from chunk to class.
pub(crate) struct Layout {
    /// Ascending by buffer size.
    pub(crate) spans: Box<[Span]>,
    pub(crate) chunk_shift: u32,
    pub(crate) class_of_chunk: Box<[u8]>,
    /// The region's length in bytes.
    pub(crate) len: usize,
    /// What the region's start must be a multiple of, in bytes.
    pub(crate) base_alignment: usize,
}

/// The table from chunk to class stays small enough for the first-level cache.
const MAX_CHUNKS: usize = 4096;
const MIN_CHUNK_SHIFT: u32 = 16;

impl Layout {
    pub(crate) fn new(
        classes: &[(usize, usize)],
        alignment: usize,
        huge_pages: bool,
    ) -> Result<Self, BuildError> {
        let least_chunk = alignment.max(page_size()).max(if huge_pages { HUGE_PAGE } else { 0 });
        let mut chunk_shift = MIN_CHUNK_SHIFT.max(least_chunk.trailing_zeros());
        let slot_alignment = alignment.max(GRANULE);
        let too_large = |bytes| BuildError::AddressSpace { bytes, limit: MAX_ADDRESS_SPACE };
        // Each below 2^63 (sizes below 2^33 with alignment, capacities up to 2^30), and at most 64 of them.
        let least: u128 = classes
            .iter()
            .map(|&(size, capacity)| (size.next_multiple_of(slot_alignment) * capacity) as u128)
            .sum();
        if least > MAX_ADDRESS_SPACE as u128 {
            return Err(too_large(usize::try_from(least).unwrap_or(usize::MAX)));
        }
        let slots = memory::boxed_slice(classes.len(), |class| {
            let (size, capacity) = classes[class];
            Ok::<_, OutOfMemory>(slot_of(size, capacity, slot_alignment))
        })?;
        let chunks_of = |class: usize, shift: u32| (slots[class].0 * classes[class].1).div_ceil(1 << shift);
        let chunks = |shift: u32| (0..classes.len()).map(|class| chunks_of(class, shift)).sum::<usize>();
        while chunks(chunk_shift) > MAX_CHUNKS {
            chunk_shift += 1;
        }
        let len = chunks(chunk_shift) << chunk_shift;
        if len > MAX_ADDRESS_SPACE {
            return Err(too_large(len));
        }

        let mut class_of_chunk = Vec::new();
        let refused = OutOfMemory { bytes: chunks(chunk_shift) };
        class_of_chunk.try_reserve_exact(chunks(chunk_shift)).map_err(|_| refused)?;
        let spans = memory::boxed_slice(classes.len(), |class| {
            let ((buffer_size, capacity), (slot_size, reciprocal)) = (classes[class], slots[class]);
            let start = class_of_chunk.len() << chunk_shift;
            let chunks = chunks_of(class, chunk_shift);
            class_of_chunk.resize(class_of_chunk.len() + chunks, class as u8);
            let (capacity, len) = (capacity as u32, chunks << chunk_shift);
            Ok::<_, OutOfMemory>(Span { buffer_size, slot_size, capacity, start, len, reciprocal })
        })?;
        let class_of_chunk = class_of_chunk.into_boxed_slice();
        Ok(Self { spans, chunk_shift, class_of_chunk, len, base_alignment: least_chunk })
    }
}

/// The least slot that holds a buffer, is a multiple of the alignment, and whose number is found by one multiplication.
///
/// Nearly always the first try does: a few more are for terabytes of buffers of gigabytes.
fn slot_of(buffer_size: usize, capacity: usize, alignment: usize) -> (usize, Reciprocal) {
    let mut slot_size = buffer_size.next_multiple_of(alignment);
    loop {
        let units = slot_size / UNIT;
        // A power of two leaves no excess, so this ends.
        if let Some(reciprocal) = Reciprocal::new(units as u64, (units * capacity) as u64) {
            return (slot_size, reciprocal);
        }
        slot_size += alignment;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_apart_aligned_and_found_by_chunk() {
        let sets: [&[(usize, usize)]; 4] = [
            &[(512, 1000), (4 << 10, 1000), (16 << 10, 1000)],
            &[(352, 1), (456, 1), (552, 1)],
            &[(1, 1_000_000), (16 << 20, 1000)],
            &[(100, 10), (1 << 30, 1000)],
        ];
        for classes in sets {
            for alignment in [1, 64, 4096, 2 << 20] {
                let layout = Layout::new(classes, alignment, false).unwrap();
                let mut end = 0;
                for (class, span) in layout.spans.iter().enumerate() {
                    assert_eq!(span.start, end);
                    assert!(span.start % alignment == 0 && span.slot_size % alignment == 0);
                    assert!(span.slot_size >= span.buffer_size);
                    assert!(span.slot_size * span.capacity as usize <= span.len);
                    for offset in [span.start, span.start + span.len - 1] {
                        assert_eq!(usize::from(layout.class_of_chunk[offset >> layout.chunk_shift]), class);
                    }
                    end = span.start + span.len;
                }
                assert_eq!(layout.len, end);
                assert_eq!(layout.class_of_chunk.len(), end >> layout.chunk_shift);
                assert!(layout.class_of_chunk.len() <= MAX_CHUNKS);
            }
        }
    }
}
