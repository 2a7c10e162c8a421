//! The library's own `memory.rs` in a crate without an allocator: so the optimiser takes for gone what is freed.

// For `probe_c`.
extern crate self as libc;
unsafe extern "C" {
    pub fn malloc(bytes: usize) -> *mut u8;
    pub fn free(data: *mut u8);
}

#[allow(dead_code)]
#[path = "../../src/os/memory.rs"]
mod memory;

mod sync {
    pub(crate) use std::sync::atomic;

    /// Of the models.
    pub(crate) mod plain_memory {
        pub(crate) fn ends(_: std::ptr::NonNull<u8>, _: usize) {}
    }
}

use memory::{Content, allocate_buffer, free_buffer, wipe};
use std::ptr::NonNull;

/// In bytes, and no other block's.
pub const SIZE: usize = 12_345;
const ALIGNMENT: usize = 64;

fn secret() -> NonNull<u8> {
    let data = allocate_buffer(SIZE, ALIGNMENT, Content::Anything).unwrap();
    // SAFETY:
    // - just allocated, of this size
    unsafe { data.as_ptr().write_bytes(0xEE, SIZE) };
    std::hint::black_box(data)
}

/// Frees a buffer full of secrets after overwriting them as a put does.
pub fn wipe_and_free() {
    let data = secret();
    // SAFETY:
    // - allocated with these figures, and nobody else has it
    unsafe {
        wipe(data, SIZE);
        free_buffer(data, SIZE, ALIGNMENT);
    }
}

/// The same, overwriting them as anybody would.
pub fn overwrite_and_free() {
    let data = secret();
    // SAFETY: as above
    unsafe {
        data.as_ptr().write_bytes(0, SIZE);
        free_buffer(data, SIZE, ALIGNMENT);
    }
}
