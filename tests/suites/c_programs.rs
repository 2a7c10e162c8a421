//! The C programs of `tests/c`, linked with the real static library: each is run; in CI it is run again under valgrind,
//! and once more with AddressSanitizer.

#![cfg(all(unix, feature = "capi"))]

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use crate::support::{
    self, Build, Language, Outcome, Program, WARNINGS, compile, compiler, include_path, link, link_shared,
    link_shared_with, root, runs_slow, scratch,
};

/// Under valgrind, and with AddressSanitizer.
fn check_slowly(program: &Program, sources: &[&str]) {
    if runs_slow(&format!("{} under valgrind and AddressSanitizer", sources[0])) {
        program.check_memory();
        Program::check_addresses(sources);
    }
}

/// One test for each program: its sources, the first of which names it.
macro_rules! programs {
    ($($name:ident: $($source:literal),+;)*) => {
        $(#[test]
        fn $name() {
            let program = Program::c(&[$($source),+]);
            program.check();
            check_slowly(&program, &[$($source),+]);
        })*
    };
}

programs! {
    the_original_s_extern_lines: "original.c", "original_context.c";
    the_original_s_behaviour: "original_behaviour.c";
    rules_of_new: "rules_new.c";
    rules_of_contexts: "rules_contexts.c";
    rules_of_get: "rules_get.c";
    rules_of_realloc: "rules_realloc.c";
    rules_of_sizes_and_error_texts: "rules_sizes.c";
    rules_of_the_default_pool: "rules_default.c";
    rules_of_put: "rules_put.c";
    rules_of_limits: "rules_limits.c";
    rules_of_misuse: "rules_misuse.c";
    no_lasting_memory: "lasting.c";
    many_threads: "threads.c";
    many_threads_at_the_limit: "threads_limit.c";
    gets_that_wait: "waiting.c";
    racing_puts: "threads_race.c";
    every_misuse_from_many_threads: "threads_misuse.c";
}

/// Not under valgrind, which calls the stacks of the threads that a child does not have lost memory.
#[test]
fn forks() {
    Program::c(&["fork.c"]).check();
    Program::c(&["fork_handlers.c"]).check();
}

/// Not with checkers of memory, which need more stack and more of the system than there is here.
#[test]
fn what_real_systems_do_to_a_process() {
    Program::c(&["edges.c"]).check_on_small_stacks();
}

/// Not with checkers of memory, which a program with another's rights cannot have.
#[cfg(target_os = "linux")]
#[test]
fn a_privileged_program_ignores_the_environment() {
    Program::c(&["privileged.c"]).check();
}

/// Not with checkers of memory, which are locked, too.
#[test]
fn memory_that_is_locked() {
    Program::c(&["locked.c"]).check();
}

/// Not with checkers of memory, which have allocation functions of their own.
#[test]
fn out_of_memory() {
    Program::c(&["out_of_memory.c"]).check();
}

#[test]
fn two_copies_of_the_library_keep_apart() {
    let folder = scratch("copies");
    let copies = ["first.so", "second.so"].map(|name| {
        let path = folder.join(name);
        link_shared(&path);
        path.to_str().expect("the target folder's name is UTF-8").to_owned()
    });
    Program::c(&["two_copies.c"]).check_with(&[&copies[0], &copies[1]]);
}

/// As the package links its shared library.
fn shared_library(path: &Path) {
    link_shared_with(&["-Wl,-z,nodelete", "-Wl,-soname,libbytepool-test.so"], path);
}

#[test]
fn plugins_come_and_go_and_keep_apart() {
    let folder = scratch("plugins");
    let object = folder.join("plugin.o");
    let mut compiler = compiler(Language::C);
    compiler.args(["-std=c11", "-fPIC", "-c"]).args(WARNINGS).arg(include_path());
    compiler.arg(root().join("tests/c/plugin.c")).arg("-o").arg(&object);
    compile(&mut compiler).assert_succeeded();

    // Without the library's own names, lest another copy's take their place.
    let with_static = folder.join("with_static.so");
    let mut linker = support::compiler(Language::C);
    linker.args(["-shared", "-Wl,--exclude-libs,ALL"]);
    link(linker, std::slice::from_ref(&object), &with_static);

    shared_library(&folder.join("libbytepool-test.so"));
    let with_shared = folder.join("with_shared.so");
    let mut linker = support::compiler(Language::C);
    linker.arg("-shared").arg(&object).arg("-o").arg(&with_shared);
    linker.arg(folder.join("libbytepool-test.so")).arg(format!("-Wl,-rpath,{}", folder.display()));
    compile(&mut linker).assert_succeeded();

    let paths = [with_static, with_shared];
    let paths = paths.each_ref().map(|path| path.to_str().expect("the target folder's name is UTF-8"));
    Program::c(&["plugins.c"]).check_with(&paths);
}

