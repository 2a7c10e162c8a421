//! How a region is divided: each size class has a span of whole chunks, and a table leads from chunk to class.
//!
//! ```text
//! region   | class 0           | class 1       | class 2                          |
//! chunks   | 0 | 0 | 0 | 0 | 0 | 1 | 1 | 1 | 1 | 2 | 2 | 2 | 2 | 2 | 2 | 2 | 2 | 2 |
//! slots    | capacity | room   | capacity|room | capacity        | room           |
//! ```
//!
//! A span has room for more slots than the class's capacity, so that overflow is slots like all others. The room costs
//! addresses only. Where the system has too few, the room shrinks first.
//!
//! Numbers only, fixed when the pool is built.

use super::index::{GRANULE, Reciprocal, UNIT};
use super::shelf::GROUP_SLOTS;
use crate::error::BuildError;
use crate::os::memory::{self, OutOfMemory};
use crate::os::region::{HUGE_PAGE, page_size};

/// The most address space a pool can reserve, in bytes. Up to here [`Reciprocal`] divides offsets exactly.
pub(crate) const MAX_ADDRESS_SPACE: usize = 1 << 44;

/// The part of the region that one class has.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) buffer_size: usize,
    pub(crate) slot_size: usize,
    /// How many idle slots are kept.
    pub(crate) capacity: u32,
    /// How many slots there are: the capacity and the room beyond it.
    pub(crate) slots: u32,
    /// Where it starts, in bytes from the start of the region.
    pub(crate) start: usize,
    /// Its length in bytes: whole chunks.
    pub(crate) len: usize,
    /// Every slot starts at a multiple of this, in bytes.
    pub(crate) alignment: usize,
    pub(crate) reciprocal: Reciprocal,
}

impl Span {
    /// The fresh slot that is taken first, of the `class`th class. Spans start with chunks. Where few buffers are out,
    /// only first slots are used. Of all classes they would compete for the same few places of the processor's caches.
    /// First-level caches tell 4 KiB of addresses apart, others 64 KiB or more.
    pub(super) fn first_slot(&self, class: u8) -> u32 {
        const FIRST_LEVEL: usize = 4 << 10;
        const SECOND_LEVEL: usize = 64 << 10;
        let class = usize::from(class);
        // At so many places of a level slots start at most.
        let places = |level: usize| level >> self.slot_size.trailing_zeros().min(level.trailing_zeros());
        let first = if self.slot_size < FIRST_LEVEL {
            class % 16 * FIRST_LEVEL / self.slot_size + class * 5 % places(FIRST_LEVEL)
        } else {
            class % places(SECOND_LEVEL)
        };
        (first % self.slots as usize) as u32
    }

    /// How many slot groups in a row a thread takes fresh slots from. Where a thread's gets go up in memory, a
    /// processor fetches the next slot before it is got. That slot is to be the thread's, too.
    pub(super) fn run_of_groups(&self) -> u32 {
        const MOST_BYTES: usize = 256 << 10;
        (MOST_BYTES / (GROUP_SLOTS as usize * self.slot_size)).clamp(1, 4) as u32
    }
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
    shape: Shape,
}

/// What a layout is made by, besides its classes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Of every slot, in bytes: a power of two.
    pub(crate) alignment: usize,
    pub(crate) huge_pages: bool,
    /// Slots of whole pages are a cache line longer, so that they start at different lines.
    pub(crate) coloring: bool,
    /// The most room of all classes together, in bytes.
    pub(crate) room: usize,
}

impl Shape {
    /// The least slot for a buffer of this size, in bytes.
    fn slot_size(&self, buffer_size: usize) -> usize {
        let alignment = self.alignment.max(GRANULE);
        let slot_size = buffer_size.next_multiple_of(alignment);
        // If all slots start with a page, their first bytes compete for the same few cache sets.
        let is_colored = self.coloring && slot_size % page_size() == 0 && alignment < page_size();
        if is_colored { slot_size + alignment.max(CACHE_LINE) } else { slot_size }
    }
}

/// In bytes.
const CACHE_LINE: usize = 64;

/// The most room of a class, in bytes. It holds a million buffers of 64 bytes, and no class has room for more. A
/// thousand pools of three classes take less than two thousandths of the 128 TiB that a process has.
const ROOM_OF_CLASS: usize = if cfg!(bytepool_shuttle) { 64 << 10 } else { 64 << 20 };
/// Larger slots have no room. In bytes.
const LARGEST_WITH_ROOM: usize = 32 << 20;
/// The most room of all classes of a pool together, in bytes.
pub(crate) const ROOM_OF_POOL: usize = 4 << 30;
/// A pool with less room than this for each class has none. In bytes.
const LEAST_ROOM: usize = 1 << 20;

/// The table from chunk to class stays small enough for the first-level cache.
const MAX_CHUNKS: usize = 4096;
const MIN_CHUNK_SHIFT: u32 = 16;

