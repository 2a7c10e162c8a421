//! Compiles the C++ side when the `cxx` feature is on, and tells dependants and installers where the headers
//! are.
//!
//! - `DEP_BYTEPOOL_INCLUDE`, for build scripts of direct dependants: the include paths, as
//!   `std::env::split_paths` reads them.
//! - `BYTEPOOL_EXPORT_HEADERS=DIR`, from the environment: the public headers that this build's features serve
//!   are copied below DIR, ready to be installed.
//! - `BYTEPOOL_TARGET` and `BYTEPOOL_HOST`, for the tests: the machine they are built for, and the one that builds.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=include");
    println!("cargo:rerun-if-env-changed=BYTEPOOL_EXPORT_HEADERS");
    for name in ["TARGET", "HOST"] {
        println!("cargo:rustc-env=BYTEPOOL_{name}={}", env::var(name).expect("Cargo names the machines"));
    }

    let include_paths = [Some(manifest_dir().join("include")), bridge::build()];
    let include_paths: Vec<PathBuf> = include_paths.into_iter().flatten().collect();

    if let Some(target) = env::var_os("BYTEPOOL_EXPORT_HEADERS") {
        for path in &include_paths {
            copy_headers(path, Path::new(&target));
        }
    }
    let joined = env::join_paths(&include_paths).expect("an include path contains the path separator");
    println!("cargo:include={}", joined.to_string_lossy());
}

fn manifest_dir() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").expect("Cargo sets CARGO_MANIFEST_DIR").into()
}

fn copy_headers(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap_or_else(|error| panic!("cannot create {}: {error}", to.display()));
    let entries =
        fs::read_dir(from).unwrap_or_else(|error| panic!("cannot read {}: {error}", from.display()));
    for entry in entries {
        let source = entry.expect("a readable directory entry").path();
        let target = to.join(source.file_name().expect("a directory entry has a name"));
        if source.extension().is_some_and(|extension| extension == "hpp") && !cfg!(feature = "cxx") {
            continue;
        }
        // Links are followed: cxx-build's folder is made of them.
        if source.is_dir() {
            copy_headers(&source, &target);
        } else {
            fs::copy(&source, &target)
                .unwrap_or_else(|error| panic!("cannot copy {}: {error}", source.display()));
        }
    }
}

#[cfg(feature = "cxx")]
mod bridge {
    use super::manifest_dir;
    use std::path::PathBuf;
    use std::{env, fs};

    const BRIDGE: &str = "src/ffi/bridge.rs";
    const SOURCES: [&str; 3] = ["cpp/error.cc", "cpp/memory_resource.cc", "cpp/stats.cc"];

    /// Compiles the bridge and the C++ sources; the folder with the generated header.
    pub fn build() -> Option<PathBuf> {
        println!("cargo:rerun-if-changed={BRIDGE}");
        println!("cargo:rerun-if-changed=cpp");
        let include = manifest_dir().join("include");
        let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"));
        let folder = out_dir.join("include");
        cxx_build::CFG.exported_header_dirs.extend([include.as_path(), folder.as_path()]);
        let mut build = cxx_build::bridge(BRIDGE);

        // bytepool.hpp includes the generated header under the name it is installed by.
        let private = folder.join("bytepool/private");
        fs::create_dir_all(&private).expect("OUT_DIR is writable");
        let generated = out_dir.join("cxxbridge/include/bytepool").join(format!("{BRIDGE}.h"));
        let bridge = fs::read_to_string(generated).expect("cxx-build wrote the bridge's header");
        fs::write(private.join("bridge.h"), with_few_includes(&bridge)).expect("OUT_DIR is writable");
        let cxx = env::var_os("DEP_CXXBRIDGE1_HEADER").expect("cxx says where its header is");
        let cxx = fs::read_to_string(cxx).expect("cxx brings its header");
        fs::write(private.join("cxx.h"), rust_error(&cxx)).expect("OUT_DIR is writable");

        build.files(SOURCES).includes([&include, &folder]).std("c++17").warnings(true).extra_warnings(true);
        build.compile("bytepool_cxx");
        // A link to the package's own folder, for includes that nobody here writes: with CMake's build folder in there,
        // it would lead Cargo in circles.
        let _ = fs::remove_file(out_dir.join("cxxbridge/crate/bytepool"));
        Some(folder)
    }

    /// The generated header without `<ranges>` and `<iterator>`, which take a third as long to compile as all else that
    /// bytepool.hpp includes. They are there for the tags of iterators and `std::distance`, which come with any
    /// container, and for what cxx asserts about its own iterators. A bridge that needs more of them keeps them.
    fn with_few_includes(bridge: &str) -> String {
        const ASSERTS: [&str; 2] = ["static_assert(std::ranges::", "static_assert(std::contiguous_iterator<"];
        let is_needed = |line: &&str| !ASSERTS.iter().any(|assert| line.starts_with(assert));
        let lines: Vec<&str> = bridge.lines().filter(is_needed).collect();
        let lighter = lines.join("\n") + "\n";
        if ["std::ranges::", "std::contiguous_iterator<"].iter().any(|used| lighter.contains(used)) {
            return bridge.to_owned();
        }
        assert!(lighter.contains("#include <iterator>\n"), "cxx includes other headers than it did");
        lighter
            .replace("#include <iterator>\n", "#include <vector>\n")
            .replace("#if __cplusplus >= 202002L\n#include <ranges>\n#endif\n", "")
    }

    /// `rust::Error` from cxx's header: what bytepool.hpp promises and the generated header lacks. Not the
    /// whole file: two of it do not fit in one C++20 source, and users may have their own.
    fn rust_error(cxx: &str) -> String {
        let (begin, end) = ("#ifndef CXXBRIDGE1_RUST_ERROR\n", "#endif // CXXBRIDGE1_RUST_ERROR\n");
        let class = cxx.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
        let (class, _) = class.expect("cxx.h has rust::Error between guards");
        format!(
            "// rust::Error, from cxx: https://cxx.rs\n\
             #pragma once\n\
             #include <exception>\n\n\
             namespace rust {{\n\
             inline namespace cxxbridge1 {{\n\
             namespace {{\n\
             template <typename T>\n\
             class impl;\n\
             }}\n\n\
             {begin}{class}{end}\
             }} // namespace cxxbridge1\n\
             }} // namespace rust\n"
        )
    }
}

#[cfg(not(feature = "cxx"))]
mod bridge {
    /// Nothing to compile, and no generated header.
    pub fn build() -> Option<std::path::PathBuf> {
        None
    }
}
