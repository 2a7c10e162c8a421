//! Random work on shared pools in all three languages: `cargo run --release --example soak -- --seconds 600`
//!
//! ```text
//!  round.rs: a few pools of random shape; phases; between phases nobody runs, and every figure is checked
//!     |
//!     +-- threads that come and go: worker.rs, worker.c, worker.cpp
//!     |      get, fill, check, put, reallocate, trim; misuse on purpose, which must be refused
//!     |      buffers handed over to whoever takes them next: exchange.rs
//!     +-- disturbances.rs: contexts cloned and freed, trims, a close
//!     +-- failing.rs: allocations that fail on purpose
//! ```
//!
//! What it prints is a report to send: machine.rs tells on what it ran, report.rs what it did.
//!
//! Each owner writes its mark over the whole buffer and finds it there until it gives the buffer on.

#![cfg(feature = "cxx")]

pub mod cli;
mod counts;
mod disturbances;
mod exchange;
mod failing;
mod language;
mod machine;
mod random;
mod report;
mod round;
mod worker;
mod world;
