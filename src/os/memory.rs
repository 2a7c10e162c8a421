//! Memory from the global allocator, with failure as a value: for the pool's own tables, and for overflow and oversize.

use crate::sync::atomic::{AtomicU32, AtomicU64};
use crate::sync::plain_memory;
use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// The system had no memory for this many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory {
    pub(crate) bytes: usize,
}

/// Types of which all-zero bytes are a valid value.
///
/// # Safety
/// All-zero bytes must be a valid value of the type, and it must need no drop.
pub(crate) unsafe trait Zeroable {}
// SAFETY:
// - an atomic integer has the layout of its integer, for which zero is valid
// - it has no drop glue
unsafe impl Zeroable for AtomicU32 {}
// SAFETY: as for AtomicU32.
unsafe impl Zeroable for AtomicU64 {}

/// A zeroed slice of `len` values. Large ones cost no resident memory until they are written.
pub(crate) fn zeroed_slice<T: Zeroable>(len: usize) -> Result<Box<[T]>, OutOfMemory> {
    let refused = OutOfMemory { bytes: len.saturating_mul(size_of::<T>()) };
    let layout = Layout::array::<T>(len).map_err(|_| refused)?;
    if layout.size() == 0 {
        return Ok(Box::default());
    }
    let data = allocate_zeroed(layout)?.cast::<T>();
    // SAFETY:
    // - `data` was allocated by the global allocator with the layout of [T; len]
    // - all-zero bytes are a valid T (Zeroable)
    Ok(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(data.as_ptr(), len)) })
}

/// A slice of `len` values, made from their indices.
pub(crate) fn boxed_slice<T, E: From<OutOfMemory>>(
    len: usize,
    mut make: impl FnMut(usize) -> Result<T, E>,
) -> Result<Box<[T]>, E> {
    written_slice(len, |index, place| Ok(place.write(make(index)?)))
}

/// A slice of `len` values, each written where it stays, because large ones do not fit a small stack. `write` returns
/// what it wrote.
pub(crate) fn written_slice<T, E: From<OutOfMemory>>(
    len: usize,
    mut write: impl for<'a> FnMut(usize, &'a mut MaybeUninit<T>) -> Result<&'a mut T, E>,
) -> Result<Box<[T]>, E> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| OutOfMemory { bytes: len.saturating_mul(size_of::<T>()) })?;
    for index in 0..len {
        // Not pushed: a push copies a value once more.
        let place = &mut values.spare_capacity_mut()[0];
        let address = place.as_ptr();
        assert!(ptr::eq(write(index, place)?, address), "another value was returned");
        // SAFETY:
        // - `write` returned a value at this place, so as many are written, and the capacity is `len` at least
        unsafe { values.set_len(index + 1) };
    }
    Ok(values.into_boxed_slice())
}

/// A value in a box. The memory is allocated first, so that the stack holds the value once, not twice.
pub(crate) fn boxed<T, E: From<OutOfMemory>>(make: impl FnOnce() -> Result<T, E>) -> Result<Box<T>, E> {
    written_box(|place| Ok(place.write(make()?)))
}

/// A value in a box, written where it stays. `write` returns what it wrote.
pub(crate) fn written_box<T, E: From<OutOfMemory>>(
    write: impl for<'a> FnOnce(&'a mut MaybeUninit<T>) -> Result<&'a mut T, E>,
) -> Result<Box<T>, E> {
    let layout = Layout::new::<T>();
    assert!(layout.size() > 0, "a value without a size needs no memory");
    // SAFETY:
    // - the layout's size is not zero
    let data = NonNull::new(unsafe { alloc(layout) }).ok_or(OutOfMemory { bytes: layout.size() })?;
    // SAFETY:
    // - allocated above by the global allocator with this type's layout; uninitialised memory is a valid MaybeUninit
    let mut place = unsafe { Box::from_raw(data.cast::<MaybeUninit<T>>().as_ptr()) };
    let address = place.as_ptr();
    assert!(ptr::eq(write(&mut *place)?, address), "another value was returned");
    // SAFETY:
    // - `write` returned a value at this place, so it is written
    Ok(unsafe { place.assume_init() })
}

/// Zeroed memory of a layout, which is not empty; give it back with [`deallocate`].
pub(crate) fn allocate_zeroed(layout: Layout) -> Result<NonNull<u8>, OutOfMemory> {
    assert!(layout.size() > 0, "a layout without a size needs no memory");
    // SAFETY:
    // - the layout's size is not zero
    NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(OutOfMemory { bytes: layout.size() })
}

/// Gives memory back.
///
/// # Safety
/// - `data` came from [`allocate_zeroed`] with this layout, and was not given back since
/// - nobody uses it any more
pub(crate) unsafe fn deallocate(data: NonNull<u8>, layout: Layout) {
    // SAFETY:
    // - as the caller promised
    unsafe { dealloc(data.as_ptr(), layout) };
}

