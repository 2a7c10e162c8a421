//! What the library shares memory and waits with: atomics, locks, threads and clocks. Every other file names them by this
//! one, so that a model checker, or what ThreadSanitizer sees, can stand in for the standard library.

#[cfg(not(bytepool_shuttle))]
pub(crate) use crossbeam_queue::ArrayQueue;
#[cfg(not(bytepool_shuttle))]
pub(crate) use std::sync::{Arc, PoisonError, atomic};
#[cfg(not(any(bytepool_shuttle, bytepool_sanitized)))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
#[cfg(not(bytepool_shuttle))]
pub(crate) use std::{hint, thread, thread_local, time::Instant};

#[cfg(bytepool_sanitized)]
pub(crate) use crate::seen_locks::{Condvar, Mutex, MutexGuard, OnceLock};

#[cfg(bytepool_shuttle)]
pub(crate) use crate::models::sync::*;
#[cfg(bytepool_shuttle)]
pub(crate) use shuttle::thread_local;

/// What a model knows of memory that goes back, or is cleared, and of which everybody else must be through with it.
/// Nothing without one.
#[cfg(not(bytepool_shuttle))]
pub(crate) mod plain_memory {
    use std::ptr::NonNull;

    #[inline(always)]
    pub(crate) fn ends(_start: NonNull<u8>, _len: usize) {}
    #[inline(always)]
    pub(crate) fn is_cleared(_start: NonNull<u8>, _len: usize) {}
}
