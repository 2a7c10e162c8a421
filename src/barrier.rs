//! The heavy half of an asymmetric fence: the fast path orders its store and load with nothing but the
//! compiler, and whoever needs the order against all other threads asks the kernel to run a full fence on
//! each of them.

use crate::sync::OnceLock;

#[cfg(all(target_os = "linux", not(bytepool_shuttle)))]
mod system {
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
}

#[cfg(bytepool_shuttle)]
mod system {
    pub(super) fn register() -> bool {
        true
    }
    pub(super) fn fence_all_threads() -> bool {
        crate::models::weak::fence_all_threads();
        true
    }
}

#[cfg(not(any(target_os = "linux", bytepool_shuttle)))]
mod system {
    pub(super) fn register() -> bool {
        false
    }
    pub(super) fn fence_all_threads() -> bool {
        false
    }
}

/// Whether this system has the heavy fence. Without it there are no thread caches.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(system::register)
}

/// Runs a full fence on every thread of this process that is running; the others had one when they stopped.
pub(crate) fn fence_all_threads() {
    for _ in 0..100 {
        if system::fence_all_threads() {
            return;
        }
        crate::sync::thread::yield_now();
    }
    // It worked when the first pool was made: it is out of memory, or a sandbox forbids it since. Far longer
    // than any processor holds a store back, or runs on without an interrupt, which fences as well.
    crate::sync::thread::sleep(std::time::Duration::from_millis(100));
}
