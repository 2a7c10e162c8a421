//! An outstanding buffer as the layers pass it on: where it is, and with which size it is put.

use std::ptr::NonNull;

/// Where an outstanding buffer is kept track of: by the ledger of a class, or by the registry.
///
/// One word, so that an owner that moves copies it in one piece. The slot's number is the low half. The class's number
/// stands [`CLASS_SHIFT`] bits above that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Location(u64);

/// A thread cache has the bins of all classes in a row, of so many bytes each as a power of two. So the high half of a
/// location is where the class's bin is, counted from the first.
pub(crate) const CLASS_SHIFT: u32 = 7;

impl Location {
    /// By the registry: overflow of the system allocator, oversize, or a slot's replacement. No pool has that class.
    pub(crate) const SYSTEM: Self = Self(u64::MAX);

    /// The first slot of a class.
    #[inline]
    pub(crate) const fn first_of(class: u8) -> Self {
        Self((class as u64) << (u32::BITS + CLASS_SHIFT))
    }

    /// A slot of the class whose first slot this is.
    #[inline]
    pub(crate) fn with_slot(self, slot: u32) -> Self {
        Self(self.0 | u64::from(slot))
    }

    /// The number of the class, shifted by [`CLASS_SHIFT`], and that of the slot. For [`SYSTEM`](Self::SYSTEM) it is a
    /// class that no pool has.
    #[inline]
    pub(crate) fn halves(self) -> (u32, u32) {
        ((self.0 >> u32::BITS) as u32, self.0 as u32)
    }

    /// The numbers of the class and the slot; `None` for what the registry has.
    #[inline]
    pub(crate) fn as_slot(self) -> Option<(u8, u32)> {
        let (class, slot) = self.halves();
        (self != Self::SYSTEM).then_some(((class >> CLASS_SHIFT) as u8, slot))
    }

    /// As C++ holds it.
    #[cfg(feature = "cxx")]
    #[inline]
    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    /// What [`to_bits`](Self::to_bits) gave.
    #[cfg(feature = "cxx")]
    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
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
