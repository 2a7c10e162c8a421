//! What `Stats` says of itself: a table, and sums.

use bytepool::{ClassStats, Pool, Stats};

#[test]
fn the_table_has_a_line_for_each_class_under_the_fields_names() {
    let pool = Pool::builder().size_class(64, 2).size_class(4096, 10).max_bytes(1 << 20).build().unwrap();
    let buffers = pool.get_many(64, 3).unwrap();
    let large = pool.get(5000).unwrap();
    let table = pool.stats().to_string();
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let cell = |class: usize, name: &str| {
        let column = lines[0].iter().position(|&header| header == name).unwrap();
        lines[1 + class][column].to_owned()
    };
    let class: ClassStats = pool.stats().classes[0];
    for (name, figure) in [
        ("buffer_size", class.buffer_size as u64),
        ("capacity", class.capacity as u64),
        ("outstanding", class.outstanding as u64),
        ("overflow", class.overflow as u64),
        ("peak", class.peak as u64),
        ("idle", class.idle as u64),
        ("cached", class.cached as u64),
        ("touched", class.touched as u64),
        ("gets", class.gets),
        ("puts", class.puts),
    ] {
        assert_eq!(cell(0, name), figure.to_string(), "{name} in\n{table}");
    }
    assert_eq!(
        (cell(0, "outstanding"), cell(0, "overflow"), cell(1, "gets")),
        ("2".into(), "1".into(), "0".into())
    );
    let ends: [&str; 4] = std::array::from_fn(|at| table.lines().nth(3 + at).unwrap());
    assert!(ends[0].contains("mapped_bytes 5192, max_bytes 1048k, bookkeeping_bytes"), "{table}");
    assert_eq!(ends[1], "gets 4, puts 0, oversize_buffers 1, oversize_bytes 5000");
    // Without a region that grows, overflow is the system allocator's.
    let allocations = if cfg!(bytepool_portable) { 2 } else { 1 };
    assert_eq!(ends[2], format!("system_allocations {allocations}, waits 0, limit_failures 0"));
    assert_eq!(ends[3], "double_puts 0, size_mismatches 0, foreign_pointers 0");
    assert_eq!(table.lines().count(), 7);
    drop((buffers, large));
}

/// Whatever the figures are.
#[test]
fn the_table_is_at_most_100_columns_wide() {
    // Portable regions are memory at once.
    let capacity = if cfg!(bytepool_portable) { 1 } else { 1000 };
    let huge = Pool::builder().size_class(usize::MAX >> 33, capacity).build().unwrap();
    let mut stats: Stats = huge.stats();
    (stats.mapped_bytes, stats.max_bytes, stats.bookkeeping_bytes) = (usize::MAX, usize::MAX, usize::MAX);
    (stats.oversize_bytes, stats.oversize_buffers) = (usize::MAX, usize::MAX);
    for figure in [99_999, 100_000, u64::MAX] {
        (stats.gets, stats.puts, stats.waits) = (figure, figure, figure);
        (stats.system_allocations, stats.limit_failures) = (figure, figure);
        (stats.double_puts, stats.size_mismatches, stats.foreign_pointers) = (figure, figure, figure);
        let table = stats.to_string();
        let widest = table.lines().map(str::len).max().unwrap();
        assert!(widest <= 100, "{widest} columns:\n{table}");
        let expected = ["99999", "100k", "18446P"]
            [[99_999, 100_000, u64::MAX].iter().position(|&f| f == figure).unwrap()];
        assert!(table.contains(&format!("gets {expected}, puts {expected}")), "{table}");
    }
}

#[test]
fn outstanding_and_misuse_are_sums() {
    let pool = Pool::builder().size_class(64, 1).build().unwrap();
    let [first, second] = [(); 2].map(|()| pool.get_raw(64).unwrap());
    let large = pool.get(1000).unwrap();
    assert_eq!((pool.stats().outstanding(), pool.stats().misuse()), (3, 0));
    // SAFETY:
    // - the buffers are this test's, and what is wrong is refused
    unsafe {
        assert!(pool.put_raw(first, 65).is_err());
        pool.put_raw(first, 64).unwrap();
        assert!(pool.put_raw(first, 64).is_err());
        assert!(pool.put_raw(first.add(1), 64).is_err());
        assert_eq!((pool.stats().outstanding(), pool.stats().misuse()), (2, 3));
        pool.put_raw(second, 64).unwrap();
    }
    drop(large);
    assert_eq!(pool.stats().outstanding(), 0);
}