#[test]
#[cfg(target_env = "gnu")]
fn libraries_load_while_threads_use_pools_for_the_first_time() {
    let library = scratch("loads").join("loaded.so");
    let mut compiler = compiler(Language::C);
    compiler.args(["-std=c11", "-fPIC", "-shared"]).args(WARNINGS);
    compiler.arg(root().join("tests/c/loaded.c")).arg("-o").arg(&library);
    compile(&mut compiler).assert_succeeded();
    // The library calls a function of the program's.
    let build = Build { name: "-exporting".into(), link: vec!["-rdynamic".into()], ..Build::plain() };
    let library = library.to_str().expect("the target folder's name is UTF-8");
    Program::built(&["loads.c"], &build).check_with(&[library]);
}

/// tracking.c leaves one buffer out when its last pool closes, and then dumps without a handler.
#[test]
fn tracked_buffers_and_what_is_said_of_them() {
    let program = Program::c(&["tracking.c"]);
    let outcome = program.check();
    let lines: Vec<&str> = outcome.stderr.lines().filter(|line| !line.contains("misuse")).collect();
    assert_eq!(lines.len(), 3, "{}", outcome.describe());
    assert_eq!(lines[0], "bytepool: pool 5 was closed with 1 tracked buffers outstanding");
    for line in &lines[1..] {
        for part in ["bytepool: outstanding: 0x", " of 100 bytes (room for 512)", "tests/c/tracking.c:"] {
            assert!(line.contains(part), "{}", outcome.describe());
        }
    }
    if runs_slow("tracking.c under valgrind") {
        program.check_memory();
    }
}

/// zeroing.c has a `free` of its own, and looks at idle slots: no checker of memory would like it.
#[test]
#[cfg(target_env = "gnu")]
fn what_was_in_a_buffer_is_gone() {
    Program::c(&["zeroing.c"]).check();
}

/// guard.c does one thing that is wrong, or right, in a process of its own.
#[test]
fn guarded_buffers() {
    let program = Program::c(&["guard.c"]);
    let run = |mode: &str| {
        let outcome = program.run(&[mode]);
        let status = outcome.status.unwrap_or_else(|| panic!("{}", outcome.describe()));
        // An emulator adds that it could not handle the signal either.
        let lines = outcome.stderr.lines().filter(|line| !line.starts_with("qemu: "));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        (
            status.signal().map(|signal| signal == libc::SIGSEGV || signal == libc::SIGBUS),
            status.code(),
            lines,
        )
    };
    let tells = |lines: &[String], parts: &[&str]| {
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in
            [&["bytepool: fault at 0x", "; pool 1, got by thread ", "tests/c/guard.c:"], parts].concat()
        {
            assert!(lines[0].contains(part), "{} does not tell {part}", lines[0]);
        }
    };
    let after = "0 bytes after the end of a guarded buffer of 128 bytes at 0x";
    for (mode, told) in [
        ("overflow", [after, ""]),
        ("underflow", ["1 bytes before a guarded buffer of 65536 bytes", ""]),
        ("a_later_handler_that_calls_ours_and_returns", [after, ""]),
        ("use_after_put", ["3 bytes inside a guarded buffer of 100 bytes at 0x", " had put"]),
    ] {
        let (by_fault, _, lines) = run(mode);
        assert_eq!(by_fault, Some(true), "{mode}");
        tells(&lines, &told);
    }
    // Whoever had the signal before us has it after us.
    for (mode, code) in
        [("to_the_handler_with_info", 42), ("to_the_plain_handler", 43), ("going_on_after_own_faults", 44)]
    {
        let (_, found, lines) = run(mode);
        assert_eq!(found, Some(code), "{mode}");
        tells(&lines, &[after]);
    }
    for mode in ["going_on_after_each", "a_later_handler_that_calls_ours"] {
        let (_, found, lines) = run(mode);
        assert_eq!((found, lines.len()), (Some(46), 3), "{mode}: {lines:?}");
        lines.iter().for_each(|line| tells(std::slice::from_ref(line), &[after]));
    }
    assert_eq!(run("a_signal_that_was_sent"), (Some(true), None, vec![]));
    assert_eq!(run("a_signal_that_is_ignored"), (None, Some(45), vec![]));
    let correct = program.check_with(&["correct"]);
    assert!(correct.stderr.is_empty(), "{}", correct.describe());
}

