//! Builds the shared libraries that are measured: bytepool, and the small C and C++ files beside this one. Their paths
//! go to the program as `PEERS_*`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[path = "../support/shared_library.rs"]
mod shared_library;

use shared_library::{Language, SharedBytepool, compiler, run};

fn main() {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"));
    let root = manifest_dir().join("../..").canonicalize().expect("bytepool's root is two folders up");
    for path in ["build.rs", "../support", "c", "cpp"] {
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

    // Without DPDK the path names no file, and the program says what is missing.
    let dpdk = dpdk_flags().and_then(|flags| shared(Language::C, "c/dpdk_mempool.c", &out_dir, &flags));
    export("DPDK", &dpdk.unwrap_or_else(|| out_dir.join("dpdk-is-not-installed.so")));
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
