//! Every suite that needs no process of its own: one program, which is compiled and linked once. `cargo test --test
//! suites limit::` runs one of them.
//!
//! Whatever a suite changes for its whole process stays out of here, in a file of its own in `tests`, which says what
//! that is: an allocator, forks, resident memory. Here tests of all suites run side by side.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/valgrind.rs"]
mod valgrind;

mod adapters;
mod alignment;
mod build_errors;
mod c_model;
mod c_programs;
mod compile_fail;
mod concurrency;
mod content;
mod cpp_programs;
mod dependencies;
mod guard;
mod headers;
mod lifecycle;
mod limit;
mod misuse;
mod model;
mod other_crates;
mod overflow;
mod pinned;
mod sanitizers;
mod sharing;
mod stats;
mod thread_cache;
mod thread_sanitizer;
mod tracking;
mod vec;
mod waiting;
mod waiting_async;
mod wipe;
