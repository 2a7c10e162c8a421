//! Size to class and offset to slot, against their definitions.

#![no_main]

use arbitrary::Arbitrary;
use bytepool::arithmetic::{class_of, slot_starting_at};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Numbers {
    class_sizes: Vec<u32>,
    sizes: Vec<Size>,
    slot_granules: u32,
    span_granules: u64,
    granules: Vec<Granule>,
}

#[derive(Debug, Arbitrary)]
enum Size {
    Any(u64),
    Near(u8, i8),
}

#[derive(Debug, Arbitrary)]
enum Granule {
    Any(u64),
    /// Near the start of a slot.
    Near(u64, i8),
}

/// Spans that a pool can have are at most 16 TiB of 64-byte granules.
const MAX_SPAN: u64 = 1 << 38;
/// Buffers stay below 4 GiB; alignment makes slots at most 2 MiB larger.
const MAX_SLOT: u64 = (1 << 26) + (1 << 15);

fuzz_target!(|numbers: Numbers| {
    let mut class_sizes: Vec<usize> = numbers.class_sizes.iter().map(|&size| size as usize).collect();
    class_sizes.sort_unstable();
    class_sizes.dedup();
    class_sizes.truncate(64);
    let near = |class: u8, delta: i8| {
        let bound = class_sizes.get(usize::from(class) % class_sizes.len().max(1));
        bound.copied().unwrap_or(0).saturating_add_signed(delta.into())
    };
    for size in numbers.sizes {
        let size = match size {
            Size::Any(size) => size as usize,
            Size::Near(class, delta) => near(class, delta),
        };
        let expected = class_sizes.iter().position(|&bound| bound >= size);
        assert_eq!(class_of(&class_sizes, size), expected, "{size} in {class_sizes:?}");
    }

    let slot = u64::from(numbers.slot_granules) % MAX_SLOT + 1;
    let span = numbers.span_granules % (MAX_SPAN + 1);
    for granule in numbers.granules {
        let granule = match granule {
            Granule::Any(granule) => granule % span.max(1),
            Granule::Near(number, delta) => {
                let start = number % (span / slot + 1) * slot;
                start.saturating_add_signed(delta.into()).min(span.saturating_sub(1))
            }
        };
        let Some(found) = slot_starting_at(slot, span, granule) else {
            panic!("no reciprocal for slots of {slot} in {span} granules");
        };
        let expected = granule.is_multiple_of(slot).then_some(granule / slot);
        assert_eq!(found, expected, "granule {granule}, slots of {slot} in {span}");
    }
});
