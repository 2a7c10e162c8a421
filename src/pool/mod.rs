//! The pool as Rust sees it: a handle, cloned and shared at will.
//!
//! - here: `Pool`, whose methods translate and go through the door
//! - `raw`: its raw buffers, as C has them
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
mod raw;
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
use crate::class::location::Buffer;
use crate::core::Core;
use crate::core::config::Config;
use crate::core::door::{self, Refused};
use crate::core::get::{Fill, Request};
use crate::core::pinned::PinnedRegion;
use crate::core::reference::Reference;
use crate::core::stats::Stats;
use crate::debug::tracking::{Caller, Outstanding, Tracker};
use crate::error::{BuildError, GetError};
use crate::os::anchor::{MAX_POOLS, Registration};
use crate::os::caller::KeptErrno;
use crate::os::cells::NoCell;
use crate::os::fork::ForkGuard;
use crate::os::memory;

/// A pool of byte buffers.
///
/// The value is a handle: a clone is another handle on the same pool.
///
/// A context that was given to C is a handle, too. When the last handle is dropped, the pool closes. Then its idle
/// memory goes back to the system at once, on Windows with the last buffer. Outstanding buffers stay good until they
/// are put.
///
/// Every method may be called from any thread at any time. A method panics if the pool's rounding function does. Then
/// the pool is as before: get_many puts back what it already got, which counts in `gets` and `puts`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytepool::{GetError, Pool};
///
/// let pool = Pool::builder().size_class(4096, 100).build()?;
/// let other = pool.clone();
/// let thread = std::thread::spawn(move || -> Result<_, GetError> {
///     let mut buffer = other.get(100)?;
///     buffer.fill(7);
///     Ok(buffer)
/// });
/// let buffer = thread.join().unwrap()?;
/// assert_eq!(buffer, [7; 100]);
/// drop(buffer); // puts it, although another thread got it
/// assert_eq!(pool.stats().outstanding(), 0);
/// # Ok(())
/// # }
/// ```
pub struct Pool {
    core: Reference,
}

impl Pool {
    /// Starts the configuration of a pool. The builder has no size classes yet.
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

    /// Another handle on a pool that was found by its id. It is counted from now on.
    #[cfg(feature = "capi")]
    pub(crate) fn from_reference(core: Reference) -> Self {
        core.open_handle();
        Self { core }
    }

    #[inline(always)]
    pub(crate) fn reference(&self) -> &Reference {
        &self.core
    }

