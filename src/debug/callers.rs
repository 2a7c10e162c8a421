//! Shows a sanitizer who called.
//!
//! At each `malloc` and `free` a sanitizer notes the callers, and finds them by following frame pointers, which
//! compiled code need not have: this library has none, so the notes would end inside it. Therefore the callers
//! are found by the unwind tables, which all code has, and written down on the stack as frames such as frame
//! pointers would lead to:
//!
//! ```text
//! frame pointer --> [ next | return address ] --> [ next | return address ] --> ... --> [ 0 | ... ]
//! ```

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) use self::written::call;

/// A function of the C library as it is called here: with up to three integers or pointers.
pub(super) type Function = *const ();

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod written {
    use std::arch::global_asm;
    use std::ffi::{c_int, c_void};
    use std::ptr;

    use super::Function;

    /// More callers than sanitizers note.
    const MOST: usize = 48;

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Frame {
        next: *const Frame,
        return_address: usize,
    }

    /// Calls `function` so that whoever follows frame pointers from there finds this thread's callers.
    ///
    /// # Safety
    /// - `function` is a C function of up to three integer or pointer arguments, and may be called with these
    pub(in super::super) unsafe fn call(function: Function, arguments: [usize; 3]) -> usize {
        let (return_addresses, count) = callers();
        let mut frames = [const { Frame { next: ptr::null(), return_address: 0 } }; MOST];
        for (index, &return_address) in return_addresses[..count].iter().enumerate().rev() {
            let next = if index + 1 < count { &raw const frames[index + 1] } else { ptr::null() };
            frames[index] = Frame { next, return_address };
        }
        let [first, second, third] = arguments;
        // SAFETY:
        // - as the caller promised; the frames outlive the call
        unsafe { call_below(first, second, third, function, frames.as_ptr()) }
    }

    /// The last `_Unwind_Reason_Code`s that matter here.
    const NO_REASON: c_int = 0;
    const END_OF_STACK: c_int = 5;

    unsafe extern "C" {
        // Of the unwinder that the standard library links anyway.
        fn _Unwind_Backtrace(
            each: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
            argument: *mut c_void,
        ) -> c_int;
        fn _Unwind_GetIP(context: *mut c_void) -> usize;
    }

    /// The return addresses of this function's callers, innermost first, and how many.
    #[inline(always)]
    fn callers() -> ([usize; MOST], usize) {
        extern "C" fn add(context: *mut c_void, found: *mut c_void) -> c_int {
            // SAFETY:
            // - the argument is the pair below, which nobody else uses meanwhile
            let (addresses, count) = unsafe { &mut *found.cast::<([usize; MOST], usize)>() };
            // SAFETY:
            // - the unwinder's own context
            let address = unsafe { _Unwind_GetIP(context) };
            if *count == MOST || address == 0 {
                return END_OF_STACK;
            }
            addresses[*count] = address;
            *count += 1;
            NO_REASON
        }
        let mut found = ([0; MOST], 0);
        // SAFETY:
        // - the callback takes these arguments and does not unwind
        unsafe { _Unwind_Backtrace(add, (&raw mut found).cast()) };
        found
    }

    unsafe extern "C" {
        /// Calls `function` with the frame pointer leading to `frames`.
        #[link_name = "bytepool_call_below"]
        fn call_below(
            first: usize,
            second: usize,
            third: usize,
            function: Function,
            frames: *const Frame,
        ) -> usize;
    }

    #[cfg(target_arch = "x86_64")]
    macro_rules! instructions {
        () => {
            "push rbp
             .cfi_def_cfa_offset 16
             .cfi_offset rbp, -16
             mov rbp, r8
             call rcx
             pop rbp
             .cfi_def_cfa_offset 8
             .cfi_restore rbp
             ret"
        };
    }

    #[cfg(target_arch = "aarch64")]
    macro_rules! instructions {
        () => {
            "stp x29, x30, [sp, #-16]!
             .cfi_def_cfa_offset 16
             .cfi_offset w29, -16
             .cfi_offset w30, -8
             mov x29, x4
             blr x3
             ldp x29, x30, [sp], #16
             .cfi_def_cfa_offset 0
             .cfi_restore w29
             .cfi_restore w30
             ret"
        };
    }

    // Hidden: each copy of the library in a process has its own, and none is in the dynamic symbol table.
    global_asm!(
        ".pushsection .text.bytepool_call_below, \"ax\", %progbits",
        ".p2align 4",
        ".globl bytepool_call_below",
        ".hidden bytepool_call_below",
        ".type bytepool_call_below, %function",
        "bytepool_call_below:",
        ".cfi_startproc",
        instructions!(),
        ".cfi_endproc",
        ".size bytepool_call_below, . - bytepool_call_below",
        ".popsection",
    );
}

/// Elsewhere the notes end inside the library.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(super) unsafe fn call(function: Function, arguments: [usize; 3]) -> usize {
    // SAFETY:
    // - the functions called here take up to three integers or pointers in registers, and ignore the rest
    let function: extern "C" fn(usize, usize, usize) -> usize = unsafe { std::mem::transmute(function) };
    let [first, second, third] = arguments;
    function(first, second, third)
}
