//! A file relayed through Rust, C and C++ in the buffers of one pool: `cargo run --release --example relay -- FILE`
//!
//! ```text
//!  one thread                                                      another thread
//!  ------------------------    ------------------------            ---------------------------
//!  Rust: relay.rs              C: transform.c                      C++: sink.cpp
//!    gets a buffer,              gets a second buffer,               adopts the second buffer,
//!    reads a chunk of   ---->    writes the chunk there,   ---->     undoes the coding into a
//!    the file into it            delta coded, computes     queue     third, checks the CRC-32,
//!                                its CRC-32, and puts                counts the bytes, writes the
//!                                the first buffer                    second to the output file,
//!                                                                    and puts both
//! ```
//!
//! Only pointers are handed over. The queue is bounded, so a slow disk slows the reader down instead of filling memory;
//! the pool's limit would refuse more. At the end Rust reads the output back and compares: `verify.rs`.
//!
//! Where C or C++ is behind a module, the module has that file's name: `transform.rs` calls `transform.c`, and so on.

#![cfg(feature = "cxx")]

pub mod cli;
mod error;
mod files;
mod misuse;
mod progress;
mod relay;
mod report;
mod sink;
mod transform;
mod units;
mod verify;

pub use error::Error;
pub use misuse::put_twice;
pub use relay::{CHUNK, build_pool, relay};
pub use sink::Summary;
pub use verify::verify;
