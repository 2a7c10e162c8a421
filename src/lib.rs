// rustdoc takes the first of two definitions of a link. So here the README's links lead to a module and to the
// published sources, and its picture is in the page.
#![doc = "[DESIGN.md]: design"]
#![doc = "[SECURITY.md]: https://docs.rs/crate/bytepool/latest/source/SECURITY.md"]
#![doc = "[Platforms]: https://docs.rs/crate/bytepool/latest/source/docs/guide/platforms.md"]
#![doc = "[choosing size classes]: https://docs.rs/crate/bytepool/latest/source/docs/guide/size-classes.md"]
#![doc = "[the guide]: https://docs.rs/crate/bytepool/latest/source/docs/guide/adapters.md"]
#![doc = include_str!("../docs/speed.md")]
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(bytepool_shuttle, allow(dead_code, unused_imports, reason = "a model does not fork"))]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("bytepool needs a 64-bit target: a context carries 64 bits, and regions are large");

mod cache;
mod class;
mod core;
mod debug;
mod error;
#[cfg(bytepool_shuttle)]
#[path = "../tests/models/src/mod.rs"]
mod models;
mod os;
mod pool;
mod sync;
#[cfg(test)]
#[path = "../tests/support/valgrind.rs"]
mod valgrind;

#[cfg(feature = "capi")]
pub mod ffi;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use crate::class::arithmetic;

pub use crate::core::pinned::PinnedRegion;
pub use crate::core::stats::{ClassList, ClassStats, Stats};
pub use debug::tracking::{Language, Outstanding};
pub use error::{BuildError, GetError, Misuse, ReallocError, ResizeError};
#[cfg(feature = "capi")]
#[doc(inline)]
pub use ffi::context::{Context, ContextError};
pub use pool::Pool;
pub use pool::buffer::PooledBuffer;
pub use pool::builder::{Builder, DEFAULT_ALIGNMENT, MAX_ALIGNMENT, round_original};
pub use pool::bytes::PooledBytes;
pub use pool::get_async::GetAsync;

/// How the library works inside.
pub mod design {
    #![doc = include_str!("../DESIGN.md")]
}
