//! The one door: every get and put comes in here, whatever its language. The fast path answers done or not done. What
//! is not done goes through one cold function. That asks this thread's cache again, wherever its key is, and then the
//! pool itself.
//!
//! ```text
//! C: a context -----\
//! C++: a pool -------+-> Handle -> key -> thread cache, fast -> done
//! Rust: a pool -----/                        \-> slow: fork guard -> thread cache -> resolve -> pool -> attach
//! ```

use std::ops::Deref;
use std::ptr::NonNull;
use std::task::{Poll, Waker};

use super::Core;
use super::get::Request;
use super::wait_task::Progress;
pub(crate) use crate::cache::Unfinished;
use crate::cache::{self, Position};
use crate::class::ledger::Holder;
use crate::class::location::{Buffer, Location, PutSize};
use crate::error::{GetError, Misuse};
use crate::os::fork::ForkGuard;

/// What a caller names its pool by.
pub(crate) trait Handle: Copy {
    /// Keeps the pool alive for a call.
    type Pool: Deref<Target = Core>;

    /// What leads the calling thread to its cache of the pool.
    fn key(self) -> u64;

    /// The pool. `None`: the handle names none.
    fn resolve(self, guard: &ForkGuard) -> Option<Self::Pool>;

    /// Whether the handle may still get buffers of its pool.
    fn is_live(self, guard: &ForkGuard, pool: &Core) -> bool;

    /// Runs the slow half behind the boundary of the caller's language.
    fn enter<T, E>(run: impl FnOnce(&mut ForkGuard) -> Result<T, Refused<E>>) -> Result<T, Refused<E>>;
}

/// Why nothing was done.
#[derive(Debug)]
pub(crate) enum Refused<E> {
    /// The handle names no pool.
    NoPool,
    /// A panic was caught at the boundary.
    #[cfg_attr(not(feature = "capi"), expect(dead_code, reason = "Rust has no boundary"))]
    Panic,
    Error(E),
}

impl<E> Refused<E> {
    /// For Rust's handles: they always name a pool, and let panics through.
    pub(crate) fn into_error(self) -> E {
        match self {
            Self::Error(error) => error,
            Self::NoPool | Self::Panic => unreachable!("a handle of Rust's names a pool"),
        }
    }
}

/// A buffer from this thread's cache. `None`: [`get_slow`] must look.
#[inline(always)]
pub(crate) fn get<H: Handle>(handle: H, size: usize, holder: Holder) -> Option<Buffer> {
    cache::get(handle.key(), size, holder)
}

/// A buffer as asked for.
#[inline(always)]
pub(crate) fn get_slow<H: Handle>(handle: H, request: &Request) -> Result<Buffer, Refused<GetError>> {
    if request.is_plain() {
        let cached = cache::get_slow(&ForkGuard::new(), handle.key(), request.size, request.holder);
        if let Some(buffer) = cached {
            return Ok(buffer);
        }
    }
    get_from_pool(handle, request)
}

/// A buffer as asked for, or a place in the queue of those that wait, where the waker is left.
#[cold]
pub(crate) fn poll_slow<H: Handle>(
    handle: H,
    request: &Request,
    progress: &mut Progress,
    waker: &mut Option<Waker>,
) -> Result<Poll<Buffer>, Refused<GetError>> {
    H::enter(|guard| {
        with_live_pool(handle, guard, |pool, guard| pool.poll_get(guard, request, progress, waker))
    })
}

#[inline(never)]
fn get_from_pool<H: Handle>(handle: H, request: &Request) -> Result<Buffer, Refused<GetError>> {
    H::enter(|guard| with_live_pool(handle, guard, |pool, guard| pool.get(guard, request)))
}

/// Runs a get of a pool whose handle is live. The thread is attached first, so that a fresh slot comes from a slot
/// group of its own.
#[inline(always)]
pub(crate) fn with_live_pool<H: Handle, T>(
    handle: H,
    guard: &mut ForkGuard,
    get: impl FnOnce(&Core, &mut ForkGuard) -> Result<T, GetError>,
) -> Result<T, Refused<GetError>> {
    let pool = handle.resolve(guard).ok_or(Refused::NoPool)?;
    if !handle.is_live(guard, &pool) {
        return Err(Refused::Error(GetError::Closed));
    }
    if !cache::is_attached(guard, handle.key()) {
        attach(handle, &pool, guard);
    }
    get(&pool, guard).map_err(Refused::Error)
}

