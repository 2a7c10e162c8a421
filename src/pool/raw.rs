//! Raw buffers: memory without an owner, as C has it. A get gives a pointer, and a put takes it back.

use std::panic::Location;
use std::ptr::NonNull;
use std::time::Duration;

use super::Pool;
use crate::class::ledger::Holder;
use crate::class::location::PutSize;
use crate::core::door::{self, Refused};
use crate::core::get::Request;
use crate::debug::tracking::Caller;
use crate::error::{GetError, Misuse, ReallocError};
use crate::os::fork::ForkGuard;

/// Raw buffers: pointers, as C has them.
impl Pool {
    /// Gets a raw buffer of `size` uninitialised bytes, like `bytepool_get` in C. The buffer keeps the pool's memory.
    ///
    /// The caller owns the buffer until it is put. [`put_raw`](Self::put_raw) puts it, and so does C, through a context
    /// of this pool. [`PooledBuffer::from_raw`](crate::PooledBuffer::from_raw) makes an owner of it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let data = pool.get_raw(100)?;
    /// // SAFETY:
    /// // - the buffer has 100 bytes, is this caller's, and is put once
    /// unsafe {
    ///     data.write_bytes(7, 100);
    ///     pool.put_raw(data, 100)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GetError`]: the pool is closed, at its limit, or the system has no memory.
    #[inline]
    #[track_caller]
    pub fn get_raw(&self, size: usize) -> Result<NonNull<u8>, GetError> {
        match door::get(&self.core, size, Holder::Raw(size)) {
            Some(buffer) => Ok(buffer.data),
            None => Ok(self.get_slow(size, Request::raw)?.data),
        }
    }

