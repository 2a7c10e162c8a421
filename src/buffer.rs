//! `PooledBuffer`: one outstanding buffer with one owner.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::anchor::Reference;
use crate::error::{Misuse, ResizeError};
use crate::fork;
use crate::pool::Pool;
use crate::shared::{Buffer, Place, Shared};
use crate::thread_cache;

/// A buffer from a [`Pool`], put back when dropped, on whatever thread.
///
/// It derefs to its bytes, and keeps the pool's memory alive on its own: it may outlive every handle. A put
/// from C with this pointer is refused while the `PooledBuffer` exists.
pub struct PooledBuffer {
    data: NonNull<u8>,
    len: usize,
    capacity: usize,
    place: Place,
    /// Holds a reference.
    pool: NonNull<Shared>,
}

// SAFETY:
// - the buffer has one owner, and its bytes may be used from any thread
// - the pool it refers to is Send and Sync
unsafe impl Send for PooledBuffer {}
// SAFETY:
// - a shared PooledBuffer only gives shared access to its bytes
unsafe impl Sync for PooledBuffer {}

impl PooledBuffer {
    /// For a buffer just got from `pool` with holder `Owned` and initialised bytes; `len` is at most its
    /// capacity.
    #[inline]
    pub(crate) fn new(pool: NonNull<Shared>, buffer: Buffer, len: usize) -> Self {
        let Buffer { data, capacity, place } = buffer;
        debug_assert!(len <= capacity);
        Self { data, len, capacity, place, pool }
    }

    /// Takes over a raw buffer that is outstanding from `pool`: got by C, by [`Pool::get_raw`], or by
    /// [`into_raw`](Self::into_raw). `size` is the one asked for, or another of the same class; it becomes
    /// the length.
    ///
    /// # Errors
    /// [`Misuse`] if `data` is no such buffer; then nothing changed, and it is still the caller's.
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of `pool`, the caller owns it, and nobody else uses it from now
    ///   on
    /// - all its usable bytes ([`Pool::usable_size`]) are initialised; those of a class's slots always are
    pub unsafe fn from_raw(pool: &Pool, data: NonNull<u8>, size: usize) -> Result<Self, Misuse> {
        let _section = fork::section();
        // SAFETY:
        // - the caller owns the buffer
        let buffer = unsafe { pool.reference().adopt(data, size)? };
        let Buffer { data, capacity, place } = buffer;
        // The raw buffer's reference is this PooledBuffer's now.
        Ok(Self { data, len: size.min(capacity), capacity, place, pool: pool.reference().as_pointer() })
    }

    /// Gives the raw pointer up, with the size that a put must name: the length now. The buffer stays
    /// outstanding.
    pub fn into_raw(self) -> (NonNull<u8>, usize) {
        let buffer = ManuallyDrop::new(self);
        // SAFETY:
        // - `buffer` holds a reference, so the pool exists
        // - `data` and `place` are of the outstanding buffer it owns
        unsafe { buffer.pool.as_ref().release_owned(buffer.data, buffer.place, buffer.len) };
        (buffer.data, buffer.len)
    }

    /// The length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the length is 0.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most bytes the buffer can have. Under AddressSanitizer, valgrind and their like, in programs of C
    /// and C++: the size asked for.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes the length. Bytes that appear hold whatever was there.
    ///
    /// # Errors
    /// [`ResizeError`] if `len` exceeds the capacity.
    pub fn resize(&mut self, len: usize) -> Result<(), ResizeError> {
        if len > self.capacity {
            return Err(ResizeError { requested: len, capacity: self.capacity });
        }
        self.len = len;
        Ok(())
    }

    #[cfg(feature = "cxx")]
    pub(crate) fn into_parts(self) -> (NonNull<u8>, usize, usize, Place, NonNull<Shared>) {
        let buffer = ManuallyDrop::new(self);
        (buffer.data, buffer.len, buffer.capacity, buffer.place, buffer.pool)
    }

    /// # Safety
    /// - the parts came from [`into_parts`](Self::into_parts) (another length up to the capacity is fine),
    ///   and are used once
    #[cfg(feature = "cxx")]
    pub(crate) unsafe fn from_parts(
        data: NonNull<u8>,
        len: usize,
        capacity: usize,
        place: Place,
        pool: NonNull<Shared>,
    ) -> Self {
        debug_assert!(len <= capacity);
        Self { data, len, capacity, place, pool }
    }
}

impl PooledBuffer {
    #[cold]
    fn put_slowly(&mut self) {
        if let Place::Spare { class, slot } = self.place {
            // SAFETY:
            // - the buffer holds a reference until it is put
            let key = unsafe { self.pool.as_ref() }.cache_key();
            if thread_cache::put_owned_spare(key, self.data.addr().get(), class, slot) {
                return;
            }
        }
        let _section = fork::section();
        // SAFETY:
        // - the buffer holds a reference until it is put below
        let pool = unsafe { Reference::to_existing(self.pool) };
        // SAFETY:
        // - `data` and `place` are of the outstanding buffer that this value owns
        unsafe { pool.put_owned(self.data, self.place) };
        pool.attach();
    }
}

impl Drop for PooledBuffer {
    #[inline]
    fn drop(&mut self) {
        // SAFETY:
        // - the buffer holds a reference until it is put, so the pool exists
        let key = unsafe { self.pool.as_ref() }.cache_key();
        match self.place {
            Place::Slot { class, slot }
                if thread_cache::put_owned(key, self.data.addr().get(), class.into(), slot) => {}
            _ => self.put_slowly(),
        }
    }
}

impl Deref for PooledBuffer {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY:
        // - the buffer has at least `len` bytes, all initialised: fresh slots are zero pages, reused ones
        //   hold what was there, others were zeroed when they were allocated or vouched for by `from_raw`
        // - nobody else writes to them while this value is borrowed
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for PooledBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY:
        // - as in `deref`, and this value is borrowed mutably
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for PooledBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl fmt::Debug for PooledBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledBuffer")
            .field("data", &self.data)
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish()
    }
}