impl Layout {
    /// Lays out classes, each given by its buffer size and capacity.
    pub(crate) fn new(classes: &[(usize, usize)], shape: Shape) -> Result<Self, BuildError> {
        let Shape { alignment, huge_pages, room, .. } = shape;
        let least_chunk = alignment.max(page_size()).max(if huge_pages { HUGE_PAGE } else { 0 });
        let mut chunk_shift = MIN_CHUNK_SHIFT.max(least_chunk.trailing_zeros());
        let slot_alignment = alignment.max(GRANULE);
        let too_large = |bytes| BuildError::AddressSpace { bytes, limit: MAX_ADDRESS_SPACE };
        // Aligned sizes are below 2^33 and capacities at most 2^30. So each product is below 2^63, and there are at
        // most 64.
        let least: u128 =
            classes.iter().map(|&(size, capacity)| (shape.slot_size(size) * capacity) as u128).sum();
        if least > MAX_ADDRESS_SPACE as u128 {
            return Err(too_large(usize::try_from(least).unwrap_or(usize::MAX)));
        }
        let room = room.min(MAX_ADDRESS_SPACE - least as usize);
        let room = if room < classes.len() * LEAST_ROOM { 0 } else { room };
        // For each class: the number of slots, the slot size, and how an offset is divided by it.
        let slots = memory::boxed_slice(classes.len(), |class| {
            let (size, capacity) = classes[class];
            let least = shape.slot_size(size);
            let slots = capacity + room_of(least, capacity, room / classes.len());
            let (slot_size, reciprocal) = slot_of(least, slots, slot_alignment);
            Ok::<_, OutOfMemory>((slots, slot_size, reciprocal))
        })?;
        let chunks_of = |class: usize, shift: u32| (slots[class].0 * slots[class].1).div_ceil(1 << shift);
        let chunks = |shift: u32| (0..classes.len()).map(|class| chunks_of(class, shift)).sum::<usize>();
        while chunks(chunk_shift) > MAX_CHUNKS {
            chunk_shift += 1;
        }
        let len = chunks(chunk_shift) << chunk_shift;
        if len > MAX_ADDRESS_SPACE {
            return match room {
                0 => Err(too_large(len)),
                _ => Self::new(classes, Shape { room: 0, ..shape }),
            };
        }

        let base_alignment = least_chunk.max(1 << MIN_CHUNK_SHIFT);
        let mut class_of_chunk = Vec::new();
        let refused = OutOfMemory { bytes: chunks(chunk_shift) };
        class_of_chunk.try_reserve_exact(chunks(chunk_shift)).map_err(|_| refused)?;
        let spans = memory::boxed_slice(classes.len(), |class| {
            let ((buffer_size, capacity), (slots, slot_size, reciprocal)) = (classes[class], slots[class]);
            let start = class_of_chunk.len() << chunk_shift;
            let chunks = chunks_of(class, chunk_shift);
            class_of_chunk.resize(class_of_chunk.len() + chunks, class as u8);
            let (capacity, slots, len) = (capacity as u32, slots as u32, chunks << chunk_shift);
            // A span starts with a chunk, and no chunk is smaller than the alignment of the region's start.
            let alignment = 1 << slot_size.trailing_zeros().min(base_alignment.trailing_zeros());
            Ok::<_, OutOfMemory>(Span {
                buffer_size,
                slot_size,
                capacity,
                slots,
                start,
                len,
                alignment,
                reciprocal,
            })
        })?;
        let class_of_chunk = class_of_chunk.into_boxed_slice();
        let shape = Shape { room, ..shape };
        Ok(Self { spans, chunk_shift, class_of_chunk, len, base_alignment, shape })
    }

    /// The same classes with a quarter of the room; `None` if they have no room.
    pub(crate) fn with_less_room(&self) -> Result<Option<Self>, BuildError> {
        if self.shape.room == 0 {
            return Ok(None);
        }
        let classes = memory::boxed_slice(self.spans.len(), |class| {
            let Span { buffer_size, capacity, .. } = self.spans[class];
            Ok::<_, OutOfMemory>((buffer_size, capacity as usize))
        })?;
        let room = self.shape.room / 4;
        Self::new(&classes, Shape { room, ..self.shape }).map(Some)
    }
}

/// How many slots a class has beyond its capacity, in at most `most` bytes. From 16 slots on it is cut, so that
/// capacity and room fill whole slot groups. The word of a group that is not full would have to be written when the
/// pool is made.
fn room_of(slot_size: usize, capacity: usize, most: usize) -> usize {
    if slot_size > LARGEST_WITH_ROOM {
        return 0;
    }
    let room = most.min(ROOM_OF_CLASS) / slot_size.max(CACHE_LINE);
    let group = GROUP_SLOTS as usize;
    if room < group { room } else { room - (capacity + room) % group }
}

