//! The heavy half of an asymmetric fence: the fast path orders its store and load with nothing but the
//! compiler, and whoever needs the order against all other threads asks the kernel to run a full fence on
//! each of them.

use super::caller::{KeptErrno, Uncancelled};
use crate::sync::atomic::AtomicU8;
use crate::sync::atomic::Ordering::{Relaxed, SeqCst};
use crate::sync::thread;
use std::time::{Duration, Instant};

#[cfg(all(target_os = "linux", not(bytepool_shuttle)))]
mod system {
    use std::ptr;
    use std::time::Duration;

    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY:
        // - these commands touch no memory of the caller
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    pub(super) fn register() -> bool {
        membarrier(REGISTER_PRIVATE_EXPEDITED) && membarrier(PRIVATE_EXPEDITED)
    }

    pub(super) fn fence_all_threads() -> bool {
        membarrier(PRIVATE_EXPEDITED)
    }

    /// The system's call itself: the C library's function is a point of cancellation.
    pub(super) fn sleep(time: Duration) {
        let time = libc::timespec {
            tv_sec: time.as_secs().try_into().expect("seconds that are waited fit"),
            tv_nsec: time.subsec_nanos().into(),
        };
        let (clock, rest) = (libc::CLOCK_MONOTONIC, ptr::null_mut::<libc::timespec>());
        // SAFETY:
        // - `time` is readable, and no rest is asked for
        unsafe { libc::syscall(libc::SYS_clock_nanosleep, clock, 0, &raw const time, rest) };
    }
}

#[cfg(bytepool_shuttle)]
mod system {
    pub(super) use crate::sync::thread::sleep;

    pub(super) fn register() -> bool {
        true
    }
    pub(super) fn fence_all_threads() -> bool {
        crate::sync::fence_all_threads();
        true
    }
}

#[cfg(not(any(target_os = "linux", bytepool_shuttle)))]
mod system {
    pub(super) use std::thread::sleep;

    pub(super) fn register() -> bool {
        false
    }
    pub(super) fn fence_all_threads() -> bool {
        false
    }
}

/// What is known of the heavy fence.
static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const MISSING: u8 = 1;
const REGISTERED: u8 = 2;

/// Whether this system has the heavy fence; registers for it when first asked. Without it there are no thread caches.
pub(crate) fn is_available() -> bool {
    // Relaxed, and where the exchange fails: `is_in_use` looks again.
    if STATE.load(Relaxed) == UNKNOWN {
        let state = if system::register() { REGISTERED } else { MISSING };
        // Two threads may do it; what the first found counts. SeqCst, here and in `is_in_use`: the order against the
        // gate of a fork is told in `fork::wait_for_others`.
        let _ = STATE.compare_exchange(UNKNOWN, state, SeqCst, Relaxed);
    }
    is_in_use()
}

/// Whether it is available, and somebody asked.
pub(crate) fn is_in_use() -> bool {
    STATE.load(SeqCst) == REGISTERED
}

/// Before anybody asked, for models.
#[cfg(bytepool_shuttle)]
pub(crate) fn forget() {
    STATE.store(UNKNOWN, SeqCst);
}

/// In a child of `fork`. Linux lets it inherit the registration, which costs nothing again.
pub(crate) fn register_again() {
    if is_in_use() {
        system::register();
    }
}

/// Runs a full fence on every thread of this process that is running; the others had one when they stopped.
pub(crate) fn fence_all_threads() {
    let _errno = KeptErrno::new();
    for _ in 0..100 {
        if system::fence_all_threads() {
            return;
        }
        thread::yield_now();
    }
    // It worked when the first pool was made: it is out of memory, or a sandbox forbids it since. Far longer
    // than any processor holds a store back, or runs on without an interrupt, which fences as well.
    let start = Instant::now();
    let rest = || Duration::from_millis(100).checked_sub(start.elapsed()).filter(|rest| !rest.is_zero());
    while let Some(rest) = rest() {
        // A signal ends a sleep, and a sandbox may refuse it.
        system::sleep(rest);
        thread::yield_now();
    }
}

/// Waits for another thread, which will not take long.
pub(crate) fn wait_until(is_over: impl Fn() -> bool) {
    if is_over() {
        return;
    }
    let (_errno, _uncancelled) = (KeptErrno::new(), Uncancelled::new());
    let mut tries = 0;
    while !is_over() {
        // A thread of higher priority must not keep the other from going on.
        tries += 1;
        if tries < 100 {
            thread::yield_now();
        } else {
            system::sleep(Duration::from_micros(100));
        }
    }
}
