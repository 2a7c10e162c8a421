//! The error types. A message names the value and the limit it broke, where there are any.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::os::memory::OutOfMemory;

/// Why [`Builder::build`](crate::Builder::build) refused a configuration.
///
/// No pool was made, and nothing is left of it.
///
/// Its text names the value and the limit that it broke, if there are any.
///
/// ```
/// use bytepool::{BuildError, Pool};
///
/// let refused = Pool::builder().size_class(512, 10).alignment(48).build().unwrap_err();
/// assert!(matches!(refused, BuildError::Alignment { alignment: 48, .. }));
/// assert_eq!(refused.to_string(), "an alignment of 48 bytes is not a power of two up to 2097152");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// A size class of zero bytes.
    ZeroBufferSize {
        /// Which class, counted from 0 as given.
        index: usize,
    },
    /// A size class without buffers.
    ZeroCapacity {
        /// Its buffer size in bytes.
        buffer_size: usize,
    },
    /// Two classes of one size, after rounding.
    DuplicateBufferSize {
        /// The size in bytes.
        buffer_size: usize,
    },
    /// General-purpose classes from a size to a smaller one, or to 0.
    SizeRange {
        /// The smallest size in bytes.
        smallest: usize,
        /// The largest size in bytes.
        largest: usize,
    },
    /// More classes than a pool can have.
    TooManyClasses {
        /// How many were given.
        count: usize,
        /// The most a pool can have.
        limit: usize,
    },
    /// A class of larger buffers than a pool can keep, or than the general-purpose classes go. Gets of larger buffers
    /// are oversize.
    BufferSizeTooLarge {
        /// The size in bytes, after rounding.
        buffer_size: usize,
        /// The largest, in bytes.
        limit: usize,
    },
    /// More buffers in a class than a pool can number.
    CapacityTooLarge {
        /// The class's buffer size in bytes.
        buffer_size: usize,
        /// Its capacity in buffers.
        capacity: usize,
        /// The largest, in buffers.
        limit: usize,
    },
    /// An alignment that is not a power of two, or too large.
    Alignment {
        /// The alignment in bytes.
        alignment: usize,
        /// The largest, in bytes.
        limit: usize,
    },
    /// The classes together exceed the address space a pool can have.
    AddressSpace {
        /// What they would need, in bytes; `usize::MAX` if that overflows.
        bytes: usize,
        /// The most, in bytes.
        limit: usize,
    },
    /// The system refused to reserve the address space.
    Reserve {
        /// How much, in bytes.
        bytes: usize,
        /// What the system said.
        source: io::Error,
    },
    /// No memory for the pool's own tables.
    OutOfMemory {
        /// How much was asked for, in bytes.
        bytes: usize,
    },
    /// The slots of a pinned pool exceed its `max_bytes`.
    PinnedBeyondLimit {
        /// What they take together, in bytes.
        pinned: usize,
        /// The pool's `max_bytes`.
        limit: usize,
    },
    /// The system has no memory for the slots of a pinned pool.
    Pin {
        /// What they take together, in bytes.
        bytes: usize,
    },
    /// More pools in this process than can be told apart.
    TooManyPools {
        /// The most.
        limit: usize,
    },
}

impl From<OutOfMemory> for BuildError {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory { bytes: error.bytes }
    }
}

