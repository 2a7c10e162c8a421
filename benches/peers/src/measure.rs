//! Rounds, calibration, and the proofs around each measurement.

use std::time::{Duration, Instant};

use crate::misuse::{TRIALS, Verdict};
use crate::peers::Peer;

/// What one run of a loop took.
pub struct Sample {
    pub nanoseconds: f64,
    pub operations: u64,
}

impl Sample {
    /// What this thread used since `start`. CPU time, for a thread that waits for a core measures its neighbours.
    pub fn since(start: Start, operations: u64) -> Self {
        Self { nanoseconds: clock_time(libc::CLOCK_THREAD_CPUTIME_ID) - start.0, operations }
    }
}

/// When a loop of one thread started.
#[derive(Clone, Copy)]
pub struct Start(f64);

impl Start {
    pub fn now() -> Self {
        Self(clock_time(libc::CLOCK_THREAD_CPUTIME_ID))
    }
}

/// What one of the system's clocks says, in nanoseconds: of the wall, or of the CPU time of this thread or process.
pub fn clock_time(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY:
    // - the clock exists, and `time` may be written
    let status = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(status, 0, "no such clock");
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// One case with one peer. Its loop runs about as often as it is told to, and panics if a proof fails.
pub struct Bench {
    pub case: String,
    pub peer: String,
    run: Box<dyn FnMut(u64) -> Sample>,
    repetitions: u64,
    /// Nanoseconds per operation, one for each round.
    samples: Vec<f64>,
}

impl Bench {
    pub fn best(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn median(&self) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
    }

    /// Finds how many repetitions take `time`, and warms up. The best of several tries counts, lest a moment in which
    /// others had the cores make all rounds short.
    fn calibrate(&mut self, time: Duration) {
        const TRIES: usize = 4;
        const LONG: u32 = 20;
        let wanted = time.as_nanos() as f64;
        let (mut tries, mut fastest) = (0, f64::INFINITY);
        while tries < TRIES {
            let start = Instant::now();
            let sample = (self.run)(self.repetitions);
            // What a run does besides its loop may take much longer than the loop.
            let settled = sample.nanoseconds * 2.0 >= wanted || self.repetitions >= 1 << 30;
            if settled || start.elapsed() >= time * LONG {
                fastest = fastest.min(sample.nanoseconds / self.repetitions as f64);
                tries += 1;
            } else {
                self.repetitions *= 2;
            }
        }
        self.repetitions = ((wanted / fastest) as u64).max(1);
    }
}

/// All that is to be measured, and then was.
#[derive(Default)]
pub struct Suite {
    pub benches: Vec<Bench>,
    /// What peers make of wrong puts.
    pub misuse: Vec<(String, [Verdict; TRIALS.len()])>,
}

impl Suite {
    pub fn add(&mut self, case: &str, peer: &str, run: impl FnMut(u64) -> Sample + 'static) {
        self.benches.push(Bench {
            case: case.to_owned(),
            peer: peer.to_owned(),
            run: Box::new(run),
            repetitions: 1,
            samples: Vec::new(),
        });
    }

    pub fn find(&self, case: &str, peer: &str) -> Option<&Bench> {
        self.benches.iter().find(|bench| bench.case == case && bench.peer == peer)
    }

    /// The cases in the order in which they first appear, and in each the peers likewise.
    fn group_by_case(&mut self) {
        let mut cases: Vec<String> = Vec::new();
        for bench in &self.benches {
            if !cases.contains(&bench.case) {
                cases.push(bench.case.clone());
            }
        }
        self.benches.sort_by_key(|bench| cases.iter().position(|case| *case == bench.case));
    }

    /// Nanoseconds per operation of each bench, one for each round, in the order of [`add_samples`](Self::add_samples).
    pub fn samples(&self) -> Vec<&[f64]> {
        self.benches.iter().map(|bench| &bench.samples[..]).collect()
    }

    /// Adds what another process [measured](Self::samples).
    pub fn add_samples(&mut self, measured: Vec<Vec<f64>>) {
        self.group_by_case();
        assert_eq!(measured.len(), self.benches.len(), "the other process measured something else");
        self.benches.iter_mut().zip(measured).for_each(|(bench, samples)| bench.samples.extend(samples));
    }

    /// Every round runs everything once, the peers of a case one right after the other, so that what disturbs the
    /// machine disturbs all peers; every other round in the opposite order.
    pub fn run(&mut self, rounds: usize, time: Duration) {
        self.group_by_case();
        self.benches.iter_mut().for_each(|bench| bench.calibrate(time));
        for round in 0..rounds {
            eprint!("\rround {} of {rounds}", round + 1);
            let once = |bench: &mut Bench| {
                let sample = (bench.run)(bench.repetitions);
                bench.samples.push(sample.nanoseconds / sample.operations as f64);
            };
            if round % 2 == 0 {
                self.benches.iter_mut().for_each(once);
            } else {
                self.benches.iter_mut().rev().for_each(once);
            }
        }
        eprintln!();
    }
}

/// Runs `body` and proves that it made `gets` gets and as many puts, by the peer's own count if it has one, and that the
/// system allocator served none of them: what is beyond a capacity comes from slots, too.
pub fn proven<T>(peer: impl Peer, gets: u64, body: impl FnOnce() -> T) -> T {
    let before = peer.counts();
    let result = body();
    if let (Some(before), Some(after)) = (before, peer.counts()) {
        assert_eq!(after.gets - before.gets, gets, "proof failed: gets that the pool did not count");
        assert_eq!(after.puts - before.puts, gets, "proof failed: puts that the pool did not count");
        let by_system = after.system_allocations - before.system_allocations;
        assert_eq!(by_system, 0, "proof failed: the pool did not serve every get");
    }
    result
}

/// The sum of the bytes `0, 1, 2, ...` as a loop of `count` turns writes them.
pub fn sum_of_marks(count: u64) -> u64 {
    let (full, rest) = (count / 256, count % 256);
    full * (255 * 256 / 2) + rest * rest.saturating_sub(1) / 2
}

/// Proves that what was written was read back.
pub fn check_marks(sum: u64, count: u64) {
    assert_eq!(sum, sum_of_marks(count), "proof failed: not what was written was read back");
}
