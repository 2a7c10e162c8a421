//! Compiles the C and the C++ worker.

#[path = "../build/native.rs"]
mod native;

fn main() {
    let Some(paths) = native::include_paths() else { return };
    native::compile(&paths, "c++17", &["src/worker.cpp"], "soak_cpp");
    native::compile(&paths, "c11", &["src/worker.c"], "soak_c");
}
