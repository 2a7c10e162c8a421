//! Any sequence of C calls, with arbitrary pointers, sizes and contexts, against the model of `tests/c_model`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/c_model/mod.rs"]
mod c_model;
#[path = "../../tests/support/valgrind.rs"]
mod valgrind;

fuzz_target!(|program: Vec<c_model::program::Step>| c_model::run(&program));
