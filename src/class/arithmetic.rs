//! The arithmetic of [`index`](super::index), for the fuzz targets: part of no other build.

use super::index::{Reciprocal, SizeClassIndex};

/// The smallest class of at least `size` bytes.
pub fn class_of(class_sizes: &[usize], size: usize) -> Option<usize> {
    SizeClassIndex::new(class_sizes).class_of(size)
}

/// The slot that starts at a unit, if one does. The outer `None`: the span does not divide exactly.
pub fn slot_starting_at(slot_units: u64, span_units: u64, unit: u64) -> Option<Option<u64>> {
    Reciprocal::new(slot_units, span_units).map(|reciprocal| reciprocal.slot_starting_at(unit))
}