    /// Leaves this handle counted without a value. [`from_leaked`](Self::from_leaked) takes it over.
    #[cfg(feature = "capi")]
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }

    /// Takes a leaked handle over.
    ///
    /// # Safety
    /// - [`leak`](Self::leak) left a handle on this pool, and nobody else takes it over
    #[cfg(feature = "capi")]
    pub(crate) unsafe fn from_leaked(core: NonNull<Core>) -> Self {
        // SAFETY:
        // - the leaked handle's reference was leaked with it
        Self { core: unsafe { Reference::from_leaked(core) } }
    }

    /// Gets a buffer of `size` bytes. A size of 0 gives a buffer, too. Its bytes hold what the buffer held last, or
    /// zeros.
    ///
    /// The [`PooledBuffer`] owns the buffer, and puts it when it is dropped.
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

    /// Gets a buffer of `size` bytes, and waits up to `timeout` where the pool is at its limit, or where others wait
    /// already. The wait ends when memory is put or given back. The bytes hold what the buffer held last, or zeros.
    ///
    /// Waiters are served first come first served. A later one goes first only if it takes an idle slot of its own
    /// class that no earlier waiter can use. A [`get`](Self::get) does not queue, and may overtake them. A timeout of
    /// zero does not wait, and [`Duration::MAX`] waits without end. The calling thread sleeps, so a buffer that it
    /// holds itself cannot serve it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
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
    /// - [`GetError::Limit`]: at once, for what could never fit the limit, and with a timeout of zero; in a pinned pool
    ///   [`GetError::Pinned`]
    /// - [`GetError::Closed`]: as soon as the pool closes
    /// - [`GetError::OutOfMemory`]: the system has no memory
    #[track_caller]
    pub fn get_timeout(&self, size: usize, timeout: Duration) -> Result<PooledBuffer, GetError> {
        let caller = Caller::Rust(Location::caller());
        let buffer = self.get_for(&Request::owned(size, caller).waiting(timeout))?;
        Ok(PooledBuffer::new(self.core.as_pointer(), buffer, size))
    }

    /// Gets a buffer of `size` bytes, all of them zero. Bytes beyond its length may hold anything.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let buffer = pool.get_zeroed(100)?;
    /// assert!(buffer.iter().all(|&byte| byte == 0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GetError`]: the pool is closed, at its limit, or the system has no memory.
    #[track_caller]
    pub fn get_zeroed(&self, size: usize) -> Result<PooledBuffer, GetError> {
        let caller = Caller::Rust(Location::caller());
        let buffer = self.get_for(&Request { fill: Fill::Zeros, ..Request::owned(size, caller) })?;
        Ok(PooledBuffer::new(self.core.as_pointer(), buffer, size))
    }

    /// Gets a buffer of `size` bytes that starts at a multiple of `alignment` bytes. Its bytes hold what the buffer
    /// held last, or zeros.
    ///
    /// The smallest class serves that fits and whose slot size is a multiple of `alignment`. Classes serve alignments
    /// up to 64 KiB, up to the pool's own if that is more, and up to 2 MiB with [`huge_pages`](Builder::huge_pages).
    /// Any other buffer is oversize: the system allocator serves it.
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

    /// Gets a buffer of length 0 with room for at least `capacity` bytes, to be appended to.
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

    /// Gets `count` buffers of `size` bytes each: all of them, or none. The bytes hold what the buffers held last, or
    /// zeros.
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
    /// [`GetError`]: the pool is closed, at its limit, or the system has no memory for the buffers or for the list.
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

    /// Gets a buffer of `bytes.len()` bytes, and copies `bytes` into it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let buffer = pool.copy(b"hello")?;
    /// assert_eq!(buffer, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GetError`]: the pool is closed, at its limit, or the system has no memory.
    #[track_caller]
    pub fn copy(&self, bytes: &[u8]) -> Result<PooledBuffer, GetError> {
        let mut buffer = self.get(bytes.len())?;
        buffer.copy_from_slice(bytes);
        Ok(buffer)
    }

    // Out of line, so that `get` is small enough to be inlined: else its result is copied once more, which takes longer
    // than all of it.
    #[cold]
    #[inline(never)]
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

    /// How many bytes the outstanding buffer at `data` has room for. It is 0 for any other pointer: to ask is no
    /// misuse. A stale pointer to a buffer that somebody got again has that buffer's room.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let buffer = pool.get(100)?;
    /// assert_eq!(pool.usable_size(std::ptr::NonNull::from(&buffer[0])), buffer.capacity());
    /// assert_eq!(pool.usable_size(std::ptr::NonNull::dangling()), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn usable_size(&self, data: NonNull<u8>) -> usize {
        let cached = door::usable_size(&self.core, data);
        cached.unwrap_or_else(|| self.core.usable_size(&ForkGuard::new(), data))
    }

    /// The least room of the buffers that gets of `size` bytes give. A buffer that will grow can ask for that many
    /// bytes at once.
    ///
    /// It is the buffer size of the class. Where no class fits it is `size` itself, after rounding. In a pool that
    /// guards buffers, and in a program that a checker of memory watches, it is `size`.
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
        let cached = door::good_size(&self.core, size);
        cached.unwrap_or_else(|| self.core.good_size(&mut ForkGuard::new(), size))
    }

    /// Lists the memory of a pool that was built [`pinned`](Builder::pinned), to be registered with io_uring, RDMA or a
    /// GPU. It is all slots of all classes, in regions of at most 1 GiB. A slot that is larger is a region of its own.
    ///
    /// A buffer of the pool lies in one of them, unless it is oversize or overflow, is guarded, or was got under a
    /// checker of memory. The list is empty for any other pool and for a closed one. What was registered with the
    /// kernel or a device is to be unregistered before the pool closes.
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

    /// Closes the pool for all handles. Gets fail from now on, waiting ones included, and idle memory goes back to the
    /// system.
    ///
    /// Outstanding buffers stay good. The rest of the memory goes back as they are put. A second close has
    /// no effect.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let buffer = pool.copy(b"hello")?;
    /// pool.close();
    /// assert!(pool.is_closed() && pool.get(5).is_err());
    /// assert_eq!(buffer, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        self.core.close(&mut ForkGuard::new());
    }

    /// Whether the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// Gives idle memory back to the system, and keeps at least `keep_idle_bytes` bytes of idle slots if there are as
    /// many. Returns how many bytes of slots went back. Waiting gets may take some of them before it returns.
    ///
    /// Whole pages go back. So a slot that shares a page with others goes only if none of them is out. It first takes
    /// what threads cache. A pinned pool gives nothing back, nor does any on Windows.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(65536, 100).build()?;
    /// drop(pool.get(65536)?); // idle now, and kept
    /// assert_eq!(pool.trim(0), 65536);
    /// assert_eq!(pool.stats().mapped_bytes, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn trim(&self, keep_idle_bytes: usize) -> usize {
        self.core.trim(&ForkGuard::new(), keep_idle_bytes)
    }

    /// Lists the tracked buffers that are outstanding, the oldest first. The list is empty if the pool does not track:
    /// see [`Builder::track_every`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = bytepool::Pool::builder().size_class(4096, 100).track_every(1).build()?;
    /// let _buffer = pool.get(100)?;
    /// for lost in pool.dump_outstanding()? {
    ///     println!("{lost}"); // its address and size, when and by which thread it was got, and where: main.rs:8
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TryReserveError`]: the system has no memory for the list.
    pub fn dump_outstanding(&self) -> Result<Vec<Outstanding>, TryReserveError> {
        let dump = |tracker: &Tracker| tracker.dump(&ForkGuard::new());
        self.core.tracker().map_or(Ok(Vec::new()), dump)
    }

    /// The pool's figures now. Each is true of a recent moment; together they agree when no other call is running.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
    /// let _buffer = pool.get(100)?;
    /// let stats = pool.stats();
    /// assert_eq!((stats.gets, stats.puts, stats.classes[0].outstanding), (1, 0, 1));
    /// println!("{stats}"); // a table
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> Stats {
        self.core.stats(&ForkGuard::new())
    }
}

// A panic leaves nothing half done: the core runs no code of the user's in the middle of anything.
impl UnwindSafe for Pool {}
impl RefUnwindSafe for Pool {}

impl Clone for Pool {
    /// Makes another handle on the same pool.
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
        let size = crate::os::region::page_size();
        for end in ends {
            let pool = Pool::builder().size_class(size, 4).alignment(size).build().unwrap();
            let (idle, keeps_the_region) = (pool.get(size).unwrap(), pool.get(size).unwrap());
            let page = idle.as_ptr();
            // SAFETY:
            // - the buffer's own page, which stays mapped as long as the other buffer is out
            unsafe { assert_eq!(libc::mlock(page.cast(), size), 0) };
            drop(idle);
            set_errno(libc::EXDEV);
            end(pool);
            assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EXDEV));
            // SAFETY: as above
            unsafe { assert_eq!(libc::madvise(page.cast_mut().cast(), size, libc::MADV_DONTNEED), -1) };
            drop(keeps_the_region);
        }
    }
}
