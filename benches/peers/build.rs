//! Builds the shared libraries that are measured: bytepool, the allocators that crates bring, and the small C and C++
//! files beside this one. Their paths go to the program as `PEERS_*`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[path = "../support/shared_library.rs"]
mod shared_library;

use shared_library::{Language, SharedBytepool, compiler, run};

fn main() {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"));
    let root = manifest_dir().join("../..").canonicalize().expect("bytepool's root is two folders up");
    for path in ["build.rs", "../support", "c", "cpp", "allocators"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let bytepool = SharedBytepool::build(&root, &out_dir);
    export("BYTEPOOL", &bytepool.library);

    export(
        "BARE_LIST",
        &shared(Language::C, "c/bare_list.c", &out_dir, &[]).expect("the bare list compiles"),
    );
    export("PMR", &shared(Language::Cpp, "cpp/pmr.cpp", &out_dir, &[]).expect("std::pmr compiles"));
    let with_bytepool = [
        format!("-I{}", bytepool.headers.display()),
        bytepool.library.display().to_string(),
        format!("-Wl,-rpath,{}", out_dir.display()),
    ];
    let raii = shared(Language::Cpp, "cpp/raii.cpp", &out_dir, &with_bytepool);
    export("RAII", &raii.expect("bytepool.hpp compiles"));

    for name in ALLOCATORS {
        let library =
            allocator(name, &out_dir).unwrap_or_else(|| out_dir.join(format!("{name}-does-not-build.so")));
        export(&name.to_uppercase().replace('-', "_"), &library);
    }

    // Without DPDK the path names no file, and the program says what is missing.
    let dpdk = dpdk_flags().and_then(|flags| shared(Language::C, "c/dpdk_mempool.c", &out_dir, &flags));
    export("DPDK", &dpdk.unwrap_or_else(|| out_dir.join("dpdk-is-not-installed.so")));
}

/// The features of `allocators/Cargo.toml`.
const ALLOCATORS: [&str; 6] = ["snmalloc", "mimalloc", "rpmalloc", "tcmalloc", "scudo", "hardened-malloc"];

/// An allocator of a crate, by a Cargo inside this one; `None`, and a warning, if it does not build.
fn allocator(name: &str, out_dir: &Path) -> Option<PathBuf> {
    // OUT_DIR is TARGET/release/build/PACKAGE-HASH/out. What one allocator leaves there none of the others takes.
    let target_dir = out_dir.ancestors().nth(3)?.join("allocators").join(name);
    let mut cargo = Command::new(env::var_os("CARGO").expect("Cargo sets CARGO"));
    cargo
        .args(["build", "--release", "--locked", "--features", name, "--manifest-path"])
        .arg(manifest_dir().join("allocators/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir);
    for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET"]
    {
        cargo.env_remove(name);
    }
    // Thread-locals as in a program that is linked with the allocator: the libraries' usual ones cost a call each time.
    if env::var_os("CXXFLAGS").is_none() {
        cargo.env("CXXFLAGS", "-ftls-model=initial-exec");
    }
    // hardened_malloc is written in C23, which Debian 12's usual compilers do not know.
    if name == "hardened-malloc" && env::var_os("CC").is_none() {
        cargo.env("CC", "clang-19");
    }
    run(&mut cargo)?;
    // A name of its own: by it the program tells whose functions it calls.
    let library = out_dir.join(format!("lib{name}-of-crate.so"));
    fs::copy(target_dir.join("release/libbytepool_peers_allocators.so"), &library).ok()?;
    Some(library)
}

fn manifest_dir() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").expect("Cargo sets CARGO_MANIFEST_DIR").into()
}

fn export(name: &str, path: &Path) {
    println!("cargo:rustc-env=PEERS_{name}={}", path.display());
}

/// A shared library of one source file; `None`, and a warning, if it does not compile.
fn shared(language: Language, source: &str, out_dir: &Path, flags: &[String]) -> Option<PathBuf> {
    let path = out_dir.join(Path::new(source).with_extension("so").file_name()?);
    let _ = fs::remove_file(&path);
    let mut compile = compiler(language);
    compile.arg("-shared").arg("-o").arg(&path).arg(manifest_dir().join(source)).args(flags);
    run(&mut compile).map(|_| path)
}

/// What pkg-config says about DPDK, if it is installed.
fn dpdk_flags() -> Option<Vec<String>> {
    let output = Command::new("pkg-config").args(["--cflags", "libdpdk"]).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).ok()?;
    let libraries = ["-lrte_mempool", "-lrte_mempool_ring", "-lrte_eal"];
    let system_headers = text.split_whitespace().map(|flag| flag.replacen("-I", "-isystem", 1));
    Some(
        ["-Wl,--no-as-needed"]
            .into_iter()
            .map(String::from)
            .chain(system_headers)
            .chain(libraries.map(String::from))
            .collect(),
    )
}
