//! The pool as Rust sees it: a handle, cloned and shared at will.
//!
//! - here: `Pool`, whose methods translate and go through the door
//! - `get_async`: gets that wait as tasks
//! - `buffer`: `PooledBuffer`; `vec`: what it has in common with a `Vec`
//! - `bytes`: `PooledBytes`; `slices`: what both have in common with slices
//! - `bytes_traits`, `allocator`: the traits of other crates, each behind a feature
//! - `builder`: `Builder`, and what makes a configuration valid

#[cfg(feature = "allocator-api2")]
mod allocator;
pub(crate) mod buffer;
pub(crate) mod builder;
pub(crate) mod bytes;
#[cfg(feature = "bytes")]
mod bytes_traits;
pub(crate) mod get_async;
mod slices;
mod vec;

use std::collections::TryReserveError;
use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::time::Duration;

use self::buffer::PooledBuffer;
use self::builder::Builder;
use crate::class::ledger::Holder;
use crate::class::location::{Buffer, PutSize};
use crate::core::Core;
use crate::core::config::Config;
use crate::core::door::{self, Refused};
use crate::core::get::{Fill, Request};
use crate::core::pinned::PinnedRegion;
use crate::core::reference::Reference;
use crate::core::stats::Stats;
use crate::debug::tracking::{Caller, Outstanding, Tracker};
use crate::error::{BuildError, GetError, Misuse, ReallocError};
use crate::os::anchor::{MAX_POOLS, Registration};
use crate::os::caller::KeptErrno;
use crate::os::cells::NoCell;
use crate::os::fork::ForkGuard;
use crate::os::memory;

/// A pool of byte buffers. A clone is another handle on the same pool.
///
/// When the last handle is dropped (contexts given to C count too) the pool closes: its idle memory goes back
/// to the system at once, and what is outstanding stays good until it is put.
///
/// Every method may be called from any thread at any time.
pub struct Pool {
    core: Reference,
}