/// How many misuses a line stands for that says how many were not shown.
fn left_out(line: &str) -> Option<usize> {
    line.strip_prefix("bytepool: ")?.strip_suffix(" more misuses were not shown")?.parse().ok()
}

/// default_handler.c announces on stdout what stderr must tell: single misuses, and one burst between the
/// last two.
#[test]
fn the_default_handler_writes_ten_lines_a_second_of_a_million_misuses() {
    let program = Program::c(&["default_handler.c"]);
    let outcome = program.check_with(&[]); // all of them, in an emulator too
    let announced: Vec<Vec<&str>> = outcome.stdout.lines().map(|line| line.split(' ').collect()).collect();
    let singles: Vec<&[&str]> =
        announced.iter().filter(|words| words[0] == "misuse").map(|words| &words[1..]).collect();
    let number = |word: &str| word.parse::<usize>().expect("a number");
    let burst = announced.iter().find(|words| words[0] == "burst").expect("a burst is announced");
    let (count, milliseconds) = (number(burst[1]), number(burst[2]));

    let shown: Vec<&str> = outcome.stderr.lines().filter(|line| left_out(line).is_none()).collect();
    assert!(singles.len() >= 5 && shown.len() >= singles.len(), "{}", outcome.describe());
    let (before, rest) = shown.split_at(singles.len() - 1);
    let (of_burst, after) = rest.split_at(rest.len() - 1);
    for (line, single) in before.iter().chain(after).zip(&singles) {
        assert_tells(line, single, &outcome);
    }
    assert_eq!(count, 1_000_000);
    // Ten at once, and ten for each second that it lasts.
    let most = 10 * (1 + milliseconds.div_ceil(1000));
    assert!((10..=most).contains(&of_burst.len()), "{} lines: {}", of_burst.len(), outcome.describe());
    let left_out: usize = outcome.stderr.lines().filter_map(left_out).sum();
    assert_eq!(of_burst.len() + left_out, count, "{}", outcome.describe());
    if runs_slow("default_handler.c under valgrind") {
        program.check_memory();
    }
}

/// `single` is kind, context, pointer, size, and the class's buffer size or 0.
fn assert_tells(line: &str, single: &[&str], outcome: &Outcome) {
    let &[kind, context, pointer, size, class] = single else { panic!("{single:?} is no misuse") };
    assert_eq!(kind == "swapped", line.contains("are the arguments swapped?"), "{line}");
    let kind = match kind {
        "double" => "put already",
        "mismatch" => "size is not the one",
        "foreign" => "not the start of a buffer",
        _ => "invalid context",
    };
    let class = if class == "0" { String::new() } else { format!("buffer size {class}") };
    for part in [kind, context, pointer, &format!("size {size}"), &class] {
        assert!(line.contains(part), "\"{line}\" does not tell \"{part}\": {}", outcome.describe());
    }
    assert!(!class.is_empty() || !line.contains("buffer size"), "{line}");
}

/// What no C program can do: a rounding function that panics, in a pool made by Rust. Whatever call it
/// happens in, and at whichever of its calls of the function, the status is PANIC and no buffer is lost.
mod panics {
    use std::ffi::c_void;
    use std::ptr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use bytepool::Pool;
    use bytepool::ffi::capi::*;
    use bytepool::ffi::status::Status;

    const PANIC: i32 = Status::Panic as i32;

    /// A pool whose rounding function panics when it has been called `fuse` more times; `usize::MAX` for
    /// never.
    fn pool(fuse: &Arc<AtomicUsize>) -> Pool {
        let fuse = Arc::clone(fuse);
        let round = move |size| {
            let left = fuse.load(Relaxed);
            if left == 0 {
                fuse.store(usize::MAX, Relaxed);
                panic!("on purpose");
            }
            if left != usize::MAX {
                fuse.store(left - 1, Relaxed);
            }
            size
        };
        Pool::builder().size_class(100, 4).size_class(4096, 4).round(round).build().unwrap()
    }

    fn outstanding(pool: &Pool) -> u64 {
        let stats = pool.stats();
        stats.assert_consistent();
        stats.gets - stats.puts
    }

