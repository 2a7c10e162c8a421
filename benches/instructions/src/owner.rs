//! The case in Rust: an owned buffer that goes back when dropped.

use std::hint::black_box;

use bytepool::Pool;

pub const CASE: &str = "pooled_buffer";
const SIZE: usize = 4096;

/// Callgrind collects inside this function only, and knows it by its name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn counted_pooled_buffer(pool: &Pool, size: usize, count: u64) -> u64 {
    let mut sum = 0;
    for index in 0..count {
        let mut buffer = pool.get(size).expect("a buffer");
        buffer[0] = index as u8;
        sum += u64::from(black_box(&buffer)[0]);
    }
    sum
}

/// Runs the loop and proves that it did its work, on a thread cache.
pub fn run(count: u64) {
    let pool = Pool::builder().size_class(SIZE, 1000).build().expect("a pool");
    let sum = counted_pooled_buffer(&pool, black_box(SIZE), count);
    let marks: u64 = (0..count).map(|index| index & 0xff).sum();
    assert_eq!(sum, marks, "proof failed: not what was written was read back");
    let stats = pool.stats();
    assert_eq!(
        (stats.gets, stats.puts),
        (count, count),
        "proof failed: the pool did not count each get and put"
    );
    assert_eq!(stats.system_allocations, 0, "proof failed: the pool did not serve every get");
    assert_ne!(stats.classes[0].cached, 0, "proof failed: no idle slot is in a thread cache");
}
