//! The thread-local pointer to a thread's state, read in two instructions on x86-64 and four on aarch64.
//!
//! In a shared library an ordinary `thread_local!` costs a call to `__tls_get_addr` for each access. So where the
//! platform allows it, the pointer is an *initial-exec* thread-local: its distance from the thread pointer is fixed
//! when the library is loaded. Stable Rust cannot ask for that model, so the variable is defined and read in assembly.
//! Its initial value is a state without entries, so the pointer is never null.
//!
//! - x86-64 and aarch64 Linux with glibc use it. One initial-exec variable makes the whole library's thread-local block
//!   static, the standard library's part included: 160 bytes, which `readelf -lW` shows as the segment TLS. glibc keeps
//!   about 1,600 bytes for libraries loaded by `dlopen`. Where many such libraries are loaded, that may run out:
//!   docs/guide/platforms.md says what to do then.
//! - A `thread_local!` serves elsewhere, and with `--cfg bytepool_thread_local`. It serves on musl too, which refuses
//!   to `dlopen` a library with static thread-locals.
//!
//! Each thread reads and writes its own pointer only. It points to a static state, or to one that is never freed. So
//! what is read is always valid.

use std::ptr;

use super::thread_state::{EMPTY, ThreadState};

pub(crate) use self::system::get;
pub(super) use self::system::set;

/// The calling thread's state, if it has one of its own.
#[inline]
pub(super) fn own_state() -> Option<&'static ThreadState> {
    let state = get();
    (!ptr::eq(state, &EMPTY)).then_some(state)
}

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(any(bytepool_thread_local, bytepool_shuttle))
))]
mod system {
    use super::{EMPTY, ThreadState};
    use std::arch::{asm, global_asm};

    // Hidden: each copy of the library in a process has its own, and none is in the dynamic symbol table.
    global_asm!(
        ".pushsection .tdata.bytepool_thread_state, \"awT\", %progbits",
        ".p2align 3",
        ".globl bytepool_thread_state",
        ".hidden bytepool_thread_state",
        ".type bytepool_thread_state, %object",
        ".size bytepool_thread_state, 8",
        "bytepool_thread_state:",
        ".8byte {empty}",
        ".popsection",
        empty = sym EMPTY,
    );

    /// This thread's state.
    #[inline(always)]
    pub(crate) fn get() -> &'static ThreadState {
        let state: *const ThreadState;
        // SAFETY:
        // - reads this thread's copy of the variable defined above, by the ABI's initial-exec sequence
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!(
                "mov {state}, qword ptr [rip + bytepool_thread_state@GOTTPOFF]",
                "mov {state}, qword ptr fs:[{state}]",
                state = out(reg) state,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!(
                "adrp {state}, :gottprel:bytepool_thread_state",
                "ldr {state}, [{state}, #:gottprel_lo12:bytepool_thread_state]",
                "mrs {thread}, tpidr_el0",
                "ldr {state}, [{thread}, {state}]",
                state = out(reg) state,
                thread = out(reg) _,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        // SAFETY:
        // - the variable starts as the address of a static state, and `set` only stores such addresses
        unsafe { &*state }
    }

    /// Changes this thread's state.
    pub(crate) fn set(state: &'static ThreadState) {
        // SAFETY:
        // - writes this thread's copy of the variable, as `get` reads it
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!(
                "mov {offset}, qword ptr [rip + bytepool_thread_state@GOTTPOFF]",
                "mov qword ptr fs:[{offset}], {state}",
                offset = out(reg) _,
                state = in(reg) state,
                options(nostack, preserves_flags),
            );
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!(
                "adrp {offset}, :gottprel:bytepool_thread_state",
                "ldr {offset}, [{offset}, #:gottprel_lo12:bytepool_thread_state]",
                "mrs {thread}, tpidr_el0",
                "str {state}, [{thread}, {offset}]",
                offset = out(reg) _,
                thread = out(reg) _,
                state = in(reg) state,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(bytepool_thread_local)
)))]
#[cfg(not(bytepool_shuttle))]
mod system {
    use super::{EMPTY, ThreadState};
    use std::cell::Cell;

    thread_local! {
        // Without a destructor, so it serves during a thread's teardown too; where the system has only keys, it may
        // begin anew there, and `ExitHook` cares.
        static STATE: Cell<&'static ThreadState> = const { Cell::new(&EMPTY) };
    }

    /// This thread's state.
    #[inline(always)]
    pub(crate) fn get() -> &'static ThreadState {
        STATE.get()
    }

    /// Changes this thread's state.
    pub(crate) fn set(state: &'static ThreadState) {
        STATE.set(state);
    }
}

#[cfg(bytepool_shuttle)]
mod system {
    use super::{EMPTY, ThreadState};
    use crate::sync::thread_number;
    use std::cell::RefCell;
    use std::collections::HashMap;

    thread_local! {
        // By the model's threads, which all run on one of the system.
        static STATES: RefCell<HashMap<usize, &'static ThreadState>> = RefCell::default();
    }

    pub(crate) fn get() -> &'static ThreadState {
        STATES.with_borrow(|states| states.get(&thread_number()).copied().unwrap_or(&EMPTY))
    }

    pub(crate) fn set(state: &'static ThreadState) {
        let number = thread_number();
        STATES.with_borrow_mut(|states| {
            states.retain(|other, _| other >> 16 == number >> 16);
            states.insert(number, state);
        });
    }
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn every_thread_has_its_own_pointer_and_starts_empty() {
        std::thread::spawn(|| {
            assert!(ptr::eq(get(), &EMPTY));
            let other = ThreadState::leak(0, None, ptr::null_mut()).unwrap();
            set(other);
            assert!(ptr::eq(get(), other));
            std::thread::spawn(|| assert!(ptr::eq(get(), &EMPTY))).join().unwrap();
            set(&EMPTY);
        })
        .join()
        .unwrap();
    }
}
