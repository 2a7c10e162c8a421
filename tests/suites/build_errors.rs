//! An invalid configuration is refused when the pool is built, by an error whose message names the value and
//! the limit.

use bytepool::{BuildError, Builder, MAX_ALIGNMENT, Pool, round_original};

use crate::valgrind;

/// The refusal, after checking that its message has all `parts`.
fn refusal(builder: Builder, parts: &[&str]) -> BuildError {
    let error = builder.build().expect_err("an invalid configuration was accepted");
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} does not name {part:?}");
    }
    error
}

#[test]
fn a_class_of_zero_bytes_is_refused() {
    let builder = Pool::builder().size_class(64, 1).size_class(0, 5);
    let error = refusal(builder, &["size class 1", "0 bytes", "the least is 1"]);
    assert!(matches!(error, BuildError::ZeroBufferSize { index: 1 }), "{error:?}");
}

#[test]
fn a_class_of_zero_bytes_is_refused_although_rounding_would_make_it_larger() {
    let builder = Pool::builder().size_class(0, 5).round(round_original);
    let error = refusal(builder, &["size class 0", "0 bytes", "the least is 1"]);
    assert!(matches!(error, BuildError::ZeroBufferSize { index: 0 }), "{error:?}");
}

#[test]
fn a_class_without_buffers_is_refused() {
    let builder = Pool::builder().size_class(64, 1).size_class(4096, 0);
    let error = refusal(builder, &["4096 bytes", "0 buffers", "the least is 1"]);
    assert!(matches!(error, BuildError::ZeroCapacity { buffer_size: 4096 }), "{error:?}");
}

#[test]
fn general_purpose_classes_of_no_sizes_are_refused() {
    let builder = |smallest, largest| Pool::builder().general_purpose(smallest, largest);
    let error = refusal(builder(4096, 64), &["from 4096 to 64 bytes"]);
    assert!(matches!(error, BuildError::SizeRange { smallest: 4096, largest: 64 }), "{error:?}");
    let error = refusal(builder(0, 0), &["from 0 to 0 bytes"]);
    assert!(matches!(error, BuildError::SizeRange { .. }), "{error:?}");
    let error = refusal(builder(64, (3 << 30) + 1), &["3221225473 bytes", "limit of 3221225472"]);
    assert!(matches!(error, BuildError::BufferSizeTooLarge { .. }), "{error:?}");
    let error = refusal(builder(1, 1 << 30), &["68 size classes", "limit of 64"]);
    assert!(matches!(error, BuildError::TooManyClasses { count: 68, limit: 64 }), "{error:?}");
    let twice = builder(64, 16 << 10).general_purpose(20 << 10, 3 << 30);
    let stats = twice.build().expect("all of them").stats();
    assert_eq!((stats.classes.len(), stats.classes[62].buffer_size), (63, 3 << 30));
}

#[test]
fn two_classes_of_one_size_are_refused() {
    let builder = Pool::builder().size_class(512, 1).size_class(64, 7).size_class(512, 2);
    let error = refusal(builder, &["two classes", "512 bytes", "must differ"]);
    assert!(matches!(error, BuildError::DuplicateBufferSize { buffer_size: 512 }), "{error:?}");
}

#[test]
fn two_classes_that_rounding_makes_one_are_refused() {
    let builder = Pool::builder().size_class(100, 1).size_class(96, 1);
    builder.clone().build().expect("without rounding they differ");
    let error = refusal(builder.round(round_original), &["two classes", "352 bytes", "after rounding"]);
    assert!(matches!(error, BuildError::DuplicateBufferSize { buffer_size: 352 }), "{error:?}");
}

#[test]
fn an_alignment_that_is_no_power_of_two_or_too_large_is_refused() {
    for alignment in [3, 48, 4095, MAX_ALIGNMENT + 1, 4 << 20, usize::MAX, 1 << 63] {
        let builder = Pool::builder().size_class(64, 1).alignment(alignment);
        let value = format!("{alignment} bytes");
        let error = refusal(builder, &[&value, "power of two", "2097152"]);
        assert!(
            matches!(error, BuildError::Alignment { alignment: a, limit: MAX_ALIGNMENT } if a == alignment),
            "{error:?}"
        );
    }
    for alignment in [0, 1, 2, 64, 4096, MAX_ALIGNMENT] {
        let pool = Pool::builder().size_class(64, 1).alignment(alignment).build().unwrap();
        assert_eq!(pool.alignment(), if alignment == 0 { 64 } else { alignment });
    }
}

