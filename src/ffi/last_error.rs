//! The calling thread's last error: its status, and with it the figures that its text tells.

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;

use crate::error::{BuildError, GetError, Misuse, ReallocError};
use crate::ffi::context::ContextError;
use crate::ffi::status::Status;

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing more is known.
    Status(Status),
    Build(BuildError),
    Get(GetError),
    Misuse(Misuse),
    Context(ContextError),
}

impl Failure {
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Status(status) => *status,
            Self::Build(error) => error.into(),
            Self::Get(error) => error.into(),
            Self::Misuse(misuse) => misuse.into(),
            Self::Context(error) => error.into(),
        }
    }
}

macro_rules! from {
    ($($error:ident as $variant:ident),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })+
    };
}
from!(Status as Status, BuildError as Build, GetError as Get, Misuse as Misuse, ContextError as Context);

impl From<ReallocError> for Failure {
    fn from(error: ReallocError) -> Self {
        match error {
            ReallocError::Get(error) => error.into(),
            ReallocError::Misuse(misuse) => misuse.into(),
        }
    }
}

/// The texts of the errors of Rust, without an allocation.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => f.write_str(status.message().to_str().map_err(|_| fmt::Error)?),
            // The text for the system's number would be allocated.
            Self::Build(BuildError::Reserve { bytes, source }) => match source.raw_os_error() {
                Some(number) => {
                    write!(f, "{}: os error {number}", BuildError::refused_to_reserve(*bytes))
                }
                None => BuildError::refused_to_reserve(*bytes).fmt(f),
            },
            Self::Build(error) => error.fmt(f),
            Self::Get(error) => error.fmt(f),
            Self::Misuse(misuse) => misuse.fmt(f),
            Self::Context(error) => error.fmt(f),
        }
    }
}

thread_local! {
    // It has no destructor, so it serves during a thread's teardown, too. What a failure holds owns no memory.
    static LAST_ERROR: Cell<ManuallyDrop<Failure>> =
        const { Cell::new(ManuallyDrop::new(Failure::Status(Status::Ok))) };
}

/// Remembers a failure as this thread's last error.
#[cold]
pub(crate) fn set_last_error(failure: impl Into<Failure>) {
    LAST_ERROR.set(ManuallyDrop::new(failure.into()));
}

/// Runs `read` with this thread's last error. `read` must not set another.
fn with_last_error<T>(read: impl FnOnce(&Failure) -> T) -> T {
    LAST_ERROR.with(|cell| {
        let failure = cell.replace(ManuallyDrop::new(Failure::Status(Status::Ok)));
        let answer = read(&failure);
        cell.set(failure);
        answer
    })
}

/// The status of this thread's last failed call, in C or C++. `Status::Ok` if none failed yet.
///
/// A success leaves it.
///
/// ```
/// use bytepool::ffi::capi::bytepool_get;
/// use bytepool::ffi::status::{Status, last_error};
///
/// assert!(bytepool_get(std::ptr::null_mut(), 100).is_null());
/// assert_eq!(last_error(), Status::InvalidContext);
/// ```
pub fn last_error() -> Status {
    with_last_error(Failure::status)
}

/// Writes as much of the text of this thread's last error as fits. Returns the length of all of it in bytes.
pub(crate) fn write_last_error(out: &mut [u8]) -> usize {
    /// Counts what does not fit.
    struct Text<'a> {
        out: &'a mut [u8],
        len: usize,
    }
    impl fmt::Write for Text<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let rest = self.out.get_mut(self.len..).unwrap_or_default();
            let fits = text.len().min(rest.len());
            rest[..fits].copy_from_slice(&text.as_bytes()[..fits]);
            self.len += text.len();
            Ok(())
        }
    }
    let mut text = Text { out, len: 0 };
    let written = with_last_error(|failure| fmt::write(&mut text, format_args!("{failure}")));
    debug_assert!(written.is_ok(), "Text::write_str does not fail");
    text.len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_in(bytes: usize) -> (String, usize) {
        let mut out = vec![b'.'; bytes];
        let len = write_last_error(&mut out);
        (String::from_utf8(out).unwrap(), len)
    }

    #[test]
    fn the_text_is_that_of_rust_with_its_figures() {
        let limit = GetError::Limit { limit: 4096, mapped: 4000, requested: 512 };
        let misuse = Misuse::SizeMismatch { address: 64, size: 7, requested: 100, buffer_size: 512 };
        let failures: [(Failure, String); 4] = [
            (limit.into(), limit.to_string()),
            (misuse.into(), misuse.to_string()),
            (
                BuildError::ZeroBufferSize { index: 3 }.into(),
                BuildError::ZeroBufferSize { index: 3 }.to_string(),
            ),
            (Status::InvalidContext.into(), Status::InvalidContext.message().to_str().unwrap().into()),
        ];
        for (failure, expected) in failures {
            let status = failure.status();
            set_last_error(failure);
            assert_eq!(text_in(expected.len()), (expected.clone(), expected.len()));
            assert_eq!(last_error(), status);
            // Cut off, and asked again: nothing of it is gone.
            assert_eq!(text_in(5), (expected[..5].into(), expected.len()));
            assert_eq!(text_in(0), (String::new(), expected.len()));
        }
    }

    #[test]
    fn a_refusal_of_the_system_is_told_by_its_number() {
        set_last_error(BuildError::Reserve { bytes: 4096, source: std::io::Error::from_raw_os_error(12) });
        let (text, len) = text_in(200);
        assert_eq!(&text[..len], "the system refused to reserve 4096 bytes of address space: os error 12");
        assert_eq!(last_error(), Status::OutOfMemory);
    }
}