/// Whether there are `bytes` bytes now. Called before code that allocates as many, and would end the process without
/// them. What was freed a moment ago is likely to be there again.
pub(crate) fn probe(bytes: usize) -> Result<(), OutOfMemory> {
    let refused = OutOfMemory { bytes };
    let mut memory = Vec::<u64>::new();
    memory.try_reserve_exact(bytes.div_ceil(size_of::<u64>())).map_err(|_| refused)?;
    // Otherwise the optimiser finds that nobody uses it.
    std::hint::black_box(memory.as_mut_ptr());
    Ok(())
}

/// Whether there are `bytes` bytes now, for what the C library is about to allocate: see [`probe`].
#[cfg(unix)]
pub(crate) fn probe_c(bytes: usize) -> Result<(), OutOfMemory> {
    // SAFETY:
    // - freed once, as it was allocated
    let refused = unsafe {
        let memory = std::hint::black_box(libc::malloc(bytes));
        libc::free(memory);
        memory.is_null()
    };
    if refused { Err(OutOfMemory { bytes }) } else { Ok(()) }
}

#[cfg(not(unix))]
pub(crate) fn probe_c(bytes: usize) -> Result<(), OutOfMemory> {
    probe(bytes)
}

/// What a buffer from the system allocator holds at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Whatever was there.
    Anything,
    /// Zeros.
    Zeros,
}

/// The layout of a buffer of `size` bytes; zero-sized ones get one byte, so that every buffer has its own
/// address.
fn buffer_layout(size: usize, alignment: usize) -> Result<Layout, OutOfMemory> {
    Layout::from_size_align(size.max(1), alignment).map_err(|_| OutOfMemory { bytes: size })
}

/// A buffer of `size` bytes from the system allocator; give it back with [`free_buffer`] and the same
/// figures.
pub(crate) fn allocate_buffer(
    size: usize,
    alignment: usize,
    content: Content,
) -> Result<NonNull<u8>, OutOfMemory> {
    let layout = buffer_layout(size, alignment)?;
    // SAFETY:
    // - the layout's size is at least one byte
    let data = unsafe {
        match content {
            Content::Anything => alloc(layout),
            Content::Zeros => alloc_zeroed(layout),
        }
    };
    // C may copy this memory into a slot before all of it is written, and safe Rust reads slots. So the optimiser must
    // take its bytes as written, by code that it does not see. The standard library does not promise that of
    // `black_box`; compilers do it.
    NonNull::new(std::hint::black_box(data)).ok_or(OutOfMemory { bytes: size })
}

/// Gives a buffer back to the system allocator.
///
/// # Safety
/// - `data` came from [`allocate_buffer`] with this `size` and `alignment`, and was not freed since
/// - nobody uses it any more
pub(crate) unsafe fn free_buffer(data: NonNull<u8>, size: usize, alignment: usize) {
    let layout = buffer_layout(size, alignment).expect("this layout was valid when the buffer was allocated");
    plain_memory::ends(data, layout.size());
    // SAFETY:
    // - `data` was allocated with exactly this layout (caller)
    // - it is freed once (caller)
    unsafe { dealloc(data.as_ptr(), layout) }
}

/// Writes zeros that no optimiser may drop, although the memory may be freed next.
///
/// # Safety
/// - `data` is writable for `size` bytes, and nobody else uses them meanwhile
pub(crate) unsafe fn wipe(data: NonNull<u8>, size: usize) {
    // SAFETY:
    // - writable for `size` bytes (caller)
    unsafe { data.as_ptr().write_bytes(0, size) };
    // The optimiser must assume that this reads the bytes through the pointer. Neither call strictly promises that, but
    // either suffices: `tests/suites/wipe.rs` fails without both.
    std::hint::black_box(data.as_ptr());
    crate::sync::atomic::compiler_fence(crate::sync::atomic::Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_sizes_are_errors() {
        assert!(zeroed_slice::<AtomicU64>(usize::MAX).is_err());
        assert!(allocate_buffer(usize::MAX, 64, Content::Anything).is_err());
        assert!(allocate_buffer(isize::MAX as usize - 4096, 64, Content::Zeros).is_err());
    }

    #[test]
    fn empty_buffers_have_their_own_address() {
        let a = allocate_buffer(0, 64, Content::Zeros).unwrap();
        let b = allocate_buffer(0, 64, Content::Zeros).unwrap();
        assert_ne!(a, b);
        // SAFETY:
        // - both were just allocated with these figures
        unsafe {
            free_buffer(a, 0, 64);
            free_buffer(b, 0, 64);
        }
    }
}
