//! Size to size class, and offset to slot: the two questions of the fast path. The second takes constant time, and so
//! does the first, unless many classes lie within one step.
//!
//! Pure arithmetic over numbers fixed when the pool is built. Nothing here touches memory that a
//! user can reach.

/// The most size classes a pool may have.
pub(crate) const MAX_CLASSES: usize = 64;

/// Slots are multiples of this many bytes, or of the pool's alignment if that is more.
pub(crate) const GRANULE: usize = 16;

/// Each doubling of the size has this many steps, by the four bits after the leading one.
const PER_DOUBLING: usize = 16;
/// How many steps there are: enough for all buffer sizes, which stay below 2^32. A power of two.
pub(crate) const STEPS: usize = 32 * PER_DOUBLING;
/// The step of size 1. The 16 steps of its doubling are the last of the table. Size 2 has step 0, and steps ascend from
/// there.
const STEP_OF_ONE: usize = STEPS - PER_DOUBLING;

/// The step of a size, any size. Sizes of 2^32 and more share the steps of smaller ones: 2^32 has that of 1. Size 0 has
/// that of 2.
///
/// A double that holds the size begins with the sign, eleven bits of exponent, and the four bits after the leading one.
/// So the step is the same few instructions for small and large sizes.
#[inline(always)]
pub(crate) fn step_of(size: usize) -> usize {
    first_16_bits(size as i64) % STEPS
}

/// The first 16 bits of a number as a double.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn first_16_bits(number: i64) -> usize {
    ((number as f64).to_bits() >> 48) as usize
}

/// The first 16 bits of a number as a double. Compilers move all 64 of them, and clear the register before.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn first_16_bits(number: i64) -> usize {
    let bits: u32;
    // SAFETY:
    // - registers only, and flags: a conversion that rounds, of a size above 2^53, notes that in one
    unsafe {
        std::arch::asm!(
            "cvtsi2sd {double}, {number}",
            "pextrw {bits:e}, {double}, 3",
            number = in(reg) number,
            double = out(xmm_reg) _,
            bits = lateout(reg) bits,
            options(pure, nomem, nostack),
        );
    }
    bits as usize
}

/// The smallest size of a step, in bytes.
fn least_of(step: usize) -> usize {
    match step {
        0 => 0,
        STEP_OF_ONE.. => 1,
        _ => {
            let leading = PER_DOUBLING + step % PER_DOUBLING;
            (leading << (step / PER_DOUBLING + 1)).div_ceil(PER_DOUBLING)
        }
    }
}

/// Finds the smallest class whose buffers hold a size.
///
/// A table has, for each step of sizes, the class that fits the step's smallest size. One compare says whether it fits
/// this size too. If not, a class bound lies inside the step. Then the next class is tried.
pub(crate) struct SizeClassIndex {
    /// The number of classes where none fits.
    table: [u8; STEPS],
    /// Ascending; one per class.
    buffer_sizes: [usize; MAX_CLASSES],
    classes: usize,
}

impl SizeClassIndex {
    /// `buffer_sizes`: strictly ascending, at most [`MAX_CLASSES`], each below 2^32.
    pub(crate) fn new(buffer_sizes: &[usize]) -> Self {
        let classes = buffer_sizes.len();
        assert!(classes <= MAX_CLASSES, "{classes} classes exceed {MAX_CLASSES}");
        assert!(buffer_sizes.is_sorted_by(|a, b| a < b), "class sizes must ascend");
        let largest = buffer_sizes.last().copied().unwrap_or(0);
        assert!(largest < 1 << 32, "a class of {largest} bytes exceeds 4 GiB");

        let mut index = Self { table: [0; STEPS], buffer_sizes: [0; MAX_CLASSES], classes };
        index.buffer_sizes[..classes].copy_from_slice(buffer_sizes);
        let mut class = 0;
        for step in 0..STEPS {
            class = index.first_from(if step == STEP_OF_ONE { 0 } else { class }, least_of(step));
            index.table[step] = class as u8;
        }
        index
    }

