//! The cases of scale: many slots in use, and many threads on few cores.

use std::hint::black_box;

use crate::cases::{Random, pair_loop};
use crate::measure::{Sample, Start, Suite, proven};
use crate::peers::{Peer, unknown};
use crate::threads::{self, Before};

/// Slots of a class, half of them out at any time.
pub const SLOTS: [(usize, &str); 3] =
    [(10, "random, 10 slots"), (1000, "random, 1000 slots"), (1_000_000, "random, 1000000 slots")];

/// Buffers that are out of a class that keeps [`KEPT`].
pub const OUT: [(usize, &str); 4] = [
    (500, "random, 500 out"),
    (2500, "random, 2500 out"),
    (20_000, "random, 20000 out"),
    (400_000, "random, 400000 out"),
];
/// Their class: its buffer size and its capacity.
pub const KEPT: (usize, usize) = (64, 1000);

/// Of buffers in the cases of many slots: so small that a million are not too many.
pub const SMALL: usize = 512;

const THREADS: [(usize, &str); 3] =
    [(4, "pair, 4 threads, CPU"), (16, "pair, 16 threads, CPU"), (64, "pair, 64 threads, CPU")];

pub fn threads<P: Peer>(suite: &mut Suite, name: &str, fresh: &impl Fn() -> P, size: usize) {
    for (number, case) in THREADS {
        let peer = fresh();
        let pair = move |count| pair_loop(peer, size, count);
        suite.add(case, name, threads::at_once(peer, number, 1, Before::Nothing, pair));
    }
}

pub fn slots<P: Peer>(suite: &mut Suite, name: &str, pool: impl Fn(usize) -> P) {
    for (count, case) in SLOTS {
        suite.add(case, name, random_among(pool(count), SMALL, count / 2));
    }
}

pub fn beyond_the_capacity<P: Peer>(suite: &mut Suite, name: &str, pool: impl Fn() -> P) {
    for (count, case) in OUT {
        suite.add(case, name, random_among(pool(), KEPT.0, count));
    }
}

/// `live` buffers stay out from run to run; one after another, at random, is put and got anew. Each has its place as
/// its mark.
fn random_among<P: Peer>(peer: P, size: usize, live: usize) -> impl FnMut(u64) -> Sample {
    let mut random = Random::new(live as u64);
    let mut buffers = Vec::new();
    move |count| {
        let (peer, size) = (unknown(peer), black_box(size));
        let get = |index: usize| {
            // SAFETY:
            // - a buffer of this thread's, with room for a mark
            unsafe {
                let buffer = peer.get(size);
                peer.data(buffer).cast::<u32>().write_volatile(index as u32);
                buffer
            }
        };
        if buffers.is_empty() {
            buffers.extend((0..live).map(get));
        }
        proven(peer, count, || {
            let mut wrong = 0;
            let start = Start::now();
            for _ in 0..count {
                let index = random.below(live);
                // SAFETY:
                // - out, this thread's, put once, and got anew before it is used again
                unsafe {
                    let mark = peer.data(buffers[index]).cast::<u32>().read_volatile();
                    wrong += u64::from(mark != index as u32);
                    peer.put(buffers[index], size);
                }
                buffers[index] = get(index);
            }
            let sample = Sample::since(start, count);
            assert_eq!(wrong, 0, "proof failed: two owners of one buffer");
            sample
        })
    }
}
