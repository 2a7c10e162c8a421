//! What the library takes from the system, and what it knows of the process: memory, threads and forks.
//!
//! - [`memory`]: tables and single buffers from the global allocator, with failure as a value
//! - [`region`]: reserved addresses, and the pages in them
//! - [`block`]: one buffer outside the region; [`mapping`] is for large ones
//! - [`stderr`]: lines of text for the user
//! - [`caller`]: what a call leaves as it found it: errno, and the thread's cancellation. It also catches panics
//! - [`barrier`]: a fence on every thread of the process
//! - [`fork`]: the guard that keeps the process from forking in the middle of something
//! - [`lock`]: locks, which ask for that guard
//! - [`wakes`]: tasks to be woken when a thread's last guard ends
//! - [`thread_pointer`] and [`thread_state`]: what each thread has, and what others see of it
//! - [`cells`]: a table whose cells stay where they are; [`anchor`] and [`handle`] are made of it
//! - [`address_map`]: a map from addresses
//! - [`hooks`]: the two places where this layer calls those above
//!
//! Nothing here knows what a pool is.

pub(crate) mod address_map;
pub(crate) mod anchor;
pub(crate) mod barrier;
pub(crate) mod bits;
pub(crate) mod block;
pub(crate) mod caller;
pub(crate) mod cells;
pub(crate) mod fork;
#[cfg(feature = "capi")]
pub(crate) mod handle;
pub(crate) mod hooks;
pub(crate) mod lock;
pub(crate) mod mapping;
pub(crate) mod memory;
pub(crate) mod region;
pub(crate) mod stderr;
pub(crate) mod thread_pointer;
pub(crate) mod thread_state;
pub(crate) mod wakes;