fn attach<H: Handle>(handle: H, pool: &Core, guard: &mut ForkGuard) {
    pool.attach(guard, handle.key(), |guard| handle.is_live(guard, pool));
}

/// Puts a raw buffer to this thread's cache. The size is the one asked for, or another of its class. `Err`: nothing was
/// done. [`finish_put`] may try next, at once; if it fails, [`put_slow`] must look.
#[inline(always)]
pub(crate) fn put<H: Handle>(handle: H, data: *mut u8, size: usize) -> Result<(), Unfinished> {
    cache::put(handle.key(), data.addr(), size)
}

/// Puts a raw buffer of whatever size to this thread's cache. `false`: nothing was done, [`put_slow`] must look.
#[inline(always)]
pub(crate) fn put_unsized<H: Handle>(handle: H, data: *mut u8) -> bool {
    cache::put_unsized(handle.key(), data.addr())
}

/// The fast path's second step, out of line: puts a buffer that anybody may put. `false`: nothing was done,
/// [`put_slow`] must look.
///
/// # Safety
/// - [`put`] just gave `unfinished` for this buffer
#[inline(always)]
pub(crate) unsafe fn finish_put(unfinished: Unfinished, data: *mut u8) -> bool {
    // SAFETY:
    // - as the caller promised
    unsafe { unfinished.put_unbiased(data.addr()) }
}

/// Puts a raw buffer. NULL is nothing.
///
/// # Safety
/// - if `data` is an outstanding buffer of the handle's pool, the caller owns it, and nobody uses it any more
#[inline(always)]
pub(crate) unsafe fn put_slow<H: Handle>(
    handle: H,
    data: *mut u8,
    size: PutSize,
) -> Result<(), Refused<Misuse>> {
    let put = cache::put_slow(&ForkGuard::new(), handle.key(), data.addr(), size);
    let Err(position) = put else { return Ok(()) };
    // SAFETY:
    // - the caller owns the buffer
    unsafe { put_to_pool(handle, data, size, position) }
}

/// # Safety
/// - as for [`put_slow`]
#[inline(never)]
unsafe fn put_to_pool<H: Handle>(
    handle: H,
    data: *mut u8,
    size: PutSize,
    position: Option<Position>,
) -> Result<(), Refused<Misuse>> {
    // SAFETY:
    // - the caller owns the buffer
    H::enter(|guard| unsafe { put_in_guard(handle, guard, data, size, position) })
}

/// # Safety
/// - as for [`put_slow`]
#[inline(always)]
unsafe fn put_in_guard<H: Handle>(
    handle: H,
    guard: &mut ForkGuard,
    data: *mut u8,
    size: PutSize,
    position: Option<Position>,
) -> Result<(), Refused<Misuse>> {
    let Some(data) = NonNull::new(data) else { return Ok(()) };
    let pool = handle.resolve(guard).ok_or(Refused::NoPool)?;
    // SAFETY:
    // - the caller owns the buffer
    unsafe { pool.put(guard, data, size, position) }.map_err(Refused::Error)?;
    if position.is_none() && handle.is_live(guard, &pool) {
        attach(handle, &pool, guard);
    }
    Ok(())
}

/// Makes a raw buffer one of another size of its class, in place; `old_size` is as for a put. `false`: nothing was
/// done, [`resize_slow`] must look.
#[inline(always)]
pub(crate) fn resize<H: Handle>(handle: H, data: NonNull<u8>, old_size: PutSize, size: usize) -> bool {
    cache::resize(handle.key(), data.addr().get(), old_size, size)
}

