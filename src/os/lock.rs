//! Locks of ours. Each asks for a [`ForkGuard`]: a lock that another thread holds while the process forks stays locked in
//! the child for ever.
//!
//! A lock borrows the guard as long as it is held. What sleeps, or calls the user's code, needs the guard for itself
//! ([`ForkGuard::unguarded`]): so it does not compile while a lock is held.
//!
//! No lock is poisoned. Nothing is half done where code of ours may panic.

use crate::sync::{self, MutexGuard, OnceLock, PoisonError};

use super::fork::ForkGuard;

/// A mutual exclusion that is never held across a fork.
#[derive(Default)]
pub(crate) struct Lock<T>(sync::Mutex<T>);

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock<'a>(&'a self, _guard: &'a ForkGuard) -> MutexGuard<'a, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value that is made once. Whoever finds it being made waits, so making it is never interrupted by a fork.
pub(crate) struct Once<T>(OnceLock<T>);

impl<T> Once<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.get()
    }

    pub(crate) fn get_or_init(&self, _guard: &ForkGuard, make: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(make)
    }

    /// Sets it, unless it is set: then the value comes back.
    pub(crate) fn set(&self, _guard: &ForkGuard, value: T) -> Result<(), T> {
        self.0.set(value)
    }
}
