//! Shows a sanitizer who called.
//!
//! At each `malloc` and `free` a sanitizer notes the callers. It finds them by following frame pointers. This library
//! is compiled without frame pointers, so the notes would end inside it. Therefore [`steps`](super::steps) finds the
//! callers, and here they are written on the stack, as a chain of frames that the frame pointer leads to:
//!
//! ```text
//! frame pointer --> [ next | return address ] --> [ next | return address ] --> ... --> [ 0 | ... ]
//! ```

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) use self::written::call;

/// A function of the C library that takes up to three integers or pointers.
pub(super) type Function = *const ();

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod written {
    use std::arch::global_asm;
    use std::ptr;

    use super::super::steps::{self, MOST, Place};
    use super::Function;

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Frame {
        next: *const Frame,
        return_address: usize,
    }

    /// Calls `function`. A sanitizer that follows frame pointers from there finds this thread's callers.
    ///
    /// # Safety
    /// - `function` is a C function of up to three integer or pointer arguments, and may be called with these
    pub(in super::super) unsafe fn call(function: Function, arguments: [usize; 3]) -> usize {
        let [first, second, third] = arguments;
        // SAFETY:
        // - as the caller promised
        unsafe { call_from_here(first, second, third, function) }
    }

    /// # Safety
    /// - `function` may be called with these arguments
    /// - `place` is of a caller, whose frame is left as it is
    unsafe extern "C" fn call_from(
        first: usize,
        second: usize,
        third: usize,
        function: Function,
        place: &Place,
    ) -> usize {
        let mut return_addresses = [0; MOST];
        // SAFETY:
        // - as the caller promised
        let count = unsafe { steps::callers(*place, &mut return_addresses) };
        let mut frames = [const { Frame { next: ptr::null(), return_address: 0 } }; MOST];
        for (index, &return_address) in return_addresses[..count].iter().enumerate().rev() {
            let next = if index + 1 < count { &raw const frames[index + 1] } else { ptr::null() };
            frames[index] = Frame { next, return_address };
        }
        // SAFETY:
        // - as the caller promised; the frames outlive the call
        unsafe { call_below(first, second, third, function, frames.as_ptr()) }
    }

    unsafe extern "C" {
        /// Goes on in [`call_from`] with the place of the caller.
        #[link_name = "bytepool_call_from_here"]
        fn call_from_here(first: usize, second: usize, third: usize, function: Function) -> usize;

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

    /// A function of these instructions. Hidden: each copy of the library in a process has its own, and none is in the
    /// dynamic symbol table.
    macro_rules! function {
        ($name:literal, $instructions:literal $(, sym $symbol:ident)?) => {
            global_asm!(
                concat!(".pushsection .text.", $name, ", \"ax\", %progbits"),
                ".p2align 4",
                concat!(".globl ", $name),
                concat!(".hidden ", $name),
                concat!(".type ", $name, ", %function"),
                concat!($name, ":"),
                ".cfi_startproc",
                $instructions,
                ".cfi_endproc",
                concat!(".size ", $name, ", . - ", $name),
                ".popsection",
                $(sym $symbol)?
            );
        };
    }

    #[cfg(target_arch = "x86_64")]
    function!(
        "bytepool_call_from_here",
        "mov rax, [rsp]
         lea r10, [rsp + 8]
         push rbp
         .cfi_adjust_cfa_offset 8
         push r10
         .cfi_adjust_cfa_offset 8
         push rax
         .cfi_adjust_cfa_offset 8
         mov r8, rsp
         call {}
         add rsp, 24
         .cfi_adjust_cfa_offset -24
         ret",
        sym call_from
    );

    #[cfg(target_arch = "aarch64")]
    function!(
        "bytepool_call_from_here",
        "mov x5, sp
         sub sp, sp, #32
         .cfi_def_cfa_offset 32
         stp x30, x5, [sp]
         .cfi_offset w30, -32
         str x29, [sp, #16]
         mov x4, sp
         bl {}
         ldr x30, [sp]
         add sp, sp, #32
         .cfi_def_cfa_offset 0
         .cfi_restore w30
         ret",
        sym call_from
    );

    #[cfg(target_arch = "x86_64")]
    function!(
        "bytepool_call_below",
        "push rbp
         .cfi_def_cfa_offset 16
         .cfi_offset rbp, -16
         mov rbp, r8
         call rcx
         pop rbp
         .cfi_def_cfa_offset 8
         .cfi_restore rbp
         ret"
    );

    #[cfg(target_arch = "aarch64")]
    function!(
        "bytepool_call_below",
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
    );
}

/// Elsewhere the notes end inside the library.
///
/// # Safety
/// - the function takes up to three integers or pointers, and may be called with these
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(super) unsafe fn call(function: Function, arguments: [usize; 3]) -> usize {
    // SAFETY:
    // - the functions called here take up to three integers or pointers in registers, and ignore the rest
    let function: extern "C" fn(usize, usize, usize) -> usize = unsafe { std::mem::transmute(function) };
    let [first, second, third] = arguments;
    function(first, second, third)
}
