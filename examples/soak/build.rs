//! Compiles the C and the C++ worker, and notes for the report what compiles.

use std::env;
use std::process::Command;

#[path = "../build/native.rs"]
mod native;

fn main() {
    let rustc = Command::new(env::var_os("RUSTC").expect("Cargo sets RUSTC")).arg("-V").output();
    let rustc = rustc.expect("the compiler tells its version").stdout;
    println!("cargo:rustc-env=SOAK_RUSTC={}", String::from_utf8_lossy(&rustc).trim());
    println!("cargo:rustc-env=SOAK_TARGET={}", env::var("TARGET").expect("Cargo sets TARGET"));
    let Some(paths) = native::include_paths() else { return };
    native::compile(&paths, "c++17", &["src/worker.cpp"], "soak_cpp");
    native::compile(&paths, "c11", &["src/worker.c"], "soak_c");
}
