//! The functions of `include/bytepool/bytepool.h`, which documents them. Each runs inside `boundary`,
//! resolves its context, and calls the pool.
//!
//! - `pool`: a pool's life
//! - `get`, `put`: one buffer out and back, with the fast paths
//! - `many`: many buffers in one call
//! - `buffer`: what else is done with a buffer
//! - `stats`: figures, and who holds what
//! - `process`: what is not one pool's
//!
//! Here is what they have in common.

mod buffer;
mod get;
mod many;
mod pool;
mod process;
mod put;
mod stats;

use std::ffi::c_void;
use std::ptr;

use crate::ffi::context::{Resolved, resolve};
use crate::ffi::misuse::refuse_context;
use crate::ffi::status::{Status, boundary, set_last_error};
pub use crate::ffi::types::{CClassStats, COutstanding, CStats, Config, OutstandingHandler, SizeClass};
use crate::instrument::tracking::{Caller, Language};

pub use buffer::*;
pub use get::*;
pub use many::*;
pub use pool::*;
pub use process::*;
pub use put::*;
pub use stats::*;

/// Most functions do not ask where they are called.
const SOMEWHERE: Caller = Caller::somewhere(Language::C);

/// Remembers the status if it is a failure; its code.
fn code(status: Status) -> i32 {
    if status != Status::Ok {
        set_last_error(status);
    }
    status as i32
}

/// Runs a body that gives a status, inside the boundary.
fn status_of(body: impl FnOnce() -> Result<(), Status>) -> i32 {
    boundary(Status::Panic as i32, || code(body().err().unwrap_or(Status::Ok)))
}

/// The pool of a context for a call without a pointer; `size` as given, 0 if the call has none. An invalid
/// one is reported.
fn resolve_or_refuse(context: *mut c_void, size: usize) -> Result<Resolved, Status> {
    resolve(context).ok_or_else(|| refuse_context(context, ptr::null(), size))
}

/// As [`resolve_or_refuse`], for what a freed context may not do.
fn resolve_live(context: *mut c_void, size: usize) -> Result<Resolved, Status> {
    let resolved = resolve_or_refuse(context, size)?;
    if resolved.is_live { Ok(resolved) } else { Err(Status::Closed) }
}
