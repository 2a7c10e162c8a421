//! Size to size class, and offset to slot: the two questions of the fast path, both in constant time.
//!
//! Pure arithmetic over numbers fixed when the pool is built. Nothing here touches memory that a
//! user can reach.

/// The most size classes a pool may have.
pub(crate) const MAX_CLASSES: usize = 64;

/// Slots start at multiples of this many bytes, so that no two buffers share a cache line.
pub(crate) const GRANULE: usize = 64;

/// Steps of [`GRANULE`] bytes that sizes are looked up in. A power of two.
pub(crate) const FINE_STEPS: usize = 512;
/// Larger sizes get the step of a smaller one, in bytes.
const FINE_LIMIT: usize = (FINE_STEPS - 1) * GRANULE;
/// Above, each doubling of the size has this many steps.
const COARSE_PER_DOUBLING: usize = 16;
const COARSE_SHIFT: u32 = COARSE_PER_DOUBLING.trailing_zeros();
const COARSE_EXPONENT: u32 = FINE_LIMIT.ilog2();
/// Buffer sizes stay below 2^32, so coarse steps end there.
const COARSE_STEPS: usize = (32 - COARSE_EXPONENT as usize) * COARSE_PER_DOUBLING;

/// The fine step of a size, any size: those that are too large come round to the steps of smaller ones. The class of
/// such a step fits the size only if it is the size's, too, for then no class lies between the two sizes.
#[inline(always)]
pub(crate) fn fine_step_of(size: usize) -> usize {
    size.wrapping_add(GRANULE - 1) / GRANULE % FINE_STEPS
}

/// The coarse step of a size above [`FINE_LIMIT`] and below 2^32: sixteenths of a doubling.
fn coarse_step_of(size: usize) -> usize {
    let last = size - 1;
    let exponent = last.ilog2();
    let mantissa = (last >> (exponent - COARSE_SHIFT)) & (COARSE_PER_DOUBLING - 1);
    (exponent - COARSE_EXPONENT) as usize * COARSE_PER_DOUBLING + mantissa
}

/// The smallest size of a coarse step, in bytes.
fn least_of_coarse(step: usize) -> usize {
    let doubling = 1 << (step / COARSE_PER_DOUBLING + COARSE_EXPONENT as usize);
    doubling + step % COARSE_PER_DOUBLING * (doubling / COARSE_PER_DOUBLING) + 1
}

/// For each fine step, the class that fits the step's smallest size; the number of classes if none does.
pub(crate) type StepTable = [u8; FINE_STEPS];

/// For each step, the class that fits its smallest size; the steps ascend as the classes do.
fn table<const STEPS: usize>(buffer_sizes: &[usize], least_of: impl Fn(usize) -> usize) -> [u8; STEPS] {
    let mut class = 0;
    std::array::from_fn(|step| {
        while buffer_sizes.get(class).is_some_and(|&bound| bound < least_of(step)) {
            class += 1;
        }
        class as u8
    })
}

/// Finds the smallest class whose buffers hold a size.
///
/// A table has, for each step of sizes, the class that fits the step's smallest size. One compare
/// says whether it fits this size too; if not, the class bound lies inside the step and the next
/// class is tried. Only a step that holds several bounds is walked further.
pub(crate) struct SizeClassIndex {
    fine: StepTable,
    coarse: [u8; COARSE_STEPS],
    /// Ascending; one per class.
    buffer_sizes: [usize; MAX_CLASSES],
    largest: usize,
}

impl SizeClassIndex {
    /// `buffer_sizes`: strictly ascending, at most [`MAX_CLASSES`], each below 2^32.
    pub(crate) fn new(buffer_sizes: &[usize]) -> Self {
        assert!(buffer_sizes.len() <= MAX_CLASSES, "{} classes exceed {MAX_CLASSES}", buffer_sizes.len());
        assert!(buffer_sizes.is_sorted_by(|a, b| a < b), "class sizes must ascend");
        let largest = buffer_sizes.last().copied().unwrap_or(0);
        assert!(largest < 1 << 32, "a class of {largest} bytes exceeds 4 GiB");

        let fine = table(buffer_sizes, |step| (step * GRANULE).saturating_sub(GRANULE - 1));
        let coarse = table(buffer_sizes, least_of_coarse);
        let mut sizes = [0; MAX_CLASSES];
        sizes[..buffer_sizes.len()].copy_from_slice(buffer_sizes);
        Self { fine, coarse, buffer_sizes: sizes, largest }
    }

    /// For each fine step, the class to start looking at.
    pub(crate) fn table(&self) -> &StepTable {
        &self.fine
    }

    /// The largest class's buffer size in bytes; 0 without classes.
    pub(crate) fn largest(&self) -> usize {
        self.largest
    }

    /// The smallest class with buffers of at least `size` bytes; `None` if even the largest is too small.
    #[inline]
    pub(crate) fn class_of(&self, size: usize) -> Option<usize> {
        // The largest is 0 without classes.
        if size > self.largest || self.largest == 0 {
            return None;
        }
        let first = if size <= FINE_LIMIT {
            self.fine[fine_step_of(size)]
        } else {
            self.coarse[coarse_step_of(size)]
        };
        let mut class = usize::from(first);
        while self.buffer_sizes[class] < size {
            class += 1;
        }
        Some(class)
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
    /// For slots of `slot_units` units (at least 2) in a span of `span_units`. `None` if the arithmetic would not be
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
        for size in every_small.chain(around_bounds).chain(around_powers).chain([largest + 1, usize::MAX]) {
            let expected = class_by_search(sizes, size);
            assert_eq!(index.class_of(size), expected, "size {size} in {sizes:?}");
            // As thread caches look, whatever the size.
            let found = usize::from(index.table()[fine_step_of(size)]);
            if sizes.get(found).is_some_and(|&buffer_size| size <= buffer_size) {
                assert_eq!(Some(found), expected, "size {size} in {sizes:?}, by its fine step");
            } else {
                assert!(size > FINE_LIMIT || expected != Some(found), "size {size} in {sizes:?} was missed");
            }
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
        for slot in [2u64, 3, 63, 64, 65, 49_152, (1 << 26) - 1, 1 << 26, (1 << 27) - 1, 1 << 27] {
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
