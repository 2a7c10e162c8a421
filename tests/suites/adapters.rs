//! The adapters of `include/bytepool/adapters`: each header is clean in every standard, alone and with what it makes
//! used, and each library does a small real job with a pool's memory, by the programs of `tests/c/adapters`.

#![cfg(all(unix, feature = "capi"))]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::support::libraries::{Flags, flags_of};
use crate::support::{
    Build, Language, Program, WARNINGS, compile, compilers, include_path, library, root, runs_slow, scratch,
};

/// As in `headers.rs`; the newest as each compiler spells it.
const C_STANDARDS: [&str; 4] = ["c99", "c11", "c17", "c2x"];
const CPP_STANDARDS: [&str; 3] = ["c++17", "c++20", "c++2b"];

/// The adapter, and the library's header.
macro_rules! adapters {
    ($($name:ident: $header:literal;)*) => {
        const ADAPTERS: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            let name = stringify!($name);
            if let Some(flags) = flags_of($header, &format!("the adapter of {name}")) {
                check_header(name, &flags);
                check_program(name, flags);
            }
        })*
    };
}

adapters! {
    zlib: "zlib.h";
    bzip2: "bzlib.h";
    zstd: "zstd.h";
    lz4: "lz4frame.h";
    brotli: "brotli/encode.h";
    lzma: "lzma.h";
    duktape: "duktape.h";
    lua: "lua.h";
    nghttp2: "nghttp2/nghttp2.h";
    png: "png.h";
    ffmpeg: "libavutil/buffer.h";
    uv: "uv.h";
    sqlite: "sqlite3.h";
}

/// Compiles it alone and twice, in C and C++.
fn check_header(name: &str, flags: &Flags) {
    let source = scratch("adapters").join(format!("{name}.h.c"));
    let include = format!("#include \"bytepool/adapters/{name}.h\"\n");
    fs::write(&source, format!("{include}{include}int main(void) {{ return 0; }}\n")).expect("writable");
    for (language, named, standards) in
        [(Language::C, "c", &C_STANDARDS[..]), (Language::Cpp, "c++", &CPP_STANDARDS[..])]
    {
        for compiler in compilers(language) {
            for standard in standards {
                let mut command = Command::new(compiler);
                command.args(["-fsyntax-only", "-x", named]).arg(format!("-std={standard}"));
                // libuv's header wants POSIX.
                command.args(WARNINGS).args(["-Wshadow", "-D_POSIX_C_SOURCE=200809L"]);
                command.arg(include_path()).args(&flags.compile);
                compile(command.arg(&source)).assert_succeeded();
            }
        }
    }
}

/// Runs the job; with AddressSanitizer as well, where each buffer is a block of exactly the size asked for.
fn check_program(name: &str, flags: Flags) {
    let source = format!("c/adapters/{name}.c");
    let sources = [source.as_str()];
    let with_library =
        |build: Build| Build { compile: flags.compile.clone(), link: flags.link.clone(), ..build };
    Program::built(&sources, &with_library(Build::plain())).check();
    if runs_slow(&format!("{source} with AddressSanitizer")) {
        Program::built(&sources, &with_library(Build::address_sanitizer())).check();
    }
}

/// No header without a test, and what is installed is what is in the repository.
#[test]
fn every_adapter_is_tested_and_exported() {
    let folder = fs::read_dir(root().join("include/bytepool/adapters")).expect("the adapters are there");
    let names: BTreeSet<String> = folder
        .map(|entry| entry.expect("a readable entry").file_name().into_string().expect("UTF-8"))
        .collect();
    let expected: BTreeSet<String> = ADAPTERS.iter().map(|name| format!("{name}.h")).collect();
    assert_eq!(names, expected);
    for name in names {
        let path = format!("bytepool/adapters/{name}");
        let ours = fs::read(root().join("include").join(&path)).expect("the header is there");
        let exported = fs::read(library().headers.join(&path)).expect("it is exported");
        assert!(ours == exported, "{name} is exported otherwise");
    }
}
