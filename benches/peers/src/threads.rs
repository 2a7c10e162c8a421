//! The cases of two threads, and of a thread's start and end.

use std::hint::black_box;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicPtr, AtomicUsize};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::cases::{Random, pair_loop};
use crate::measure::{Sample, clock_time, proven};
use crate::peers::{Peer, unknown};

/// What the threads do before they are measured.
#[derive(Clone, Copy, PartialEq)]
pub enum Before {
    Nothing,
    /// A million buffers of this size go at random from one to the other.
    Mixing(usize),
}

/// Threads at once that each run a loop `count` times with `gets` gets a turn: CPU time of one turn.
pub fn at_once<P: Peer>(
    peer: P,
    threads: usize,
    gets: u64,
    before: Before,
    body: impl Fn(u64) + Copy + Send + 'static,
) -> impl FnMut(u64) -> Sample {
    const WARM: u64 = 1000;
    move |count| {
        let exchange = Arc::new(Exchange::default());
        let mixing = before != Before::Nothing;
        let extra = if mixing { Exchange::GETS * threads as u64 } else { 0 };
        proven(peer, (count + WARM) * gets * threads as u64 + extra, || {
            let barrier = Arc::new(Barrier::new(threads));
            let run = |number: usize| {
                let (barrier, exchange) = (Arc::clone(&barrier), Arc::clone(&exchange));
                thread::spawn(move || {
                    peer.enter_thread();
                    if let Before::Mixing(size) = before {
                        barrier.wait();
                        exchange.mix(peer, size, number);
                        barrier.wait();
                        if number == 0 {
                            exchange.empty(peer, size);
                        }
                    }
                    body(WARM);
                    barrier.wait();
                    let start = clock_time(libc::CLOCK_THREAD_CPUTIME_ID);
                    body(count);
                    let used = clock_time(libc::CLOCK_THREAD_CPUTIME_ID) - start;
                    barrier.wait();
                    peer.leave_thread();
                    used
                })
            };
            let running: Vec<_> = (0..threads).map(run).collect();
            let used: f64 = running.into_iter().map(|thread| thread.join().expect("a thread's proof")).sum();
            Sample { nanoseconds: used, operations: count * threads as u64 }
        })
    }
}

/// Buffers between two threads, each taken by whoever comes.
struct Exchange {
    places: [AtomicPtr<u8>; 256],
}

impl Default for Exchange {
    fn default() -> Self {
        Self { places: [const { AtomicPtr::new(std::ptr::null_mut()) }; 256] }
    }
}

impl Exchange {
    /// Of each thread.
    const GETS: u64 = 500_000;

    /// Gets buffers, leaves each in a random place, and puts what was there.
    fn mix<P: Peer>(&self, peer: P, size: usize, number: usize) {
        let peer = unknown(peer);
        let mut random = Random::new(0x1234_5678 + number as u64 * 2);
        for _ in 0..Self::GETS {
            // SAFETY:
            // - a buffer goes in by one swap and comes out by one, so it is put once
            unsafe {
                let buffer = peer.get(size);
                // Release for what was written, Acquire for what the other thread wrote, in the partner swap.
                let found = self.places[random.below(256)].swap(buffer, AcqRel);
                if !found.is_null() {
                    peer.put(found, size);
                }
            }
        }
    }

    /// Puts what is left. The others are past a barrier.
    fn empty<P: Peer>(&self, peer: P, size: usize) {
        for place in &self.places {
            let found = place.swap(std::ptr::null_mut(), AcqRel);
            if !found.is_null() {
                // SAFETY:
                // - nobody else has it: it came out of the swap
                unsafe { peer.put(found, size) };
            }
        }
    }
}

// ---- hand-over ----

pub const RING: usize = 512;
/// So large that reading a clock twice for each is little.
pub const BATCH: usize = 64;

/// A bounded ring with one producer and one consumer.
struct Ring {
    places: [AtomicPtr<u8>; RING],
    produced: Padded,
    consumed: Padded,
}

#[repr(align(128))]
#[derive(Default)]
pub struct Padded(pub AtomicUsize);

impl Ring {
    fn new() -> Self {
        let places = [const { AtomicPtr::new(std::ptr::null_mut()) }; RING];
        Self { places, produced: Padded::default(), consumed: Padded::default() }
    }

    /// A batch goes in once there is room.
    fn push(&self, batch: &[*mut u8; BATCH], position: usize) {
        // Acquire: partner of the Release in `pop`, which has read these places.
        wait_until(|| position + BATCH - self.consumed.0.load(Acquire) <= RING);
        for (offset, &buffer) in batch.iter().enumerate() {
            // Relaxed: published by the Release below.
            self.places[(position + offset) % RING].store(buffer, std::sync::atomic::Ordering::Relaxed);
        }
        // Release: partner of the Acquire in `pop`.
        self.produced.0.store(position + BATCH, Release);
    }

    /// A batch comes out once there is one.
    fn pop(&self, batch: &mut [*mut u8; BATCH], position: usize) {
        // Acquire: partner of the Release in `push`.
        wait_until(|| self.produced.0.load(Acquire) >= position + BATCH);
        for (offset, buffer) in batch.iter_mut().enumerate() {
            // Relaxed: the Acquire above made it visible.
            *buffer = self.places[(position + offset) % RING].load(std::sync::atomic::Ordering::Relaxed);
        }
        // Release: partner of the Acquire in `push`.
        self.consumed.0.store(position + BATCH, Release);
    }
}

/// Spins for a moment, then lets others run: there may be fewer free cores than threads.
pub fn wait_until(done: impl Fn() -> bool) {
    let mut turns = 0u32;
    while !done() {
        turns += 1;
        if turns < 200 { std::hint::spin_loop() } else { thread::yield_now() }
    }
}

