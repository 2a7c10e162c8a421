//! The stages together: every length arrives, every failure is an error, and no buffer is left behind.

use std::fs;
use std::path::{Path, PathBuf};

use bytepool::Pool;
use bytepool::ffi::status::Status;
use relay_example::{CHUNK, Error, Summary, build_pool, put_twice, relay, verify};

/// A fresh folder of the test's own.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("relay").join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Bytes without a pattern, by xorshift.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn relay_quietly(pool: &Pool, input: &Path, output: &Path) -> Result<Summary, Error> {
    relay(pool, input, output, &mut |_| {})
}

fn verify_quietly(pool: &Pool, input: &Path, output: &Path) -> Result<u64, Error> {
    verify(pool, input, output, &mut |_| {})
}

/// Every buffer was put, and none was refused.
fn assert_nothing_left(pool: &Pool) {
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!(stats.gets, stats.puts, "{stats:#?}");
    assert!(stats.classes.iter().all(|class| class.outstanding == 0 && class.overflow == 0), "{stats:#?}");
    assert_eq!((stats.double_puts, stats.size_mismatches, stats.foreign_pointers), (0, 0, 0));
}

fn delta_by_definition(bytes: &[u8]) -> Vec<u8> {
    let mut coded = bytes.to_vec();
    for index in 0..bytes.len() {
        if index % CHUNK != 0 {
            coded[index] = bytes[index].wrapping_sub(bytes[index - 1]);
        }
    }
    coded
}

fn crc32_by_definition(bytes: &[u8]) -> u32 {
    let mut crc = !0;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn every_length_arrives() {
    let folder = folder("every_length_arrives");
    let (input, output) = (folder.join("input"), folder.join("output"));
    let pool = build_pool().unwrap();
    for len in [0, 1, 2, 511, 513, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, (2 << 20) + 123] {
        let bytes = noise(len);
        fs::write(&input, &bytes).unwrap();
        let mut reported = Vec::new();
        let summary = relay(&pool, &input, &output, &mut |bytes| reported.push(bytes)).unwrap();

        assert!(fs::read(&output).unwrap() == delta_by_definition(&bytes), "output of {len} bytes");
        assert_eq!((summary.bytes, summary.chunks), (len as u64, len.div_ceil(CHUNK) as u64));
        assert_eq!(summary.crc32, crc32_by_definition(&bytes), "{len} bytes");
        let mut histogram = [0; 256];
        bytes.iter().for_each(|&byte| histogram[usize::from(byte)] += 1);
        assert_eq!(summary.histogram, histogram, "{len} bytes");
        assert_eq!(reported.len() as u64, summary.chunks);
        assert_eq!(reported.last().copied().unwrap_or(0), len as u64);
        assert_eq!(verify_quietly(&pool, &input, &output).unwrap(), len as u64);
        assert_nothing_left(&pool);
    }
    assert_eq!(pool.stats().system_allocations, 0);
}

#[test]
fn relays_on_many_threads_do_not_meet() {
    let folder = folder("relays_on_many_threads_do_not_meet");
    let input = folder.join("input");
    fs::write(&input, noise(5 * CHUNK + 7)).unwrap();
    let pool = Pool::builder().size_class(512, 16).size_class(CHUNK, 64).build().unwrap();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (pool, input, output) = (&pool, &input, folder.join(number.to_string()));
            scope.spawn(move || {
                relay_quietly(pool, input, &output).unwrap();
                verify_quietly(pool, input, &output).unwrap();
            });
        }
    });
    assert_nothing_left(&pool);
}

