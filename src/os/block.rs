//! The memory of one buffer outside the region, and how it was taken from the system. So zeros of the system are not
//! written again, and a buffer grows by whatever can do it without a copy.
//!
//! ```text
//! Aligned   |buffer|            the allocator aligns: where that costs much of the buffer's size
//! Led       |lead|buffer|rest|  the allocator's own alignment: its `calloc` and its `realloc` serve
//! Mapped    |buffer    |        pages of its own
//! ```
//!
//! Allocators save writing zeros and grow without a copy only where a block has their own alignment. std copies
//! anything else. So a buffer that is aligned more strictly lies a few bytes inside a block that is longer by as much.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::ptr::NonNull;

use super::mapping::{self, MIN_MAPPED};
use super::memory::{self, Content, OutOfMemory};
use super::region::page_size;
use crate::sync::plain_memory;

/// How a buffer's memory was taken from the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Block {
    /// From the global allocator, which aligned it.
    #[default]
    Aligned,
    /// From the global allocator, `lead` bytes after the start of its block.
    Led { lead: u32 },
    /// See [`mapping`].
    Mapped,
}

/// What allocators align to by themselves, in bytes. On targets where they align to less, std aligns.
const USUAL_ALIGNMENT: usize = 16;
/// A block may be longer than its buffer by a sixteenth: one part in so many.
const MOST_LEAD: usize = 16;

/// The allocator's block for a [`Block::Led`] buffer.
fn led_layout(size: usize, alignment: usize) -> Result<Layout, OutOfMemory> {
    let refused = OutOfMemory { bytes: size };
    let room = alignment.saturating_sub(USUAL_ALIGNMENT);
    let bytes = size.max(1).checked_add(room).ok_or(refused)?;
    Layout::from_size_align(bytes, USUAL_ALIGNMENT).map_err(|_| refused)
}

/// How far into the block at `start` the buffer begins.
fn lead_of(start: NonNull<u8>, alignment: usize) -> usize {
    start.as_ptr().addr().wrapping_neg() & (alignment - 1)
}

impl Block {
    /// How a buffer of this size and alignment is allocated.
    fn of(size: usize, alignment: usize) -> Self {
        match size {
            MIN_MAPPED.. => Self::Mapped,
            _ if alignment <= USUAL_ALIGNMENT || alignment <= size / MOST_LEAD => Self::Led { lead: 0 },
            _ => Self::Aligned,
        }
    }

    /// Allocates a buffer of `size` bytes. Returns its address, and what to [`free`](Self::free) it with.
    #[inline]
    pub(crate) fn allocate(
        size: usize,
        alignment: usize,
        content: Content,
    ) -> Result<(NonNull<u8>, Self), OutOfMemory> {
        match Self::of(size, alignment) {
            Self::Led { .. } => {
                let layout = led_layout(size, alignment)?;
                // SAFETY:
                // - the layout's size is at least one byte
                let start = unsafe {
                    match content {
                        Content::Anything => alloc(layout),
                        Content::Zeros => alloc_zeroed(layout),
                    }
                };
                let start = NonNull::new(start).ok_or(OutOfMemory { bytes: size })?;
                // SAFETY:
                // - the layout has room for a lead
                Ok(unsafe { Self::led(start, lead_of(start, alignment)) })
            }
            block @ Self::Aligned => {
                memory::allocate_buffer(size, alignment, content).map(|data| (data, block))
            }
            block @ Self::Mapped => mapping::map(size, alignment).map(|data| (data, block)),
        }
    }

    /// # Safety
    /// - `lead` bytes of the block at `start` are before the buffer's
    unsafe fn led(start: NonNull<u8>, lead: usize) -> (NonNull<u8>, Self) {
        // SAFETY:
        // - inside the block (caller)
        let data = unsafe { start.as_ptr().add(lead) };
        // As in `allocate_buffer`.
        let data = NonNull::new(std::hint::black_box(data)).expect("it is inside a block");
        (data, Self::Led { lead: lead as u32 })
    }

    /// Gives a buffer back to the system.
    ///
    /// # Safety
    /// - `data` and this came from [`allocate`](Self::allocate) or [`resize`](Self::resize) with this `size` and
    ///   `alignment`, and were not given back since
    /// - nobody uses the buffer any more
    #[inline]
    pub(crate) unsafe fn free(self, data: NonNull<u8>, size: usize, alignment: usize) {
        // SAFETY:
        // - as the caller promised; the block began `lead` bytes before the buffer
        unsafe {
            match self {
                Self::Aligned => memory::free_buffer(data, size, alignment),
                Self::Led { lead } => {
                    plain_memory::ends(data, size.max(1));
                    let layout = led_layout(size, alignment).expect("valid when the buffer was allocated");
                    dealloc(data.as_ptr().sub(lead as usize), layout);
                }
                Self::Mapped => mapping::unmap(data, size),
            }
        }
    }