/// What of a hand-over is measured.
#[derive(Clone, Copy, PartialEq)]
pub enum Clock {
    /// From the first batch to the last, waiting for each other and for locks included.
    Wall,
    /// CPU time of both threads, without waiting for each other or asleep.
    Cpu,
}

/// What a thread's work took without its waiting, if that is asked for.
pub struct Work(pub Clock, pub f64);

impl Work {
    pub fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        if self.0 == Clock::Wall {
            return work();
        }
        let start = clock_time(libc::CLOCK_THREAD_CPUTIME_ID);
        let result = work();
        self.1 += clock_time(libc::CLOCK_THREAD_CPUTIME_ID) - start;
        result
    }
}

/// One thread gets and writes, another reads and puts; in batches through a ring. Time of a buffer.
pub fn hand_over<P: Peer>(peer: P, size: usize, clock: Clock) -> impl FnMut(u64) -> Sample {
    move |batches| {
        let count = batches * BATCH as u64;
        proven(peer, count, || {
            let (ring, barrier) = (Ring::new(), Barrier::new(2));
            let (peer, size) = (unknown(peer), black_box(size));
            let (getting, putting) = thread::scope(|scope| {
                let in_thread = |work: fn(P, usize, u64, &Ring, Work) -> f64| {
                    let (ring, barrier) = (&ring, &barrier);
                    scope.spawn(move || {
                        peer.enter_thread();
                        barrier.wait();
                        let start = clock_time(libc::CLOCK_MONOTONIC);
                        let work = work(peer, size, batches, ring, Work(clock, 0.0));
                        let wall = clock_time(libc::CLOCK_MONOTONIC) - start;
                        barrier.wait();
                        peer.leave_thread();
                        (wall, work)
                    })
                };
                let (getter, putter) = (in_thread(get_batches), in_thread(put_batches));
                (getter.join().expect("the getter ends"), putter.join().expect("the putter's proof"))
            });
            // The putter is the last to end.
            let nanoseconds = if clock == Clock::Wall { putting.0 } else { getting.1 + putting.1 };
            Sample { nanoseconds, operations: count }
        })
    }
}

fn get_batches<P: Peer>(peer: P, size: usize, batches: u64, ring: &Ring, mut work: Work) -> f64 {
    for number in 0..batches as usize {
        let batch = work.time(|| {
            std::array::from_fn(|offset| {
                // SAFETY:
                // - a buffer of this thread's until the push
                unsafe {
                    let buffer = peer.get(size);
                    peer.data(buffer).write_volatile((number * BATCH + offset) as u8);
                    buffer
                }
            })
        });
        ring.push(&batch, number * BATCH);
    }
    work.1
}

fn put_batches<P: Peer>(peer: P, size: usize, batches: u64, ring: &Ring, mut work: Work) -> f64 {
    let (mut batch, mut wrong) = ([std::ptr::null_mut(); BATCH], 0);
    for number in 0..batches as usize {
        ring.pop(&mut batch, number * BATCH);
        work.time(|| {
            for (offset, &buffer) in batch.iter().enumerate() {
                // SAFETY:
                // - this thread's since the pop, and put once
                unsafe {
                    let mark = (number * BATCH + offset) as u8;
                    wrong += u64::from(peer.data(buffer).read_volatile() != mark);
                    peer.put(buffer, size);
                }
            }
        });
    }
    assert_eq!(wrong, 0, "proof failed: not what was written was read back");
    work.1
}

// ---- a thread's life ----

/// Keeps the calling thread, and those that it starts, on the processor that it is on.
struct OnOneProcessor(libc::cpu_set_t);

impl OnOneProcessor {
    fn new() -> Self {
        // SAFETY:
        // - a set of processors is numbers, for which zeros are valid, and the calls read or write one
        unsafe {
            let (mut before, mut one) = (std::mem::zeroed::<libc::cpu_set_t>(), std::mem::zeroed());
            assert_eq!(libc::sched_getaffinity(0, size_of_val(&before), &raw mut before), 0);
            libc::CPU_SET(
                usize::try_from(libc::sched_getcpu()).expect("this processor has a number"),
                &mut one,
            );
            assert_eq!(libc::sched_setaffinity(0, size_of_val(&one), &raw const one), 0);
            Self(before)
        }
    }
}

impl Drop for OnOneProcessor {
    fn drop(&mut self) {
        // SAFETY:
        // - reads a set that the system gave
        unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), &raw const self.0) };
    }
}

/// Starts and joins `count` threads: CPU time of the process for each, for a wake-up waits for whoever has the core.
/// All on one processor: else whether the join sleeps is chance, and takes more than all else here.
fn one_after_another(count: u64, body: impl Fn() + Copy + Send + 'static) -> Sample {
    let _one = OnOneProcessor::new();
    let start = clock_time(libc::CLOCK_PROCESS_CPUTIME_ID);
    for _ in 0..count {
        thread::spawn(body).join().expect("a short thread ends");
    }
    Sample { nanoseconds: clock_time(libc::CLOCK_PROCESS_CPUTIME_ID) - start, operations: count }
}

/// A thread that starts, does one get and put, and ends.
pub fn short_thread<P: Peer>(peer: P, size: usize) -> impl FnMut(u64) -> Sample {
    move |count| {
        proven(peer, count, || {
            one_after_another(count, move || {
                peer.enter_thread();
                pair_loop(peer, size, 1);
                peer.leave_thread();
            })
        })
    }
}

/// The same without the get and put.
pub fn empty_thread() -> impl FnMut(u64) -> Sample {
    |count| one_after_another(count, || ())
}
