//! A guarded buffer lies between unreadable pages: what leaves it or uses it after its put faults at once, and a
//! line on stderr says which buffer it was. What is right stays silent, and as it is without guards.

#![cfg(all(unix, not(bytepool_portable)))]

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::ptr::NonNull;
use std::thread;

use bytepool::{GetError, Misuse, Pool};

use crate::support::emulator;

/// Whole pages, whatever their size.
const PAGES: usize = 64 << 10;

fn pool(guard_every: u32) -> Pool {
    Pool::builder().size_class(512, 2).size_class(4096, 64).guard_every(guard_every).build().unwrap()
}

/// Runs one test of this binary in a process of its own, in which `CHILD` is set.
fn child(test: &str, environment: &[(&str, &str)]) -> Output {
    assert!(!is_child(), "the child went on: it was to end");
    let mut command = emulator::start(env::current_exe().unwrap());
    command.args(["--exact", &format!("guard::{test}"), "--nocapture"]).env("CHILD", "1");
    command.env_remove("BYTEPOOL_TRACK").env_remove("BYTEPOOL_GUARD").envs(environment.iter().copied());
    let output = command.output().unwrap();
    let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(ran || !output.status.success(), "no test ran: {output:?}");
    output
}

fn is_child() -> bool {
    env::var_os("CHILD").is_some()
}

/// What the library said.
fn said(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| line.starts_with("bytepool: ")).map(str::to_owned).collect()
}

/// The child's test dies of a fault, and says one line with all of `parts`.
#[track_caller]
fn assert_faults(test: &str, parts: &[&str]) {
    let output = child(test, &[]);
    let signal = output.status.signal();
    assert!(signal == Some(libc::SIGSEGV) || signal == Some(libc::SIGBUS), "{output:?}");
    let said = said(&output);
    assert_eq!(said.len(), 1, "{output:?}");
    for part in parts {
        assert!(said[0].contains(part), "\"{}\" does not say \"{part}\"", said[0]);
    }
}

fn write(data: NonNull<u8>, offset: isize) {
    // SAFETY:
    // - none: the tests do what the library is to catch, in a process that it ends
    unsafe { data.offset(offset).write_volatile(1) };
}

fn read(data: NonNull<u8>, offset: isize) -> u8 {
    // SAFETY: as for `write`
    unsafe { data.offset(offset).read_volatile() }
}

fn put(pool: &Pool, data: NonNull<u8>, size: usize) {
    // SAFETY:
    // - the tests' own buffers
    unsafe { pool.put_raw(data, size) }.unwrap();
}

/// A raw buffer, and the line of its get.
fn get(pool: &Pool, size: usize) -> (NonNull<u8>, String) {
    (pool.get_raw(size).unwrap(), format!("{}:{}", file!(), line!()))
}

#[test]
fn a_write_past_the_end_faults() {
    let pool = pool(1);
    let (data, place) = get(&pool, 128);
    if is_child() {
        write(data, 127);
        write(data, 128);
    }
    let parts = ["bytepool: fault at 0x", ", 0 bytes after the end of a guarded buffer of 128 bytes at 0x"];
    assert_faults(
        "a_write_past_the_end_faults",
        &[&parts[..], &["; pool 1, got by thread ", &place]].concat(),
    );
    put(&pool, data, 128);
}

#[test]
fn a_read_past_the_end_faults_wherever_the_buffer_comes_from() {
    let pool = pool(1);
    // Two slots, overflow, and oversize.
    let all: Vec<_> = [512, 512, 512, PAGES].iter().map(|&size| (get(&pool, size).0, size)).collect();
    if is_child() {
        let (data, size) = all[env::var("WHICH").unwrap().parse::<usize>().unwrap()];
        read(data, size as isize - 1);
        read(data, size as isize + 7);
    }
    for (which, size) in [(0, 512), (1, 512), (2, 512), (3, PAGES)] {
        let output = child(
            "a_read_past_the_end_faults_wherever_the_buffer_comes_from",
            &[("WHICH", &which.to_string())],
        );
        let said = said(&output);
        assert!(output.status.signal().is_some() && said.len() == 1, "{output:?}");
        assert!(said[0].contains(&format!(", 7 bytes after the end of a guarded buffer of {size} bytes")));
    }
    all.into_iter().for_each(|(data, size)| put(&pool, data, size));
}

#[test]
fn a_write_before_the_pages_of_a_buffer_faults() {
    let pool = pool(1);
    let (data, _) = get(&pool, PAGES);
    if is_child() {
        write(data, 0);
        write(data, -1);
    }
    let parts = ["1 bytes before a guarded buffer of 65536 bytes"];
    assert_faults("a_write_before_the_pages_of_a_buffer_faults", &parts);
    put(&pool, data, PAGES);
}

#[test]
fn a_read_after_the_put_faults() {
    let pool = pool(1);
    let mut buffer = pool.get(100).unwrap();
    let data = NonNull::from(&mut buffer[0]);
    drop(buffer);
    // Others do not take its place.
    (0..100).for_each(|_| drop(pool.get(100).unwrap()));
    if is_child() {
        read(data, 10);
    }
    let parts = [
        ", 10 bytes inside a guarded buffer of 100 bytes at 0x",
        " that thread ",
        " had put; pool 1, got by",
    ];
    assert_faults("a_read_after_the_put_faults", &parts);
}

#[test]
fn a_write_of_the_old_pointer_after_a_reallocation_faults() {
    let pool = pool(1);
    let (data, _) = get(&pool, 100);
    write(data, 5);
    // SAFETY:
    // - the test's own buffer
    let new = unsafe { pool.realloc_raw(data, 200) }.unwrap();
    assert_eq!(read(new, 5), 1);
    if is_child() {
        write(data, 5);
    }
    assert_faults("a_write_of_the_old_pointer_after_a_reallocation_faults", &["of 100 bytes", "had put"]);
    put(&pool, new, 200);
}

