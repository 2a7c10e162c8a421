//! What the library shares memory and waits with: atomics, locks, threads and clocks. Other files name them by this
//! one, so that a model checker, or what ThreadSanitizer sees, can replace the standard library. What no model has may
//! name the standard library's.

#[cfg(bytepool_sanitized)]
mod seen_locks;

#[cfg(bytepool_sanitized)]
pub(crate) use self::seen_locks::{Condvar, Mutex, MutexGuard, OnceLock};
#[cfg(not(any(bytepool_shuttle, bytepool_sanitized)))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};

#[cfg(not(bytepool_shuttle))]
pub(crate) use self::real::*;
#[cfg(bytepool_shuttle)]
pub(crate) use crate::models::sync::*;

#[cfg(not(bytepool_shuttle))]
mod real {
    pub(crate) use crossbeam_queue::ArrayQueue;
    pub(crate) use std::sync::{Arc, PoisonError, atomic};
    pub(crate) use std::{hint, thread, thread_local, time::Instant};

    /// Whether threads take part in forks. Models of other things leave that out.
    #[inline(always)]
    pub(crate) const fn forks() -> bool {
        true
    }

    /// How many fork guards the calling thread has while it has no state. Without a destructor, so it serves during a
    /// thread's teardown, too.
    pub(crate) mod guard_depth {
        use std::cell::Cell;

        thread_local! {
            static DEPTH: Cell<u32> = const { Cell::new(0) };
        }

        pub(crate) fn get() -> u32 {
            DEPTH.get()
        }

        pub(crate) fn set(depth: u32) {
            DEPTH.set(depth);
        }

        /// An address that no other thread has.
        pub(crate) fn address() -> usize {
            DEPTH.with(|depth| std::ptr::from_ref(depth).addr())
        }
    }

    /// How many of the forks that the calling thread is in waited for nobody. Without a destructor, as above.
    pub(crate) mod skipped_forks {
        use std::cell::Cell;

        thread_local! {
            static SKIPPED: Cell<u32> = const { Cell::new(0) };
        }

        pub(crate) fn get() -> u32 {
            SKIPPED.get()
        }

        pub(crate) fn set(skipped: u32) {
            SKIPPED.set(skipped);
        }
    }

    /// How far the calling thread is with the wakers that it has to call. Without a destructor, as above.
    pub(crate) mod wake_step {
        use std::cell::Cell;

        thread_local! {
            static STEP: Cell<u8> = const { Cell::new(0) };
        }

        #[inline]
        pub(crate) fn get() -> u8 {
            STEP.get()
        }

        pub(crate) fn set(step: u8) {
            STEP.set(step);
        }
    }

    /// What a model knows of memory that goes back, or is cleared, and of which everybody else must be through with it.
    /// Nothing without one.
    pub(crate) mod plain_memory {
        use std::ptr::NonNull;

        #[inline(always)]
        pub(crate) fn ends(_start: NonNull<u8>, _len: usize) {}
        #[inline(always)]
        pub(crate) fn is_cleared(_start: NonNull<u8>, _len: usize) {}
    }
}
