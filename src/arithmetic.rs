//! The arithmetic of `size_class.rs`, for the fuzz targets: part of no other build.

use crate::size_class::{Reciprocal, SizeClassIndex};

/// The smallest class of at least `size` bytes.
pub fn class_of(class_sizes: &[usize], size: usize) -> Option<usize> {
    SizeClassIndex::new(class_sizes).class_of(size)
}

/// The slot that starts at a granule, if one does; `None` outside if a span is too large to divide exactly.
pub fn slot_starting_at(slot_granules: u64, span_granules: u64, granule: u64) -> Option<Option<u64>> {
    Reciprocal::new(slot_granules, span_granules).map(|reciprocal| reciprocal.slot_starting_at(granule))
}
