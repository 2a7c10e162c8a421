//! What helps users find their own bugs. All of it is off the fast path: a pool that uses any of it has no thread
//! caches.
//!
//! - [`environment`]: variables that turn it on
//! - [`tracking`]: where each outstanding buffer was got

mod environment;
pub(crate) mod tracking;