impl BuildError {
    /// The text of [`Reserve`](Self::Reserve) without what the system said.
    pub(crate) fn refused_to_reserve(bytes: usize) -> impl fmt::Display {
        struct Refused(usize);
        impl fmt::Display for Refused {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "the system refused to reserve {} bytes of address space", self.0)
            }
        }
        Refused(bytes)
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroBufferSize { index } => {
                write!(f, "size class {index} has buffers of 0 bytes; the least is 1")
            }
            Self::ZeroCapacity { buffer_size } => {
                write!(f, "the class of {buffer_size} bytes has a capacity of 0 buffers; the least is 1")
            }
            Self::DuplicateBufferSize { buffer_size } => {
                write!(
                    f,
                    "two classes have buffers of {buffer_size} bytes (after rounding); sizes must differ"
                )
            }
            Self::SizeRange { smallest, largest } => {
                write!(f, "there are no general-purpose classes for sizes from {smallest} to {largest} bytes")
            }
            Self::TooManyClasses { count, limit } => {
                write!(f, "{count} size classes exceed the limit of {limit}")
            }
            Self::BufferSizeTooLarge { buffer_size, limit } => {
                write!(
                    f,
                    "a class of {buffer_size} bytes (after rounding) exceeds the limit of {limit} bytes"
                )
            }
            Self::CapacityTooLarge { buffer_size, capacity, limit } => write!(
                f,
                "the class of {buffer_size} bytes has a capacity of {capacity} buffers, above the limit of {limit}"
            ),
            Self::Alignment { alignment, limit } => {
                write!(f, "an alignment of {alignment} bytes is not a power of two up to {limit}")
            }
            Self::AddressSpace { bytes, limit } => {
                write!(f, "the classes need {bytes} bytes of address space, above the limit of {limit}")
            }
            Self::Reserve { bytes, source } => {
                write!(f, "{}: {source}", Self::refused_to_reserve(*bytes))
            }
            Self::OutOfMemory { bytes } => {
                write!(f, "no memory for {bytes} bytes of the pool's own tables")
            }
            Self::PinnedBeyondLimit { pinned, limit } => {
                write!(f, "{pinned} bytes of pinned slots exceed the pool's limit of {limit} bytes")
            }
            Self::Pin { bytes } => write!(f, "the system has no memory for {bytes} bytes of pinned slots"),
            Self::TooManyPools { limit } => write!(f, "this process has its limit of {limit} pools"),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Reserve { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why a get failed.
///
/// No buffer was handed out.
///
/// Its text names the figures. A failed get of any language counts in
/// [`Stats::limit_failures`](crate::Stats::limit_failures) if the limit was the reason.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytepool::{GetError, Pool};
///
/// let pool = Pool::builder().size_class(4096, 10).max_bytes(4096).build()?;
/// let _buffer = pool.get(4096)?;
/// match pool.get(4096) {
///     Err(GetError::Limit { limit, mapped, .. }) => assert_eq!((limit, mapped), (4096, 4096)),
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GetError {
    /// The pool is closed, or the context that asked was freed.
    Closed,
    /// The buffer would take the pool over its `max_bytes`, also after idle memory was given up.
    Limit {
        /// The pool's `max_bytes`.
        limit: usize,
        /// Mapped bytes at that time.
        mapped: usize,
        /// The bytes this get would add.
        requested: usize,
    },
    /// The buffer would take a pinned pool over its `max_bytes`. Its idle slots are never given up.
    Pinned {
        /// The bytes of its slots.
        pinned: usize,
        /// The pool's `max_bytes`.
        limit: usize,
        /// Mapped bytes at that time, the slots included.
        mapped: usize,
        /// The bytes this get would add.
        requested: usize,
    },
    /// Until the deadline there was no room below `max_bytes`, or others were first.
    Timeout {
        /// The timeout that was given.
        timeout: Duration,
        /// The pool's `max_bytes`.
        limit: usize,
        /// Mapped bytes at the deadline.
        mapped: usize,
        /// The bytes this get would add.
        requested: usize,
    },
    /// The system has no memory for the buffer, or for the place of a waiter in the queue.
    OutOfMemory {
        /// The bytes that could not be had: those of the buffer, of a waiter's place in the queue, or of a list.
        requested: usize,
    },
    /// An alignment that is not a power of two.
    Alignment {
        /// The alignment in bytes.
        alignment: usize,
    },
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the pool is closed, or this context was freed"),
            Self::Limit { limit, mapped, requested } => write!(
                f,
                "{requested} more bytes would exceed the pool's limit of {limit} bytes: {mapped} are mapped{}",
                if requested > limit { "" } else { ", none of them can be given up" }
            ),
            Self::Pinned { pinned, limit, mapped, requested } => write!(
                f,
                "{requested} more bytes would exceed the pool's limit of {limit} bytes: {mapped} are mapped, {pinned} of them are pinned and never given up"
            ),
            Self::Timeout { timeout, limit, mapped, requested } => write!(
                f,
                "no room for {requested} more bytes in {timeout:?}: {mapped} of the pool's limit of {limit} bytes are mapped"
            ),
            Self::OutOfMemory { requested } => {
                write!(f, "the system has no memory for {requested} bytes")
            }
            Self::Alignment { alignment } => {
                write!(f, "an alignment of {alignment} bytes is not a power of two")
            }
        }
    }
}

impl std::error::Error for GetError {}

