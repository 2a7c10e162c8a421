//! The handler of faults. It says which guarded buffer a fault was in, and leaves the fault to the handler that the
//! program had before.
//!
//! Nothing here allocates or locks. A handler that is installed later and does not call this one silences it.

#[cfg(all(unix, not(bytepool_portable)))]
pub(super) use self::system::install;

#[cfg(not(all(unix, not(bytepool_portable))))]
pub(super) fn install(_: &crate::os::fork::ForkGuard) -> bool {
    false
}

#[cfg(all(unix, not(bytepool_portable)))]
mod system {
    use std::ffi::{c_int, c_void};
    use std::mem;
    use std::ptr;

    use super::super::guard;
    use crate::os::fork::ForkGuard;
    use crate::os::lock::Once;

    /// The signals that tell of a page without access. Systems differ in which of the two it is.
    const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

    /// The handlers that had the signals before, in the order of [`SIGNALS`].
    static PREVIOUS: Once<[libc::sigaction; 2]> = Once::new();

    /// Installs the handler. It is called once. `false` means that the system refuses.
    pub(crate) fn install(guard: &ForkGuard) -> bool {
        let previous = PREVIOUS.get_or_init(guard, || SIGNALS.map(previous_of));
        SIGNALS.into_iter().zip(previous).all(|(signal, previous)| {
            let handler: unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_fault;
            let mut action = *previous;
            action.sa_sigaction = handler as usize;
            // This handler may call the previous one, so it keeps that one's mask. It runs on the signal stack, because
            // a fault may mean that the thread's own stack is exhausted.
            action.sa_flags = previous.sa_flags & libc::SA_NODEFER | libc::SA_SIGINFO | libc::SA_ONSTACK;
            // SAFETY:
            // - `action` is complete, and its handler lives as long as the process: the library is not unloaded
            unsafe { libc::sigaction(signal, &action, ptr::null_mut()) == 0 }
        })
    }

    fn previous_of(signal: c_int) -> libc::sigaction {
        // SAFETY:
        // - all-zero bytes are a sigaction: the default one
        // - the call writes it
        unsafe {
            let mut action = mem::zeroed();
            libc::sigaction(signal, ptr::null(), &mut action);
            action
        }
    }

    /// # Safety
    /// - called by the system for one of [`SIGNALS`]
    unsafe extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        let index = SIGNALS.iter().position(|&handled| handled == signal);
        let Some(previous) = index.and_then(|index| Some(&PREVIOUS.get()?[index])) else { return };
        // SAFETY:
        // - the system passes what it knows of the signal
        let (address, is_fault) = unsafe { ((*info).si_addr().addr(), (*info).si_code > 0) };
        let was_told = is_fault && guard::explain(address);
        // The previous handler asked to be called once: the system would reset it as well.
        if previous.sa_flags & libc::SA_RESETHAND != 0 && is_installed(signal) {
            // SAFETY:
            // - all-zero bytes are a sigaction: the default one
            restore(signal, &unsafe { mem::zeroed() });
        }
        match previous.sa_sigaction {
            // A handler that was installed later called this one, and may know how to go on. If it does not, the same
            // fault comes again.
            libc::SIG_DFL | libc::SIG_IGN if was_told && !is_installed(signal) => {}
            // The instruction faults again, and then the previous action has it.
            libc::SIG_DFL | libc::SIG_IGN if is_fault => restore(signal, previous),
            libc::SIG_IGN => {}
            libc::SIG_DFL => {
                // Somebody sent the signal, so it does not come again by itself.
                restore(signal, previous);
                // SAFETY:
                // - sends a signal that this thread just had
                unsafe { libc::raise(signal) };
            }
            // SAFETY:
            // - an address that was given to sigaction with this flag
            handler if previous.sa_flags & libc::SA_SIGINFO != 0 => unsafe {
                let handler: unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                    mem::transmute(handler);
                handler(signal, info, context);
            },
            // SAFETY:
            // - an address that was given to sigaction without it
            handler => unsafe {
                let handler: unsafe extern "C" fn(c_int) = mem::transmute(handler);
                handler(signal);
            },
        }
    }

    /// Whether this handler has the signal.
    fn is_installed(signal: c_int) -> bool {
        let handler: unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_fault;
        previous_of(signal).sa_sigaction == handler as usize
    }

    fn restore(signal: c_int, previous: &libc::sigaction) {
        // SAFETY:
        // - what the system gave
        unsafe { libc::sigaction(signal, previous, ptr::null_mut()) };
    }
}
