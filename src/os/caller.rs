//! What a call leaves as it found it: the calling thread's `errno`, and whether the thread can be cancelled. And a
//! panic that it keeps from its caller.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Restores `errno` when it is dropped.
pub(crate) struct KeptErrno(i32);

impl KeptErrno {
    #[inline]
    pub(crate) fn new() -> Self {
        Self(system::errno())
    }
}

impl Drop for KeptErrno {
    #[inline]
    fn drop(&mut self) {
        system::set_errno(self.0);
    }
}

/// While it exists, a cancellation of the thread waits. Otherwise a point of cancellation in the user's code could end
/// the thread in the middle of a call of ours.
pub(crate) struct Uncancelled(i32);

impl Uncancelled {
    pub(crate) fn new() -> Self {
        Self(system::set_cancel_state(system::DISABLED))
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        system::set_cancel_state(self.0);
    }
}

/// Drops what a panic carried.
pub(crate) fn discard_panic(payload: Box<dyn Any + Send>) {
    if let Err(of_its_drop) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Once is enough: leaking cannot panic.
        std::mem::forget(of_its_drop);
    }
}

#[cfg(unix)]
mod system {
    use libc::c_int;

    #[cfg(target_os = "android")]
    use libc::__errno as errno_location;
    #[cfg(target_os = "linux")]
    use libc::__errno_location as errno_location;
    #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
    use libc::__error as errno_location;

    #[cfg(not(target_os = "android"))]
    unsafe extern "C" {
        // POSIX; not in the libc crate for every target.
        fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
    }

    pub(super) const DISABLED: c_int = if cfg!(target_vendor = "apple") { 0 } else { 1 };

    #[cfg(not(target_os = "android"))]
    pub(super) fn set_cancel_state(state: c_int) -> c_int {
        let mut old = state;
        // SAFETY:
        // - changes the calling thread's state only; `old` is writable
        unsafe { pthread_setcancelstate(state, &raw mut old) };
        old
    }

    /// No thread can be cancelled.
    #[cfg(target_os = "android")]
    pub(super) fn set_cancel_state(state: c_int) -> c_int {
        state
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple", target_os = "freebsd"))]
    #[inline]
    pub(super) fn errno() -> c_int {
        // SAFETY:
        // - the calling thread's own
        unsafe { *errno_location() }
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple", target_os = "freebsd"))]
    #[inline]
    pub(super) fn set_errno(errno: c_int) {
        // SAFETY:
        // - the calling thread's own
        unsafe { *errno_location() = errno };
    }

    /// On targets whose `errno` is not known, it is not restored.
    #[cfg(not(any(
        target_os = "linux",
        target_os = "android",
        target_vendor = "apple",
        target_os = "freebsd"
    )))]
    pub(super) fn errno() -> c_int {
        0
    }

    #[cfg(not(any(
        target_os = "linux",
        target_os = "android",
        target_vendor = "apple",
        target_os = "freebsd"
    )))]
    pub(super) fn set_errno(_: c_int) {}
}

#[cfg(not(unix))]
mod system {
    pub(super) const DISABLED: i32 = 0;

    pub(super) fn set_cancel_state(state: i32) -> i32 {
        state
    }

    pub(super) fn errno() -> i32 {
        0
    }

    pub(super) fn set_errno(_: i32) {}
}
