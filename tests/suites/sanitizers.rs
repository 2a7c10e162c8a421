//! What checkers of memory find in programs that use the library as it is shipped: gcc's AddressSanitizer,
//! valgrind's memcheck, clang's MemorySanitizer and gcc's ThreadSanitizer. Programs with one fault are reported,
//! with the places where the buffer was got, put and used; correct ones are not.

#![cfg(all(target_os = "linux", feature = "cxx"))]

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::support::{self, Build, Outcome, Program, is_installed, link_shared, runs_slow, scratch, skip};

/// Kinds of buffers in C; C++ has one more.
const KINDS: [&str; 3] = ["slot", "overflow", "oversize"];
const CPP_KINDS: [&str; 4] = ["slot", "overflow", "oversize", "resource"];

/// The library as a shared one.
fn shared_library() -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let path = scratch("shared").join("libbytepool.so");
        link_shared(&path);
        path
    };
    LIBRARY.get_or_init(make).clone()
}

/// The program with the static library, to be tried with all kinds, and with the shared one, to be tried with
/// one.
fn both<'a>(source: &str, build: &Build, kinds: &'a [&'a str]) -> [(Program, &'a [&'a str]); 2] {
    let shared = Build {
        name: format!("{}-shared", build.name),
        shared_library: Some(shared_library()),
        ..build.clone()
    };
    [(build, kinds), (&shared, &kinds[..1])].map(|(build, kinds)| (Program::built(&[source], build), kinds))
}

/// The report has these parts in this order: each a line with the first words, and before the next such line
/// the name of the function.
#[track_caller]
fn assert_reports(outcome: &Outcome, parts: &[(&str, &str)]) {
    assert!(!outcome.succeeded(), "nothing was found: {}", outcome.describe());
    let mut rest = outcome.stderr.as_str();
    for (index, (words, function)) in parts.iter().enumerate() {
        let start = rest.find(words).unwrap_or_else(|| panic!("no \"{words}\": {}", outcome.describe()));
        rest = &rest[start + words.len()..];
        let end = parts.get(index + 1).and_then(|next| rest.find(next.0)).unwrap_or(rest.len());
        let named = rest[..end].contains(function);
        assert!(named, "\"{words}\" does not name {function}: {}", outcome.describe());
    }
}

#[track_caller]
fn assert_silent(outcome: Outcome) {
    let outcome = outcome.assert_succeeded();
    assert!(outcome.stdout.is_empty() && outcome.stderr.is_empty(), "not silent: {}", outcome.describe());
}

/// Where the C++ program gets and puts a kind of buffer.
fn cpp_functions(kind: &str) -> [&'static str; 2] {
    if kind == "resource" { ["allocated_here", "deallocated_here"] } else { ["got_here", "put_here"] }
}

// ---- gcc's AddressSanitizer ----

/// `got` and `put` are the functions that the program gets and puts such a buffer in.
fn address_sanitizer_reports(program: &Program, kind: &str, got: &str, put: &str) {
    assert_reports(
        &program.run(&["use-after-put", kind]),
        &[("heap-use-after-free", "used_here"), ("freed by", put), ("previously allocated by", got)],
    );
    assert_reports(
        &program.run(&["overflow", kind]),
        &[("heap-buffer-overflow", "used_here"), ("0 bytes to the right of", ""), ("allocated by", got)],
    );
    let leaked = if kind == "oversize" { "1000 byte(s)" } else { "100 byte(s)" };
    let outcome = program.run(&["leak", kind]);
    assert_reports(&outcome, &[("detected memory leaks", ""), (leaked, got)]);
    assert_eq!(outcome.stderr.matches("leak of").count(), 1, "{}", outcome.describe());
}

#[test]
fn address_sanitizer_reports_faults_in_c() {
    for (program, kinds) in both("sanitizers/faults.c", &Build::address_sanitizer(), &KINDS) {
        for &kind in kinds {
            assert_silent(program.run(&["nothing", kind]));
            address_sanitizer_reports(&program, kind, "got_here", "put_here");
        }
    }
}

#[test]
fn address_sanitizer_reports_faults_in_cpp() {
    for (program, kinds) in both("sanitizers/faults.cpp", &Build::address_sanitizer(), &CPP_KINDS) {
        for &kind in kinds {
            assert_silent(program.run(&["nothing", kind]));
            let [got, put] = cpp_functions(kind);
            address_sanitizer_reports(&program, kind, got, put);
        }
    }
}

/// Whether the program has frame pointers or not. It counts how often the unwinder is asked.
#[test]
#[cfg(target_arch = "x86_64")]
fn address_sanitizer_notes_all_callers_and_each_is_unwound_once() {
    for more in [&[][..], &["-O2"], &["-fno-omit-frame-pointer"]] {
        let Build { mut name, mut flags, .. } = Build::address_sanitizer();
        name += &more.concat();
        flags.extend(["-D_GNU_SOURCE"].iter().chain(more));
        let build = Build { name, flags, ..Build::address_sanitizer() };
        Program::built(&["sanitizers/callers.c"], &build).check();
    }
}

#[test]
fn address_sanitizer_is_silent_about_correct_programs() {
    for source in ["sanitizers/correct.c", "sanitizers/correct.cpp"] {
        for (program, _) in both(source, &Build::address_sanitizer(), &[""]) {
            assert_silent(program.run(&[]));
        }
    }
}

// ---- valgrind ----

fn has_valgrind() -> bool {
    is_installed("valgrind") || !skip("valgrind", "what it finds")
}

fn valgrind_reports(program: &Program, kind: &str, got: &str, put: &str) {
    assert_reports(
        &program.run_under_valgrind(&["use-after-put", kind]),
        &[("Invalid write", "used_here"), ("free'd", put), ("Block was alloc'd", got)],
    );
    assert_reports(
        &program.run_under_valgrind(&["overflow", kind]),
        &[("Invalid write", "used_here"), ("0 bytes after a block of size", got)],
    );
    let leaked = if kind == "oversize" { "1,000 bytes" } else { "100 bytes" };
    let outcome = program.run_under_valgrind(&["leak", kind]);
    assert_reports(&outcome, &[(&format!("{leaked} in 1 blocks are definitely lost"), got)]);
    assert_eq!(outcome.stderr.matches(" lost in ").count(), 1, "{}", outcome.describe());
}

#[test]
fn valgrind_reports_faults_in_c() {
    if !runs_slow("faults in C under valgrind") || !has_valgrind() {
        return;
    }
    for (program, kinds) in both("sanitizers/faults.c", &Build::plain(), &KINDS) {
        for &kind in kinds {
            valgrind_reports(&program, kind, "got_here", "put_here");
            assert_reports(
                &program.run_under_valgrind(&["unwritten", kind]),
                &[("depends on uninitialised value", "read_here")],
            );
        }
    }
}

#[test]
fn valgrind_reports_faults_in_cpp() {
    if !runs_slow("faults in C++ under valgrind") || !has_valgrind() {
        return;
    }
    for (program, kinds) in both("sanitizers/faults.cpp", &Build::plain(), &CPP_KINDS) {
        for &kind in kinds {
            let [got, put] = cpp_functions(kind);
            valgrind_reports(&program, kind, got, put);
        }
    }
}

#[test]
fn valgrind_is_silent_about_correct_programs() {
    if !has_valgrind() {
        return;
    }
    for source in ["sanitizers/correct.c", "sanitizers/correct.cpp"] {
        for (program, _) in both(source, &Build::plain(), &[""]) {
            assert_silent(program.run_under_valgrind(&[]));
        }
    }
}

// ---- clang's MemorySanitizer, and gcc's ThreadSanitizer ----

/// `None` where clang has no MemorySanitizer.
fn memory_sanitizer() -> Option<Build> {
    let flags = vec!["-fsanitize=memory", "-fsanitize-memory-track-origins", "-g", "-O1"];
    let build =
        Build { name: "-memory".into(), compilers: Some(("clang", "clang++")), flags, ..Build::plain() };
    let source = scratch("memory").join("empty.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").expect("the scratch folder is writable");
    let mut clang = std::process::Command::new("clang");
    clang.args(&build.flags).arg(&source).arg("-o").arg(source.with_extension("out"));
    let works = is_installed("clang") && support::compile(&mut clang).succeeded();
    (works || !skip("clang's MemorySanitizer", "what it finds")).then_some(build)
}

/// C only: the C++ library and the bridge would have to be compiled with it, too.
#[test]
fn memory_sanitizer_reports_what_was_not_written_and_what_was_put() {
    let Some(build) = memory_sanitizer() else { return };
    for (program, kinds) in both("sanitizers/faults.c", &build, &KINDS) {
        for &kind in kinds {
            assert_silent(program.run(&["nothing", kind]));
            assert_reports(
                &program.run(&["unwritten", kind]),
                &[("use-of-uninitialized-value", "read_here"), ("created by a heap allocation", "got_here")],
            );
            assert_reports(
                &program.run(&["read-after-put", kind]),
                &[
                    ("use-of-uninitialized-value", "read_here"),
                    ("created by a heap deallocation", "put_here"),
                ],
            );
        }
    }
}

/// What the library writes into the program's own structs is known to be written.
#[test]
fn memory_sanitizer_is_silent_about_correct_programs() {
    let Some(build) = memory_sanitizer() else { return };
    for (program, _) in both("sanitizers/correct.c", &build, &[""]) {
        assert_silent(program.run(&[]));
    }
}

/// ThreadSanitizer sees the library's calls of `malloc` and not the locks around them, so the library is
/// suppressed, as a shared one can be. What the program does with its buffers is still watched, and a put
/// before the next get is no race.
#[test]
fn thread_sanitizer_is_silent_about_correct_programs() {
    let suppressions = scratch("thread").join("suppressions");
    std::fs::write(&suppressions, "called_from_lib:libbytepool.so\n")
        .expect("the scratch folder is writable");
    let options = format!("suppressions={}", suppressions.display());
    for source in ["sanitizers/correct.c", "sanitizers/correct.cpp"] {
        let build = Build {
            name: "-thread".into(),
            compilers: Some(("gcc", "g++")),
            flags: vec!["-fsanitize=thread", "-g", "-O1"],
            shared_library: Some(shared_library()),
            ..Build::plain()
        };
        let program = Program::built(&[source], &build);
        assert_silent(program.run_with("TSAN_OPTIONS", &options));
    }
}
