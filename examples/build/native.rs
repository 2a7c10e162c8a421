//! What the examples' build scripts share: compiles C or C++ against bytepool's headers, as any Rust package with C or C++
//! code of its own would.

use std::env;
use std::path::PathBuf;

/// The folders of bytepool's headers; none without C++.
pub fn include_paths() -> Option<Vec<PathBuf>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../build/native.rs");
    println!("cargo:rerun-if-changed=src");
    env::var_os("CARGO_FEATURE_CXX")?;
    // Set by bytepool's own build script for every package that depends on it directly.
    let joined =
        env::var_os("DEP_BYTEPOOL_INCLUDE").expect("bytepool's build script gives its include paths");
    let paths: Vec<PathBuf> = env::split_paths(&joined).collect();
    for path in &paths {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    Some(paths)
}

/// Compiles `files` into the library `name`: as C++ if `standard` is one of it, else as C.
pub fn compile(include_paths: &[PathBuf], standard: &str, files: &[&str], name: &str) {
    cc::Build::new()
        .cpp(standard.starts_with("c++"))
        .std(standard)
        .files(files)
        .includes(include_paths)
        .warnings(true)
        .extra_warnings(true)
        .flag_if_supported("-Wpedantic")
        .compile(name);
}
