//! `PooledBuffer` within its capacity, like a `Vec<u8>`; it grows only when it is told to.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Write};

use bytepool::{GetError, Pool};

fn pool() -> Pool {
    Pool::builder().size_class(16, 10).size_class(64, 10).build().unwrap()
}

#[test]
fn a_buffer_starts_empty_and_is_appended_to_up_to_its_capacity() {
    let pool = pool();
    let mut buffer = pool.get_empty(10).unwrap();
    assert_eq!((buffer.len(), buffer.capacity()), (0, 16));
    buffer.extend_from_slice(b"0123456789").unwrap();
    let error = buffer.extend_from_slice(b"abcdefg").unwrap_err();
    assert_eq!((error.requested, error.capacity), (17, 16));
    assert_eq!(buffer, b"0123456789");
    buffer.extend_from_slice(b"abcdef").unwrap();
    buffer.extend_from_slice(b"").unwrap();
    assert_eq!(buffer, b"0123456789abcdef");
    buffer.truncate(20);
    assert_eq!(buffer.len(), 16);
    buffer.truncate(3);
    assert_eq!(buffer, b"012");
    buffer.clear();
    assert_eq!(buffer, b"");
}

#[test]
fn spare_capacity_is_what_follows_the_length() {
    let pool = pool();
    let mut buffer = pool.copy(b"ab").unwrap();
    let end = buffer.as_ptr_range().end;
    let spare = buffer.spare_capacity_mut();
    assert_eq!((spare.as_ptr(), spare.len()), (end, 14));
    spare[..2].copy_from_slice(b"cd");
    buffer.resize(4).unwrap();
    assert_eq!(buffer, b"abcd");
    buffer.resize(16).unwrap();
    assert!(buffer.spare_capacity_mut().is_empty());
}

#[test]
fn writes_take_what_fits() {
    let pool = pool();
    let mut buffer = pool.get_empty(16).unwrap();
    assert_eq!(buffer.write(&[1; 10]).unwrap(), 10);
    assert_eq!(buffer.write(&[2; 10]).unwrap(), 6);
    assert_eq!(buffer.write(&[3; 10]).unwrap(), 0);
    assert_eq!(buffer.write_all(&[3]).unwrap_err().kind(), ErrorKind::WriteZero);
    assert_eq!((&buffer[..10], &buffer[10..]), (&[1; 10][..], &[2; 6][..]));
    buffer.flush().unwrap();
    buffer.clear();
    assert!(buffer.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")]).unwrap() >= 2);
    let mut other = pool.get_empty(16).unwrap();
    assert_eq!(io::copy(&mut &b"copied"[..], &mut other).unwrap(), 6);
    assert_eq!(other, b"copied");
}

#[test]
fn text_is_appended_whole_or_not_at_all() {
    let mut buffer = pool().get_empty(16).unwrap();
    fmt::Write::write_fmt(&mut buffer, format_args!("{}-{}", 12, "ab")).unwrap();
    assert!(fmt::Write::write_str(&mut buffer, "more than 16 bytes").is_err());
    assert_eq!(buffer, b"12-ab");
}

#[test]
fn growing_moves_the_bytes_and_puts_the_old_buffer() {
    let pool = pool();
    let mut buffer = pool.copy(b"hello").unwrap();
    buffer.grow(16).unwrap();
    assert_eq!((pool.stats().gets, buffer.capacity()), (1, 16));
    for (capacity, room) in [(17, 64), (1000, 1000)] {
        buffer.grow(capacity).unwrap();
        assert_eq!((&*buffer, buffer.capacity()), (&b"hello"[..], room));
    }
    let stats = pool.stats();
    assert_eq!((stats.gets, stats.puts, stats.oversize_buffers), (3, 2, 1));
    buffer.extend_from_slice(&[b'!'; 995]).unwrap();
    assert!(buffer.extend_from_slice(b"!").is_err());
}

#[test]
fn a_refused_growth_leaves_the_buffer_as_it_was() {
    let pool = Pool::builder().size_class(64, 4).max_bytes(64).build().unwrap();
    let mut buffer = pool.copy(b"hello").unwrap();
    let data = buffer.as_ptr();
    assert!(matches!(buffer.grow(65), Err(GetError::Limit { .. })));
    pool.close();
    assert_eq!(buffer.grow(65), Err(GetError::Closed));
    assert_eq!((buffer.as_ptr(), &*buffer, buffer.capacity()), (data, &b"hello"[..], 64));
}

#[test]
fn many_buffers_come_all_or_none() {
    let pool = Pool::builder().size_class(64, 4).max_bytes(4 * 64).build().unwrap();
    let buffers = pool.get_many(50, 3).unwrap();
    assert!(buffers.len() == 3 && buffers.iter().all(|buffer| buffer.len() == 50));
    assert!(matches!(pool.get_many(50, 2), Err(GetError::Limit { .. })));
    assert!(matches!(pool.get_many(50, usize::MAX), Err(GetError::OutOfMemory { .. })));
    assert_eq!(pool.stats().classes[0].outstanding, 3);
    assert!(pool.get_many(50, 0).unwrap().is_empty());
    drop(buffers);
    assert_eq!(pool.get_many(50, 4).unwrap().len(), 4);
}

#[test]
fn buffers_compare_and_iterate_like_slices() {
    let pool = pool();
    let mut buffer = pool.copy(&[1, 2, 3]).unwrap();
    assert_eq!(buffer, [1, 2, 3]);
    assert_eq!(buffer, &[1, 2, 3]);
    assert_eq!(buffer, [1, 2, 3][..]);
    assert_eq!(buffer, &[1, 2, 3][..]);
    assert_eq!(buffer, vec![1, 2, 3]);
    assert_eq!([1, 2, 3], buffer);
    assert_eq!(buffer, pool.copy(&[1, 2, 3]).unwrap());
    for other in [&[1, 2, 4][..], &[1, 2], &[1, 2, 3, 4]] {
        assert_ne!(buffer, other);
    }
    for byte in &mut buffer {
        *byte *= 2;
    }
    assert_eq!((&buffer).into_iter().sum::<u8>(), 12);
}

#[test]
fn a_get_error_is_an_io_error_of_its_kind() {
    let pool = Pool::builder().size_class(64, 4).max_bytes(64).build().unwrap();
    let _held = pool.get(64).unwrap();
    let kind = |error: GetError| (io::Error::from(error).kind(), io::Error::from(error).to_string());
    let limit = pool.get(64).unwrap_err();
    assert_eq!(kind(limit), (ErrorKind::QuotaExceeded, limit.to_string()));
    let timeout = pool.get_timeout(64, std::time::Duration::from_millis(1)).unwrap_err();
    assert_eq!(kind(timeout), (ErrorKind::TimedOut, timeout.to_string()));
    assert_eq!(kind(pool.get_aligned(3, 1).unwrap_err()).0, ErrorKind::InvalidInput);
    assert_eq!(kind(GetError::OutOfMemory { requested: 1 }).0, ErrorKind::OutOfMemory);
    pool.close();
    let closed = || -> io::Result<()> {
        pool.get(1)?;
        Ok(())
    };
    assert_eq!(closed().unwrap_err().kind(), ErrorKind::BrokenPipe);
}
