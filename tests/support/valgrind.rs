//! What tests do otherwise under valgrind's memcheck, where `tests/sanitizers/valgrind` runs them, and in an emulator.

// Each test binary uses a part of this.
#![allow(dead_code)]

use std::env;
use std::ffi::OsStr;
use std::sync::OnceLock;

#[allow(clippy::duplicate_mod)] // `mod.rs` has it, too: each may be there alone
#[path = "emulator.rs"]
mod emulator;

/// Whether this process runs under memcheck. What the library finds out by itself is not asked.
pub fn under_memcheck() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    // Where memcheck's `malloc` comes from.
    let is_its = |list: &OsStr| list.to_string_lossy().contains("vgpreload_memcheck");
    *FOUND.get_or_init(|| env::var_os("LD_PRELOAD").is_some_and(|list| is_its(&list)))
}

/// Whether each buffer is a block of `malloc`, of the size asked for, and no thread caches anything: `DESIGN.md`,
/// *Under checkers of memory*.
pub fn replacements() -> bool {
    under_memcheck() && !cfg!(bytepool_sanitized)
}

/// Whether slots are handed out under memcheck.
pub fn slots_under_memcheck() -> bool {
    under_memcheck() && cfg!(bytepool_sanitized)
}

/// What a buffer got with `size` has room for, in a class of `buffer_size`.
pub fn capacity(size: usize, buffer_size: usize) -> usize {
    if replacements() { size } else { buffer_size }
}

/// So many rounds, or as many as memcheck or an emulator does in about that time.
pub fn rounds(usual: usize) -> usize {
    if under_memcheck() || emulator::has_fewer_rounds() { usual.div_ceil(20) } else { usual }
}