impl Pool {
    /// A builder without size classes.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn from_config(guard: &ForkGuard, config: Config) -> Result<Self, BuildError> {
        let registration = Registration::new(guard).map_err(|error| match error {
            NoCell::TooMany => BuildError::TooManyPools { limit: MAX_POOLS },
            NoCell::OutOfMemory(error) => error.into(),
        })?;
        let core = memory::written_box(|place| Core::write(place, guard, config, registration))?;
        core.pin(guard)?;
        Ok(Self { core: Reference::to_new_pool(core) })
    }

    /// A handle on a pool that was found by its id; counted from now on.
    #[cfg(feature = "capi")]
    pub(crate) fn from_reference(core: Reference) -> Self {
        core.open_handle();
        Self { core }
    }

    #[inline(always)]
    pub(crate) fn reference(&self) -> &Reference {
        &self.core
    }

    /// Leaves this handle counted without a value; [`from_leaked`](Self::from_leaked) takes it over.
    #[cfg(feature = "capi")]
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }

    /// Takes a leaked handle over.
    ///
    /// # Safety
    /// - a handle on this pool was [`leak`](Self::leak)ed, and nobody else takes it over
    #[cfg(feature = "capi")]
    pub(crate) unsafe fn from_leaked(core: NonNull<Core>) -> Self {
        // SAFETY:
        // - the leaked handle's reference was leaked with it
        Self { core: unsafe { Reference::from_leaked(core) } }
    }

    /// A buffer of `size` bytes; 0 gives a buffer, too. It holds whatever it held last, or zeros.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let mut buffer = pool.get(100)?;
    /// buffer[..5].copy_from_slice(b"hello");
    /// assert_eq!(buffer.len(), 100);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GetError`]: the pool is closed, at its limit, or the system has no memory.
    #[inline]
    #[track_caller]
    pub fn get(&self, size: usize) -> Result<PooledBuffer, GetError> {
        let buffer = match door::get(&self.core, size, Holder::Owned) {
            Some(buffer) => buffer,
            None => self.get_slow(size, Request::owned)?,
        };
        Ok(PooledBuffer::new(self.core.as_pointer(), buffer, size))
    }

    /// A buffer of `size` bytes, with whatever it held last, or zeros. Where the pool is at its limit, waits until
    /// memory is put or given back, up to `timeout`.
    ///
    /// Who waits is served first come first served, and before any get that starts to wait later; a [`get`](Self::get)
    /// does not queue. A timeout of zero does not wait, and [`Duration::MAX`] waits without end. The calling thread
    /// sleeps. A buffer that it holds itself cannot serve it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(4096, 100).max_bytes(4096).build()?;
    /// let first = pool.get(4096)?;
    /// let other = pool.clone();
    /// let waiter = std::thread::spawn(move || other.get_timeout(4096, Duration::from_secs(60)).map(drop));
    /// drop(first); // the other thread gets it
    /// waiter.join().unwrap()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`GetError::Timeout`]: the timeout has passed
    /// - [`GetError::Limit`]: at once, for what could never fit the limit, and with a timeout of zero
    /// - [`GetError::Closed`]: as soon as the pool closes
    /// - [`GetError::OutOfMemory`]: the system has no memory
    #[track_caller]
    pub fn get_timeout(&self, size: usize, timeout: Duration) -> Result<PooledBuffer, GetError> {
        let caller = Caller::Rust(Location::caller());
        let buffer = self.get_for(&Request { timeout, ..Request::owned(size, caller) })?;
        Ok(PooledBuffer::new(self.core.as_pointer(), buffer, size))
    }

    /// A raw buffer of `size` bytes, uninitialised, after waiting up to `timeout` where the pool is at its limit, as
    /// [`get_timeout`](Self::get_timeout) waits. It is the caller's until it is put by [`put_raw`](Self::put_raw).
    ///
    /// # Errors
    /// Those of [`get_timeout`](Self::get_timeout).
    #[track_caller]
    pub fn get_raw_timeout(&self, size: usize, timeout: Duration) -> Result<NonNull<u8>, GetError> {
        let caller = Caller::Rust(Location::caller());
        Ok(self.get_for(&Request { timeout, ..Request::raw(size, caller) })?.data)
    }

    /// A buffer of `size` bytes, all of them zero.
    ///
    /// # Errors
    /// [`GetError`]: the pool is closed, at its limit, or the system has no memory.
    #[track_caller]
    pub fn get_zeroed(&self, size: usize) -> Result<PooledBuffer, GetError> {
        let caller = Caller::Rust(Location::caller());
        let buffer = self.get_for(&Request { fill: Fill::Zeros, ..Request::owned(size, caller) })?;
        Ok(PooledBuffer::new(self.core.as_pointer(), buffer, size))
    }

    /// A buffer of `size` bytes that starts at a multiple of `alignment` bytes, with whatever it held last, or zeros.
    ///
    /// It comes from the smallest class that fits and whose slots are all so aligned, as those of a class whose buffer
    /// size is a multiple of `alignment` are, up to 64 KiB. Without such a class the system allocator serves.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(512, 100).size_class(4096, 100).build()?;
    /// let page = pool.get_aligned(4096, 100)?;
    /// assert!(page.as_ptr().addr() % 4096 == 0 && page.capacity() == 4096);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`GetError::Alignment`]: `alignment` is not a power of two
    /// - [`GetError`] otherwise: the pool is closed, at its limit, or the system has no memory
    #[track_caller]
    pub fn get_aligned(&self, alignment: usize, size: usize) -> Result<PooledBuffer, GetError> {
        let caller = Caller::Rust(Location::caller());
        let buffer = self.get_for(&Request { alignment: Some(alignment), ..Request::owned(size, caller) })?;
        Ok(PooledBuffer::new(self.core.as_pointer(), buffer, size))
    }

    /// A buffer of length 0 that has room for at least `capacity` bytes, to be appended to.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let mut buffer = pool.get_empty(100)?;
    /// buffer.extend_from_slice(b"hello")?;
    /// assert_eq!((buffer.len(), buffer.capacity()), (5, 4096));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GetError`]: the pool is closed, at its limit, or the system has no memory.
    #[track_caller]
    pub fn get_empty(&self, capacity: usize) -> Result<PooledBuffer, GetError> {
        let mut buffer = self.get(capacity)?;
        buffer.clear();
        Ok(buffer)
    }

    /// So many buffers of `size` bytes each, all or none.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(4096, 100).max_bytes(4 * 4096).build()?;
    /// let buffers = pool.get_many(4096, 3)?;
    /// assert!(pool.get_many(4096, 2).is_err());
    /// assert_eq!(pool.stats().classes[0].outstanding, buffers.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GetError`]: the pool is closed, at its limit, or the system has no memory, for the list either.
    #[track_caller]
    pub fn get_many(&self, size: usize, count: usize) -> Result<Vec<PooledBuffer>, GetError> {
        let mut buffers = Vec::new();
        let requested = count.saturating_mul(size_of::<PooledBuffer>());
        buffers.try_reserve_exact(count).map_err(|_| GetError::OutOfMemory { requested })?;
        for _ in 0..count {
            buffers.push(self.get(size)?);
        }
        Ok(buffers)
    }

    /// A buffer with a copy of `bytes`.
    ///
    /// # Errors
    /// [`GetError`]: the pool is closed, at its limit, or the system has no memory.
    #[track_caller]
    pub fn copy(&self, bytes: &[u8]) -> Result<PooledBuffer, GetError> {
        let mut buffer = self.get(bytes.len())?;
        buffer.copy_from_slice(bytes);
        Ok(buffer)
    }

    /// A raw buffer of `size` bytes, uninitialised, as C gets it. It is the caller's until it is put: by
    /// [`put_raw`](Self::put_raw), by C through a context of this pool, or by a [`PooledBuffer`] made from
    /// it. It keeps the pool alive.
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

    /// A raw buffer of `size` bytes, uninitialised, that starts at a multiple of `alignment` bytes, from where
    /// [`get_aligned`](Self::get_aligned) takes it. It is the caller's until it is put by [`put_raw`](Self::put_raw).
    ///
    /// # Errors
    /// - [`GetError::Alignment`]: `alignment` is not a power of two
    /// - [`GetError`] otherwise: the pool is closed, at its limit, or the system has no memory
    #[track_caller]
    pub fn get_raw_aligned(&self, alignment: usize, size: usize) -> Result<NonNull<u8>, GetError> {
        let caller = Caller::Rust(Location::caller());
        Ok(self.get_for(&Request { alignment: Some(alignment), ..Request::raw(size, caller) })?.data)
    }

    #[cold]
    #[track_caller]
    fn get_slow(
        &self,
        size: usize,
        request: impl FnOnce(usize, Caller<'static>) -> Request<'static>,
    ) -> Result<Buffer, GetError> {
        self.get_for(&request(size, Caller::Rust(Location::caller())))
    }

    fn get_for(&self, request: &Request) -> Result<Buffer, GetError> {
        door::get_slow(&self.core, request).map_err(Refused::into_error)
    }

    /// Puts a raw buffer back. `size` is the one asked for, or another of the same class.
    ///
    /// # Errors
    /// [`Misuse`] if `data` is not an outstanding raw buffer of this pool with this size; then nothing
    /// changed. Of puts of one buffer that race, against the contract, exactly one wins.
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of this pool, the caller owns it, and nobody uses it any more
    #[inline]
    pub unsafe fn put_raw(&self, data: NonNull<u8>, size: usize) -> Result<(), Misuse> {
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

    /// Puts a raw buffer back whose size the caller does not know.
    ///
    /// # Errors
    /// [`Misuse`] if `data` is not an outstanding raw buffer of this pool; then nothing changed.
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of this pool, the caller owns it, and nobody uses it any more
    pub unsafe fn put_raw_unsized(&self, data: NonNull<u8>) -> Result<(), Misuse> {
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

    /// Makes a raw buffer one of `new_size` bytes that holds the same, as much as both have room for: the same
    /// pointer, or another and the old one is put.
    ///
    /// To a smaller size it does not fail in an open pool: where no other buffer is to be had, the old one stays. Its
    /// place is then one of the larger class still, so put it with `new_size` exactly, or by
    /// [`put_raw_unsized`](Self::put_raw_unsized): another size of the smaller class is refused.
    ///
    /// From oversize to oversize the system does it, by moving pages where it can: it is no get and no put, the buffer
    /// keeps its alignment, and only what it grows by has to fit the limit. While the system copies, it may hold the
    /// old bytes too: less than 32 MiB, beside the limit. Pools that zero on put, track or guard get another buffer
    /// instead.
    ///
    /// # Errors
    /// [`ReallocError`]; then the old buffer is as it was, and still the caller's.
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
        // SAFETY:
        // - the caller owns the buffer
        let moved =
            unsafe { self.core.realloc(&mut ForkGuard::new(), data, PutSize::Unsized, new_size, caller)? };
        Ok(moved.address(data))
    }

    /// How many bytes the outstanding buffer at `data` has room for; 0 if it is not an outstanding buffer of
    /// this pool.
    pub fn usable_size(&self, data: NonNull<u8>) -> usize {
        self.core.usable_size(&ForkGuard::new(), data)
    }

    /// What a get of `size` bytes has room for: its class's buffer size; `size` itself, after rounding, where no class
    /// fits, and in a pool that guards or is watched by a checker of memory. A buffer that is to grow may as well be
    /// asked for with so many bytes.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(512, 100).build()?;
    /// assert_eq!([0, 100, 512, 513].map(|size| pool.good_size(size)), [512, 512, 512, 513]);
    /// assert_eq!(pool.get(100)?.capacity(), pool.good_size(100));
    /// # Ok(())
    /// # }
    /// ```
    pub fn good_size(&self, size: usize) -> usize {
        self.core.good_size(&mut ForkGuard::new(), size)
    }

    /// The memory of a pool that was built [`pinned`](Builder::pinned), to be registered with io_uring, RDMA or a GPU:
    /// all slots of all classes, in pieces of at most 1 GiB. None of any other pool, nor of a closed one. A buffer of
    /// the pool lies in one of them, unless it is oversize or overflow.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(4096, 100).pinned(true).build()?;
    /// let regions: Vec<_> = pool.pinned_regions().collect();
    /// assert_eq!((regions.len(), regions[0].len), (1, 100 * 4096));
    /// let buffer = pool.get(4096)?;
    /// let offset = buffer.as_ptr().addr() - regions[0].start.as_ptr().addr();
    /// assert!(offset < regions[0].len);
    /// # Ok(())
    /// # }
    /// ```
    pub fn pinned_regions(&self) -> impl Iterator<Item = PinnedRegion> {
        self.core.pinned_regions()
    }

    /// The alignment of every buffer, in bytes.
    pub fn alignment(&self) -> usize {
        self.core.alignment()
    }

    /// Closes the pool for all handles: gets fail from now on, idle memory goes back to the system.
    /// Outstanding buffers stay good, and the rest goes when the last is put. Closing again has no effect.
    pub fn close(&self) {
        self.core.close(&mut ForkGuard::new());
    }

    /// Whether the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// Gives idle memory back to the system, down to `keep_idle_bytes` bytes of idle slots; the number of
    /// bytes by which [`Stats::mapped_bytes`] fell. Whole pages go: a small slot only with all others on its
    /// page.
    pub fn trim(&self, keep_idle_bytes: usize) -> usize {
        self.core.trim(&ForkGuard::new(), keep_idle_bytes)
    }

    /// The tracked buffers that are outstanding, the oldest first; none if the pool does not track
    /// ([`Builder::track_every`]).
    ///
    /// # Errors
    /// There is no memory for the list.
    pub fn dump_outstanding(&self) -> Result<Vec<Outstanding>, TryReserveError> {
        let dump = |tracker: &Tracker| tracker.dump(&ForkGuard::new());
        self.core.tracker().map_or(Ok(Vec::new()), dump)
    }

    /// The pool's figures now.
    pub fn stats(&self) -> Stats {
        self.core.stats(&ForkGuard::new())
    }
}

// A panic leaves nothing half done: the core runs no code of the user's in the middle of anything.
impl UnwindSafe for Pool {}
impl RefUnwindSafe for Pool {}

impl Clone for Pool {
    fn clone(&self) -> Self {
        self.core.open_handle();
        Self { core: self.core.clone() }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _errno = KeptErrno::new();
        self.core.close_handle(&mut ForkGuard::new());
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("number", &self.core.number())
            .field("closed", &self.is_closed())
            .field("stats", &self.stats())
            .finish()
    }
}

#[cfg(all(test, target_os = "linux", not(bytepool_shuttle)))]
mod tests {
    use super::*;

    fn set_errno(errno: i32) {
        // SAFETY:
        // - the calling thread's own
        unsafe { *libc::__errno_location() = errno };
    }

    /// The system takes no locked memory back, and says so in `errno`.
    #[test]
    fn the_end_of_a_handle_leaves_errno_alone() {
        if cfg!(bytepool_sanitized) {
            eprintln!("left out: sanitizers lock no memory");
            return;
        }
        let ends: [fn(Pool); 2] = [drop, |pool| {
            #[cfg(feature = "capi")]
            let pool = {
                let context = pool.context();
                drop(pool);
                context
            };
            drop(pool);
        }];
        for end in ends {
            let pool = Pool::builder().size_class(4096, 4).alignment(4096).build().unwrap();
            let (idle, keeps_the_region) = (pool.get(4096).unwrap(), pool.get(4096).unwrap());
            let page = idle.as_ptr();
            // SAFETY:
            // - the buffer's own page, which stays mapped as long as the other buffer is out
            unsafe { assert_eq!(libc::mlock(page.cast(), 4096), 0) };
            drop(idle);
            set_errno(libc::EXDEV);
            end(pool);
            assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EXDEV));
            // SAFETY: as above
            unsafe { assert_eq!(libc::madvise(page.cast_mut().cast(), 4096, libc::MADV_DONTNEED), -1) };
            drop(keeps_the_region);
        }
    }
}
