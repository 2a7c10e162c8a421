//! Locks that ThreadSanitizer sees, for builds with a sanitizer (`--cfg bytepool_sanitized`). The standard library
//! comes compiled without, so a lock taken or awaited in there orders nothing in its eyes; here an atomic beside each
//! lock tells it.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{LockResult, PoisonError, WaitTimeoutResult};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Mutex<T> {
    /// Stored with Release before each unlocking, loaded with Acquire after each locking.
    seen: AtomicBool,
    inner: std::sync::Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { seen: AtomicBool::new(false), inner: std::sync::Mutex::new(value) }
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        relocked(&self.seen, self.inner.lock())
    }
}

/// Dropped before the lock that it belongs to is unlocked.
struct Seen<'a>(&'a AtomicBool);

impl Drop for Seen<'_> {
    fn drop(&mut self) {
        self.0.store(true, Release);
    }
}

pub(crate) struct MutexGuard<'a, T> {
    seen: Seen<'a>,
    inner: std::sync::MutexGuard<'a, T>,
}

impl<'a, T> MutexGuard<'a, T> {
    /// For code that unlocks it without a drop.
    fn into_parts(self) -> (&'a AtomicBool, std::sync::MutexGuard<'a, T>) {
        let Self { seen, inner } = self;
        (seen.0, inner)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// Waits with a lock that is seen as unlocked meanwhile.
#[derive(Default)]
pub(crate) struct Condvar(std::sync::Condvar);

#[allow(dead_code, reason = "as std's")]
impl Condvar {
    pub(crate) const fn new() -> Self {
        Self(std::sync::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let (seen, inner) = guard.into_parts();
        relocked(seen, self.0.wait(inner))
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let (seen, inner) = guard.into_parts();
        let (inner, result) = self.0.wait_timeout(inner, timeout).unwrap_or_else(PoisonError::into_inner);
        let guard = relocked(seen, Ok(inner)).unwrap_or_else(PoisonError::into_inner);
        Ok((guard, result))
    }
}

/// The guard of a lock that was locked again.
fn relocked<'a, T>(
    seen: &'a AtomicBool,
    locked: LockResult<std::sync::MutexGuard<'a, T>>,
) -> LockResult<MutexGuard<'a, T>> {
    seen.load(Acquire);
    let seen = Seen(seen);
    match locked {
        Ok(inner) => Ok(MutexGuard { seen, inner }),
        Err(poison) => Err(PoisonError::new(MutexGuard { seen, inner: poison.into_inner() })),
    }
}

/// Initialised under a lock; whoever finds it so has seen all that came before.
pub(crate) struct OnceLock<T> {
    is_set: AtomicBool,
    setting: Mutex<()>,
    inner: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) const fn new() -> Self {
        Self { is_set: AtomicBool::new(false), setting: Mutex::new(()), inner: std::sync::OnceLock::new() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        // Acquire: partner in `get_or_init`.
        if self.is_set.load(Acquire) { self.inner.get() } else { None }
    }

    pub(crate) fn get_or_init(&self, value: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _setting = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
        let value = self.inner.get_or_init(value);
        self.is_set.store(true, Release);
        value
    }
}
