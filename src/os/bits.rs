//! Sets of small numbers in a word.

/// The numbers of the set bits, ascending.
pub(crate) fn bits_of(mut bits: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (bits != 0).then(|| bits.trailing_zeros());
        bits &= bits.wrapping_sub(1);
        bit
    })
}

/// Whether `len` bits in a row are set. `len` is at least one.
pub(crate) fn has_run(mut bits: u64, mut len: usize) -> bool {
    while len > 1 {
        // Each bit now stands for a run: itself, and `half` more bits above it than before.
        let half = len / 2;
        bits &= bits >> half;
        len -= half;
    }
    bits != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_bits_come_in_order() {
        assert_eq!(bits_of(0b1010_0001).collect::<Vec<_>>(), [0, 5, 7]);
        assert_eq!(bits_of(1 << 63 | 1).collect::<Vec<_>>(), [0, 63]);
        assert_eq!(bits_of(0).next(), None);
    }

    #[test]
    fn runs_of_bits_are_found_wherever_they_are() {
        for len in 1..=64 {
            for start in 0..=64 - len {
                let run = u64::MAX >> (64 - len) << start;
                // Every third bit is set besides, but no neighbour of the run.
                let others = 0x9249_2492_4924_9249 & !(run << 1 | run >> 1 | run);
                for shorter in 1..=len {
                    assert!(has_run(run | others, shorter));
                }
                assert!(len == 64 || !has_run(run | others, len + 1), "{len} bits from {start}");
            }
        }
        assert!(!has_run(0, 1));
    }
}
