//! Builds the shared libraries that are measured: bytepool, by a Cargo inside this one and then linked as users
//! would, and the small C and C++ files beside this one. Their paths go to the program as `PEERS_*`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"));
    let root = manifest_dir().join("../..").canonicalize().expect("bytepool's root is two folders up");
    for path in ["build.rs", "c", "cpp"] {
        println!("cargo:rerun-if-changed={path}");
    }
    for path in ["Cargo.toml", "Cargo.lock", "build.rs", "src", "cpp", "include"] {
        println!("cargo:rerun-if-changed={}", root.join(path).display());
    }

    let headers = out_dir.join("headers");
    let bytepool = link_bytepool(&build_bytepool(&root, &headers), &out_dir);
    export("BYTEPOOL", &bytepool);

    export(
        "BARE_LIST",
        &shared(Language::C, "c/bare_list.c", &out_dir, &[]).expect("the bare list compiles"),
    );
    export("PMR", &shared(Language::Cpp, "cpp/pmr.cpp", &out_dir, &[]).expect("std::pmr compiles"));
    let with_bytepool = [
        format!("-I{}", headers.display()),
        bytepool.display().to_string(),
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

/// The static library of the root package as users build it, in a target folder below this package's; and its headers.
fn build_bytepool(root: &Path, headers: &Path) -> PathBuf {
    // OUT_DIR is TARGET/release/build/bytepool-peers-HASH/out.
    let out_dir = headers.parent().expect("headers are in OUT_DIR");
    let target_dir = out_dir.ancestors().nth(3).expect("OUT_DIR is deep").join("bytepool-shared");
    let mut cargo = Command::new(env::var_os("CARGO").expect("Cargo sets CARGO"));
    cargo
        .args(["rustc", "--lib", "--release", "--crate-type", "staticlib", "--manifest-path"])
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

fn link_bytepool(archive: &Path, out_dir: &Path) -> PathBuf {
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
enum Language {
    C,
    Cpp,
}

fn compiler(language: Language) -> Command {
    let mut build = cc::Build::new();
    build.cpp(language == Language::Cpp).opt_level(2).pic(true).cargo_metadata(false);
    build.warnings(true).extra_warnings(true);
    if language == Language::Cpp {
        build.std("c++17");
    }
    build.get_compiler().to_command()
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

fn run(command: &mut Command) -> Option<()> {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    if output.status.success() {
        return Some(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().for_each(|line| println!("cargo:warning={line}"));
    None
}
