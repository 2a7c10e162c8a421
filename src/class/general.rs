//! General-purpose classes: a set for those who do not know which sizes they will ask for.
//!
//! ```text
//! 64 128 192 256 320 384 448 512 | 640 768 896 1024 | 1280 ... 16384 | 24576 32768 | 49152 65536 | ...
//! 16  32  48  64  80  96 112 128 | 160 192 224  256 |  320 ... 16384 | the same
//! eight steps                    | four a doubling                   | two a doubling
//! ```
//!
//! The first row is for a smallest size of 64 bytes or more: by default slots are multiples of 64. The second begins
//! below that. It pays only in a pool with an alignment of 16.
//!
//! Fewer classes waste more inside buffers. More classes strand more idle buffers of sizes that are not asked for any
//! more. And a buffer that grows bit by bit is copied each time it leaves a class: to 100 KB, 376 KB are copied in all,
//! with four classes a doubling 605 KB. Copies of large buffers are what such growth costs, so large classes are few.
//! The end of a large buffer that nobody writes to takes no memory, as its pages are never touched.
//!
//! **Capacity.** A class keeps up to 64 MiB of idle buffers, or a million. What is kept was in use before, so a large
//! capacity costs addresses, and memory only to those who had a use for it. A small one costs time: a program that
//! frees all it has, and begins anew, gives its pages back each time and has them faulted in again. glibc keeps as much
//! before it gives back. A pool with `max_bytes` trims idle buffers before a get fails, and `trim` gives back all.

use std::iter::successors;

use super::index::{GRANULE, MAX_CLASSES};
use super::ledger::MAX_BUFFER_SIZE;
use crate::error::BuildError;

/// How many classes are a step apart, before each doubling has as many classes.
const EVEN_STEPS: usize = 8;
/// A step, where the smallest size is at least this.
const STEP: usize = 64;
/// From here on a doubling has two classes, not four. In bytes.
const LARGE: usize = 16 << 10;
/// The largest class of all, in bytes.
const LARGEST: usize = 3 << 30;
const _: () = assert!(LARGEST <= MAX_BUFFER_SIZE && LARGEST * 4 / 3 > MAX_BUFFER_SIZE);
/// What a class keeps idle, in bytes; at least one buffer, and at most [`MOST_KEPT`].
const KEPT_BYTES: usize = 64 << 20;
const MOST_KEPT: usize = KEPT_BYTES / STEP;

/// The buffer sizes of all classes up to the first that holds `largest`.
fn series(step: usize, largest: usize) -> impl Iterator<Item = usize> + Clone {
    successors(Some(step), move |&size| {
        let doubling = 1 << size.ilog2();
        let next = match size {
            _ if size < EVEN_STEPS * step => size + step,
            ..LARGE => size + doubling / 4,
            LARGE.. => size + doubling / 2,
        };
        (size < largest).then_some(next)
    })
}

/// Size and capacity of each class for buffers of `smallest` to `largest` bytes: the part of the series from the first
/// class that holds `smallest` to the first that holds `largest`.
pub(crate) fn general_classes(
    smallest: usize,
    largest: usize,
) -> Result<impl Iterator<Item = (usize, usize)>, BuildError> {
    if largest == 0 || smallest > largest {
        return Err(BuildError::SizeRange { smallest, largest });
    }
    if largest > LARGEST {
        return Err(BuildError::BufferSizeTooLarge { buffer_size: largest, limit: LARGEST });
    }
    let step = if smallest < STEP { GRANULE } else { STEP };
    let classes = series(step, largest).skip_while(move |&size| size < smallest);
    match classes.clone().count() {
        ..=MAX_CLASSES => Ok(classes.map(|size| (size, (KEPT_BYTES / size).clamp(1, MOST_KEPT)))),
        count => Err(BuildError::TooManyClasses { count, limit: MAX_CLASSES }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(smallest: usize, largest: usize) -> Vec<usize> {
        general_classes(smallest, largest).unwrap().map(|(size, _)| size).collect()
    }

    #[test]
    fn even_steps_and_then_four_a_doubling_and_then_two() {
        let expected = [
            64, 128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560, 3072,
            3584, 4096,
        ];
        assert_eq!(sizes(64, 4096), expected);
        assert_eq!(sizes(13 << 10, 80_000), [14, 16, 24, 32, 48, 64, 96].map(|kib| kib << 10));
        assert_eq!(sizes(0, 500), [16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512]);
        for (smallest, count) in [(64, 44), (1, 52)] {
            let all = sizes(smallest, 4 << 20);
            assert_eq!((all.len(), all.last()), (count, Some(&(4 << 20))));
            let most = |size| match size {
                ..512 => size + (size / 4).max(64),
                512..LARGE => size + size / 4,
                LARGE.. => size + size / 2,
            };
            assert!(all.windows(2).all(|pair| pair[1] <= most(pair[0])), "{all:?}");
        }
    }

    /// A buffer that grows by small steps to 100 KB is copied as it leaves each class. With four classes a doubling
    /// these copies are 605 KB, and alone take longer than malloc takes for all.
    #[test]
    fn a_buffer_that_grows_bit_by_bit_is_copied_at_most_four_times_over() {
        for smallest in [16, 64] {
            let copied: usize = sizes(smallest, 100_000).into_iter().filter(|&size| size < 100_000).sum();
            assert!(copied < 400_000, "{copied}");
        }
    }

    #[test]
    fn the_ends_hold_what_they_must_and_no_class_is_beyond_them() {
        for (smallest, largest, first, last) in [
            (1, 1, 16, 16),
            (17, 33, 32, 48),
            (64, 64, 64, 64),
            (65, 65, 128, 128),
            (512, 513, 512, 640),
            (100, 4097, 128, 5120),
            (1 << 20, 3 << 30, 1 << 20, 3 << 30),
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
        assert_eq!(general_classes(1, 64).unwrap().next(), Some((16, 1 << 20)));
    }

    #[test]
    fn what_makes_no_set_of_classes_is_refused() {
        let refusal = |smallest, largest| general_classes(smallest, largest).err().unwrap();
        for (smallest, largest) in [(0, 0), (2, 1), (usize::MAX, 1)] {
            let error = refusal(smallest, largest);
            assert!(matches!(error, BuildError::SizeRange { .. }), "{error:?}");
        }
        for largest in [usize::MAX, LARGEST + 1] {
            let error = refusal(1 << 30, largest);
            assert!(matches!(error, BuildError::BufferSizeTooLarge { .. }), "{error:?}");
        }
        assert_eq!((sizes(64, LARGEST).len(), sizes(1, 256 << 20).len()), (63, 64));
        let error = refusal(1, (256 << 20) + 1);
        assert!(matches!(error, BuildError::TooManyClasses { count: 65, limit: 64 }), "{error:?}");
    }
}