    /// For each step, the class to try first; the number of classes if none fits.
    pub(crate) fn table(&self) -> &[u8; STEPS] {
        &self.table
    }

    /// The smallest class with buffers of at least `size` bytes; `None` if even the largest is too small.
    #[inline]
    pub(crate) fn class_of(&self, size: usize) -> Option<usize> {
        let class = self.first_from(usize::from(self.table[step_of(size)]), size);
        (class < self.classes).then_some(class)
    }

    /// The first class from this one on that holds a size; the number of classes if none does.
    fn first_from(&self, mut class: usize, size: usize) -> usize {
        while class < self.classes && self.buffer_sizes[class] < size {
            class += 1;
        }
        class
    }
}

/// Offsets are divided by slot sizes in units of this many bytes: at least two to a slot, as [`Reciprocal`] needs.
pub(crate) const UNIT: usize = GRANULE / 2;

/// Divides unit numbers by a fixed slot size with one multiplication.
///
/// With `g` units per slot and `m = ceil(2^64 / g)`, the product `x * m` has the slot in its high half, and its low
/// half is below `m` exactly when `x` is the first unit of that slot. Proof: `m = (2^64 + e) / g` with `0 <= e < g`;
/// for `x = slot * g + r` the product is `slot * 2^64 + slot * e + r * m`. While `(slot + 1) * e < m`, the rest
/// `slot * e + r * m` is below `m` for `r = 0`, at least `m` for `r >= 1`, and below `2^64` for `r < g`, as
/// `g * m = 2^64 + e`.
/// [`Reciprocal::new`] refuses spans that break the condition.
#[derive(Clone, Copy)]
pub(crate) struct Reciprocal {
    multiplier: u64,
}

impl Reciprocal {
    /// For slots of `slot_units` units, at least 2, in a span of `span_units`. `None` if the arithmetic would not be
    /// exact over the whole span.
    pub(crate) fn new(slot_units: u64, span_units: u64) -> Option<Self> {
        assert!(slot_units >= 2, "a slot of {slot_units} units has less than a granule");
        let multiplier = u64::MAX / slot_units + 1;
        let excess = u128::from(multiplier) * u128::from(slot_units) - (1 << 64);
        let slots = u128::from(span_units.div_ceil(slot_units));
        (slots * excess < u128::from(multiplier)).then_some(Self { multiplier })
    }

    /// Finds slot 0 nowhere: for a span without units.
    pub(crate) const fn none() -> Self {
        Self { multiplier: 0 }
    }

    /// The slot that starts at unit `unit`; `None` if no slot starts there.
    #[inline(always)]
    pub(crate) fn slot_starting_at(self, unit: u64) -> Option<u64> {
        let (low, high) = wide_product(unit, self.multiplier);
        (low < self.multiplier).then_some(high)
    }
}

/// The low and the high half of a product.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn wide_product(a: u64, b: u64) -> (u64, u64) {
    let product = u128::from(a) * u128::from(b);
    (product as u64, (product >> 64) as u64)
}