/// Gives a raw buffer another size as far as the thread's cache can: in place, or by a new buffer. `None`: nothing was
/// done, the pool must look.
///
/// # Safety
/// - if `data` is an outstanding buffer of the handle's pool, the caller owns it, and nobody else uses it
pub(crate) unsafe fn resize_slow<H: Handle>(
    handle: H,
    data: NonNull<u8>,
    old_size: PutSize,
    size: usize,
) -> Option<NonNull<u8>> {
    // SAFETY:
    // - the caller owns the buffer
    let moved = unsafe { resize_by_move(handle, data, old_size, size) };
    moved.or_else(|| {
        let (key, address) = (handle.key(), data.addr().get());
        cache::resize_slow(&ForkGuard::new(), key, address, old_size, size).then_some(data)
    })
}

/// Makes a raw buffer one of another class: a new buffer of `size` bytes, with as many of its bytes as fit. `old_size`
/// is as for a put. `None`: nothing was done, the slow half must look.
///
/// # Safety
/// - as for [`resize_slow`]
unsafe fn resize_by_move<H: Handle>(
    handle: H,
    data: NonNull<u8>,
    old_size: PutSize,
    size: usize,
) -> Option<NonNull<u8>> {
    let key = handle.key();
    let room = cache::room_of_own(key, data.addr().get(), old_size)?;
    let new = cache::get(key, size, Holder::Raw(size))?.data;
    // SAFETY:
    // - the old buffer is the caller's, and has room for as many bytes
    // - the new one has at least as many as asked for, and is another, because the old one is out
    unsafe { new.copy_from_nonoverlapping(data, room.min(size)) };
    if cache::put_unsized(key, data.addr().get())
        || cache::put_slow(&ForkGuard::new(), key, data.addr().get(), old_size).is_ok()
    {
        return Some(new);
    }
    // The cache was taken away since, or somebody else put it. The pool finds out.
    // SAFETY:
    // - just got
    let undone = unsafe { put_slow(handle, new.as_ptr(), PutSize::Sized(size)) };
    debug_assert!(undone.is_ok());
    None
}

/// The buffer size of the class that serves a get of `size` bytes. `None`: the pool must look.
#[inline]
pub(crate) fn good_size<H: Handle>(handle: H, size: usize) -> Option<usize> {
    cache::good_size(handle.key(), size)
}

/// What a raw buffer in a slot has room for. `None`: the pool must look.
#[inline]
pub(crate) fn usable_size<H: Handle>(handle: H, data: NonNull<u8>) -> Option<usize> {
    cache::usable_size(handle.key(), data.addr().get())
}

/// Puts the slot of a `PooledBuffer` to this thread's cache. `false`: nothing was done, as also for what is no slot, so
/// that [`put_owned_slow`] must look.
///
/// # Safety
/// - as for [`put_owned_slow`]
#[inline(always)]
pub(crate) unsafe fn put_owned<H: Handle>(handle: H, data: *mut u8, location: Location) -> bool {
    // SAFETY:
    // - as the caller promised
    unsafe { cache::put_owned(handle.key(), data.addr(), location) }
}

/// Puts the buffer of a `PooledBuffer`.
///
/// # Safety
/// - `data` and `location` are of an outstanding buffer of the handle's pool held as [`Holder::Owned`], which the
///   caller owns; its reference is given up
#[cold]
pub(crate) unsafe fn put_owned_slow<H: Handle>(handle: H, data: NonNull<u8>, location: Location) {
    let address = data.addr().get();
    let put = H::enter(|guard| {
        let position = cache::position(handle.key());
        let cached = position.and_then(|position| cache::put_taken(guard, position, address));
        if cached == Some(true) {
            return Ok(());
        }
        // This reference keeps the pool while the buffer's own goes.
        let pool = handle.resolve(guard).ok_or(Refused::NoPool)?;
        // SAFETY:
        // - as the caller promised
        unsafe { pool.put_owned(guard, data, location, None) };
        if cached.is_none() {
            attach(handle, &pool, guard);
        }
        Ok::<_, Refused<Misuse>>(())
    });
    debug_assert!(put.is_ok());
}

/// Raw buffers of `size` bytes, all or none.
#[cfg(feature = "capi")]
pub(crate) mod many {
    use std::ffi::c_void;
    use std::mem::MaybeUninit;
    use std::ptr::{self, NonNull};

    use super::{Handle, Refused, Request, put_in_guard, with_live_pool};
    use crate::cache;
    use crate::class::location::PutSize;
    use crate::debug::tracking::Caller;
    use crate::error::{GetError, Misuse};
    use crate::os::fork::ForkGuard;