/// The smallest slot size of at least `least` by which one multiplication divides exactly. Both are multiples of
/// `alignment`.
///
/// Nearly always the first try does. Only slots above 64 MiB in a span of terabytes may take more.
fn slot_of(least: usize, slots: usize, alignment: usize) -> (usize, Reciprocal) {
    let mut slot_size = least;
    loop {
        let units = slot_size / UNIT;
        // A power of two leaves no excess, so this ends.
        if let Some(reciprocal) = Reciprocal::new(units as u64, (units * slots) as u64) {
            return (slot_size, reciprocal);
        }
        slot_size += alignment;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SHAPE: Shape = Shape { alignment: 64, huge_pages: false, coloring: false, room: ROOM_OF_POOL };

    #[test]
    fn spans_are_apart_aligned_and_found_by_chunk() {
        let sets: [&[(usize, usize)]; 4] = [
            &[(512, 1000), (4 << 10, 1000), (16 << 10, 1000)],
            &[(352, 1), (456, 1), (552, 1)],
            &[(1, 1_000_000), (16 << 20, 1000)],
            &[(100, 10), (1 << 30, 1000)],
        ];
        for classes in sets {
            for alignment in [1, 16, 32, 64, 4096, 2 << 20] {
                let layout = Layout::new(classes, Shape { alignment, ..SHAPE }).unwrap();
                let mut end = 0;
                for (class, span) in layout.spans.iter().enumerate() {
                    assert_eq!(span.start, end);
                    assert!(span.start % alignment == 0 && span.slot_size % alignment == 0);
                    assert!(span.slot_size >= span.buffer_size && span.alignment >= alignment.max(GRANULE));
                    for start in [layout.base_alignment, span.start, span.slot_size] {
                        assert!(start % span.alignment == 0);
                    }
                    assert!(span.slot_size * span.slots as usize <= span.len && span.capacity <= span.slots);
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
    #[test]
    fn the_first_slots_of_classes_lie_apart() {
        let places_of = |sizes: &[usize]| {
            let classes: Vec<_> = sizes.iter().map(|&size| (size, 1000)).collect();
            let layout = Layout::new(&classes, SHAPE).unwrap();
            let first = |(class, span): (usize, &Span)| {
                let first = span.first_slot(class as u8);
                assert!(first < span.slots);
                span.start + first as usize * span.slot_size
            };
            layout.spans.iter().enumerate().map(first).collect::<Vec<_>>()
        };
        let general: Vec<usize> = (1..=8).map(|n| n * 64).chain((5..=8).map(|n| n * 128)).collect();
        let lines: HashSet<usize> = places_of(&general).iter().map(|place| place % 4096 / 64).collect();
        assert!(lines.len() >= 10, "{lines:?}");
        for sizes in [[4096, 8192, 12_288], [512, 4096, 16_384]] {
            let pages: HashSet<usize> = places_of(&sizes).iter().map(|place| place % 65_536).collect();
            assert_eq!(pages.len(), 3, "{sizes:?}");
        }
        // A class of few slots begins with one that it has.
        let few = Layout::new(&[(64, 1), (128, 2)], Shape { room: 0, ..SHAPE }).unwrap();
        assert!(few.spans.iter().all(|span| span.first_slot(15) < span.slots));
    }

    #[test]
    fn room_is_bounded_by_class_by_pool_and_by_the_system() {
        let room = |classes: &[(usize, usize)], room| -> Vec<u32> {
            let layout = Layout::new(classes, Shape { room, ..SHAPE }).unwrap();
            layout.spans.iter().map(|span| span.slots - span.capacity).collect()
        };
        assert_eq!(room(&[(64, 16), (4096, 10)], ROOM_OF_POOL), [1 << 20, (16 << 10) - 10]);
        assert_eq!(room(&[(32 << 20, 3), ((32 << 20) + 1, 3)], ROOM_OF_POOL), [2, 0]);
        assert_eq!(room(&[(64, 16), (4096, 16)], 2 << 20), [1 << 14, 256]);
        assert_eq!(room(&[(64, 10), (4096, 10)], 0), [0, 0]);
        // Capacities come first.
        assert_eq!(room(&[(1 << 30, 1 << 14)], ROOM_OF_POOL), [0]);
    }

    #[test]
    fn less_room_ends_with_none() {
        let mut layout = Layout::new(&[(64, 10), (4096, 10)], SHAPE).unwrap();
        let mut tries = 0;
        while let Some(less) = layout.with_less_room().unwrap() {
            assert!(less.len <= layout.len && less.shape.room < layout.shape.room);
            layout = less;
            tries += 1;
        }
        assert!(layout.spans.iter().all(|span| span.slots == 10) && tries < 10, "{tries}");
    }

    #[test]
    fn colored_slots_of_whole_pages_are_a_line_longer() {
        let slots = |alignment, coloring| -> Vec<usize> {
            let page = page_size();
            let classes = [(64, 10), (page - 1, 10), (page + 1, 10), (4 * page, 10)];
            let layout = Layout::new(&classes, Shape { alignment, coloring, ..SHAPE }).unwrap();
            layout.spans.iter().map(|span| span.slot_size - span.buffer_size).collect()
        };
        assert_eq!(slots(64, false), [0, 1, 63, 0]);
        assert_eq!(slots(64, true), [0, 1 + 64, 63, 64]);
        assert_eq!(slots(16, true), [0, 1 + 64, 15, 64]);
        // Where every slot must start with a page, coloring changes nothing.
        assert_eq!(slots(page_size(), true), slots(page_size(), false));
    }
}
