//! General-purpose classes: a set for those who do not know which sizes they will ask for.
//!
//! ```text
//! 64 128 192 256 320 384 448 512 | 640 768 896 1024 | 1280 1536 1792 2048 | ...
//! steps of 64 bytes              | four a doubling  | four a doubling     |
//! ```
//!
//! Up to 512 a step is a granule: a slot takes no less. Above 256 bytes a buffer is at most a quarter larger than what
//! was asked for, a tenth in the mean. Fewer classes a doubling waste more inside buffers. More strand idle buffers of
//! sizes that are not asked for any more, and 64 classes would not reach as far.
//!
//! **Capacity.** A class keeps up to 64 MiB of idle buffers, whatever their size: as much as it has room for beyond.
//! What is kept was in use before, so a large capacity costs addresses, and memory only to those who had a use for it.
//! A small one costs time: a program that frees all it has, and begins anew, gives its pages back each time and has
//! them faulted in again. glibc keeps as much before it gives back. A pool with `max_bytes` trims idle buffers before a
//! get fails, and `trim` gives back all.

use std::ops::Range;

use super::index::{GRANULE, MAX_CLASSES};
use super::ledger::MAX_BUFFER_SIZE;
use crate::error::BuildError;

/// Up to here each size is a granule more than the one before, in bytes.
const FINE_LIMIT: usize = FINE_CLASSES * GRANULE;
const FINE_CLASSES: usize = 8;
const PER_DOUBLING: usize = 4;
/// What a class keeps idle, in bytes; at least one buffer.
const KEPT_BYTES: usize = 64 << 20;

/// The buffer size of the `n`th class of the whole series.
fn size_of_nth(n: usize) -> usize {
    let Some(above) = n.checked_sub(FINE_CLASSES) else { return (n + 1) * GRANULE };
    let doubling = FINE_LIMIT << (above / PER_DOUBLING);
    doubling + (above % PER_DOUBLING + 1) * (doubling / PER_DOUBLING)
}

/// The first class of the series whose buffers hold `size` bytes, at most [`MAX_BUFFER_SIZE`].
fn first_that_holds(size: usize) -> usize {
    (0..).find(|&n| size_of_nth(n) >= size).expect("the series has no end")
}

/// Size and capacity of each class for buffers of `smallest` to `largest` bytes: the part of the series from the first
/// class that holds `smallest` to the first that holds `largest`.
pub(crate) fn general_classes(
    smallest: usize,
    largest: usize,
) -> Result<impl ExactSizeIterator<Item = (usize, usize)>, BuildError> {
    if largest == 0 || smallest > largest {
        return Err(BuildError::SizeRange { smallest, largest });
    }
    let too_large = |buffer_size| BuildError::BufferSizeTooLarge { buffer_size, limit: MAX_BUFFER_SIZE };
    if largest > MAX_BUFFER_SIZE {
        return Err(too_large(largest));
    }
    let part: Range<usize> = first_that_holds(smallest)..first_that_holds(largest) + 1;
    if part.len() > MAX_CLASSES {
        return Err(BuildError::TooManyClasses { count: part.len(), limit: MAX_CLASSES });
    }
    let last = size_of_nth(part.end - 1);
    if last > MAX_BUFFER_SIZE {
        return Err(too_large(last));
    }
    Ok(part.map(size_of_nth).map(|size| (size, (KEPT_BYTES / size).max(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(smallest: usize, largest: usize) -> Vec<usize> {
        general_classes(smallest, largest).unwrap().map(|(size, _)| size).collect()
    }

    #[test]
    fn steps_of_a_granule_and_then_four_a_doubling() {
        let expected = [
            64, 128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560, 3072,
            3584, 4096,
        ];
        assert_eq!(sizes(1, 4096), expected);
        let all = sizes(0, 4 << 20);
        assert_eq!((all.len(), all[0], all[59]), (60, 64, 4 << 20));
        assert!(all.windows(2).all(|pair| pair[0] < 512 || pair[1] * 4 <= pair[0] * 5), "{all:?}");
    }

    #[test]
    fn the_ends_hold_what_they_must_and_no_class_is_beyond_them() {
        for (smallest, largest, first, last) in [
            (64, 64, 64, 64),
            (65, 65, 128, 128),
            (512, 513, 512, 640),
            (100, 4097, 128, 5120),
            (1 << 20, 2 << 30, 1 << 20, 2 << 30),
        ] {
            let sizes = sizes(smallest, largest);
            assert_eq!((sizes[0], sizes[sizes.len() - 1]), (first, last), "{smallest} to {largest}");
        }
    }

    #[test]
    fn a_class_keeps_as_many_bytes_as_any_other_and_one_buffer_at_least() {
        for (size, capacity) in general_classes(1 << 20, 2 << 30).unwrap() {
            assert_eq!(capacity, ((64 << 20) / size).max(1), "{size}");
        }
        assert_eq!(general_classes(64, 64).unwrap().next(), Some((64, 1 << 20)));
    }

    #[test]
    fn what_makes_no_set_of_classes_is_refused() {
        let refusal = |smallest, largest| general_classes(smallest, largest).err().unwrap();
        for (smallest, largest) in [(0, 0), (2, 1), (usize::MAX, 1)] {
            let error = refusal(smallest, largest);
            assert!(matches!(error, BuildError::SizeRange { .. }), "{error:?}");
        }
        assert!(general_classes(64, 8 << 20).is_ok_and(|classes| classes.len() == 64));
        let error = refusal(64, (8 << 20) + 1);
        assert!(matches!(error, BuildError::TooManyClasses { count: 65, limit: 64 }), "{error:?}");
        // The second is held by a class of 4 GiB only, which is too large itself.
        for largest in [usize::MAX, MAX_BUFFER_SIZE - 1] {
            let error = refusal(1 << 30, largest);
            assert!(matches!(error, BuildError::BufferSizeTooLarge { .. }), "{error:?}");
        }
    }
}