    /// Gets the first of many buffers into `out`, from this thread's cache. Returns how many; [`get`] must fill the
    /// rest.
    pub(crate) fn get_fast<H: Handle>(handle: H, size: usize, out: &mut [MaybeUninit<*mut c_void>]) -> usize {
        cache::get_many_fast(handle.key(), size, out)
    }

    /// Puts the first of many buffers to this thread's cache. Returns how many; [`put`] must see to the rest.
    pub(crate) fn put_fast<H: Handle>(handle: H, data: &[*mut c_void], size: usize) -> usize {
        cache::put_many_fast(handle.key(), data, size)
    }

    /// Fills `out`, which is NULL after the first `got` that have a buffer. On failure it is all NULL.
    pub(crate) fn get<H: Handle>(
        handle: H,
        guard: &mut ForkGuard,
        size: usize,
        out: &mut [*mut c_void],
        mut got: usize,
        caller: Caller,
    ) -> Result<(), Refused<GetError>> {
        // Only a live handle leads to a cache.
        got += cache::get_many(guard, handle.key(), size, &mut out[got..]);
        if got == out.len() && got > 0 {
            return Ok(());
        }
        let outcome = get_rest(handle, guard, size, &mut out[got..], caller);
        if outcome.is_err() {
            undo(handle, guard, size, out);
        }
        outcome
    }

    pub(crate) fn get_rest<H: Handle>(
        handle: H,
        guard: &mut ForkGuard,
        size: usize,
        rest: &mut [*mut c_void],
        caller: Caller,
    ) -> Result<(), Refused<GetError>> {
        with_live_pool(handle, guard, |pool, guard| {
            // Rounded once, before more are got: it is the user's function.
            let rounded = pool.rounded(guard, size);
            for buffer in rest {
                *buffer = pool.get_rounded(guard, rounded, &Request::raw(size, caller))?.data.as_ptr().cast();
            }
            Ok(())
        })
    }

    /// Puts buffers back that this thread got with `size`, and makes them NULL. No other thread knows of them.
    #[cold]
    pub(crate) fn undo<H: Handle>(handle: H, guard: &mut ForkGuard, size: usize, got: &mut [*mut c_void]) {
        // The buffers keep the pool, and a context that was freed meanwhile still names it.
        let pool = handle.resolve(guard);
        let position = cache::position(handle.key());
        for data in got {
            let buffer = NonNull::new(std::mem::replace(data, ptr::null_mut()).cast());
            if let (Some(buffer), Some(pool)) = (buffer, &pool) {
                // SAFETY:
                // - this thread's buffer
                let undone = unsafe { pool.put(guard, buffer, PutSize::Sized(size), position) };
                debug_assert!(undone.is_ok());
            }
        }
    }

    /// Puts every valid buffer. `refuse` is called with each invalid one.
    ///
    /// # Safety
    /// - the caller owns those that are outstanding buffers of the handle's pool, and nobody uses them any more
    pub(crate) unsafe fn put<H: Handle>(
        handle: H,
        guard: &mut ForkGuard,
        mut data: &[*mut c_void],
        size: usize,
        mut refuse: impl FnMut(&mut ForkGuard, &Misuse, *mut c_void),
    ) -> Result<(), Refused<Misuse>> {
        let key = handle.key();
        let put = cache::put_many(guard, key, data, size);
        if put == data.len() && put > 0 {
            return Ok(());
        }
        data = &data[put..];
        // Held to the end: putting the last buffer of a closed pool must not end it before the rest were looked at.
        let pool = handle.resolve(guard).ok_or(Refused::NoPool)?;
        while let [next, rest @ ..] = data {
            let size_given = PutSize::Sized(size);
            if let Err(position) = cache::put_slow(guard, key, next.addr(), size_given) {
                // SAFETY:
                // - as the caller promised
                match unsafe { put_in_guard(handle, guard, next.cast(), size_given, position) } {
                    Err(Refused::Error(misuse)) => refuse(guard, &misuse, *next),
                    other => other?,
                }
            }
            data = &rest[cache::put_many(guard, key, rest, size)..];
        }
        drop(pool);
        Ok(())
    }
}