/// Within what alignment leaves between the end and the page nothing can fault.
#[test]
fn a_write_into_the_slack_is_found_at_the_put() {
    if is_child() {
        let pool = pool(1);
        let (data, _) = get(&pool, 100);
        write(data, 103);
        put(&pool, data, 100);
        return;
    }
    let output = child("a_write_into_the_slack_is_found_at_the_put", &[]);
    let said = said(&output);
    assert!(output.status.success() && said.len() == 1, "{output:?}");
    let parts =
        "bytepool: overflow found at the put: 3 bytes after the end of a guarded buffer of 100 bytes at 0x";
    assert!(said[0].starts_with(parts), "{output:?}");
}

#[test]
fn another_fault_is_not_ours_to_tell() {
    if is_child() {
        let pool = pool(1);
        drop(pool.get(100).unwrap());
        // SAFETY: as for `write`
        unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
    }
    let output = child("another_fault_is_not_ours_to_tell", &[]);
    assert!(output.status.signal().is_some() && said(&output).is_empty(), "{output:?}");
}

#[test]
fn a_correct_program_is_silent_and_its_figures_are_as_ever() {
    if is_child() {
        let pool = pool(1);
        thread::scope(|scope| {
            for thread in 0..8_usize {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..200 {
                        let size = (thread * 977 + round * 131) % 9000;
                        let mut buffer = pool.get(size).unwrap();
                        assert!(buffer.iter().all(|&byte| byte == 0));
                        assert!(buffer.as_ptr().addr() % 64 == 0);
                        assert_eq!(buffer.capacity(), size);
                        buffer.fill(thread as u8 + 1);
                        assert!(buffer.iter().all(|&byte| byte == thread as u8 + 1));
                    }
                });
            }
        });
        let stats = pool.stats();
        stats.assert_consistent();
        assert_eq!((stats.gets, stats.puts), (1600, 1600));
        let held = [pool.get(10).unwrap(), pool.get(4000).unwrap(), pool.get(9000).unwrap()];
        let stats = pool.stats();
        stats.assert_consistent();
        assert_eq!(stats.oversize_bytes, 9000);
        pool.close();
        drop(held);
        return;
    }
    let output = child("a_correct_program_is_silent_and_its_figures_are_as_ever", &[]);
    assert!(output.status.success() && said(&output).is_empty(), "{output:?}");
}

#[test]
fn one_get_in_three_is_guarded_and_the_others_are_slots() {
    let pool = pool(3);
    let buffers: Vec<_> = (0..30).map(|_| pool.get(1000).unwrap()).collect();
    // A guarded buffer has room for what was asked for.
    let guarded = buffers.iter().filter(|buffer| buffer.capacity() == 1000).count();
    assert_eq!(guarded, 10);
    assert!(buffers.iter().all(|buffer| [1000, 4096].contains(&buffer.capacity())));
    let stats = pool.stats();
    assert_eq!((stats.classes[1].outstanding, stats.system_allocations), (30, 0));
    assert_eq!(stats.mapped_bytes, 30 * 4096);
    drop(buffers);
    pool.stats().assert_consistent();
}

#[test]
fn more_than_can_be_guarded_are_plain_buffers() {
    let pool = pool(1);
    let mut buffers: Vec<_> = (0..5000).map(|_| pool.get(10).unwrap()).collect();
    buffers.iter_mut().for_each(|buffer| buffer.fill(1));
    pool.stats().assert_consistent();
    drop(buffers);
    let stats = pool.stats();
    assert_eq!((stats.gets, stats.puts), (5000, 5000));
    stats.assert_consistent();
}

#[test]
fn the_limit_counts_a_guarded_buffer_as_its_slot() {
    let pool = Pool::builder().size_class(512, 10).max_bytes(2 * 512).guard_every(1).build().unwrap();
    let held = [pool.get(1).unwrap(), pool.get(512).unwrap()];
    assert!(matches!(pool.get(1), Err(GetError::Limit { limit: 1024, mapped: 1024, requested: 512 })));
    drop(held);
    drop([pool.get(1).unwrap(), pool.get(512).unwrap()]);
    pool.stats().assert_consistent();
}

#[test]
fn misuse_of_a_guarded_buffer_is_refused_as_ever() {
    let pool = pool(1);
    let (data, _) = get(&pool, 100);
    let address = data.addr().get();
    // SAFETY:
    // - the test's own buffer
    let puts = |size| unsafe { pool.put_raw(data, size) };
    assert!(matches!(
        puts(4000),
        Err(Misuse::SizeMismatch { size: 4000, requested: 100, buffer_size: 512, .. })
    ));
    assert_eq!(puts(500), Ok(()));
    assert_eq!(puts(100), Err(Misuse::DoublePut { address, buffer_size: 512 }));
    let stats = pool.stats();
    assert_eq!((stats.size_mismatches, stats.double_puts), (1, 1));
}

#[test]
fn the_environment_guards_pools_that_do_not_ask() {
    if is_child() {
        let pool = pool(0);
        let buffers: Vec<_> = (0..20).map(|_| pool.get(1000).unwrap()).collect();
        eprintln!("guarded {}", buffers.iter().filter(|buffer| buffer.capacity() == 1000).count());
        return;
    }
    for (value, guarded) in [("1", 20), ("4", 5), ("0", 0)] {
        let output = child("the_environment_guards_pools_that_do_not_ask", &[("BYTEPOOL_GUARD", value)]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(&format!("guarded {guarded}")), "{value}: {text}");
    }
}
