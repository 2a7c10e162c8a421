//! The heavy half of an asymmetric fence. The fast path orders its store and load with a compiler fence only. A thread
//! that needs the order asks the kernel to run a full fence on all others.
//!
//! Where the system has no such fence, as with `--cfg bytepool_portable`, nobody is in the fast path, and each thread
//! fences by itself. A sandbox may forbid it after pools were made. Then the fast path is given up, at the price of one
//! wait.

use super::caller::{KeptErrno, Uncancelled};
use crate::sync::atomic::Ordering::{Relaxed, SeqCst};
use crate::sync::atomic::{AtomicU8, compiler_fence, fence};
use crate::sync::thread;
use std::time::Duration;

#[cfg(all(target_os = "linux", not(any(bytepool_portable, bytepool_shuttle))))]
mod system {
    use std::time::{Duration, Instant};
    use std::{io, ptr, thread};

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
        for _ in 0..100 {
            if membarrier(PRIVATE_EXPEDITED) {
                return true;
            }
            // Out of memory it is tried again. A sandbox refuses for ever.
            if io::Error::last_os_error().raw_os_error() != Some(libc::ENOMEM) {
                break;
            }
            thread::yield_now();
        }
        false
    }

    /// Waits until all threads see what any of them wrote before. A processor holds a store back for some microseconds
    /// at most. It holds none back when it stops a thread or is interrupted.
    pub(super) fn wait_for_stores() {
        const LONG_ENOUGH: Duration = Duration::from_millis(2);
        let start = Instant::now();
        let rest = || LONG_ENOUGH.checked_sub(start.elapsed()).filter(|rest| !rest.is_zero());
        while let Some(rest) = rest() {
            // A signal ends a sleep, and a sandbox may refuse it.
            sleep(rest);
            thread::yield_now();
        }
    }

    /// By the system's call itself, as the C library's function is a point of cancellation.
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
        !crate::sync::refuses_fence()
    }
    pub(super) fn fence_all_threads() -> bool {
        let is_refused = crate::sync::refuses_fence();
        if !is_refused {
            crate::sync::fence_all_threads();
        }
        !is_refused
    }
    pub(super) fn wait_for_stores() {
        crate::sync::fence_all_threads();
    }
}

#[cfg(not(any(all(target_os = "linux", not(bytepool_portable)), bytepool_shuttle)))]
mod system {
    pub(super) use std::thread::sleep;

    pub(super) fn register() -> bool {
        false
    }
    pub(super) fn fence_all_threads() -> bool {
        false
    }
    /// Never called: nothing ever rested on the fence.
    pub(super) fn wait_for_stores() {}
}

/// What is known of the heavy fence.
static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const REGISTERED: u8 = 1;
/// The system refuses it by now: what rests on it is being given up.
const REFUSED: u8 = 2;
/// There is none, and nothing rests on it.
const MISSING: u8 = 3;

/// Registers for the heavy fence, once for the process. Comes before a thread has a state.
pub(crate) fn prepare() {
    // SeqCst, here and in `was_prepared`: `fork::wait_for_others` tells the order against the gate.
    if STATE.load(SeqCst) == UNKNOWN {
        let state = if system::register() { REGISTERED } else { MISSING };
        // Two threads may register; what the first one found counts.
        let _ = STATE.compare_exchange(UNKNOWN, state, SeqCst, SeqCst);
    }
}

/// Whether somebody [prepared](prepare).
pub(crate) fn was_prepared() -> bool {
    STATE.load(SeqCst) != UNKNOWN
}

/// Whether the heavy fence was prepared and is had, so that a thread may be in the fast path. Once it is given up, it
/// never is again.
pub(crate) fn is_in_use() -> bool {
    STATE.load(SeqCst) == REGISTERED
}

/// Whether what rests on the heavy fence is being given up just now.
#[cfg(all(debug_assertions, not(bytepool_shuttle)))]
pub(super) fn is_being_given_up() -> bool {
    STATE.load(SeqCst) == REFUSED
}

/// Orders what the calling thread wrote before against what it reads next. The heavy fence is its partner; without that
/// this is a full fence.
#[inline]
pub(super) fn light_fence() {
    compiler_fence(SeqCst);
    // Relaxed: a thread that gives up waits until every store before this load is seen, or this load sees the change.
    if STATE.load(Relaxed) != REGISTERED {
        fence(SeqCst);
    }
}

/// As before anybody asked, for models.
#[cfg(bytepool_shuttle)]
pub(crate) fn forget() {
    STATE.store(UNKNOWN, SeqCst);
}

/// Registers again in a child of `fork`. On Linux the child inherits the registration, and this costs nothing.
pub(crate) fn register_again() {
    if is_in_use() {
        system::register();
    }
}

/// Runs a full fence on every running thread of this process. The others had one when they stopped. Where the system
/// has none, all threads fence by themselves, and this fences only the calling one. `false`: the system refuses now,
/// and what rests on the fence must be [given up](give_up).
pub(super) fn fence_all_threads() -> bool {
    match STATE.load(SeqCst) {
        REFUSED => false,
        UNKNOWN | MISSING => {
            fence(SeqCst);
            true
        }
        _ => {
            let _errno = KeptErrno::new();
            system::fence_all_threads()
        }
    }
}

/// Gives up what rests on the heavy fence, once and for ever, or waits until another thread did. After `take_away` no
/// thread begins anything that rests on it. When this returns, all see what threads did without a fence before, and the
/// calling thread has fenced.
#[cold]
pub(super) fn give_up(take_away: impl FnOnce()) {
    // SeqCst, also below: partner in `is_in_use`.
    if STATE.compare_exchange(REGISTERED, REFUSED, SeqCst, SeqCst).is_ok() {
        let (_errno, _uncancelled) = (KeptErrno::new(), Uncancelled::new());
        take_away();
        system::wait_for_stores();
        STATE.store(MISSING, SeqCst);
    } else {
        wait_until(|| STATE.load(SeqCst) == MISSING);
    }
    fence(SeqCst);
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
