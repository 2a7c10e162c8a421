//! Thread caches: each thread keeps idle slots of the pools it uses, and gets and puts them without writing a word that
//! another thread writes, and seldom a line.
//!
//! - [`fast`]: the fast path, from a key to a slot
//! - [`slow`]: the slow half: batches from and to the shelf, and whatever is not this thread's own
//! - [`many`]: many buffers in one use of a cache
//! - [`bin`]: the idle slots of one class that a thread keeps
//! - [`thread_cache`]: a thread's cache of one pool: a bin for each class
//! - [`caches`]: the pool's side, a list of its caches, which can be drained
//!
//! A cache knows a table of classes and a counter of references. It does not know the pool. The layers above give it a
//! pointer when it is made, and get that pointer back when it has to go.

mod bin;
pub(crate) mod caches;
mod fast;
#[cfg(feature = "capi")]
mod many;
mod slow;
mod thread_cache;

#[cfg(all(test, feature = "capi", not(bytepool_shuttle)))]
pub(crate) use self::bin::reached;
pub(crate) use self::fast::{
    Unfinished, get, good_size, put, put_owned, put_unsized, resize, room_of_own, usable_size,
};
#[cfg(feature = "capi")]
pub(crate) use self::many::{get_many, get_many_fast, put_many, put_many_fast};
pub(crate) use self::slow::{
    get_of_class, get_slow, is_attached, position, put_slow, put_taken, resize_slow, take_fresh,
};
pub(crate) use crate::os::thread_state::Position;
