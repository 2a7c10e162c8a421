//! The functions of `include/bytepool/bytepool.h`, for C. Rust calls them as well, most often in tests of C code.
//!
//! Every function may be called from any thread at any time. One that fails returns NULL, 0 or a status other than
//! [`Status::Ok`], and sets [`bytepool_last_error`] of the calling thread. No panic leaves any of them. A context that
//! is NULL, stale or invented is refused as [`Status::InvalidContext`]. A stale one never reaches another pool.
//!
//! ```
//! use bytepool::ffi::capi::{bytepool_free, bytepool_get, bytepool_put};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = bytepool::Pool::builder().size_class(4096, 100).build()?;
//! let context = pool.context().into_raw();
//! let data = bytepool_get(context, 100);
//! assert!(!data.is_null());
//! // SAFETY:
//! // - got above, and put once
//! unsafe { bytepool_put(context, data, 100) };
//! bytepool_free(context);
//! # Ok(())
//! # }
//! ```
//!
//! Each translates its arguments, goes through the door or resolves its context, and translates the outcome.
//!
//! - `pool`: a pool's life
//! - `get`, `put`: one buffer out and back
//! - `many`: many buffers in one call
//! - `buffer`: what else is done with a buffer
//! - `default`: the process's default pool
//! - `stats`: figures, and who holds what
//! - `process`: what is not one pool's
//!
//! Here is what they have in common.

mod buffer;
mod default;
mod get;
mod many;
mod pool;
mod process;
mod put;
mod stats;

use std::ffi::c_void;
use std::ptr;

use crate::core::door::Refused;
use crate::debug::tracking::{Caller, Language};
use crate::error::{GetError, Misuse};
use crate::ffi::context::{Resolved, resolve};
use crate::ffi::last_error::{Failure, set_last_error};
use crate::ffi::misuse::{refuse_context, refuse_pointer};
use crate::ffi::status::{Status, boundary};
pub use crate::ffi::types::{CClassStats, COutstanding, CStats, Config, OutstandingHandler, SizeClass};
use crate::os::fork::ForkGuard;

pub use buffer::*;
pub use default::*;
pub use get::*;
pub use many::*;
pub use pool::*;
pub use process::*;
pub use put::*;
pub use stats::*;

/// The caller of the functions that do not ask where they are called.
const SOMEWHERE: Caller = Caller::somewhere(Language::C);

/// Remembers a failure. Returns its code.
fn code_of(failure: Failure) -> i32 {
    let status = failure.status();
    set_last_error(failure);
    status as i32
}

/// Runs a body that gives a status, inside the boundary.
fn status_of(body: impl FnOnce(&mut ForkGuard) -> Result<(), Failure>) -> i32 {
    boundary(Status::Panic as i32, |guard| body(guard).map_or_else(code_of, |()| Status::Ok as i32))
}

/// Runs a body that gives a number, inside the boundary. The number is 0 where it fails.
fn number_of(body: impl FnOnce(&mut ForkGuard) -> Result<usize, Failure>) -> usize {
    boundary(0, |guard| {
        body(guard).unwrap_or_else(|failure| {
            set_last_error(failure);
            0
        })
    })
}

/// The pool of a context, for a call without a pointer. An invalid context is reported, with the `size` that the caller
/// gave. It is 0 if the call has none.
fn resolve_or_refuse(guard: &mut ForkGuard, context: *mut c_void, size: usize) -> Result<Resolved, Status> {
    match resolve(guard, context) {
        Some(resolved) => Ok(resolved),
        None => Err(refuse_context(guard, context, ptr::null(), size)),
    }
}

/// The pool of a live context, for a call that a freed context may not make.
fn resolve_live(guard: &mut ForkGuard, context: *mut c_void, size: usize) -> Result<Resolved, Status> {
    let resolved = resolve_or_refuse(guard, context, size)?;
    if resolved.is_live { Ok(resolved) } else { Err(Status::Closed) }
}

/// The status of a get that was refused. It becomes the last error, and is reported if it is misuse.
#[cold]
fn refuse_get(context: *mut c_void, size: usize, refused: Refused<GetError>) -> Status {
    match refused {
        Refused::NoPool => refuse_context(&mut ForkGuard::new(), context, ptr::null(), size),
        Refused::Panic => Status::Panic,
        Refused::Error(error) => {
            let status = Status::from(&error);
            set_last_error(error);
            status
        }
    }
}

/// The status of a put that was refused. It becomes the last error, and is reported.
#[cold]
fn refuse_put(context: *mut c_void, data: *mut c_void, size: usize, refused: Refused<Misuse>) -> Status {
    match refused {
        Refused::NoPool => refuse_context(&mut ForkGuard::new(), context, data, size),
        Refused::Panic => Status::Panic,
        Refused::Error(misuse) => refuse_pointer(&mut ForkGuard::new(), &misuse, context, data, size),
    }
}