    /// Runs `call` on a pool with two outstanding buffers, a slot and an oversize one, with the panic at its
    /// first use of the rounding function, at its second, and so on until none happens. `call` says whether
    /// it failed; then the two must still be out, and nothing else. How many panics there were.
    fn check(name: &str, call: impl Fn(*mut c_void, [*mut c_void; 2]) -> bool) -> usize {
        for uses in 0..100 {
            let fuse = Arc::new(AtomicUsize::new(usize::MAX));
            let pool = pool(&fuse);
            let context = pool.context();
            let context = context.as_ptr();
            let data = [bytepool_get(context, 50), bytepool_get(context, 9000)];
            fuse.store(uses, Relaxed);
            let failed = call(context, data);
            let blown = fuse.swap(usize::MAX, Relaxed) == usize::MAX;
            assert_eq!(failed, blown, "{name}, panic at use {uses}");
            if !blown {
                return uses;
            }
            assert_eq!(bytepool_last_error(), PANIC, "{name}, panic at use {uses}");
            assert_eq!(outstanding(&pool), 2, "{name}, panic at use {uses}: buffers were lost");
            // SAFETY:
            // - both buffers are this function's, and used by nobody
            let put = unsafe {
                [bytepool_put_checked(context, data[0], 50), bytepool_put_checked(context, data[1], 9000)]
            };
            assert_eq!((put, outstanding(&pool)), ([0, 0], 0), "{name}, panic at use {uses}");
        }
        panic!("{name} does not come to an end");
    }

    /// With overflow checks, as in a debug build of the library, which the C programs do not link.
    #[test]
    fn do_not_come_from_our_own_arithmetic() {
        let pool = pool(&Arc::new(AtomicUsize::new(usize::MAX)));
        let context = pool.context();
        let context = context.as_ptr();
        for size in [0, 1, usize::MAX / 2, usize::MAX / 2 + 1, usize::MAX - 1, usize::MAX] {
            for alignment in (0..64).map(|bit| 1 << bit) {
                let data = bytepool_get_aligned(context, alignment, size);
                assert_ne!(bytepool_last_error(), PANIC, "{size} bytes at {alignment}");
                // SAFETY:
                // - a buffer of our own, or NULL
                unsafe { bytepool_put_unsized(context, data) };
            }
            for count in [2, 3, usize::MAX] {
                let data = bytepool_calloc(context, count, size);
                assert_ne!(bytepool_last_error(), PANIC, "{count} times {size} bytes");
                // SAFETY:
                // - a buffer of our own, or NULL
                unsafe { bytepool_put_unsized(context, data) };
            }
        }
    }

    #[test]
    fn become_a_status_and_lose_nothing() {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref() != Some(&"on purpose") {
                usual(info);
            }
        }));
        // SAFETY (of all below):
        // - the pointers are the buffers of `check`, locals of this function, or stray ones that are refused
        let panics = [
            check("get", |context, _| bytepool_get(context, 100).is_null()),
            check("get of an oversize buffer", |context, _| bytepool_get(context, 5000).is_null()),
            check("calloc", |context, _| bytepool_calloc(context, 2, 30).is_null()),
            check("get_aligned", |context, _| bytepool_get_aligned(context, 4096, 30).is_null()),
            check("copy", |context, _| {
                // SAFETY: as above
                unsafe { bytepool_copy(context, [7u8; 9].as_ptr().cast(), 9) }.is_null()
            }),
            check("get_many", |context, _| {
                let mut out = [ptr::dangling_mut(); 3];
                // SAFETY: as above
                let status = unsafe { bytepool_get_many(context, 50, out.as_mut_ptr(), out.len()) };
                let given = out.iter().filter(|data| !data.is_null()).count();
                assert_eq!(given, if status == 0 { 3 } else { 0 }, "get_many: all or none");
                status == PANIC
            }),
            check("put with another size of the class", |context, data| {
                // SAFETY: as above
                unsafe { bytepool_put_checked(context, data[0], 51) == PANIC }
            }),
            check("realloc within the class", |context, data| {
                // SAFETY: as above
                unsafe { bytepool_realloc(context, data[0], 60) }.is_null()
            }),
            check("realloc to another class", |context, data| {
                // SAFETY: as above
                unsafe { bytepool_realloc(context, data[0], 4000) }.is_null()
            }),
        ];
        assert!(!panics.contains(&0), "a call that never rounds is no case: {panics:?}");
        // These may round or not.
        check("put of an oversize buffer", |context, data| {
            // SAFETY: as above
            unsafe { bytepool_put_checked(context, data[1], 9000) == PANIC }
        });
        check("realloc of an oversize buffer", |context, data| {
            // SAFETY: as above
            unsafe { bytepool_realloc(context, data[1], 20000) }.is_null()
        });
    }
}
