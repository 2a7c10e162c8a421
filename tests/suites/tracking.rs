//! Every tracked buffer that is outstanding knows where it was got, by whom and when; one that was put is
//! forgotten; what is still out when a pool closes is told on stderr.

use std::collections::BTreeMap;
use std::env;
use std::panic::Location;
use std::ptr::NonNull;
use std::thread;
use std::time::Duration;

use bytepool::{Language, Outstanding, Pool, PooledBuffer};

use crate::support::emulator;
use crate::valgrind;

fn pool(track_every: u32) -> Pool {
    Pool::builder().size_class(512, 2).size_class(4096, 64).track_every(track_every).build().unwrap()
}

fn outstanding(pool: &Pool) -> Vec<Outstanding> {
    pool.dump_outstanding().unwrap()
}

/// What is out, and it is one buffer.
#[track_caller]
fn the_one(pool: &Pool) -> Outstanding {
    let all = outstanding(pool);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

/// Runs `get` and says in which line it was called, so that both stand in one line.
#[track_caller]
fn here<T>(got: T) -> (T, &'static Location<'static>) {
    (got, Location::caller())
}

#[track_caller]
fn assert_told(buffer: &Outstanding, address: usize, size: usize, buffer_size: usize, line: u32) {
    let said = (buffer.address, buffer.size, buffer.buffer_size, buffer.file, buffer.line);
    let buffer_size = valgrind::capacity(size, buffer_size);
    assert_eq!(said, (address, size, buffer_size, Some(file!()), line));
    assert_eq!(buffer.language, Language::Rust);
    assert!(buffer.column > 0);
}

fn put(pool: &Pool, data: NonNull<u8>, size: usize) {
    // SAFETY:
    // - the tests' own buffers
    unsafe { pool.put_raw(data, size) }.unwrap();
}

#[test]
fn a_slot_an_overflow_and_an_oversize_buffer_are_told_until_they_are_put() {
    let pool = pool(1);
    // Two slots, and one too many.
    let (buffers, place) = here([pool.get(100), pool.get(512), pool.get(0)].map(Result::unwrap));
    let (large, large_place) = here(pool.get(9000).unwrap());
    let all = outstanding(&pool);
    let sizes = [(100, 512), (512, 512), (0, 512), (9000, 9000)];
    let addresses = buffers.iter().chain([&large]).map(|buffer| buffer.as_ptr().addr());
    for ((address, (size, buffer_size)), line) in
        addresses.zip(sizes).zip([place.line(), place.line(), place.line(), large_place.line()])
    {
        let told: Vec<_> = all.iter().filter(|told| told.address == address).collect();
        assert_eq!(told.len(), 1);
        assert_told(told[0], address, size, buffer_size, line);
    }
    assert_eq!(all.len(), 4);
    // The oldest first.
    assert!(all.windows(2).all(|pair| pair[0].age >= pair[1].age));
    assert_eq!(all[3].size, 9000);

    drop(large);
    assert_eq!(outstanding(&pool).len(), 3);
    drop(buffers);
    assert!(outstanding(&pool).is_empty());
}

#[test]
fn every_method_that_gets_tells_its_own_caller() {
    let pool = pool(1);
    let (buffer, place) = here(pool.get_zeroed(10).unwrap());
    assert_told(&the_one(&pool), buffer.as_ptr().addr(), 10, 512, place.line());
    drop(buffer);
    let (buffer, place) = here(pool.copy(b"hello").unwrap());
    assert_told(&the_one(&pool), buffer.as_ptr().addr(), 5, 512, place.line());
    drop(buffer);
    let (data, place) = here(pool.get_raw(20).unwrap());
    assert_told(&the_one(&pool), data.addr().get(), 20, 512, place.line());
    put(&pool, data, 20);
    let (buffer, place) = here(pool.get_timeout(5, Duration::from_secs(1)).unwrap());
    assert_told(&the_one(&pool), buffer.as_ptr().addr(), 5, 512, place.line());
    drop(buffer);
    let (data, place) = here(pool.get_raw_timeout(20, Duration::ZERO).unwrap());
    assert_told(&the_one(&pool), data.addr().get(), 20, 512, place.line());
    put(&pool, data, 20);
    for (alignment, buffer_size) in [(64, 4096), (1 << 16, 1000)] {
        let (data, place) = here(pool.get_raw_aligned(alignment, 1000).unwrap());
        assert_told(&the_one(&pool), data.addr().get(), 1000, buffer_size, place.line());
        put(&pool, data, 1000);
    }
    assert!(outstanding(&pool).is_empty());
}

#[test]
fn a_reallocation_in_place_keeps_its_place_and_another_tells_its_own() {
    let pool = pool(1);
    let (data, place) = here(pool.get_raw(20).unwrap());
    // SAFETY:
    // - the test's own buffer, here and below
    let (same, new_place) = here(unsafe { pool.realloc_raw(data, 30) }.unwrap());
    assert_eq!(same != data, valgrind::replacements(), "in place");
    let place = if valgrind::replacements() { new_place } else { place };
    assert_told(&the_one(&pool), same.addr().get(), 30, 512, place.line());
    // SAFETY: as above
    let (data, place) = here(unsafe { pool.realloc_raw(same, 4000) }.unwrap());
    assert_told(&the_one(&pool), data.addr().get(), 4000, 4096, place.line());
    put(&pool, data, 4000);
    assert!(outstanding(&pool).is_empty());
}

#[test]
fn a_buffer_that_changes_hands_is_the_one_that_was_got() {
    let pool = pool(1);
    for size in [100, 9000] {
        let (buffer, place) = here(pool.get(size).unwrap());
        let (data, len) = buffer.into_raw();
        assert_told(&the_one(&pool), data.addr().get(), size, size.max(512), place.line());
        // SAFETY:
        // - the test's own buffer, initialised
        let buffer = unsafe { PooledBuffer::from_raw(&pool, data, len) }.unwrap();
        assert_told(&the_one(&pool), data.addr().get(), size, size.max(512), place.line());
        let (data, _) = buffer.into_raw();
        // SAFETY: as above
        unsafe { pool.put_raw_unsized(data) }.unwrap();
        assert!(outstanding(&pool).is_empty());
    }
}

#[test]
fn a_refused_put_forgets_nothing() {
    let pool = pool(1);
    let data = pool.get_raw(100).unwrap();
    // SAFETY:
    // - the test's own buffer
    assert!(unsafe { pool.put_raw(data, 4000) }.is_err());
    assert_eq!(the_one(&pool).address, data.addr().get());
    put(&pool, data, 100);
    assert!(outstanding(&pool).is_empty());
}

#[test]
fn age_and_thread_are_those_of_the_get() {
    let pool = pool(1);
    let name = "the getter";
    let getter = thread::Builder::new().name(name.into()).spawn({
        let pool = pool.clone();
        move || pool.get(10).unwrap()
    });
    let buffer = getter.unwrap().join().unwrap();
    thread::sleep(Duration::from_millis(30));
    let told = the_one(&pool);
    assert!(told.age >= Duration::from_millis(30) && told.age < Duration::from_secs(100), "{:?}", told.age);
    drop(buffer);
    let _own = pool.get(10).unwrap();
    let own = the_one(&pool);
    assert!(own.age < told.age, "{own:?}");
    if cfg!(target_os = "linux") {
        assert_eq!(told.thread_name(), name);
        assert_ne!(told.thread, own.thread);
        assert_eq!(own.thread, number_of_this_thread());
    }
}

/// The system's number of this thread, as another part of the system tells it.
fn number_of_this_thread() -> u64 {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
fn one_get_in_three_is_sampled() {
    let pool = pool(3);
    let mut buffers: Vec<_> = (0..30).map(|_| pool.get(1000).unwrap()).collect();
    assert_eq!(outstanding(&pool).len(), 10);
    let told: Vec<usize> = outstanding(&pool).iter().map(|told| told.address).collect();
    buffers.retain(|buffer| told.contains(&buffer.as_ptr().addr()));
    assert_eq!((buffers.len(), outstanding(&pool).len()), (10, 10));
    buffers.clear();
    assert!(outstanding(&pool).is_empty());
}

#[test]
fn a_pool_that_does_not_track_tells_nothing() {
    if env::var_os("BYTEPOOL_TRACK").is_some() {
        return;
    }
    let pool = pool(0);
    let _buffer = pool.get(100).unwrap();
    assert!(outstanding(&pool).is_empty());
}

#[test]
fn sixteen_threads_at_once_are_told_exactly() {
    let pool = pool(1);
    let kept: Vec<PooledBuffer> = thread::scope(|scope| {
        let work = |thread: usize| {
            let pool = &pool;
            scope.spawn(move || {
                let mut kept = Vec::new();
                for round in 0..500 {
                    let buffer = pool.get([10, 2000, 9000][round % 3]).unwrap();
                    if (round + thread) % 50 == 0 {
                        kept.push(buffer);
                    }
                }
                kept
            })
        };
        let threads: Vec<_> = (0..16).map(work).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let told: BTreeMap<usize, usize> = outstanding(&pool).iter().map(|one| (one.address, one.size)).collect();
    let expected = kept.iter().map(|buffer| (buffer.as_ptr().addr(), buffer.len())).collect();
    assert_eq!(told, expected);
    drop(kept);
    assert!(outstanding(&pool).is_empty());
    pool.stats().assert_consistent();
}

// ---- what a process says on stderr ----

/// Runs one test of this binary in a process of its own, in which `CHILD` is set; its stderr.
fn child(test: &str, environment: &[(&str, &str)]) -> String {
    assert!(!is_child(), "the child went on: it was to end");
    let mut command = emulator::start(env::current_exe().unwrap());
    command.args(["--exact", &format!("tracking::{test}"), "--nocapture"]).env("CHILD", "1");
    command.env_remove("BYTEPOOL_TRACK").env_remove("BYTEPOOL_GUARD").envs(environment.iter().copied());
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{}: {out}\n{err}", output.status);
    err.into_owned()
}

fn is_child() -> bool {
    env::var_os("CHILD").is_some()
}

#[test]
fn what_is_out_when_a_pool_closes_is_told_once() {
    if is_child() {
        let pool = pool(1);
        let all: Vec<_> = (0..40).map(|_| pool.get(100).unwrap()).collect();
        pool.close();
        pool.close();
        drop(pool);
        // The last handle's end closes, too. One that has all its buffers back says nothing.
        let (other, silent) = (self::pool(1), self::pool(1));
        let buffer = other.get(77).unwrap();
        drop(silent.get(1).unwrap());
        drop((other, silent));
        drop((all, buffer));
        return;
    }
    let said = child("what_is_out_when_a_pool_closes_is_told_once", &[]);
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("bytepool: ")).collect();
    assert_eq!(lines.len(), 1 + 32 + 1 + 2, "{said}");
    assert_eq!(lines[0], "bytepool: pool 1 was closed with 40 tracked buffers outstanding");
    let tells = |line: &str, size: usize| {
        [
            "bytepool: outstanding: 0x",
            &format!(" of {size} bytes (room for 512), got 0."),
            " s ago by thread ",
            file!(),
        ]
        .iter()
        .all(|part| line.contains(part))
    };
    assert!(lines[1..33].iter().all(|line| tells(line, 100)), "{said}");
    assert_eq!(lines[33], "bytepool: and 8 more");
    assert_eq!(lines[34], "bytepool: pool 2 was closed with 1 tracked buffers outstanding");
    assert!(tells(lines[35], 77), "{said}");
}

#[test]
fn the_environment_turns_tracking_on_for_pools_that_do_not_ask() {
    const TEST: &str = "the_environment_turns_tracking_on_for_pools_that_do_not_ask";
    if is_child() {
        for asked in [0, 1] {
            let pool = pool(asked);
            let _buffers: Vec<_> = (0..20).map(|_| pool.get(1000).unwrap()).collect();
            eprintln!("asked {asked}, tracked {}", outstanding(&pool).len());
        }
        return;
    }
    for (value, tracked) in [("1", 20), (" 5 ", 4), ("0", 0), ("yes", 0), ("-1", 0), ("", 0)] {
        let said = child(TEST, &[("BYTEPOOL_TRACK", value)]);
        assert!(said.contains(&format!("asked 0, tracked {tracked}")), "{value}: {said}");
        assert!(said.contains("asked 1, tracked 20"), "{value}: {said}");
        let ignored = format!("bytepool: BYTEPOOL_TRACK={value} is ignored: it is no number");
        let numbers = ["1", " 5 ", "0"];
        assert_eq!(said.contains(&ignored), !numbers.contains(&value), "{value}: {said}");
    }
}
