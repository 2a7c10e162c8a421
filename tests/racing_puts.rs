//! Of all puts of a buffer that race between two gets exactly one counts, the bias owner's fast one included; the
//! others are double puts, at the latest when the threads have ended.
//!
//! A process of its own: threads meet within nanoseconds only where each has a processor, so no other suite may run
//! beside them.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use bytepool::{Pool, PooledBuffer};

#[path = "support/valgrind.rs"]
mod valgrind;

const SIZE: usize = 512;

/// Lets threads go on together, within nanoseconds where each has a processor.
struct Start {
    arrived: AtomicUsize,
    threads: usize,
}

impl Start {
    fn wait(&self, round: usize) {
        self.arrived.fetch_add(1, SeqCst);
        let mut tries = 0_u64;
        while self.arrived.load(SeqCst) < (round + 1) * self.threads {
            tries += 1;
            assert!(tries < 1 << 26, "another thread is gone");
            if tries % 1000 == 0 { thread::yield_now() } else { std::hint::spin_loop() }
        }
    }
}

/// The first thread gets; then it and the others put, each after a pause of its own, which varies.
fn race(others: usize) {
    let rounds = valgrind::rounds(if cfg!(bytepool_sanitized) { 3_000 } else { 30_000 });
    let pool = Pool::builder().size_class(SIZE, 1024).build().unwrap();
    let threads = others + 1;
    let start = [(); 3].map(|()| Start { arrived: AtomicUsize::new(0), threads });
    let address = AtomicUsize::new(0);
    let racer = |number: usize| {
        drop([0; 3].map(|_| pool.get(SIZE).unwrap()));
        for round in 0..rounds {
            start[0].wait(round);
            if number == 0 {
                address.store(pool.get_raw(SIZE).unwrap().as_ptr().expose_provenance(), SeqCst);
            }
            start[1].wait(round);
            let data = ptr::with_exposed_provenance_mut(address.load(SeqCst));
            for _ in 0..(round * (number + 1)) % 23 {
                std::hint::spin_loop();
            }
            let data = NonNull::new(data).unwrap();
            if number > 0 && round % 2 == 0 {
                // Decided at once, and put when dropped.
                // SAFETY:
                // - the threads share the buffer, which nobody uses, and at most one gets it
                drop(unsafe { PooledBuffer::from_raw(&pool, data, SIZE) });
            } else {
                // SAFETY: as above
                let _ = unsafe { pool.put_raw(data, SIZE) };
            }
            start[2].wait(round);
        }
    };
    let racer = &racer;
    thread::scope(|scope| {
        for number in 0..threads {
            scope.spawn(move || racer(number));
        }
    });
    // `scope` ends before its threads' thread-locals do: trimming takes what they still have.
    pool.trim(usize::MAX);
    let stats = pool.stats();
    stats.assert_consistent();
    let before = threads as u64 * 3;
    assert_eq!((stats.gets, stats.puts), (before + rounds as u64, before + rounds as u64));
    assert_eq!(stats.double_puts, (rounds * others) as u64);
    // No slot has two places among the idle ones.
    let all: Vec<_> = (0..1024).map(|_| pool.get_raw(SIZE).unwrap()).collect();
    let different: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "a slot has two owners");
    for data in all {
        // SAFETY:
        // - this test's buffer
        unsafe { pool.put_raw(data, SIZE) }.unwrap();
    }
}

#[test]
fn the_getter_against_one_other_thread() {
    race(1);
}

#[test]
fn the_getter_against_three_other_threads() {
    race(3);
}
