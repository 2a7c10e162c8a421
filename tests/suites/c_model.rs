//! Random programs of C calls against a sequential model. What fails is shrunk to the few calls that matter.
//!
//! `model.rs` does the same for Rust, with every byte and without arbitrary pointers and contexts.

#![cfg(all(unix, feature = "capi"))]

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

#[path = "../c_model/mod.rs"]
mod model;

use model::program::{Alignment, Call, Handle, Pointer, PutSize, Rounding, Setup, Size, Step};

use crate::valgrind::{rounds, under_memcheck};

fn size() -> impl Strategy<Value = Size> {
    prop_oneof![
        4 => any::<u16>().prop_map(Size::Small),
        1 => any::<u32>().prop_map(Size::Large),
        8 => (0..6u8, -2..3i8).prop_map(|(class, delta)| Size::Bound(class, delta)),
        1 => any::<u64>().prop_map(Size::Any),
    ]
}

fn context() -> impl Strategy<Value = Handle> {
    prop_oneof![
        20 => any::<u8>().prop_map(Handle::Known),
        1 => any::<(u8, u8)>().prop_map(|(which, bit)| Handle::Changed(which, bit)),
        1 => prop_oneof![Just(0), any::<u64>()].prop_map(Handle::Any),
    ]
}

fn pointer() -> impl Strategy<Value = Pointer> {
    prop_oneof![
        2 => any::<u16>().prop_map(Pointer::Held),
        16 => any::<u16>().prop_map(Pointer::Own),
        1 => any::<(u16, u16)>().prop_map(|(which, offset)| Pointer::Inside(which, offset)),
        3 => any::<u16>().prop_map(Pointer::Put),
        1 => any::<u64>().prop_map(Pointer::Any),
        1 => Just(Pointer::Null),
    ]
}

fn put_size() -> impl Strategy<Value = PutSize> {
    prop_oneof![3 => Just(PutSize::Right), 1 => size().prop_map(PutSize::Other)]
}

fn alignment() -> impl Strategy<Value = Alignment> {
    prop_oneof![
        4 => Just(Alignment::Default),
        4 => (0..64u8).prop_map(Alignment::Power),
        1 => any::<u16>().prop_map(Alignment::Any),
    ]
}

fn setup() -> impl Strategy<Value = Setup> {
    let class = (prop_oneof![1..5000u32, 1..262_144u32], 1..40u16);
    let round =
        prop::sample::select(vec![Rounding::Nothing, Rounding::Original, Rounding::Pages, Rounding::Half]);
    let odd_class = option::weighted(0.1, any::<(u64, u64)>());
    let max_bytes = option::weighted(0.3, 1..4_194_304u32);
    let alignment = prop_oneof![8 => Just(Alignment::Default), 4 => (0..22u8).prop_map(Alignment::Power), 1 => alignment()];
    let flags = prop_oneof![16 => Just(0), 8 => 0..16u8, 1 => any::<u8>()];
    let newer = prop_oneof![8 => Just((0, 0)), 1 => any::<(u8, u8)>()];
    (vec(class, 0..5), odd_class, alignment, max_bytes, round, flags, newer).prop_map(
        |(classes, odd_class, alignment, max_bytes, round, flags, newer)| Setup {
            classes,
            odd_class,
            alignment,
            max_bytes,
            round,
            flags,
            newer,
        },
    )
}

fn call() -> impl Strategy<Value = Call> {
    let of = context;
    prop_oneof![
        1 => setup().prop_map(Call::New),
        2 => of().prop_map(Call::Clone),
        1 => prop_oneof![9 => Just(None), 1 => of().prop_map(Some)]
            .prop_map(|context| context.map_or(Call::EndOtherThread, Call::Close)),
        1 => of().prop_map(Call::Free),
        16 => (of(), size()).prop_map(|(context, size)| Call::Get(context, size)),
        2 => (of(), alignment(), size())
            .prop_map(|(context, alignment, size)| Call::GetAligned { context, alignment, size }),
        2 => (of(), size(), any::<u16>())
            .prop_map(|(context, size, nanoseconds)| Call::GetTimeout { context, size, nanoseconds }),
        3 => (of(), size(), 0..41u8).prop_map(|(context, size, count)| Call::GetMany { context, size, count }),
        2 => (of(), prop_oneof![(0..50u16).prop_map(Size::Small), size()], size())
            .prop_map(|(context, count, size)| Call::Calloc { context, count, size }),
        2 => (of(), size()).prop_map(|(context, size)| Call::Copy { context, size }),
        4 => (of(), pointer(), size()).prop_map(|(context, data, size)| Call::Realloc(context, data, size)),
        8 => (of(), pointer(), put_size()).prop_map(|(context, data, size)| Call::Put(context, data, size)),
        6 => (of(), pointer(), put_size())
            .prop_map(|(context, data, size)| Call::PutChecked(context, data, size)),
        3 => (of(), pointer()).prop_map(|(context, data)| Call::PutUnsized(context, data)),
        2 => (of(), vec(pointer(), 0..50), put_size())
            .prop_map(|(context, data, size)| Call::PutMany { context, data, size }),
        3 => (of(), pointer()).prop_map(|(context, data)| Call::UsableSize(context, data)),
        2 => (of(), size()).prop_map(|(context, keep)| Call::Trim(context, keep)),
        2 => (of(), any::<u8>())
            .prop_map(|(context, struct_size)| Call::ReadStats { context, struct_size }),
        2 => (of(), 0..8u8, any::<u8>()).prop_map(|(context, index, struct_size)| {
            Call::ReadClassStats { context, index, struct_size }
        }),
    ]
}

/// A pool or two, and calls.
fn program() -> impl Strategy<Value = Vec<Step>> {
    let step = (prop::bool::weighted(0.3), call())
        .prop_map(|(on_other_thread, call)| Step { on_other_thread, call });
    let new = setup().prop_map(|setup| Step { on_other_thread: false, call: Call::New(setup) });
    (vec(new, 1..3), vec(step, 0..150)).prop_map(|(mut program, steps)| {
        program.extend(steps);
        program
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        // A sanitizer makes each ten times as slow, memcheck more.
        cases: if cfg!(bytepool_sanitized) && !under_memcheck() { 64 } else { rounds(512) as u32 },
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_program_of_c_calls_does_what_the_model_says(program in program()) {
        model::run(&program);
    }
}