#[test]
fn more_than_64_classes_are_refused() {
    let classes = |count: usize| (1..=count).fold(Pool::builder(), |b, n| b.size_class(n * 100, 1));
    assert_eq!(classes(64).build().unwrap().stats().classes.len(), 64);
    let error = refusal(classes(65), &["65 size classes", "limit of 64"]);
    assert!(matches!(error, BuildError::TooManyClasses { count: 65, limit: 64 }), "{error:?}");
}

/// The largest size of a class, in bytes: the ledger has 32 bits for "size + 1" and one value for itself.
const MAX_BUFFER_SIZE: usize = (1 << 32) - 3;

#[test]
fn a_class_of_too_large_buffers_is_refused() {
    for size in [MAX_BUFFER_SIZE + 1, 1 << 32, usize::MAX] {
        let error =
            refusal(Pool::builder().size_class(size, 1), &[&format!("{size} bytes"), "limit of 4294967293"]);
        let BuildError::BufferSizeTooLarge { buffer_size, limit } = error else { panic!("{error:?}") };
        assert_eq!((buffer_size, limit), (size, MAX_BUFFER_SIZE));
    }
}

#[test]
fn a_class_that_rounding_makes_too_large_is_refused() {
    let builder = Pool::builder().size_class(100, 1).round(|size| size << 30);
    let error = refusal(builder, &["107374182400 bytes", "after rounding", "limit of 4294967293"]);
    assert!(matches!(error, BuildError::BufferSizeTooLarge { .. }), "{error:?}");
}

#[test]
fn a_class_of_too_many_buffers_is_refused() {
    for capacity in [(1 << 30) + 1, 1 << 32, usize::MAX] {
        let builder = Pool::builder().size_class(64, capacity);
        let error =
            refusal(builder, &["class of 64 bytes", &format!("{capacity} buffers"), "limit of 1073741824"]);
        assert!(
            matches!(error, BuildError::CapacityTooLarge { capacity: c, .. } if c == capacity),
            "{error:?}"
        );
    }
}

/// The most address space a pool may have, in bytes.
const MAX_ADDRESS_SPACE: usize = 1 << 44;

/// A refusal for `bytes` bytes of address space, which are named with the limit.
fn refused_address_space(builder: Builder, bytes: usize) {
    let error = refusal(builder, &["address space", &format!("{bytes} bytes"), "limit of 17592186044416"]);
    assert!(
        matches!(error, BuildError::AddressSpace { bytes: b, limit: MAX_ADDRESS_SPACE } if b == bytes),
        "{error:?}"
    );
}

#[test]
fn classes_that_together_exceed_the_address_space_are_refused() {
    // Each of the three fits alone.
    let builder = (0..3).fold(Pool::builder(), |b, n| b.size_class((1 << 30) - n * 64, 1 << 13));
    refused_address_space(builder, (3 << 43) - (64 + 128) * (1 << 13));
}

#[test]
fn one_class_that_exceeds_the_address_space_is_refused_with_its_size() {
    refused_address_space(Pool::builder().size_class(1 << 30, 1 << 17), 1 << 47);
}

#[test]
fn an_alignment_that_blows_a_class_up_beyond_the_address_space_is_refused_with_its_size() {
    let builder = Pool::builder().size_class(1, 1 << 30).alignment(2 << 20);
    refused_address_space(builder, 1 << 51);
}

#[test]
fn the_largest_class_there_can_be_is_refused_for_its_address_space() {
    let builder = Pool::builder().size_class(MAX_BUFFER_SIZE, 1 << 30);
    refused_address_space(builder, 1 << 62);
}

#[test]
fn address_space_beyond_64_bits_is_refused() {
    let builder = (0..64).fold(Pool::builder(), |b, n| b.size_class(MAX_BUFFER_SIZE - n * 64, 1 << 30));
    refused_address_space(builder, usize::MAX);
}

#[test]
fn address_space_is_refused_only_above_the_limit() {
    if cfg!(any(not(unix), bytepool_portable)) {
        return; // that region would be written, all of it
    }
    for (size, capacity) in [(MAX_BUFFER_SIZE, 4096), (MAX_BUFFER_SIZE - 64, 4096), ((3 << 30) + 64, 4096)] {
        let slots = size.next_multiple_of(64) * capacity;
        assert!(slots <= MAX_ADDRESS_SPACE);
        match Pool::builder().size_class(size, capacity).build() {
            // The system may have less than the library allows.
            Ok(_) | Err(BuildError::Reserve { .. } | BuildError::OutOfMemory { .. }) => {}
            Err(error) => panic!("{capacity} x {size} bytes make {slots}, yet: {error}"),
        }
    }
}

