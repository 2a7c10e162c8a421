//! An outstanding buffer as the layers pass it on: where it is, and with which size it is put.

use std::ptr::NonNull;

/// Where an outstanding buffer is kept track of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// By the ledger of a class.
    Slot { class: u8, slot: u32 },
    /// By the registry: overflow of the system allocator, oversize, or a slot's replacement.
    System,
}

/// A buffer just got. It holds a reference to the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) data: NonNull<u8>,
    /// What it has room for, in bytes.
    pub(crate) capacity: usize,
    pub(crate) location: Location,
}

/// The size given with a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutSize {
    /// In bytes.
    Sized(usize),
    /// The caller does not know; the ledger does.
    Unsized,
}

#[cfg(feature = "capi")]
impl PutSize {
    /// In bytes; 0 if it is not known.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Sized(size) => size,
            Self::Unsized => 0,
        }
    }
}
