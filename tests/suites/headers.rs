//! The public headers: clean under every compiler and standard they promise, alone and together, and the same
//! as the Rust side in versions, layouts and status codes.

#![cfg(all(unix, feature = "capi"))]

use std::collections::HashMap;
use std::fs;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

use crate::support::{
    Language, Program, WARNINGS, compile, compilers, include_path, library, link, root, run, scratch,
};
use bytepool::ffi::misuse::Report;
use bytepool::ffi::status::Status;
use bytepool::ffi::types::{CClassStats, COutstanding, CStats, Config, SizeClass};

/// Each standard as compilers may spell it, the newer name first.
const C_STANDARDS: [&[&str]; 4] = [&["c99"], &["c11"], &["c17"], &["c23", "c2x"]];
const CPP_STANDARDS: [&[&str]; 3] = [&["c++17"], &["c++20"], &["c++23", "c++2b"]];

/// The spelling that `compiler` knows.
fn spelling(compiler: &str, standard: &[&'static str]) -> &'static str {
    let language = if standard[0].starts_with("c++") { "c++" } else { "c" };
    let known = |name: &&&str| {
        let mut command = Command::new(compiler);
        command.args(["-fsyntax-only", "-x", language, "/dev/null"]).arg(format!("-std={name}"));
        compile(&mut command).succeeded()
    };
    standard.iter().find(known).unwrap_or_else(|| panic!("{compiler} knows none of {standard:?}"))
}

/// The public headers with this extension, as they are included.
fn headers(extension: &str) -> Vec<String> {
    let folder = fs::read_dir(root().join("include/bytepool")).expect("include/bytepool is there");
    let mut headers: Vec<String> = folder
        .map(|entry| entry.expect("a readable directory entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| {
            format!("bytepool/{}", path.file_name().and_then(|name| name.to_str()).expect("a plain name"))
        })
        .collect();
    headers.sort();
    assert!(!headers.is_empty(), "no header with extension {extension}");
    headers
}

/// Compiles `header` alone and twice; and, if `links`, in a second file as well, with which it makes a program that runs.
fn check_header(header: &str, compiler: &str, standard: &str, without: &[&str], links: bool) {
    let name = format!("{header}-{compiler}-{standard}{}", without.concat()).replace(['/', '.'], "-");
    let folder = scratch(&name);
    let extension = if standard.starts_with("c++") { "cpp" } else { "c" };
    let include = format!("#include \"{header}\"\n#include \"{header}\"\n");
    let declare = "uint32_t other(void);\n";
    let main =
        format!("{include}{declare}int main(void) {{ return other() == bytepool_version() ? 0 : 1; }}\n");
    let other = format!("{include}{declare}uint32_t other(void) {{ return bytepool_version(); }}\n");
    let compile = |name: &str, text: &str| {
        let source = folder.join(name).with_extension(extension);
        fs::write(&source, text).expect("the scratch folder is writable");
        let object = source.with_extension("o");
        let mut command = Command::new(compiler);
        command.arg(format!("-std={standard}")).args(WARNINGS).arg("-Wshadow").args(without);
        if extension == "cpp" {
            command.args(["-Wold-style-cast", "-Wzero-as-null-pointer-constant"]);
            command.args(compiler.starts_with('g').then_some("-Wuseless-cast"));
        }
        command.arg(include_path());
        if links {
            command.arg("-c").arg("-o").arg(&object);
        } else {
            command.arg("-fsyntax-only");
        }
        compile(command.arg(&source)).assert_succeeded();
        object
    };
    let main = compile("main", &main);
    if links {
        let executable = folder.join("program");
        link(Command::new(compiler), &[main, compile("other", &other)], &executable);
        run(&mut Command::new(&executable), std::time::Duration::from_secs(10)).assert_succeeded();
    }
}

/// `without`: what of the language a program may do without. Linked in the oldest standard, where inline is weakest.
fn check_headers(headers: &[String], language: Language, standards: &[&[&'static str]], without: &[&str]) {
    for compiler in compilers(language) {
        for (number, standard) in standards.iter().enumerate() {
            let standard = spelling(compiler, standard);
            for header in headers {
                check_header(header, compiler, standard, without, number == 0);
            }
        }
    }
}

#[test]
fn c_headers_are_clean_as_c() {
    check_headers(&headers("h"), Language::C, &C_STANDARDS, &[]);
}

#[test]
fn c_headers_are_clean_as_cpp() {
    check_headers(&headers("h"), Language::Cpp, &CPP_STANDARDS, &[]);
    check_headers(&headers("h"), Language::Cpp, &CPP_STANDARDS, &["-fno-exceptions", "-fno-rtti"]);
}

#[test]
#[cfg(feature = "cxx")]
fn cpp_headers_are_clean() {
    let (whole, parts): (Vec<String>, Vec<String>) =
        headers("hpp").into_iter().partition(|header| header == "bytepool/bytepool.hpp");
    for without in [&[][..], &["-fno-rtti"], &["-fno-exceptions", "-fno-rtti"]] {
        check_headers(&whole, Language::Cpp, &CPP_STANDARDS, without);
    }
    // Each alone; together they are the whole, which was linked.
    assert!(!parts.is_empty());
    for compiler in compilers(Language::Cpp) {
        for header in &parts {
            check_header(header, compiler, CPP_STANDARDS[0][0], &[], false);
        }
    }
}

/// The members of the class that cxx wrote, and those that bytepool.hpp tells its readers of, with what is said of each.
#[test]
#[cfg(feature = "cxx")]
fn the_members_of_pool_are_told() {
    let read = |header: &str| fs::read_to_string(library().headers.join("bytepool").join(header));
    let between = |text: &str, begin: &str, end: &str| {
        let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin:?}"));
        rest.split_once(end).unwrap_or_else(|| panic!("no {end:?}")).0.to_owned()
    };
    let bridge = between(&read("private/bridge.h").unwrap(), "struct Pool final", "  ~Pool()");
    let told = between(&read("bytepool.hpp").unwrap(), "//     struct Pool {\n", "//     };\n");
    let told: Vec<&str> = told.lines().map(|line| line.trim_start_matches("//")).collect();
    let bridge = members(bridge.split_once('\n').unwrap().1);
    assert!(bridge.len() >= 9, "{bridge:?}");
    assert_eq!(members(&told.join("\n")), bridge);
}

/// The members that are declared: the comment, and the declaration in the words of bytepool.hpp.
#[cfg(feature = "cxx")]
fn members(declared: &str) -> Vec<(String, String)> {
    let mut members = Vec::new();
    let mut comment = Vec::new();
    for line in declared.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(text) = line.strip_prefix("//") {
            comment.extend(text.split_whitespace());
            continue;
        }
        let mut declaration = line.to_owned();
        for (theirs, ours) in [
            ("::bytepool::", ""),
            ("::bytepool_region >", "PinnedRegion>"),
            ("::bytepool_stats", "Stats"),
            ("::bytepool_class_stats", "ClassStats"),
            ("::rust::", "rust::"),
            ("::std::", "std::"),
        ] {
            declaration = declaration.replace(theirs, ours);
        }
        members.push((comment.join(" "), declaration));
        comment.clear();
    }
    members
}

/// How many lines a compiler reads for some includes.
#[cfg(feature = "cxx")]
fn preprocessed_lines(compiler: &str, standard: &str, includes: &[&str]) -> usize {
    let source = scratch("includes").join("includes.cpp");
    let lines = includes.iter().map(|header| format!("#include <{header}>\n"));
    fs::write(&source, lines.collect::<String>()).expect("the scratch folder is writable");
    let mut command = Command::new(compiler);
    command.arg(format!("-std={standard}")).args(["-E", "-P"]).arg(include_path()).arg(&source);
    compile(&mut command).assert_succeeded().stdout.lines().count()
}

/// Who includes it pays little more than for the two headers that it cannot do without.
#[test]
#[cfg(feature = "cxx")]
fn the_cpp_header_includes_little() {
    for compiler in compilers(Language::Cpp) {
        for standard in CPP_STANDARDS {
            let standard = spelling(compiler, standard);
            let lines = |includes: &[&str]| preprocessed_lines(compiler, standard, includes);
            let least = lines(&["vector", "memory_resource"]);
            let ours = lines(&["bytepool/bytepool.hpp"]);
            assert!(least > 1000, "{compiler} counts {least} lines");
            assert!(ours * 10 <= least * 12, "{compiler} {standard}: {ours} lines, and {least} without");
        }
    }
}

/// What a user installs is what is in the repository.
#[test]
fn exported_headers_are_ours() {
    let extensions: &[&str] = if cfg!(feature = "cxx") { &["h", "hpp"] } else { &["h"] };
    for header in extensions.iter().flat_map(|extension| headers(extension)) {
        let read = |folder: &Path| fs::read(folder.join(&header)).expect("the header is there");
        assert!(read(&root().join("include")) == read(&library().headers), "{header} is exported otherwise");
    }
}

// ---- layouts, codes, versions ----

/// What layout.c printed, by name.
fn facts_of_the_header() -> HashMap<String, String> {
    let outcome = Program::c(&["layout.c"]).check();
    let facts = outcome.stdout.lines().filter_map(|line| line.rsplit_once(' '));
    facts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// All facts about a Rust struct that layout.c prints about its C counterpart.
macro_rules! layout {
    ($rust:ty, $c:literal: $($field:ident),+) => {{
        let mut facts = vec![
            (format!("sizeof {}", $c), size_of::<$rust>()),
            (format!("alignof {}", $c), align_of::<$rust>()),
        ];
        $(facts.push((format!("offsetof {} {}", $c, stringify!($field)), offset_of!($rust, $field)));)+
        facts
    }};
}

fn layouts_in_rust() -> Vec<(String, usize)> {
    [
        layout!(SizeClass, "bytepool_size_class": buffer_size, capacity),
        layout!(Config, "bytepool_config":
            struct_size, size_classes, size_class_count, alignment, max_bytes, round, flags, unused,
            track_every, guard_every),
        layout!(CStats, "bytepool_stats":
            struct_size, size_class_count, max_bytes, mapped_bytes, allocated_bytes, oversize_bytes, oversize_buffers,
            gets, puts, system_allocations, limit_failures, waits, double_puts, size_mismatches, foreign_pointers,
            bookkeeping_bytes),
        layout!(CClassStats, "bytepool_class_stats":
            struct_size, buffer_size, slot_size, capacity, touched, outstanding, idle, cached, overflow,
            allocated_bytes, gets, puts, system_overflow, peak),
        layout!(Report, "bytepool_misuse": struct_size, kind, context, data, size, buffer_size),
        layout!(COutstanding, "bytepool_outstanding":
            struct_size, data, size, buffer_size, age_ns, thread, thread_name, file, line, column, language),
    ]
    .concat()
}

const CODES: [(&str, Status); 11] = [
    ("BYTEPOOL_OK", Status::Ok),
    ("BYTEPOOL_ERR_INVALID_ARGUMENT", Status::InvalidArgument),
    ("BYTEPOOL_ERR_INVALID_CONTEXT", Status::InvalidContext),
    ("BYTEPOOL_ERR_CLOSED", Status::Closed),
    ("BYTEPOOL_ERR_LIMIT", Status::Limit),
    ("BYTEPOOL_ERR_TIMEOUT", Status::Timeout),
    ("BYTEPOOL_ERR_OUT_OF_MEMORY", Status::OutOfMemory),
    ("BYTEPOOL_ERR_FOREIGN_POINTER", Status::ForeignPointer),
    ("BYTEPOOL_ERR_DOUBLE_PUT", Status::DoublePut),
    ("BYTEPOOL_ERR_SIZE_MISMATCH", Status::SizeMismatch),
    ("BYTEPOOL_ERR_PANIC", Status::Panic),
];

#[test]
fn the_header_agrees_with_rust() {
    let header = facts_of_the_header();
    let mut rust: Vec<(String, String)> =
        layouts_in_rust().into_iter().map(|(name, value)| (name, value.to_string())).collect();
    rust.extend(CODES.map(|(name, status)| (name.to_owned(), (status as i32).to_string())));
    for (name, value) in [
        ("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("PATCH", env!("CARGO_PKG_VERSION_PATCH")),
        ("STRING", env!("CARGO_PKG_VERSION")),
    ] {
        rust.push((format!("BYTEPOOL_VERSION_{name}"), value.to_owned()));
    }
    for (name, value) in &rust {
        assert_eq!(header.get(name), Some(value), "{name}");
    }
    // Nothing that only the header has; its last line is the summary.
    assert_eq!(header.len(), rust.len() + 1, "layout.c prints what this test does not know: {header:?}");
}