#[test]
fn verify_names_the_first_byte_that_differs() {
    let folder = folder("verify_names_the_first_byte_that_differs");
    let (input, output) = (folder.join("input"), folder.join("output"));
    let pool = build_pool().unwrap();
    let bytes = noise(2 * CHUNK + 10);
    fs::write(&input, &bytes).unwrap();
    relay_quietly(&pool, &input, &output).unwrap();
    let good = fs::read(&output).unwrap();

    let differs_at = |changed: &[u8]| {
        fs::write(&output, changed).unwrap();
        match verify_quietly(&pool, &input, &output) {
            Err(Error::Differs { offset, .. }) => Some(offset as usize),
            Ok(_) => None,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(differs_at(&good), None);
    for index in [0, CHUNK - 1, CHUNK, CHUNK + 5, good.len() - 1] {
        let mut changed = good.clone();
        changed[index] ^= 1;
        assert_eq!(differs_at(&changed), Some(index));
    }
    assert_eq!(differs_at(&good[..CHUNK]), Some(CHUNK));
    assert_eq!(differs_at(&good[..good.len() - 1]), Some(good.len() - 1));
    assert_eq!(differs_at(&[&good[..], &[0]].concat()), Some(good.len()));
    assert_eq!(differs_at(&[]), Some(0));
    assert_nothing_left(&pool);
}

#[test]
fn unreadable_input_is_an_error() {
    let folder = folder("unreadable_input_is_an_error");
    let pool = build_pool().unwrap();
    for input in [folder.join("missing"), folder.clone()] {
        let error = relay_quietly(&pool, &input, &folder.join("output")).unwrap_err();
        assert!(matches!(&error, Error::Read { path, .. } if *path == input), "{error:?}");
    }
    assert_nothing_left(&pool);
}

#[test]
fn errors_of_the_cpp_thread_arrive() {
    let folder = folder("errors_of_the_cpp_thread_arrive");
    let input = folder.join("input");
    fs::write(&input, noise(40 * CHUNK)).unwrap();
    let pool = build_pool().unwrap();
    let mut outputs = vec![
        (folder.join("missing/output"), "cannot open it for writing: No such file or directory"),
        (folder.clone(), "cannot open it for writing: Is a directory"),
        (folder.join("zero\0byte"), "the path has a zero byte"),
    ];
    let full = Path::new("/dev/full");
    if full.exists() {
        outputs.push((full.into(), "cannot write to it: No space left on device"));
    }
    for (output, expected) in outputs {
        let error = relay_quietly(&pool, &input, &output).unwrap_err();
        assert!(matches!(&error, Error::Sink { message, .. } if message == expected), "{error:?}");
        assert_nothing_left(&pool);
    }
}

#[test]
fn a_pool_that_has_too_little_is_an_error_in_each_language() {
    let folder = folder("a_pool_that_has_too_little_is_an_error_in_each_language");
    let (input, output) = (folder.join("input"), folder.join("output"));
    fs::write(&input, noise(20 * CHUNK)).unwrap();
    let pool_of =
        |buffers: usize| Pool::builder().size_class(CHUNK, 64).max_bytes(buffers * CHUNK).build().unwrap();

    let closed = pool_of(64);
    closed.close();
    let error = relay_quietly(&closed, &input, &output).unwrap_err();
    assert!(matches!(error, Error::Get(bytepool::GetError::Closed)), "{error:?}");

    // Rust has the only buffer.
    let one = pool_of(1);
    let error = relay_quietly(&one, &input, &output).unwrap_err();
    assert!(matches!(error, Error::Transform(Status::Limit)), "{error:?}");
    assert_nothing_left(&one);

    // Whoever comes last of the stages gets none: that depends on the threads' timing.
    let two = pool_of(2);
    let error = relay_quietly(&two, &input, &output).unwrap_err();
    assert!(
        matches!(error, Error::Get(_) | Error::Transform(Status::Limit) | Error::Sink { .. }),
        "{error:?}"
    );
    assert_nothing_left(&two);
}

#[test]
fn a_double_put_from_c_is_refused_and_counted() {
    let pool = build_pool().unwrap();
    let context = pool.context();
    let before = pool.stats();
    assert_eq!(put_twice(&context), Some(Status::DoublePut));
    let after = pool.stats();
    assert_eq!((before.double_puts, after.double_puts), (0, 1));
    assert_eq!((after.gets, after.puts), (before.gets + 1, before.puts + 1));
    after.assert_consistent();
}
