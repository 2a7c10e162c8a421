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

/// A [`Location`] in one word: the class's number above the slot's. An owner has it, for it moves: what was stored in
/// parts is slow to be copied whole.
#[derive(Clone, Copy)]
pub(crate) struct PackedLocation(u64);

impl PackedLocation {
    /// Where the system has the buffer, the class is one that no pool has.
    const SYSTEM: Self = Self(u64::MAX);

    #[inline]
    pub(crate) fn new(class: u32, slot: u32) -> Self {
        Self(u64::from(class) << 32 | u64::from(slot))
    }

    /// The numbers of the class and the slot.
    #[inline]
    pub(crate) fn class_and_slot(self) -> (u32, u32) {
        ((self.0 >> 32) as u32, self.0 as u32)
    }

    #[inline]
    pub(crate) fn unpack(self) -> Location {
        match self.class_and_slot() {
            (u32::MAX, _) => Location::System,
            (class, slot) => Location::Slot { class: class as u8, slot },
        }
    }
}

impl From<Location> for PackedLocation {
    #[inline]
    fn from(location: Location) -> Self {
        match location {
            Location::Slot { class, slot } => Self::new(class.into(), slot),
            Location::System => Self::SYSTEM,
        }
    }
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
