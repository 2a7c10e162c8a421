//! Compiles the C and the C++ stage against bytepool's headers, as any Rust package with C or C++ code of its own would.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src");
    if env::var_os("CARGO_FEATURE_CXX").is_none() {
        return;
    }
    // Set by bytepool's own build script for every package that depends on it directly.
    let joined =
        env::var_os("DEP_BYTEPOOL_INCLUDE").expect("bytepool's build script gives its include paths");
    let include_paths: Vec<PathBuf> = env::split_paths(&joined).collect();
    for path in &include_paths {
        println!("cargo:rerun-if-changed={}", path.display());
    }

    // C++ calls C, and linkers like GNU ld look for a symbol only to the right of who needs it: so C++ goes first.
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("src/sink.cpp")
        .includes(&include_paths)
        .warnings(true)
        .extra_warnings(true)
        .flag_if_supported("-Wpedantic")
        .compile("relay_cpp");
    cc::Build::new()
        .std("c11")
        .files(["src/crc32.c", "src/transform.c", "src/misuse.c"])
        .includes(&include_paths)
        .warnings(true)
        .extra_warnings(true)
        .flag_if_supported("-Wpedantic")
        .compile("relay_c");
}
