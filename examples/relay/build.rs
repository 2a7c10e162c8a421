//! Compiles the C and the C++ stage.

#[path = "../build/native.rs"]
mod native;

fn main() {
    let Some(paths) = native::include_paths() else { return };
    // C++ calls C, and linkers like GNU ld look for a symbol only to the right of who needs it: so C++ goes first.
    native::compile(&paths, "c++17", &["src/sink.cpp"], "relay_cpp");
    native::compile(&paths, "c11", &["src/crc32.c", "src/transform.c", "src/misuse.c"], "relay_c");
}