/// The I/O error holds the [`GetError`]. For [`GetError::OutOfMemory`] it has the kind only, because there may be no
/// memory to hold more.
///
/// ```
/// let error = std::io::Error::from(bytepool::GetError::Closed);
/// assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
/// ```
impl From<GetError> for io::Error {
    fn from(error: GetError) -> Self {
        let kind = match error {
            GetError::OutOfMemory { .. } => return io::ErrorKind::OutOfMemory.into(),
            GetError::Closed => io::ErrorKind::BrokenPipe,
            GetError::Limit { .. } | GetError::Pinned { .. } => io::ErrorKind::QuotaExceeded,
            GetError::Timeout { .. } => io::ErrorKind::TimedOut,
            GetError::Alignment { .. } => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// Misuse: a pointer was given to the pool that it may not take.
///
/// Nothing was changed, and the pool counted it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytepool::{Misuse, Pool};
///
/// let pool = Pool::builder().size_class(512, 10).size_class(4096, 10).build()?;
/// let data = pool.get_raw(100)?;
/// // SAFETY:
/// // - the buffer is this caller's, and the put with a size of another class is refused
/// let refused = unsafe { pool.put_raw(data, 4000) }.unwrap_err();
/// assert!(matches!(refused, Misuse::SizeMismatch { size: 4000, requested: 100, buffer_size: 512, .. }));
/// // SAFETY:
/// // - got above, and put once
/// unsafe { pool.put_raw(data, 100)? };
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misuse {
    /// Not the start of a buffer of this pool. A second put of a buffer that came from the system allocator is this,
    /// too.
    ForeignPointer {
        /// The address.
        address: usize,
    },
    /// The buffer is not out as a raw pointer: it was put already, never handed out, or has a `PooledBuffer` or
    /// sharers.
    DoublePut {
        /// The address.
        address: usize,
        /// Its class's buffer size, or an oversize buffer's own, in bytes.
        buffer_size: usize,
    },
    /// The size is neither the one asked for nor one of the same class.
    SizeMismatch {
        /// The address.
        address: usize,
        /// The size given, in bytes.
        size: usize,
        /// The size the buffer was asked for with, in bytes.
        requested: usize,
        /// The class's buffer size in bytes; the buffer's own for an oversize one.
        buffer_size: usize,
    },
}

impl Misuse {
    /// The buffer size of the class that the pointer belongs to, in bytes, or an oversize buffer's own. It is 0 if the
    /// pointer has no owner here.
    pub fn buffer_size(&self) -> usize {
        match *self {
            Self::ForeignPointer { .. } => 0,
            Self::DoublePut { buffer_size, .. } | Self::SizeMismatch { buffer_size, .. } => buffer_size,
        }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ForeignPointer { address } => {
                write!(f, "{address:#x} is not the start of a buffer of this pool")
            }
            Self::DoublePut { address, buffer_size } => {
                write!(
                    f,
                    "the buffer at {address:#x} ({buffer_size} bytes) is not out as a raw pointer: put twice, or owned by a PooledBuffer"
                )
            }
            Self::SizeMismatch { address, size, requested, buffer_size } => write!(
                f,
                "the buffer at {address:#x} ({buffer_size} bytes) was asked for with {requested} bytes, not {size}"
            ),
        }
    }
}

impl std::error::Error for Misuse {}

/// Why a reallocation failed.
///
/// The old buffer is as it was, and still the caller's.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytepool::{GetError, Pool, ReallocError};
///
/// let pool = Pool::builder().size_class(512, 10).max_bytes(4096).build()?;
/// let data = pool.get_raw(512)?;
/// // SAFETY:
/// // - the buffer is this caller's; the reallocation fails, and the buffer is put once
/// unsafe {
///     let failed = pool.realloc_raw(data, 8192).unwrap_err();
///     assert!(matches!(failed, ReallocError::Get(GetError::Limit { .. })));
///     pool.put_raw(data, 512)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReallocError {
    /// No new buffer could be had.
    Get(GetError),
    /// The old pointer is not an outstanding raw buffer of this pool.
    Misuse(Misuse),
}

impl From<GetError> for ReallocError {
    fn from(error: GetError) -> Self {
        Self::Get(error)
    }
}

impl From<Misuse> for ReallocError {
    fn from(misuse: Misuse) -> Self {
        Self::Misuse(misuse)
    }
}

impl fmt::Display for ReallocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(error) => error.fmt(f),
            Self::Misuse(misuse) => misuse.fmt(f),
        }
    }
}

impl std::error::Error for ReallocError {}

/// A [`PooledBuffer`](crate::PooledBuffer) was to be made longer than its capacity.
///
/// It is as it was.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = bytepool::Pool::builder().size_class(512, 10).build()?;
/// let mut buffer = pool.get(100)?;
/// let error = buffer.resize(513).unwrap_err();
/// assert_eq!((error.requested, error.capacity), (513, 512));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResizeError {
    /// The length asked for, in bytes.
    pub requested: usize,
    /// The buffer's capacity in bytes.
    pub capacity: usize,
}

impl fmt::Display for ResizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a length of {} bytes exceeds the buffer's capacity of {}", self.requested, self.capacity)
    }
}

impl std::error::Error for ResizeError {}