    /// Gives a buffer another size, in place or elsewhere. It keeps as many bytes as both sizes have; `content` says
    /// what the new ones hold. Returns its address, and what it is now. On failure nothing changed.
    ///
    /// While bytes are copied there are two buffers. A mapped buffer is never copied: this fails instead.
    ///
    /// # Safety
    /// - as [`free`](Self::free), but that the buffer stays where it is on failure
    pub(crate) unsafe fn resize(
        self,
        data: NonNull<u8>,
        size: usize,
        new_size: usize,
        alignment: usize,
        content: Content,
    ) -> Result<(NonNull<u8>, Self), OutOfMemory> {
        // SAFETY:
        // - as the caller promised
        let (moved, block) = unsafe {
            match (self, Self::of(new_size, alignment)) {
                (Self::Mapped, _) => {
                    let moved = mapping::remap(data, size, new_size, alignment);
                    (moved.ok_or(OutOfMemory { bytes: new_size })?, Self::Mapped)
                }
                (Self::Led { lead }, Self::Led { .. } | Self::Aligned) => {
                    Self::resize_led(data, lead as usize, size, new_size, alignment)?
                }
                _ => self.copy(data, size, new_size, alignment)?,
            }
        };
        if content == Content::Zeros && new_size > size {
            // The system's zeros begin with the next page.
            let end = match block {
                Self::Mapped => size.next_multiple_of(page_size()).min(new_size),
                _ => new_size,
            };
            // SAFETY:
            // - inside the buffer, which is the caller's
            unsafe { moved.as_ptr().add(size).write_bytes(0, end - size) };
        }
        Ok((moved, block))
    }

    /// Resizes by the allocator. If that moves the block to where the buffer is not aligned, the bytes are moved
    /// inside.
    ///
    /// # Safety
    /// - as for [`resize`](Self::resize), of a `Led` buffer
    unsafe fn resize_led(
        data: NonNull<u8>,
        lead: usize,
        size: usize,
        new_size: usize,
        alignment: usize,
    ) -> Result<(NonNull<u8>, Self), OutOfMemory> {
        let (layout, new_layout) = (led_layout(size, alignment)?, led_layout(new_size, alignment)?);
        // SAFETY:
        // - the block began `lead` bytes before the buffer, and was allocated with this layout (caller)
        // - the new size is not zero, and valid with the layout's alignment
        let start = unsafe { realloc(data.as_ptr().sub(lead), layout, new_layout.size()) };
        let start = NonNull::new(start).ok_or(OutOfMemory { bytes: new_size })?;
        let new_lead = lead_of(start, alignment);
        // SAFETY:
        // - the block has room for a lead and the buffer, of each size
        unsafe {
            if new_lead != lead {
                start.add(new_lead).copy_from(start.add(lead), size.min(new_size));
            }
            Ok(Self::led(start, new_lead))
        }
    }

    /// # Safety
    /// - as for [`resize`](Self::resize)
    unsafe fn copy(
        self,
        data: NonNull<u8>,
        size: usize,
        new_size: usize,
        alignment: usize,
    ) -> Result<(NonNull<u8>, Self), OutOfMemory> {
        let (new, block) = Self::allocate(new_size, alignment, Content::Anything)?;
        // SAFETY:
        // - both have as many bytes, and are two buffers
        // - the old one is not used any more (caller)
        unsafe {
            new.copy_from_nonoverlapping(data, size.min(new_size));
            self.free(data, size, alignment);
        }
        Ok((new, block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_keeps_its_bytes_and_its_alignment_through_every_size() {
        let sizes =
            [1, 100, 1024, 5000, 90_000, 1 << 20, 3 << 20, 100, 40 << 20, 33 << 20, 50_000, 41 << 20, 0];
        for alignment in [1, 16, 64, 4096, 64 << 10] {
            for content in [Content::Anything, Content::Zeros] {
                let mut size = 10_000;
                let (mut data, mut block) = Block::allocate(size, alignment, content).unwrap();
                // SAFETY:
                // - this test's buffer, inside its size
                unsafe {
                    data.write_bytes(7, size);
                    for new_size in sizes {
                        let (new, now) = match block.resize(data, size, new_size, alignment, content) {
                            Ok(resized) => resized,
                            Err(_) => {
                                assert!(block == Block::Mapped && alignment > page_size());
                                continue;
                            }
                        };
                        assert!(new.as_ptr().addr() % alignment == 0);
                        let is_all = |from: usize, to: usize, value| {
                            (from..to)
                                .step_by(97)
                                .chain((from..to).last())
                                .all(|at| new.add(at).read() == value)
                        };
                        let kept = size.min(new_size);
                        assert!(is_all(0, kept, 7), "{size} to {new_size}, {block:?} to {now:?}");
                        if content == Content::Zeros {
                            assert!(is_all(kept, new_size, 0), "{size} to {new_size}, {block:?} to {now:?}");
                        }
                        new.write_bytes(7, new_size);
                        (data, block, size) = (new, now, new_size);
                    }
                    block.free(data, size, alignment);
                }
            }
        }
    }

    #[test]
    fn the_way_suits_the_size() {
        let way = |size, alignment| {
            let (data, block) = Block::allocate(size, alignment, Content::Zeros).unwrap();
            // SAFETY:
            // - just allocated
            unsafe { block.free(data, size, alignment) };
            match block {
                Block::Led { .. } => "led",
                Block::Aligned => "aligned",
                Block::Mapped => "mapped",
            }
        };
        assert_eq!(
            [way(100, 8), way(100, 64), way(1023, 64), way(1024, 64)],
            ["led", "aligned", "aligned", "led"]
        );
        assert_eq!([way(60_000, 4096), way(70_000, 4096)], ["aligned", "led"]);
        let large = if MIN_MAPPED == usize::MAX { "led" } else { "mapped" };
        assert_eq!([way((32 << 20) - 1, 64), way(32 << 20, 64)], ["led", large]);
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for size in [usize::MAX, isize::MAX as usize, isize::MAX as usize - 4096] {
            assert!(Block::allocate(size, 64, Content::Anything).is_err());
            let (data, block) = Block::allocate(5000, 64, Content::Zeros).unwrap();
            // SAFETY:
            // - this test's buffer, which stays where it is
            unsafe {
                assert!(block.resize(data, 5000, size, 64, Content::Anything).is_err());
                block.free(data, 5000, 64);
            }
        }
    }
}
