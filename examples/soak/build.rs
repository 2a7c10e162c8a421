//! Compiles the C and the C++ worker against bytepool's headers, and notes for the report what compiles.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src");
    let rustc = Command::new(env::var_os("RUSTC").expect("Cargo sets RUSTC")).arg("-V").output();
    let rustc = rustc.expect("the compiler tells its version").stdout;
    println!("cargo:rustc-env=SOAK_RUSTC={}", String::from_utf8_lossy(&rustc).trim());
    println!("cargo:rustc-env=SOAK_TARGET={}", env::var("TARGET").expect("Cargo sets TARGET"));
    if env::var_os("CARGO_FEATURE_CXX").is_none() {
        return;
    }
    // Set by bytepool's own build script for every package that depends on it directly.
    let joined =
        env::var_os("DEP_BYTEPOOL_INCLUDE").expect("bytepool's build script gives its include paths");
    let include_paths: Vec<PathBuf> = env::split_paths(&joined).collect();
    let build = |cpp: bool, standard: &str, file: &str, name: &str| {
        cc::Build::new()
            .cpp(cpp)
            .std(standard)
            .file(file)
            .includes(&include_paths)
            .warnings(true)
            .extra_warnings(true)
            .flag_if_supported("-Wpedantic")
            .compile(name);
    };
    build(true, "c++17", "src/worker.cpp", "soak_cpp");
    build(false, "c11", "src/worker.c", "soak_c");
}
