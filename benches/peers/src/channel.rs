//! Owners in Rust handed to another thread through a channel of the standard library's: the value moves.

use std::sync::Barrier;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::measure::Sample;
use crate::owners::{Owners, proven};
use crate::threads::{BATCH, Clock, Padded, RING, Work, wait_until};

/// How far each side is, so that the channel is never full and never empty: what is measured is no waiting.
#[derive(Default)]
struct Progress {
    sent: Padded,
    received: Padded,
}

/// CPU time of both threads for one owner: got, written, sent; received, read, dropped.
pub fn hand_over<O: Owners>(pool: O, size: usize) -> impl FnMut(u64) -> Sample {
    move |batches| {
        let count = batches * BATCH as u64;
        proven(&pool, count, || {
            let (sender, receiver) = sync_channel(RING);
            let (progress, barrier) = (Progress::default(), Barrier::new(2));
            let (progress, barrier, pool) = (&progress, &barrier, &pool);
            let nanoseconds = thread::scope(|scope| {
                let sends = scope.spawn(move || {
                    barrier.wait();
                    send(pool, size, batches, &sender, progress)
                });
                let receives = scope.spawn(move || {
                    barrier.wait();
                    receive::<O>(batches, &receiver, progress)
                });
                sends.join().expect("the sender ends") + receives.join().expect("the receiver's proof")
            });
            Sample { nanoseconds, operations: count }
        })
    }
}

fn send<O: Owners>(
    pool: &O,
    size: usize,
    batches: u64,
    sender: &SyncSender<O::Owner>,
    progress: &Progress,
) -> f64 {
    let mut work = Work(Clock::Cpu, 0.0);
    for number in 0..batches as usize {
        // Acquire: partner of the Release in `receive`.
        wait_until(|| (number + 1) * BATCH - progress.received.0.load(Acquire) <= RING);
        work.time(|| {
            for offset in 0..BATCH {
                let mut owner = pool.get(size);
                // SAFETY:
                // - the first byte of a buffer that this thread owns
                unsafe { O::data(&mut owner).write_volatile((number * BATCH + offset) as u8) };
                assert!(sender.try_send(owner).is_ok(), "proof failed: no room in the channel");
            }
        });
        // Release: partner of the Acquire in `receive`.
        progress.sent.0.store((number + 1) * BATCH, Release);
    }
    work.1
}

fn receive<O: Owners>(batches: u64, receiver: &Receiver<O::Owner>, progress: &Progress) -> f64 {
    let (mut work, mut wrong) = (Work(Clock::Cpu, 0.0), 0);
    for number in 0..batches as usize {
        // Acquire: partner of the Release in `send`.
        wait_until(|| progress.sent.0.load(Acquire) >= (number + 1) * BATCH);
        work.time(|| {
            for offset in 0..BATCH {
                let mut owner = receiver.try_recv().expect("sent before");
                // SAFETY:
                // - the first byte of a buffer that this thread owns, written before it was sent
                let mark = unsafe { O::data(&mut owner).read_volatile() };
                wrong += u64::from(mark != (number * BATCH + offset) as u8);
            }
        });
        // Release: partner of the Acquire in `send`.
        progress.received.0.store((number + 1) * BATCH, Release);
    }
    assert_eq!(wrong, 0, "proof failed: not what was written was read back");
    work.1
}
