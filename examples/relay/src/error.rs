//! What can go wrong, each as one line for a person.

use std::path::PathBuf;
use std::{fmt, io};

use bytepool::ffi::status::Status;
use bytepool::{BuildError, ContextError, GetError};

/// Why the relay failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The command line makes no sense.
    Usage(String),
    /// A file cannot be opened or read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The input is a directory, a pipe or a device: it cannot be read twice, as the check at the end needs.
    NotAFile(PathBuf),
    /// The output file is the input file.
    SameFile(PathBuf),
    /// No temporary file can be made.
    Temporary {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The pool cannot be built.
    Build(BuildError),
    /// The pool has no context.
    Context(ContextError),
    /// The pool has no buffer for Rust.
    Get(GetError),
    /// The pool has no buffer for C.
    Transform(Status),
    /// No thread can be started.
    Thread(io::Error),
    /// The C++ stage failed.
    Sink {
        /// The output file.
        path: PathBuf,
        /// The text of the C++ exception.
        message: String,
    },
    /// The output, with the transform undone, is not the input.
    Differs {
        /// The output file.
        path: PathBuf,
        /// The first byte that differs, or that only one file has.
        offset: u64,
    },
    /// A double put was not refused, or not counted once.
    NotRefused {
        /// The pool's verdict on the second put, if this version of the library knows it.
        verdict: Option<Status>,
        /// Double puts counted.
        counted: u64,
    },
    /// The report cannot be printed.
    Print(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => write!(f, "{text}; --help explains"),
            Self::Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::NotAFile(path) => write!(f, "cannot relay {}: it is not a regular file", path.display()),
            Self::SameFile(path) => write!(f, "the output would overwrite the input {}", path.display()),
            Self::Temporary { path, source } => {
                write!(f, "cannot make the temporary file {}: {source}", path.display())
            }
            Self::Build(error) => write!(f, "cannot build the pool: {error}"),
            Self::Context(error) => write!(f, "the pool has no context for C: {error}"),
            Self::Get(error) => write!(f, "the pool has no buffer for Rust: {error}"),
            Self::Transform(status) => {
                write!(f, "the pool has no buffer for C: {}", status.message().to_string_lossy())
            }
            Self::Thread(error) => write!(f, "cannot start the thread for C++: {error}"),
            Self::Sink { path, message } => write!(f, "output {}: {message}", path.display()),
            Self::Differs { path, offset } => {
                write!(
                    f,
                    "output {}: with the transform undone, byte {offset} is not the input's",
                    path.display()
                )
            }
            Self::NotRefused { verdict, counted } => {
                write!(
                    f,
                    "C put a buffer twice: the verdict was {verdict:?}, and {counted} double puts were counted"
                )
            }
            Self::Print(error) => write!(f, "cannot print the report: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

impl From<ContextError> for Error {
    fn from(error: ContextError) -> Self {
        Self::Context(error)
    }
}

impl From<GetError> for Error {
    fn from(error: GetError) -> Self {
        Self::Get(error)
    }
}
