//! The features `bytes`, `allocator-api2` and `serde`: pooled buffers where those crates' types are asked for.

#[cfg(feature = "bytes")]
mod bytes {
    use bytepool::Pool;
    use bytes::{Buf, BufMut, Bytes};

    #[test]
    fn buf_mut_fills_the_capacity_and_no_more() {
        let pool = Pool::builder().size_class(16, 10).build().unwrap();
        let mut buffer = pool.get_empty(16).unwrap();
        buffer.put_slice(b"abc");
        buffer.put_u32(0x0405_0607);
        assert_eq!((buffer.remaining_mut(), &*buffer), (9, &b"abc\x04\x05\x06\x07"[..]));
        buffer.put_bytes(1, 9);
        assert!(!buffer.has_remaining_mut() && buffer.chunk_mut().len() == 0);
        let refused: [fn(&mut bytepool::PooledBuffer); 2] = [
            |buffer| buffer.put_u8(1),
            // SAFETY:
            // - none of it is left, so that it panics
            |buffer| unsafe { buffer.advance_mut(1) },
        ];
        for refused in refused {
            let refused = std::panic::AssertUnwindSafe(|| refused(&mut buffer));
            assert!(std::panic::catch_unwind(refused).is_err());
        }
        assert_eq!(buffer.len(), 16);
    }

    #[test]
    fn buf_reads_from_the_front_and_shares_what_it_takes() {
        let pool = Pool::builder().size_class(64, 10).build().unwrap();
        let mut bytes = pool.copy(b"\x01\x02body and tail").unwrap().freeze();
        let start = bytes.as_ptr();
        assert_eq!(bytes.get_u16(), 0x0102);
        let body = bytes.copy_to_bytes(4);
        assert_eq!((&*body, body.as_ptr()), (&b"body"[..], start.wrapping_add(2)));
        bytes.advance(5);
        assert_eq!((bytes.remaining(), bytes.chunk()), (4, &b"tail"[..]));
        assert!(std::panic::catch_unwind(|| bytes.clone().advance(5)).is_err());
        let all = Bytes::from(bytes);
        assert_eq!((&*all.slice(1..3), pool.stats().gets), (&b"ai"[..], 1));
        drop(all);
        assert_eq!(pool.stats().outstanding(), 1);
        std::thread::spawn(move || drop(body)).join().unwrap();
        assert_eq!(pool.stats().outstanding(), 0);
    }
}

#[cfg(feature = "allocator-api2")]
mod allocator {
    use allocator_api2::alloc::Allocator;
    use allocator_api2::boxed::Box;
    use allocator_api2::vec::Vec;
    use bytepool::Pool;
    use std::alloc::Layout;

    /// 1 to 64 KiB.
    fn pool() -> Pool {
        let sizes = (0..7).map(|power| 1024 << power);
        sizes.fold(Pool::builder(), |builder, size| builder.size_class(size, 10)).build().unwrap()
    }

    fn ends_whole(pool: &Pool) {
        let stats = pool.stats();
        stats.assert_consistent();
        assert_eq!((stats.outstanding(), stats.misuse()), (0, 0), "{stats}");
        assert!(stats.gets > 0);
    }

    #[test]
    fn a_vec_grows_and_shrinks_in_a_pool() {
        let pool = pool();
        let mut numbers = Vec::new_in(&pool);
        numbers.extend(0..100_000_u32);
        assert!(numbers.iter().copied().eq(0..100_000));
        numbers.truncate(10);
        numbers.shrink_to_fit();
        assert_eq!((numbers.capacity(), pool.stats().outstanding()), (10, 1));
        assert!(numbers.iter().copied().eq(0..10));
        drop(numbers);
        ends_whole(&pool);
    }

    #[test]
    fn what_has_no_bytes_is_no_buffer() {
        let pool = pool();
        drop(Box::new_in((), &pool));
        drop(Vec::<u64, _>::new_in(&pool).into_boxed_slice());
        let mut numbers = Vec::<u64, _>::with_capacity_in(100, &pool);
        assert_eq!(pool.stats().outstanding(), 1);
        numbers.shrink_to_fit();
        assert_eq!((numbers.capacity(), pool.stats().outstanding()), (0, 0));
        numbers.push(7);
        assert_eq!((numbers[0], pool.stats().outstanding()), (7, 1));
        drop(numbers);
        ends_whole(&pool);
    }

