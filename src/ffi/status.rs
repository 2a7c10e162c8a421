//! Status codes, and the boundary that no panic crosses.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{BuildError, GetError, Misuse};
use crate::ffi::context::ContextError;
pub use crate::ffi::last_error::last_error;
use crate::ffi::last_error::set_last_error;
use crate::os::caller::{KeptErrno, discard_panic};
use crate::os::fork::ForkGuard;

/// `bytepool_status`: the values of the `BYTEPOOL_` enumeration in `bytepool.h`.
///
/// ```
/// use bytepool::ffi::status::Status;
/// assert_eq!(Status::from_code(7), Some(Status::ForeignPointer));
/// assert_eq!(Status::ForeignPointer as i32, 7);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Success.
    Ok = 0,
    /// A NULL, zero or contradictory argument, or a `struct_size` of no version.
    InvalidArgument = 1,
    /// The context is NULL, stale or invented, or freed twice.
    InvalidContext = 2,
    /// The pool is closed, or this context was freed.
    Closed = 3,
    /// `max_bytes` would be exceeded, or a limit of the library.
    Limit = 4,
    /// The deadline passed.
    Timeout = 5,
    /// The system has no memory or address space.
    OutOfMemory = 6,
    /// Misuse: not the start of a buffer of this pool.
    ForeignPointer = 7,
    /// Misuse: a buffer that is not out as a raw pointer: put, never handed out, or held by an owner.
    DoublePut = 8,
    /// Misuse: not the size asked for, nor one of the same class.
    SizeMismatch = 9,
    /// A panic was caught.
    Panic = 10,
}

impl Status {
    const ALL: [Self; 11] = [
        Self::Ok,
        Self::InvalidArgument,
        Self::InvalidContext,
        Self::Closed,
        Self::Limit,
        Self::Timeout,
        Self::OutOfMemory,
        Self::ForeignPointer,
        Self::DoublePut,
        Self::SizeMismatch,
        Self::Panic,
    ];

    /// What the status means, in English: the text of `bytepool_status_message`. It is never freed.
    pub fn message(self) -> &'static CStr {
        match self {
            Self::Ok => c"success",
            Self::InvalidArgument => c"invalid argument",
            Self::InvalidContext => c"invalid context: NULL, stale, invented, or freed twice",
            Self::Closed => c"the pool is closed, or this context was freed",
            Self::Limit => c"the limit on mapped bytes, pools or handles is reached",
            Self::Timeout => c"the deadline passed",
            Self::OutOfMemory => c"the system has no memory or address space",
            Self::ForeignPointer => c"the pointer is not the start of a buffer of this pool",
            Self::DoublePut => c"the buffer was put already, or is owned by a PooledBuffer",
            Self::SizeMismatch => {
                c"the size is not the one the buffer was asked for, nor one of the same class"
            }
            Self::Panic => c"internal error: a panic was caught",
        }
    }

    /// The status with this number. `None` if no status has it.
    ///
    /// ```
    /// use bytepool::ffi::status::Status;
    /// assert_eq!(Status::from_code(0), Some(Status::Ok));
    /// assert_eq!(Status::from_code(99), None);
    /// ```
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|&status| status as i32 == code)
    }
}

impl From<&GetError> for Status {
    fn from(error: &GetError) -> Self {
        match error {
            GetError::Closed => Self::Closed,
            GetError::Limit { .. } | GetError::Pinned { .. } => Self::Limit,
            GetError::Timeout { .. } => Self::Timeout,
            GetError::OutOfMemory { .. } => Self::OutOfMemory,
            GetError::Alignment { .. } => Self::InvalidArgument,
        }
    }
}

impl From<&Misuse> for Status {
    fn from(misuse: &Misuse) -> Self {
        match misuse {
            Misuse::ForeignPointer { .. } => Self::ForeignPointer,
            Misuse::DoublePut { .. } => Self::DoublePut,
            Misuse::SizeMismatch { .. } => Self::SizeMismatch,
        }
    }
}

impl From<&BuildError> for Status {
    fn from(error: &BuildError) -> Self {
        match error {
            BuildError::Reserve { .. } | BuildError::OutOfMemory { .. } | BuildError::Pin { .. } => {
                Self::OutOfMemory
            }
            BuildError::TooManyPools { .. } | BuildError::PinnedBeyondLimit { .. } => Self::Limit,
            _ => Self::InvalidArgument,
        }
    }
}

impl From<&ContextError> for Status {
    fn from(error: &ContextError) -> Self {
        match error {
            ContextError::TooMany { .. } => Self::Limit,
            ContextError::OutOfMemory => Self::OutOfMemory,
        }
    }
}

/// Runs the body of a C function with a fork guard. `errno` stays. A panic becomes `Status::Panic` and the value
/// `failed`.
///
/// Only the user's rounding function may panic. The core keeps nothing half done while that runs, so unwinding is safe.
#[inline(always)]
pub(crate) fn boundary<T>(failed: T, body: impl FnOnce(&mut ForkGuard) -> T) -> T {
    let _errno = KeptErrno::new();
    catch_unwind(AssertUnwindSafe(|| body(&mut ForkGuard::new()))).unwrap_or_else(|payload| {
        discard_panic(payload);
        set_last_error(Status::Panic);
        failed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_messages_are_distinct() {
        for (code, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(Status::from_code(code as i32), Some(status));
        }
        let messages: std::collections::HashSet<_> = Status::ALL.iter().map(|s| s.message()).collect();
        assert_eq!(messages.len(), Status::ALL.len());
        assert_eq!(Status::from_code(-1), None);
        assert_eq!(Status::from_code(11), None);
    }

    #[test]
    fn a_panic_becomes_a_status() {
        let value = boundary(7, |_| -> i32 { panic!("caught on purpose") });
        assert_eq!((value, last_error()), (7, Status::Panic));
    }

    #[test]
    fn what_a_panic_carries_is_dropped_and_may_panic_itself() {
        struct Payload {
            _count: std::sync::Arc<()>,
        }
        impl Drop for Payload {
            fn drop(&mut self) {
                panic!("caught on purpose, too");
            }
        }
        let count = std::sync::Arc::new(());
        let payload = Payload { _count: count.clone() };
        let value = boundary(7, |_| -> i32 { std::panic::panic_any(payload) });
        assert_eq!((value, last_error()), (7, Status::Panic));
        assert_eq!(std::sync::Arc::strong_count(&count), 1, "the payload was leaked");
    }
}
