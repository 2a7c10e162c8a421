//! The pool as Rust sees it: a handle, cloned and shared at will.

use std::collections::TryReserveError;
use std::fmt;
use std::panic::Location;
use std::ptr::NonNull;
use std::time::Duration;

use crate::anchor::{Home, MAX_POOLS, NoAnchor, Reference};
use crate::buffer::PooledBuffer;
use crate::config::{Builder, Config};
use crate::error::{BuildError, GetError, Misuse, ReallocError};
use crate::fork;
use crate::instrument::tracking::{Caller, Outstanding, Tracker};
use crate::ledger::Holder;
use crate::memory;
use crate::shared::{Buffer, Fill, PutSize, Realloc, Request, Shared};
use crate::stats::Stats;
use crate::thread_cache::{self, Verdict};

/// A pool of byte buffers. A clone is another handle on the same pool.
///
/// When the last handle is dropped (contexts given to C count too) the pool closes: its idle memory goes back
/// to the system at once, and what is outstanding stays good until it is put.
///
/// Every method may be called from any thread at any time.
pub struct Pool {
    shared: Reference,
}

impl Pool {
    /// A builder without size classes.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn from_config(config: Config) -> Result<Self, BuildError> {
        let home = Home::allocate().map_err(|error| match error {
            NoAnchor::TooManyPools => BuildError::TooManyPools { limit: MAX_POOLS },
            NoAnchor::OutOfMemory(error) => error.into(),
        })?;
        let shared = memory::boxed(Shared::new(config, home)?)?;
        Ok(Self { shared: Reference::to_new_pool(shared) })
    }

    /// A handle on a pool that was found by its id; counted from now on.
    #[cfg(feature = "capi")]
    pub(crate) fn from_reference(shared: Reference) -> Self {
        shared.open_handle();
        Self { shared }
    }

    pub(crate) fn reference(&self) -> &Reference {
        &self.shared
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
    pub(crate) unsafe fn from_leaked(shared: NonNull<Shared>) -> Self {
        // SAFETY:
        // - the leaked handle's reference was leaked with it
        Self { shared: unsafe { Reference::from_leaked(shared) } }
    }

    /// A buffer of `size` bytes; 0 gives a buffer, too. It holds whatever it held last, or zeros.
    ///
    /// # Errors
    /// [`GetError`]: the pool is closed, at its limit, or the system has no memory.
    #[inline]
    #[track_caller]
    pub fn get(&self, size: usize) -> Result<PooledBuffer, GetError> {
        let buffer = match thread_cache::get(self.shared.cache_key(), size, Holder::Owned) {
            Some(buffer) => buffer,
            None => self.get_slowly(size, Holder::Owned, Fill::Initialised)?,
        };
        Ok(PooledBuffer::new(self.shared.as_pointer(), buffer, size))
    }

    /// As [`get`](Self::get), but where that fails at the limit, waits until memory is put or given back, up to
    /// `timeout`. Who waits is served first come first served, and before any get that starts to wait later; a `get`
    /// does not queue. A timeout of zero does not wait, and [`Duration::MAX`] waits without end.
    ///
    /// The calling thread sleeps. A buffer that it holds itself cannot serve it.
    ///
    /// # Errors
    /// [`GetError::Timeout`] when the timeout has passed; at once as [`get`](Self::get) with a timeout of zero, and
    /// for what could never fit the limit. [`GetError::Closed`] as soon as the pool closes.
    #[track_caller]
    pub fn get_timeout(&self, size: usize, timeout: Duration) -> Result<PooledBuffer, GetError> {
        let caller = Caller::Rust(Location::caller());
        let request = Request { size, holder: Holder::Owned, fill: Fill::Initialised, caller };
        let buffer = self.get_patiently(&request, timeout)?;
        Ok(PooledBuffer::new(self.shared.as_pointer(), buffer, size))
    }

    /// As [`get_timeout`](Self::get_timeout), a raw buffer as [`get_raw`](Self::get_raw)'s.
    ///
    /// # Errors
    /// As [`get_timeout`](Self::get_timeout).
    #[track_caller]
    pub fn get_raw_timeout(&self, size: usize, timeout: Duration) -> Result<NonNull<u8>, GetError> {
        let request = Request::raw(size, Caller::Rust(Location::caller()));
        Ok(self.get_patiently(&request, timeout)?.data)
    }

    /// As asked for, waiting.
    pub(crate) fn get_patiently(&self, request: &Request, timeout: Duration) -> Result<Buffer, GetError> {
        let cached = thread_cache::get_or_fill(self.shared.cache_key(), request.size, request.holder);
        if let Some(buffer) = cached {
            return Ok(buffer.filled(request.fill));
        }
        let _section = fork::section();
        self.shared.attach();
        self.shared.get_timeout(request, timeout)
    }

    /// As [`get`](Self::get), all `size` bytes zero.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_zeroed(&self, size: usize) -> Result<PooledBuffer, GetError> {
        let buffer = self.get_slowly(size, Holder::Owned, Fill::Zeros)?;
        Ok(PooledBuffer::new(self.shared.as_pointer(), buffer, size))
    }

    /// A buffer with a copy of `bytes`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
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
    /// As [`get`](Self::get).
    #[inline]
    #[track_caller]
    pub fn get_raw(&self, size: usize) -> Result<NonNull<u8>, GetError> {
        match thread_cache::get(self.shared.cache_key(), size, Holder::Raw(size)) {
            Some(buffer) => Ok(buffer.data),
            None => Ok(self.get_slowly(size, Holder::Raw(size), Fill::Anything)?.data),
        }
    }

    #[cold]
    #[track_caller]
    fn get_slowly(&self, size: usize, holder: Holder, fill: Fill) -> Result<Buffer, GetError> {
        self.get_for(&Request { size, holder, fill, caller: Caller::Rust(Location::caller()) })
    }

    /// As asked for, past the fast path.
    pub(crate) fn get_for(&self, request: &Request) -> Result<Buffer, GetError> {
        // Zeros are written by the pool.
        let cached = (request.fill != Fill::Zeros)
            .then(|| thread_cache::get_or_fill(self.shared.cache_key(), request.size, request.holder))
            .flatten();
        if let Some(buffer) = cached {
            return Ok(buffer.filled(request.fill));
        }
        let _section = fork::section();
        // First: a slot for this thread then comes from a ledger line of its own.
        self.shared.attach();
        self.shared.get(request)
    }

    /// Puts a raw buffer back. `size` is the one asked for, or another of the same class.
    ///
    /// # Errors
    /// [`Misuse`] if `data` is not an outstanding raw buffer of this pool with this size; then nothing
    /// changed. (Of two puts of one buffer that race, against the contract, the second may be found out later, and is
    /// then only counted in [`Stats::double_puts`].)
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of this pool, the caller owns it, and nobody uses it any more
    #[inline]
    pub unsafe fn put_raw(&self, data: NonNull<u8>, size: usize) -> Result<(), Misuse> {
        let (key, address) = (self.shared.cache_key(), data.addr().get());
        if thread_cache::put(key, address, size)
            || thread_cache::put_any_getters(key, address, size)
            || thread_cache::put_anywhere(key, address, PutSize::Sized(size), Verdict::Later)
        {
            return Ok(());
        }
        // SAFETY:
        // - the caller owns the buffer
        unsafe { self.put_slowly(data, PutSize::Sized(size)) }
    }

    /// # Safety
    /// - as for [`put_raw`](Self::put_raw)
    #[cold]
    unsafe fn put_slowly(&self, data: NonNull<u8>, size: PutSize) -> Result<(), Misuse> {
        let _section = fork::section();
        // SAFETY:
        // - the caller owns the buffer
        unsafe { self.shared.put(data, size)? };
        self.shared.attach();
        Ok(())
    }

    /// As [`get_raw`](Self::get_raw), at a multiple of `alignment` bytes. Above the pool's own alignment the
    /// buffer is oversize.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`GetError::Alignment`] if it is not a power of two.
    #[track_caller]
    pub fn get_raw_aligned(&self, alignment: usize, size: usize) -> Result<NonNull<u8>, GetError> {
        let request = Request::raw(size, Caller::Rust(Location::caller()));
        let _section = fork::section();
        Ok(self.shared.get_aligned(alignment, &request)?.data)
    }

    /// As [`put_raw`](Self::put_raw), for callers that do not know the size.
    ///
    /// # Errors
    /// [`Misuse`] if `data` is not an outstanding raw buffer of this pool; then nothing changed.
    ///
    /// # Safety
    /// - as for [`put_raw`](Self::put_raw)
    pub unsafe fn put_raw_unsized(&self, data: NonNull<u8>) -> Result<(), Misuse> {
        let (key, address) = (self.shared.cache_key(), data.addr().get());
        if thread_cache::put_unsized(key, address)
            || thread_cache::put_anywhere(key, address, PutSize::Unsized, Verdict::Later)
        {
            return Ok(());
        }
        // SAFETY:
        // - the caller owns the buffer
        unsafe { self.put_slowly(data, PutSize::Unsized) }
    }

    /// Makes a raw buffer one of `new_size` bytes that holds the same, as much as both have room for: the same
    /// pointer, or another and the old one is put.
    ///
    /// # Errors
    /// [`ReallocError`]; then the old buffer is as it was, and still the caller's.
    ///
    /// # Safety
    /// - as for [`put_raw`](Self::put_raw)
    #[track_caller]
    pub unsafe fn realloc_raw(
        &self,
        data: NonNull<u8>,
        new_size: usize,
    ) -> Result<NonNull<u8>, ReallocError> {
        let _section = fork::section();
        // SAFETY:
        // - the caller owns the buffer
        match unsafe { self.shared.realloc(data, new_size, Caller::Rust(Location::caller()))? } {
            Realloc::InPlace => Ok(data),
            Realloc::Moved(new) => Ok(new),
        }
    }

    /// How many bytes the outstanding buffer at `data` has room for; 0 if it is not an outstanding buffer of
    /// this pool.
    pub fn usable_size(&self, data: NonNull<u8>) -> usize {
        let _section = fork::section();
        self.shared.find(data).map_or(0, |(_, capacity)| capacity)
    }

    /// The alignment of every buffer, in bytes.
    pub fn alignment(&self) -> usize {
        self.shared.alignment()
    }

    /// Closes the pool for all handles: gets fail from now on, idle memory goes back to the system.
    /// Outstanding buffers stay good, and the rest goes when the last is put. Closing again has no effect.
    pub fn close(&self) {
        let _section = fork::section();
        self.shared.close();
    }

    /// Whether the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Gives idle memory back to the system, down to `keep_idle_bytes` bytes of idle slots; the number of
    /// bytes by which [`Stats::mapped_bytes`] fell. Whole pages go: a small slot only with all others on its
    /// page.
    pub fn trim(&self, keep_idle_bytes: usize) -> usize {
        let _section = fork::section();
        self.shared.trim(keep_idle_bytes)
    }

    /// The tracked buffers that are outstanding, the oldest first; none if the pool does not track
    /// ([`Builder::track_every`]).
    ///
    /// # Errors
    /// There is no memory for the list.
    pub fn dump_outstanding(&self) -> Result<Vec<Outstanding>, TryReserveError> {
        let _section = fork::section();
        self.shared.tracker().map_or(Ok(Vec::new()), Tracker::dump)
    }

    /// The pool's figures now.
    pub fn stats(&self) -> Stats {
        let _section = fork::section();
        self.shared.stats()
    }
}

impl Clone for Pool {
    fn clone(&self) -> Self {
        self.shared.open_handle();
        Self { shared: self.shared.clone() }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _section = fork::section();
        self.shared.close_handle();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("number", &self.shared.number())
            .field("closed", &self.is_closed())
            .field("stats", &self.stats())
            .finish()
    }
}
