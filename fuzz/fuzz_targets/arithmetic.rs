//! Size to class and offset to slot, against their definitions.

#![no_main]

use arbitrary::Arbitrary;
use bytepool::arithmetic::{class_of, slot_starting_at};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Numbers {
    class_sizes: Vec<u32>,
    sizes: Vec<Size>,
    slot_units: u32,
    slots: u32,
    units: Vec<Unit>,
}

#[derive(Debug, Arbitrary)]
enum Size {
    Any(u64),
    Near(u8, i8),
}

#[derive(Debug, Arbitrary)]
enum Unit {
    Any(u64),
    /// Near the start of a slot.
    Near(u64, i8),
}

/// Spans that a pool can have are at most 16 TiB, in units of 8 bytes.
const MAX_SPAN: u64 = 1 << 41;
/// Buffers stay below 4 GiB; alignment makes slots at most 2 MiB larger.
const MAX_SLOT: u64 = (1 << 29) + (1 << 18);

fuzz_target!(|numbers: Numbers| {
    let mut class_sizes: Vec<usize> =
        numbers.class_sizes.iter().map(|&size| (size as usize).max(1)).collect(); // none is empty
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

    let slot = u64::from(numbers.slot_units) % (MAX_SLOT - 1) + 2;
    let span = slot * (u64::from(numbers.slots) % (MAX_SPAN / slot) + 1);
    for unit in numbers.units {
        let unit = match unit {
            Unit::Any(unit) => unit % span,
            Unit::Near(number, delta) => {
                let start = number % (span / slot) * slot;
                start.saturating_add_signed(delta.into()).min(span - 1)
            }
        };
        let Some(found) = slot_starting_at(slot, span, unit) else {
            // Then larger slots are tried, at last a power of two.
            assert!(!slot.is_power_of_two(), "slots of {slot} units in {span} do not divide");
            return;
        };
        let expected = unit.is_multiple_of(slot).then_some(unit / slot);
        assert_eq!(found, expected, "unit {unit}, slots of {slot} in {span}");
    }
});
