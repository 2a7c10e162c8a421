//! Why a call from C++ fails, and the boundary that keeps panics out of it.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{BuildError, GetError, Misuse};
use crate::ffi::context::ContextError;
use crate::ffi::last_error::Failure;
use crate::ffi::status::Status;
use crate::os::caller::{KeptErrno, discard_panic};
use crate::os::fork::ForkGuard;

/// Why a call from C++ failed: the text of its `rust::Error`.
#[derive(Debug)]
pub(super) enum CppError {
    Build(BuildError),
    Get(GetError),
    Misuse(Misuse),
    Context(ContextError),
    InvalidContext,
    InvalidConfig,
    NullPointer,
    ClassIndex { index: usize, classes: usize },
    Panic,
}

impl From<CppError> for Failure {
    fn from(error: CppError) -> Self {
        match error {
            CppError::Build(error) => error.into(),
            CppError::Get(error) => error.into(),
            CppError::Misuse(misuse) => misuse.into(),
            CppError::Context(error) => error.into(),
            CppError::InvalidContext => Status::InvalidContext.into(),
            CppError::InvalidConfig | CppError::NullPointer | CppError::ClassIndex { .. } => {
                Status::InvalidArgument.into()
            }
            CppError::Panic => Status::Panic.into(),
        }
    }
}

impl fmt::Display for CppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytepool: ")?;
        match self {
            Self::Build(error) => error.fmt(f),
            Self::Get(error) => error.fmt(f),
            Self::Misuse(misuse) => misuse.fmt(f),
            Self::Context(error) => error.fmt(f),
            Self::InvalidContext => f.write_str("the context is NULL, stale, invented or freed"),
            Self::InvalidConfig => f.write_str("the config has an unknown flag, or classes that are NULL"),
            Self::NullPointer => f.write_str("a NULL pointer is no buffer"),
            Self::ClassIndex { index, classes } => {
                write!(f, "there is no class {index}: the pool has {classes}")
            }
            Self::Panic => f.write_str("internal error: a panic was caught"),
        }
    }
}

impl Error for CppError {}

/// Runs the body of a function for C++ with a fork guard. `errno` stays. A panic becomes the error `failed`.
#[inline(always)]
pub(super) fn boundary<T, E>(failed: E, body: impl FnOnce(&mut ForkGuard) -> Result<T, E>) -> Result<T, E> {
    let _errno = KeptErrno::new();
    catch_unwind(AssertUnwindSafe(|| body(&mut ForkGuard::new()))).unwrap_or_else(|payload| {
        discard_panic(payload);
        Err(failed)
    })
}
