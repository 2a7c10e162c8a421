//! What the library shares memory and waits with: atomics, locks and threads. Every other file names them by this
//! one, so that a model checker can stand in for the standard library.

#[cfg(not(bytepool_shuttle))]
pub(crate) use crossbeam_queue::ArrayQueue;
#[cfg(not(bytepool_shuttle))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic};
#[cfg(not(bytepool_shuttle))]
pub(crate) use std::{hint, thread, thread_local};

#[cfg(bytepool_shuttle)]
pub(crate) use crate::models::sync::*;
#[cfg(bytepool_shuttle)]
pub(crate) use shuttle::thread_local;
