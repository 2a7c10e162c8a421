//! The C and C++ programs with threads, under gcc's ThreadSanitizer, and the library in them instrumented as well:
//! `tests/sanitizers/thread` runs this, and no other build has it.

#![cfg(all(unix, bytepool_sanitized, feature = "capi"))]

use crate::support::Program;

#[test]
fn many_threads() {
    Program::check_threads(&["threads.c"]);
}

#[test]
fn many_threads_at_the_limit() {
    Program::check_threads(&["threads_limit.c"]);
}

#[test]
fn racing_puts() {
    Program::check_threads(&["threads_race.c"]);
}

#[cfg(feature = "cxx")]
#[test]
fn three_languages() {
    Program::check_threads(&["three_languages.cpp", "c_side.c"]);
}

#[cfg(feature = "cxx")]
#[test]
fn pooled_buffers_and_memory_resources() {
    Program::check_threads(&["pooled_buffer.cpp"]);
}
