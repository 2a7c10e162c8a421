//! The pool for C and C++. This layer is thin: it takes contexts, gives status codes, and goes through the pool's door.
//! No pool logic lives here.
//!
//! - [`context`]: a `void *` that names one handle on a pool
//! - [`capi`]: the functions of `include/bytepool/bytepool.h`
//! - `last_error`: the calling thread's last error, with its text
//! - [`misuse`]: counting and reporting of refused calls
//! - [`status`]: status codes, and the boundary of C that panics do not cross
//! - [`types`]: the structs of that header
//! - `bridge` (feature `cxx`): what `include/bytepool/bytepool.hpp` stands on
//! - `cpp_error` (feature `cxx`): why a call from C++ fails

#[cfg(feature = "cxx")]
mod bridge;
pub mod capi;
pub mod context;
#[cfg(feature = "cxx")]
mod cpp_error;
pub(crate) mod last_error;
pub mod misuse;
pub mod status;
pub mod types;
