// The first of two definitions counts: the README's link to a file is here one to a module.
#![doc = "[DESIGN.md]: design"]
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(bytepool_shuttle, allow(dead_code, unused_imports, reason = "a model does not fork"))]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("bytepool needs a 64-bit target: a context carries 64 bits, and regions are large");

mod address_map;
mod anchor;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod arithmetic;
mod barrier;
mod buffer;
mod class;
mod config;
mod error;
#[cfg_attr(bytepool_shuttle, path = "models/fork.rs")]
mod fork;
#[cfg(feature = "capi")]
mod handle;
mod instrument;
mod layout;
mod ledger;
mod limit;
mod line;
mod memory;
#[cfg(bytepool_shuttle)]
mod models;
mod pool;
mod region;
mod registry;
#[cfg(bytepool_sanitized)]
mod seen_locks;
mod shared;
mod shelf;
mod size_class;
mod stats;
mod sync;
mod thread_cache;
#[cfg(test)]
#[path = "../tests/support/valgrind.rs"]
mod valgrind;
mod waiting;

#[cfg(feature = "capi")]
pub mod ffi;

pub use buffer::PooledBuffer;
pub use config::{Builder, DEFAULT_ALIGNMENT, MAX_ALIGNMENT, round_original};
pub use error::{BuildError, GetError, Misuse, ReallocError, ResizeError};
#[cfg(feature = "capi")]
pub use ffi::context::{Context, ContextError};
pub use instrument::tracking::{Language, Outstanding};
pub use pool::Pool;
pub use stats::{ClassList, ClassStats, Stats};

/// How the library works inside.
pub mod design {
    #![doc = include_str!("../DESIGN.md")]
}
