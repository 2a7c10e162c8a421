//! For build scripts: bytepool as a shared library, built and linked as users would, and a compiler for C and C++.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// bytepool for C and C++ programs.
pub struct SharedBytepool {
    pub library: PathBuf,
    /// The folder of its headers.
    pub headers: PathBuf,
}

impl SharedBytepool {
    /// Builds the package at `root` by a Cargo inside this one, with its usual features.
    pub fn build(root: &Path, out_dir: &Path) -> Self {
        for path in ["Cargo.toml", "Cargo.lock", "build.rs", "src", "cpp", "include"] {
            println!("cargo:rerun-if-changed={}", root.join(path).display());
        }
        let headers = out_dir.join("headers");
        let library = link(&static_library(root, out_dir, &headers), out_dir);
        Self { library, headers }
    }
}

fn static_library(root: &Path, out_dir: &Path, headers: &Path) -> PathBuf {
    // OUT_DIR is TARGET/release/build/PACKAGE-HASH/out.
    let target_dir = out_dir.ancestors().nth(3).expect("OUT_DIR is deep").join("bytepool-shared");
    let mut cargo = Command::new(env::var_os("CARGO").expect("Cargo sets CARGO"));
    cargo
        .args(["rustc", "--lib", "--release", "--crate-type", "staticlib"])
        // As CMakeLists.txt builds what is installed.
        .args(["--config", "profile.release.lto=true", "--config", "profile.release.codegen-units=1"])
        .args(["--config", "profile.release.opt-level=\"s\"", "--manifest-path"])
        .arg(root.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        .env("BYTEPOOL_EXPORT_HEADERS", headers);
    for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET"]
    {
        cargo.env_remove(name);
    }
    run(&mut cargo).expect("bytepool builds");
    target_dir.join("release/libbytepool.a")
}

fn link(archive: &Path, out_dir: &Path) -> PathBuf {
    let path = out_dir.join("libbytepool.so");
    let mut link = compiler(Language::Cpp);
    link.arg("-shared")
        .arg("-o")
        .arg(&path)
        .arg("-Wl,--whole-archive")
        .arg(archive)
        .arg("-Wl,--no-whole-archive")
        .args(["-Wl,--gc-sections", "-Wl,-Bsymbolic", "-Wl,-z,nodelete", "-Wl,-soname,libbytepool.so"])
        .args(["-lpthread", "-ldl"]);
    run(&mut link).expect("bytepool links as a shared library");
    path
}

#[derive(Clone, Copy, PartialEq)]
pub enum Language {
    C,
    Cpp,
}

pub fn compiler(language: Language) -> Command {
    let mut build = cc::Build::new();
    build.cpp(language == Language::Cpp).opt_level(2).pic(true).cargo_metadata(false);
    build.warnings(true).extra_warnings(true);
    if language == Language::Cpp {
        build.std("c++17");
    }
    build.get_compiler().to_command()
}

/// `None`, and its words as warnings, if it fails.
pub fn run(command: &mut Command) -> Option<()> {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    if output.status.success() {
        return Some(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().for_each(|line| println!("cargo:warning={line}"));
    None
}
