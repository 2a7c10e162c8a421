//! What the library shares memory and waits with: atomics, locks and threads. Every other file names them by this
//! one, so that a model checker can stand in for the standard library.

pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, atomic};
pub(crate) use std::{hint, thread};
