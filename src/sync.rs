//! What the library shares memory and waits with: atomics, locks and threads. Every other file names them by this
//! one, so that a model checker, or what ThreadSanitizer sees, can stand in for the standard library.

#[cfg(bytepool_sanitized)]
pub(crate) use crate::seen_locks::{Condvar, Mutex, MutexGuard, OnceLock};
pub(crate) use std::sync::{Arc, PoisonError, atomic};
#[cfg(not(bytepool_sanitized))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
pub(crate) use std::{hint, thread};
