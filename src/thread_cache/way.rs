//! The way to a thread's block: one thread-local pointer, read in two instructions.
//!
//! In a shared library an ordinary `thread_local!` costs a call to `__tls_get_addr` per access. So where the
//! platform allows it the pointer is an *initial-exec* thread-local, whose distance from the thread pointer
//! is fixed when the library is loaded. Rust cannot ask for that model on stable, so the variable is defined
//! and read in assembly. Its initial value is a block without entries: the pointer is never null.
//!
//! - x86-64 and aarch64 Linux with glibc use it; eight bytes fit the room that glibc keeps for libraries
//!   loaded by `dlopen`.
//! - Elsewhere, on musl (which refuses to `dlopen` such a library), and with `--cfg bytepool_thread_local`, a
//!   `thread_local!` serves.
//!
//! Each thread reads and writes its own pointer only. It points to a static block or to one whose memory is
//! never given back, so what is read is always good.

use super::block::Block;

pub(super) use self::system::{block, set_block};

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(any(bytepool_thread_local, bytepool_shuttle))
))]
mod system {
    use super::Block;
    use crate::thread_cache::block::EMPTY;
    use std::arch::{asm, global_asm};

    // Hidden: each copy of the library in a process has its own, and none is in the dynamic symbol table.
    global_asm!(
        ".pushsection .tdata.bytepool_thread_block, \"awT\", %progbits",
        ".p2align 3",
        ".globl bytepool_thread_block",
        ".hidden bytepool_thread_block",
        ".type bytepool_thread_block, %object",
        ".size bytepool_thread_block, 8",
        "bytepool_thread_block:",
        ".8byte {empty}",
        ".popsection",
        empty = sym EMPTY,
    );

    /// This thread's block.
    #[inline(always)]
    pub(in crate::thread_cache) fn block() -> &'static Block {
        let block: *const Block;
        // SAFETY:
        // - reads this thread's copy of the variable defined above, by the ABI's initial-exec sequence
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!(
                "mov {block}, qword ptr [rip + bytepool_thread_block@GOTTPOFF]",
                "mov {block}, qword ptr fs:[{block}]",
                block = out(reg) block,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!(
                "adrp {block}, :gottprel:bytepool_thread_block",
                "ldr {block}, [{block}, #:gottprel_lo12:bytepool_thread_block]",
                "mrs {thread}, tpidr_el0",
                "ldr {block}, [{thread}, {block}]",
                block = out(reg) block,
                thread = out(reg) _,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        // SAFETY:
        // - the variable starts as the address of a static block, and `set_block` only stores such addresses
        unsafe { &*block }
    }

    /// Changes this thread's block.
    pub(in crate::thread_cache) fn set_block(block: &'static Block) {
        // SAFETY:
        // - writes this thread's copy of the variable, as `block` reads it
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!(
                "mov {offset}, qword ptr [rip + bytepool_thread_block@GOTTPOFF]",
                "mov qword ptr fs:[{offset}], {block}",
                offset = out(reg) _,
                block = in(reg) block,
                options(nostack, preserves_flags),
            );
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!(
                "adrp {offset}, :gottprel:bytepool_thread_block",
                "ldr {offset}, [{offset}, #:gottprel_lo12:bytepool_thread_block]",
                "mrs {thread}, tpidr_el0",
                "str {block}, [{thread}, {offset}]",
                offset = out(reg) _,
                thread = out(reg) _,
                block = in(reg) block,
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
    use super::Block;
    use crate::thread_cache::block::EMPTY;
    use std::cell::Cell;

    thread_local! {
        // Without a destructor, so it serves during a thread's teardown too.
        static BLOCK: Cell<&'static Block> = const { Cell::new(&EMPTY) };
    }

    /// This thread's block.
    #[inline(always)]
    pub(in crate::thread_cache) fn block() -> &'static Block {
        BLOCK.get()
    }

    /// Changes this thread's block.
    pub(in crate::thread_cache) fn set_block(block: &'static Block) {
        BLOCK.set(block);
    }
}

#[cfg(bytepool_shuttle)]
mod system {
    use super::Block;
    use crate::models;
    use crate::thread_cache::block::EMPTY;
    use std::cell::RefCell;
    use std::collections::HashMap;

    thread_local! {
        // By the model's threads, which all run on one of the system.
        static BLOCKS: RefCell<HashMap<usize, &'static Block>> = RefCell::default();
    }

    pub(in crate::thread_cache) fn block() -> &'static Block {
        BLOCKS.with_borrow(|blocks| blocks.get(&models::thread_number()).copied().unwrap_or(&EMPTY))
    }

    pub(in crate::thread_cache) fn set_block(block: &'static Block) {
        let number = models::thread_number();
        BLOCKS.with_borrow_mut(|blocks| {
            blocks.retain(|other, _| other >> 16 == number >> 16);
            blocks.insert(number, block);
        });
    }
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::*;
    use crate::memory;
    use crate::thread_cache::block::EMPTY;
    use std::ptr;

    #[test]
    fn every_thread_has_its_own_pointer_and_starts_empty() {
        std::thread::spawn(|| {
            assert!(ptr::eq(block(), &EMPTY));
            let other = memory::leak(Block::without_caches(0, None)).unwrap();
            set_block(other);
            assert!(ptr::eq(block(), other));
            std::thread::spawn(|| assert!(ptr::eq(block(), &EMPTY))).join().unwrap();
            set_block(&EMPTY);
        })
        .join()
        .unwrap();
    }
}
