//! Locks of ours. Each asks for a [`ForkGuard`]: a lock that another thread holds while the process forks stays locked
//! in the child for ever.
//!
//! A lock borrows the guard while it is held. Code that waits for users, or calls their code, needs the guard as
//! `&mut`, by [`ForkGuard::unguarded`]. So it does not compile while a lock is held. A destructor may make a second
//! guard, which borrows do not show: a debug assertion checks that no lock is held then.
//!
//! No lock is poisoned. Nothing is half done where code of ours may panic.

use crate::sync::{self, MutexGuard, OnceLock, PoisonError};
use std::ops::{Deref, DerefMut};

use super::fork::ForkGuard;

/// A mutual exclusion that is never held across a fork.
#[derive(Default)]
pub(crate) struct Lock<T>(sync::Mutex<T>);

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock<'a>(&'a self, _guard: &'a ForkGuard) -> Locked<'a, T> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { inner, _held: held::Held::new() }
    }
}

/// While it exists, the lock is held.
pub(crate) struct Locked<'a, T> {
    inner: MutexGuard<'a, T>,
    _held: held::Held,
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Locked<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// How many locks the calling thread holds, with debug assertions only. Borrows cannot show it where a thread has
/// several fork guards. It also checks that no lock is taken while the thread uses a cache, because that would keep
/// threads that drain waiting; but a thread that gives up the heavy fence may take some.
#[cfg(all(debug_assertions, not(bytepool_shuttle)))]
mod held {
    use crate::os::thread_pointer;
    use std::cell::Cell;

    thread_local! {
        static HELD: Cell<u32> = const { Cell::new(0) };
    }

    pub(super) struct Held;

    impl Held {
        pub(super) fn new() -> Self {
            assert!(thread_pointer::get().may_lock(), "a lock is taken while a thread's cache is in use");
            HELD.set(HELD.get() + 1);
            Self
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            HELD.set(HELD.get() - 1);
        }
    }

    pub(in super::super) fn assert_none() {
        assert_eq!(HELD.get(), 0, "a lock is held while the user's code runs, or a thread sleeps");
    }
}

#[cfg(not(all(debug_assertions, not(bytepool_shuttle))))]
mod held {
    pub(super) struct Held;

    impl Held {
        #[inline(always)]
        pub(super) fn new() -> Self {
            Self
        }
    }

    #[inline(always)]
    pub(in super::super) fn assert_none() {}
}

pub(super) use self::held::assert_none as assert_none_is_held;

/// A value that is made once. Other threads wait while it is made, so no fork may come in the middle.
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
}
