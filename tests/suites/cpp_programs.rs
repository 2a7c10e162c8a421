//! The C++ programs of `tests/cpp`, linked with the real static library, as C++17 and as C++20: each is run; in CI it is
//! run again under valgrind, and once more with AddressSanitizer.

#![cfg(all(unix, feature = "cxx"))]

use crate::support::{Build, Language, Program, compile, compiler, is_emulated, runs_slow, skip};

fn check(sources: &[&str]) {
    let program = Program::cpp(sources, "c++17");
    program.check();
    if std::env::var_os("BYTEPOOL_QUICK").is_some() {
        eprintln!("left out: {} as C++20, by tests/quick", sources[0]);
    } else {
        Program::cpp(sources, "c++20").check();
    }
    if runs_slow(&format!("{} under valgrind and AddressSanitizer", sources[0])) {
        program.check_memory();
        Program::check_addresses(sources);
    }
}

#[test]
fn three_languages() {
    check(&["three_languages.cpp", "c_side.c"]);
}

/// Not with checkers of memory, which need more stack.
#[test]
fn every_function_runs_on_the_smallest_stack() {
    Program::cpp(&["small_stacks.cpp"], "c++17").check_on_small_stacks();
}

#[test]
fn tracked_buffers() {
    check(&["tracking.cpp"]);
}

#[test]
fn pooled_buffers_and_memory_resources() {
    check(&["pooled_buffer.cpp"]);
}

#[test]
fn ends_of_pools_threads_and_processes() {
    if cfg!(bytepool_portable) {
        return; // its regions cannot give idle pages back
    }
    check(&["lifecycle.cpp"]);
}

#[test]
fn gets_that_wait() {
    check(&["waiting.cpp"]);
}

#[test]
fn pools_from_containers() {
    check(&["new_pool.cpp"]);
}

#[test]
fn errors_say_why() {
    check(&["errors.cpp"]);
}

#[test]
fn without_exceptions() {
    let flags = vec!["-fno-exceptions"];
    Program::built(&["no_exceptions.cpp"], &Build { name: "-no-exceptions".into(), flags, ..Build::plain() })
        .check();
}

#[test]
fn without_type_information() {
    let flags = vec!["-fno-rtti"];
    Program::built(&["no_rtti.cpp"], &Build { name: "-no-rtti".into(), flags, ..Build::plain() }).check();
}

#[test]
fn buffers_as_containers() {
    check(&["bytes.cpp"]);
}

/// Whether Asio is installed, for the machine that the programs run on.
fn has_asio() -> bool {
    if is_emulated() {
        eprintln!("left out: Asio is the host's");
        return false;
    }
    let mut probe = compiler(Language::Cpp);
    probe.args(["-fsyntax-only", "-x", "c++", "-include", "asio/buffer.hpp", "/dev/null"]);
    compile(&mut probe).succeeded() || !skip("libasio-dev", "buffers in Asio")
}

#[test]
fn buffers_in_asio() {
    if has_asio() {
        check(&["asio_buffers.cpp"]);
    }
}

#[test]
fn allocators() {
    check(&["allocator.cpp"]);
}

#[test]
fn shared_buffers() {
    check(&["shared_buffer.cpp"]);
}

#[test]
fn figures_as_text() {
    check(&["stats.cpp"]);
}

/// It checks itself: answers, buffers, and that the process stays as large as it is.
#[test]
#[cfg(target_os = "linux")]
fn an_echo_server_in_asio() {
    if !has_asio() {
        return;
    }
    let program = Program::built(&["../examples/echo/echo.cpp"], &Build::plain());
    let outcome = program.run(&["2", "50"]).assert_succeeded();
    assert!(outcome.stdout.contains("requests on"), "{}", outcome.describe());
}