    #[test]
    fn a_vec_may_shrink_in_a_closed_pool() {
        let pool = pool();
        let mut numbers = Vec::with_capacity_in(10_000, &pool);
        numbers.extend(0..10_u64);
        pool.close();
        numbers.shrink_to_fit();
        assert!(numbers.iter().copied().eq(0..10));
        drop(numbers);
        ends_whole(&pool);
    }

    #[test]
    fn a_map_lives_in_a_pool() {
        let pool = pool();
        let mut map = hashbrown::HashMap::new_in(&pool);
        for key in 0..2000_u64 {
            map.insert(key, Box::new_in(key * key, &pool));
        }
        assert!((0..2000).all(|key| **map.get(&key).unwrap() == key * key));
        assert_eq!(pool.stats().outstanding(), 2001);
        map.retain(|key, _| key % 7 == 0);
        map.shrink_to_fit();
        assert_eq!(map.len(), 286);
        drop(map);
        ends_whole(&pool);
    }

    #[test]
    fn alignments_above_the_pool_s_are_kept_from_size_to_size() {
        let pool = pool();
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        let is_aligned = |data: std::ptr::NonNull<[u8]>, align| data.cast::<u8>().addr().get() % align == 0;
        for align in [1, 64, 4096, 1 << 16] {
            let data = (&pool).allocate(layout(100, align)).unwrap();
            assert!(data.len() == 100 && is_aligned(data, align));
            // SAFETY:
            // - the buffer is this test's, and has so many bytes
            unsafe {
                data.cast::<u8>().as_ptr().write_bytes(7, 100);
                let grown = (&pool).grow(data.cast(), layout(100, align), layout(5000, align)).unwrap();
                assert!(grown.len() == 5000 && is_aligned(grown, align) && grown.as_ref()[..100] == [7; 100]);
                let shrunk = (&pool).shrink(grown.cast(), layout(5000, align), layout(10, align)).unwrap();
                assert!(shrunk.len() == 10 && is_aligned(shrunk, align) && *shrunk.as_ref() == [7; 10]);
                (&pool).deallocate(shrunk.cast(), layout(10, align));
            }
        }
        ends_whole(&pool);
    }

    #[test]
    fn a_full_pool_fails_and_leaves_the_memory_as_it_was() {
        let pool = Pool::builder().size_class(1024, 2).max_bytes(2048).build().unwrap();
        let mut bytes: Vec<u8, _> = Vec::with_capacity_in(1024, &pool);
        bytes.extend(0..100);
        assert!(bytes.try_reserve(2000).is_err());
        assert!(bytes.iter().copied().eq(0..100) && bytes.capacity() == 1024);
    }
}

#[cfg(feature = "serde")]
mod serde {
    use bytepool::Pool;
    use serde_json::Value;

    #[test]
    fn figures_are_serialized_by_their_names() {
        let pool =
            Pool::builder().size_class(64, 10).size_class(4096, 10).max_bytes(1 << 20).build().unwrap();
        let _buffers = [pool.get(100).unwrap(), pool.get(10_000).unwrap()];
        let stats = pool.stats();
        let value = serde_json::to_value(&stats).unwrap();
        let classes = value["classes"].as_array().unwrap();
        assert_eq!((classes.len(), &classes[1]["outstanding"]), (2, &Value::from(1)));
        assert_eq!(
            (&value["oversize_buffers"], &value["max_bytes"]),
            (&Value::from(1), &Value::from(1 << 20))
        );
        // Every field that Debug shows, of both structs.
        let debug = format!("{stats:#?}");
        let names = |indent: &str| -> Vec<String> {
            let fields = debug.lines().filter_map(|line| line.strip_prefix(indent)?.split_once(':'));
            let fields = fields.map(|(name, _)| name).filter(|name| name.starts_with(char::is_alphabetic));
            let mut names: Vec<String> = fields.map(String::from).collect();
            names.sort();
            names.dedup();
            names
        };
        let keys = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
        assert_eq!(keys(&value), names("    "));
        assert_eq!(keys(&classes[0]), names("            "));
    }
}