#[test]
fn classes_given_in_any_order_are_sorted() {
    let given = [(4096, 3), (64, 5), (1 << 20, 1), (512, 4), (100, 2)];
    for rotation in 0..given.len() {
        let mut classes = given;
        classes.rotate_left(rotation);
        let pool =
            classes.iter().fold(Pool::builder(), |b, &(size, n)| b.size_class(size, n)).build().unwrap();
        let stats = pool.stats();
        let found: Vec<_> = stats.classes.iter().map(|class| (class.buffer_size, class.capacity)).collect();
        assert_eq!(found, [(64, 5), (100, 2), (512, 4), (4096, 3), (1 << 20, 1)]);
        for (size, buffer_size) in [(0, 64), (64, 64), (65, 100), (101, 512), (513, 4096), (4097, 1 << 20)] {
            let expected = valgrind::capacity(size, buffer_size);
            assert_eq!(pool.get(size).unwrap().capacity(), expected, "a get of {size} bytes");
        }
    }
}

#[test]
fn a_pool_without_classes_is_valid_and_every_get_is_oversize() {
    let pool = Pool::builder().build().unwrap();
    let buffers = [0, 1, 5000].map(|size| pool.get(size).unwrap());
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.oversize_buffers, stats.oversize_bytes, stats.classes.len()), (3, 5001, 0));
    assert_eq!(buffers.each_ref().map(|buffer| buffer.len()), [0, 1, 5000]);
}

#[test]
fn a_refused_builder_changes_nothing_and_can_be_corrected() {
    let builder = Pool::builder().size_class(64, 2).alignment(3);
    refusal(builder.clone(), &["3 bytes"]);
    assert_eq!(builder.alignment(128).build().unwrap().alignment(), 128);
}

/// Child processes under `ulimit -v`, since the limit is the whole process's.
#[cfg(unix)]
mod under_an_address_space_limit {
    use super::*;
    use std::error::Error;
    use std::process::Command;

    const IN_CHILD: &str = "BYTEPOOL_TEST_ADDRESS_SPACE_LIMITED";
    const DONE: &str = "the child came to its end";
    /// In KiB, as `ulimit` counts: 1 GiB.
    const LIMIT: usize = 1 << 20;

    fn limited(this_test: &str, in_child: fn()) {
        limited_by("-v", this_test, in_child);
    }

    /// Runs `in_child` in a child process that has such a limit, in which `this_test` alone runs.
    fn limited_by(ulimit: &str, this_test: &str, in_child: fn()) {
        if std::env::var_os(IN_CHILD).is_some() {
            in_child();
            return println!("{DONE}");
        }
        let run = format!("ulimit {ulimit} {LIMIT} && exec \"$0\" \"$@\"");
        let this_test = format!("build_errors::under_an_address_space_limit::{this_test}");
        let child = Command::new("sh")
            .args(["-c", &run])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", &this_test, "--nocapture", "--test-threads=1"])
            .env(IN_CHILD, "1")
            .output()
            .expect("a shell is there");
        let (out, err) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
        assert!(child.status.success(), "{}: {out}\n{err}", child.status);
        assert!(out.contains("1 passed") && out.contains(DONE), "the child ran another test: {out}\n{err}");
    }

    #[test]
    fn a_refused_reservation_says_how_many_bytes_and_leaves_the_process_fit_for_a_smaller_pool() {
        limited(
            "a_refused_reservation_says_how_many_bytes_and_leaves_the_process_fit_for_a_smaller_pool",
            || {
                const BYTES: usize = 1000 * (16 << 20);
                for _ in 0..1000 {
                    let builder = Pool::builder().size_class(16 << 20, 1000);
                    let error = refusal(builder, &["refused to reserve", &format!("{BYTES} bytes")]);
                    assert!(matches!(error, BuildError::Reserve { bytes: BYTES, .. }), "{error:?}");
                    let source = error.source().expect("what the system said").to_string();
                    assert!(error.to_string().ends_with(&source), "{error} hides {source}");
                }
                let pool = Pool::builder().size_class(16 << 20, 10).build().expect("160 MiB of 1 GiB");
                let mut buffer = pool.get(16 << 20).unwrap();
                buffer.fill(7);
                assert_eq!(buffer.len(), 16 << 20);
                drop(buffer);
                pool.stats().assert_consistent();
            },
        );
    }

    /// The region is no memory until it is used, and does not count. The books count at once.
    #[cfg(target_os = "linux")]
    #[test]
    fn books_that_a_limit_of_memory_refuses_are_out_of_memory() {
        limited_by("-d", "books_that_a_limit_of_memory_refuses_are_out_of_memory", || {
            if cfg!(bytepool_portable) {
                return; // that region counts, too
            }
            const SLOTS: usize = 256 << 20;
            let error = Pool::builder().size_class(64, SLOTS).build().unwrap_err();
            let BuildError::OutOfMemory { bytes } = error else { panic!("{error:?}") };
            assert!(bytes > SLOTS * 8, "{error:?}");
            let text = error.to_string();
            assert!(text.contains("memory") && text.contains(&bytes.to_string()), "{text}");
            assert!(Pool::builder().size_class(64, SLOTS / 32).build().is_ok());
        });
    }