/// The low and the high half of a product. Compilers copy `b` to the register of `a`, once more than needed.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn wide_product(a: u64, b: u64) -> (u64, u64) {
    let (low, high);
    // SAFETY:
    // - one multiplication of registers, which changes the flags
    unsafe {
        std::arch::asm!(
            "mul {b}",
            b = in(reg) b,
            inout("rax") a => low,
            out("rdx") high,
            options(pure, nomem, nostack),
        );
    }
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, read literally.
    fn class_by_search(sizes: &[usize], size: usize) -> Option<usize> {
        sizes.iter().position(|&bound| bound >= size)
    }

    fn check(sizes: &[usize]) {
        let index = SizeClassIndex::new(sizes);
        let largest = sizes.last().copied().unwrap_or(0);
        let every_small = 0..=70_000;
        let around_bounds = sizes.iter().flat_map(|&s| s.saturating_sub(3)..s + 4);
        let around_powers = (14..34).flat_map(|e| (1usize << e) - 3..(1usize << e) + 4);
        let ends = [largest + 1, 1 << 53, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, usize::MAX];
        for size in every_small.chain(around_bounds).chain(around_powers).chain(ends) {
            assert_eq!(index.class_of(size), class_by_search(sizes, size), "size {size} in {sizes:?}");
        }
    }

    #[test]
    fn class_of_agrees_with_a_search_for_any_set_of_classes() {
        check(&[]);
        check(&[1]);
        check(&[352, 456, 552]);
        check(&[512, 4 << 10, 16 << 10]);
        check(&[16 << 10, (16 << 10) + 1, (16 << 10) + 2, 1 << 20, (1 << 32) - 3]);
        check(&(1..=64).collect::<Vec<_>>());
        check(&(1..=64).map(|n| n * 1000).collect::<Vec<_>>());
        check(&(0..32).map(|e| 1usize << e).collect::<Vec<_>>());
        check(&(1..=64).map(|n| (3 << 20) + n).collect::<Vec<_>>());
    }

    #[test]
    fn a_size_of_a_class_is_found_at_the_first_try_or_the_second() {
        // How many classes are tried in vain at most, where buffers of just the classes' sizes are got.
        let tries = |sizes: &[usize]| {
            let index = SizeClassIndex::new(sizes);
            let in_vain = |(class, &size): (usize, _)| class - usize::from(index.table()[step_of(size)]);
            sizes.iter().enumerate().map(in_vain).max()
        };
        assert_eq!(tries(&[512, 4 << 10, 16 << 10]), Some(0));
        assert_eq!(tries(&(2..32).map(|e| 1 << e).collect::<Vec<_>>()), Some(0));
        assert_eq!(tries(&[64 << 10, 80 << 10, 96 << 10, 112 << 10, 128 << 10]), Some(0));
        assert_eq!(tries(&(1..=64).map(|n| n * 16).collect::<Vec<_>>()), Some(1));
        assert_eq!(tries(&[1500, 1518, 9000, 9018]), Some(1));
    }

    #[test]
    fn reciprocal_is_exact_for_every_unit_of_small_spans() {
        for slot in 2..=130u64 {
            let span = slot * 40;
            let reciprocal = Reciprocal::new(slot, span).unwrap();
            for unit in 0..span {
                let expected = (unit % slot == 0).then_some(unit / slot);
                assert_eq!(reciprocal.slot_starting_at(unit), expected, "unit {unit}, slot {slot}");
            }
        }
    }

    #[test]
    fn reciprocal_is_exact_at_the_ends_of_large_spans() {
        for slot in [2u64, 3, 63, 64, 65, 49_152, (1 << 26) - 1, 1 << 26, (1 << 29) - 1, 1 << 29] {
            // The largest number of slots that new() accepts, by halving.
            let (mut slots, mut step) = (0u64, 1u64 << 31);
            while step > 0 {
                if Reciprocal::new(slot, (slots + step) * slot).is_some() {
                    slots += step;
                }
                step /= 2;
            }
            let reciprocal = Reciprocal::new(slot, slots * slot).unwrap();
            for start in [0, slots / 2, slots - 1].map(|s| s * slot) {
                for unit in (start..start + slot.min(70)).chain(start + slot - slot.min(70)..start + slot) {
                    let expected = (unit % slot == 0).then_some(unit / slot);
                    assert_eq!(reciprocal.slot_starting_at(unit), expected, "unit {unit}, slot {slot}");
                }
            }
        }
    }

    #[test]
    fn reciprocal_refuses_what_it_cannot_divide_exactly() {
        let slot = (1 << 26) + 1;
        assert!(Reciprocal::new(slot, slot * (1 << 30)).is_none());
        assert!(Reciprocal::new(slot, slot * 1000).is_some());
        assert!(Reciprocal::new(1 << 26, 1 << 39).is_some(), "a power of two leaves no excess");
    }
}
