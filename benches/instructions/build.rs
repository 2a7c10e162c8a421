//! Builds bytepool's shared library, and the C and the C++ program that use it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../support/shared_library.rs"]
mod shared_library;

use shared_library::{Language, SharedBytepool, compiler, run};

fn main() {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"));
    let root = Path::new("../..").canonicalize().expect("bytepool's root is two folders up");
    for path in ["build.rs", "../support", "c", "cpp", "../../tests/c/barrier.h", "../../tests/c/check.h"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let bytepool = SharedBytepool::build(&root, &out_dir);
    for (language, standard, source, variable) in [
        (Language::C, "-std=gnu11", "c/counted.c", "COUNTED_C"),
        (Language::Cpp, "-std=gnu++17", "cpp/counted.cpp", "COUNTED_CPP"),
    ] {
        let program = out_dir.join(variable.to_lowercase());
        let mut compile = compiler(language);
        compile
            .args([standard, "-g", "-o"])
            .arg(&program)
            .arg(format!("-I{}", bytepool.headers.display()))
            .args([Path::new(source), &bytepool.library])
            .arg(format!("-Wl,-rpath,{}", out_dir.display()))
            .arg("-lpthread");
        run(&mut compile).expect("the program compiles");
        println!("cargo:rustc-env={variable}={}", program.display());
    }
    println!("cargo:rustc-env=RUSTC_VERSION={}", rustc_version());
}

/// Another compiler may make other instructions: the committed file says whose it has.
fn rustc_version() -> String {
    let rustc = env::var_os("RUSTC").expect("Cargo sets RUSTC");
    let output = Command::new(rustc).arg("--version").output().expect("rustc runs");
    String::from_utf8(output.stdout).expect("a version is text").trim().to_owned()
}