    #[test]
    fn whatever_part_of_a_pool_does_not_fit_is_an_error_and_leaves_nothing_behind() {
        limited("whatever_part_of_a_pool_does_not_fit_is_an_error_and_leaves_nothing_behind", || {
            if cfg!(any(not(unix), bytepool_portable)) {
                return; // that region would be written, all of it, at every step
            }
            let (mut fits, mut regions, mut books) = (0, 0, 0);
            // Up to 1 GiB of addresses for the region alone; its books need more.
            for slots in (10 << 20..(17 << 20)).step_by(64 << 10) {
                match Pool::builder().size_class(64, slots).build() {
                    Ok(pool) => {
                        fits += 1;
                        drop(pool.get(64).unwrap());
                    }
                    Err(BuildError::Reserve { bytes, .. }) => {
                        assert!(bytes >= slots * 64);
                        // Each slot has 9 bytes in the books at most. The room beyond the capacity gives way.
                        #[cfg(target_os = "linux")]
                        assert!(slots * (64 + 9) + (8 << 20) > left(), "{slots} slots would fit");
                        // The process itself takes little.
                        let fits_alone = bytes < (LIMIT << 10) - (64 << 20);
                        *if fits_alone { &mut books } else { &mut regions } += 1;
                    }
                    // What the allocator has to have.
                    Err(BuildError::OutOfMemory { bytes }) => assert!(bytes > 0),
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(
                fits > 0 && regions > 0 && books > 5,
                "{fits} fitted, {regions} regions and the books of {books} not"
            );
            Pool::builder().size_class(64, 10 << 20).build().expect("it fitted before");
        });
    }

    /// What is left of the limit, in bytes.
    #[cfg(target_os = "linux")]
    fn left() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = statm.split(' ').next().unwrap().parse().unwrap();
        // SAFETY:
        // - sysconf only reads
        let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        (LIMIT << 10) - pages * page_size
    }

    #[cfg(all(target_os = "linux", not(bytepool_portable)))]
    #[test]
    fn the_room_beyond_the_capacities_takes_at_most_an_eighth_of_what_is_left() {
        limited("the_room_beyond_the_capacities_takes_at_most_an_eighth_of_what_is_left", || {
            const SIZE: usize = 64 << 10;
            // Books, the spans' ends, and what the allocator takes.
            const OTHERS: usize = 4 << 20;
            let mut pools = Vec::new();
            for _ in 0..10 {
                let before = left();
                let builder = (1..=4).fold(Pool::builder(), |builder, n| builder.size_class(n * SIZE, 1));
                pools.push(builder.build().unwrap());
                let taken = before - left() - 10 * SIZE;
                let eighth = before / 8;
                assert!(
                    (eighth / 2..=eighth + OTHERS).contains(&taken),
                    "{taken} bytes of {before} that were left"
                );
            }
            // All that were made can be used, beyond their capacities, too.
            for pool in &pools {
                let buffers: Vec<_> = (0..20).map(|_| pool.get(SIZE).unwrap()).collect();
                assert!(buffers.iter().all(|buffer| buffer.iter().all(|&byte| byte == 0)));
                let class = pool.stats().classes[0];
                assert_eq!((class.overflow, class.system_overflow), (19, 0));
            }
        });
    }

    #[cfg(all(target_os = "linux", not(bytepool_portable)))]
    #[test]
    fn a_pool_whose_capacities_just_fit_is_made_without_room_beyond_them() {
        limited("a_pool_whose_capacities_just_fit_is_made_without_room_beyond_them", || {
            const SIZE: usize = 64 << 10;
            // What its books and the first overflow need besides.
            let slots = (left() - (5 << 18)) / SIZE;
            let pool = Pool::builder().size_class(SIZE, slots).build().expect("its slots fit");
            let mut slots: Vec<_> = (0..slots).map(|_| pool.get_raw(SIZE).unwrap()).collect();
            assert_eq!(pool.stats().classes[0].overflow, 0);
            slots.push(pool.get_raw(SIZE).unwrap());
            let stats = pool.stats();
            assert_eq!((stats.classes[0].overflow, stats.classes[0].system_overflow), (1, 1));
            assert_eq!(stats.system_allocations, 1);
            slots.into_iter().for_each(|data| {
                // SAFETY:
                // - got above, and used no more
                unsafe { pool.put_raw(data, SIZE) }.unwrap();
            });
            pool.stats().assert_consistent();
        });
    }
}