    /// Gets a raw buffer of `size` uninitialised bytes that starts at a multiple of `alignment` bytes. The caller owns
    /// it until [`put_raw`](Self::put_raw), which names the size only.
    ///
    /// The smallest class serves that fits and whose slots all have that alignment. They have it if the slot size is a
    /// multiple of `alignment`, up to 64 KiB or the pool's alignment, or up to 2 MiB with
    /// [`huge_pages`](crate::Builder::huge_pages). Without such a class the system allocator serves.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let data = pool.get_raw_aligned(4096, 100)?;
    /// assert_eq!(data.addr().get() % 4096, 0);
    /// // SAFETY:
    /// // - got above, and put once
    /// unsafe { pool.put_raw(data, 100)? };
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`GetError::Alignment`]: `alignment` is not a power of two
    /// - [`GetError`] otherwise: the pool is closed, at its limit, or the system has no memory
    #[track_caller]
    pub fn get_raw_aligned(&self, alignment: usize, size: usize) -> Result<NonNull<u8>, GetError> {
        let caller = Caller::Rust(Location::caller());
        Ok(self.get_for(&Request { alignment: Some(alignment), ..Request::raw(size, caller) })?.data)
    }

    /// Gets a raw buffer of `size` uninitialised bytes, and waits up to `timeout` where the pool is at its limit, or
    /// where others wait already. The wait ends when memory is put or given back.
    ///
    /// The calling thread sleeps, and is served first come first served. A timeout of zero does not wait, and
    /// [`Duration::MAX`] waits without end. The caller owns the buffer until [`put_raw`](Self::put_raw).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// let pool = bytepool::Pool::builder().size_class(4096, 100).max_bytes(4096).build()?;
    /// let data = pool.get_raw_timeout(4096, Duration::from_secs(1))?;
    /// assert!(pool.get_raw_timeout(4096, Duration::from_millis(1)).is_err()); // the pool is at its limit
    /// // SAFETY:
    /// // - got above, and put once
    /// unsafe { pool.put_raw(data, 4096)? };
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`GetError::Timeout`]: the timeout has passed
    /// - [`GetError::Limit`]: at once, for what could never fit the limit, and with a timeout of zero; in a pinned pool
    ///   [`GetError::Pinned`]
    /// - [`GetError::Closed`]: as soon as the pool closes
    /// - [`GetError::OutOfMemory`]: the system has no memory
    #[track_caller]
    pub fn get_raw_timeout(&self, size: usize, timeout: Duration) -> Result<NonNull<u8>, GetError> {
        let caller = Caller::Rust(Location::caller());
        Ok(self.get_for(&Request::raw(size, caller).waiting(timeout))?.data)
    }

    /// Puts a raw buffer back, whichever thread and language got it. `size` is the one asked for, in bytes, or another
    /// of the same class. The pool owns the buffer from then on.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let data = pool.get_raw(100)?;
    /// // SAFETY:
    /// // - the buffer is this caller's, and not used after the put; the second put is refused
    /// unsafe {
    ///     pool.put_raw(data, 100)?;
    ///     assert!(pool.put_raw(data, 100).is_err());
    /// }
    /// assert_eq!(pool.stats().double_puts, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Misuse`] if `data` is not an outstanding raw buffer of this pool with this size. Then nothing changed. If puts
    /// of one buffer race against the contract, exactly one wins.
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of this pool, the caller owns it, and nobody uses it any more
    #[inline]
    pub unsafe fn put_raw(&self, data: NonNull<u8>, size: usize) -> Result<(), Misuse> {
        let data = as_memory_holds(data);
        let Err(unfinished) = door::put(&self.core, data.as_ptr(), size) else { return Ok(()) };
        // SAFETY:
        // - the caller owns the buffer
        // - the fast path just gave this
        unsafe {
            match door::finish_put(unfinished, data.as_ptr()) {
                true => Ok(()),
                false => self.put_slow(data, PutSize::Sized(size)),
            }
        }
    }

    /// Puts a raw buffer back whose size the caller does not know. The pool owns it from then on.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let data = pool.get_raw(100)?;
    /// // SAFETY:
    /// // - got above, and put once
    /// unsafe { pool.put_raw_unsized(data)? };
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Misuse`] if `data` is not an outstanding raw buffer of this pool. Then nothing changed.
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of this pool, the caller owns it, and nobody uses it any more
    pub unsafe fn put_raw_unsized(&self, data: NonNull<u8>) -> Result<(), Misuse> {
        let data = as_memory_holds(data);
        if door::put_unsized(&self.core, data.as_ptr()) {
            return Ok(());
        }
        // SAFETY:
        // - the caller owns the buffer
        unsafe { self.put_slow(data, PutSize::Unsized) }
    }

    /// # Safety
    /// - if `data` is an outstanding buffer of this pool, the caller owns it, and nobody uses it any more
    #[cold]
    unsafe fn put_slow(&self, data: NonNull<u8>, size: PutSize) -> Result<(), Misuse> {
        // SAFETY:
        // - as the caller promised
        let put = unsafe { door::put_slow(&self.core, data.as_ptr(), size) };
        put.map_err(Refused::into_error)
    }

    /// Gives a raw buffer another size, `new_size` bytes. It keeps the bytes that both sizes have room for. The result
    /// is the same pointer, or another; then the old buffer was put. The caller owns the result.
    ///
    /// In an open pool a shrink always succeeds. If no smaller buffer can be had, the old one stays. Put that one with
    /// exactly `new_size`, or by [`put_raw_unsized`](Self::put_raw_unsized). Another size of the smaller class is
    /// refused, for the buffer is still one of the larger class.
    ///
    /// The system resizes an oversize buffer that stays oversize, and moves pages where it can. That is no get and no
    /// put, and the buffer keeps its alignment. Only the growth has to fit the limit. If the system refuses, it becomes
    /// a get, a copy and a put, and all of the new size has to fit beside the old one. While the system copies, the old
    /// bytes exist too, and `max_bytes` does not count them: on Linux less than 32 MiB. Pools that zero on put, track
    /// or guard, and all under a checker of memory, get another buffer instead.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let data = pool.get_raw(100)?;
    /// // SAFETY:
    /// // - each buffer is this caller's and has so many bytes; the last one is put once
    /// unsafe {
    ///     data.write_bytes(7, 100);
    ///     let larger = pool.realloc_raw(data, 10_000)?;
    ///     assert_eq!(larger.add(99).read(), 7);
    ///     pool.put_raw(larger, 10_000)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ReallocError`]. Then the old buffer is as it was, and still the caller's.
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of this pool, the caller owns it, and nobody else uses it
    #[track_caller]
    pub unsafe fn realloc_raw(
        &self,
        data: NonNull<u8>,
        new_size: usize,
    ) -> Result<NonNull<u8>, ReallocError> {
        if door::resize(&self.core, data, PutSize::Unsized, new_size) {
            return Ok(data);
        }
        let caller = Caller::Rust(Location::caller());
        let data = as_memory_holds(data);
        // SAFETY:
        // - the caller owns the buffer
        if let Some(new) = unsafe { door::resize_slow(&self.core, data, PutSize::Unsized, new_size) } {
            return Ok(new);
        }
        // SAFETY: as above
        let moved =
            unsafe { self.core.realloc(&mut ForkGuard::new(), data, PutSize::Unsized, new_size, caller)? };
        Ok(moved.address(data))
    }
}

/// The same pointer, hidden from the compiler. Safe code may have written bytes there that are not initialised, and the
/// next owner reads them: what memory holds. The standard library does not promise that of `black_box`; compilers do
/// it.
#[inline(always)]
fn as_memory_holds(data: NonNull<u8>) -> NonNull<u8> {
    std::hint::black_box(data)
}
