//! One round: pools of random shape, a few phases of work by threads that come and go, and after each a quiet moment
//! in which everything is checked.

use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use bytepool::ffi::capi::{bytepool_free, bytepool_get, bytepool_last_error, bytepool_put_checked};
use bytepool::ffi::status::Status;

use crate::counts::Counts;
use crate::disturbances::disturb;
use crate::exchange::Parcel;
use crate::language::Language;
use crate::random::Random;
use crate::report::Totals;
use crate::world::{PoolEntry, World};

/// Works until the deadline at the latest.
pub(crate) fn run(random: &mut Random, threads: usize, deadline: Instant, totals: &mut Totals) {
    let world = World::new(random);
    // Of the round, for each pool's figures.
    let mut counts = Counts::default();
    totals.pools += world.pools.len() as u64;
    let phases = 1 + random.below(4);
    for number in 1..=phases {
        let end = (Instant::now() + Duration::from_millis(20 + random.below(400) as u64)).min(deadline);
        let closes = number == phases && random.one_in(2);
        phase(&world, random, (threads, closes), end, totals, &mut counts);
        check_quiet(&world, &counts);
        totals.quiet_moments += 1;
    }
    totals.counts.add(&counts);
    end(world, random, totals);
}

/// As many threads as that at a time; each ends after some operations, and another takes its place. A pool may close.
fn phase(
    world: &World,
    random: &mut Random,
    (threads, closes): (usize, bool),
    end: Instant,
    totals: &mut Totals,
    counts: &mut Counts,
) {
    world.is_over.store(false, SeqCst);
    let done = Mutex::new(Vec::new());
    let place = |mut random: Random| {
        while Instant::now() < end {
            let language = random.choose(&Language::ALL);
            let (seed, operations) = (random.next(), 1 + random.next() % (1 << (4 + random.below(13))));
            let worker = thread::scope(|scope| scope.spawn(|| language.work(world, seed, operations)).join());
            let counted = worker.expect("no worker panics");
            done.lock().unwrap().push((language, counted));
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            let random = Random(random.next());
            scope.spawn(move || place(random));
        }
        totals.closes += disturb(world, Random(random.next()), end, closes);
        world.is_over.store(true, SeqCst);
    });
    for (language, counted) in done.into_inner().unwrap() {
        totals.note_worker(language, counted.operations);
        counts.add(&counted);
    }
}

/// Nobody runs: the figures add up, what waits in the exchange is outstanding and nothing else, and each misuse was
/// counted once.
fn check_quiet(world: &World, counts: &Counts) {
    for (number, entry) in world.pools.iter().enumerate() {
        let stats = entry.pool.stats();
        stats.assert_consistent();
        assert_eq!(
            stats.gets - stats.puts,
            world.exchange.outstanding(number),
            "outstanding of pool {number}"
        );
        assert!(stats.max_bytes == 0 || stats.mapped_bytes <= stats.max_bytes, "{stats:?}");
        assert_eq!(
            [stats.size_mismatches, stats.foreign_pointers, stats.double_puts],
            [&counts.size_mismatches, &counts.foreign_pointers, &counts.double_puts].map(|kind| kind[number]),
            "size mismatches, foreign pointers and double puts of pool {number}"
        );
        if entry.pool.is_closed() {
            assert_eq!(entry.pool.trim(0), 0, "a closed pool kept idle pages");
        }
    }
}

/// The handles go in any order, then the last buffers; then nothing of the pools is left.
fn end(world: World, random: &mut Random, totals: &mut Totals) {
    let parcels = world.exchange.take_all();
    let mut contexts = Vec::new();
    for PoolEntry { pool, context, .. } in world.pools {
        let context = context.into_raw();
        contexts.push(context);
        if random.one_in(2) {
            drop(pool);
            bytepool_free(context);
        } else {
            bytepool_free(context);
            drop(pool);
        }
    }
    for parcel in parcels {
        put_last(parcel, contexts[parcel.pool as usize]);
        totals.put_after_free += 1;
    }
    for context in contexts {
        let got = NonNull::new(bytepool_get(context, 10));
        assert!(
            got.is_none() && bytepool_last_error() == Status::InvalidContext as i32,
            "a pool outlived its end"
        );
        totals.counts.invalid_contexts += 1;
    }
}

/// By a freed context, whose pool only the buffers keep.
fn put_last(parcel: Parcel, context: *mut std::ffi::c_void) {
    parcel.check();
    // SAFETY:
    // - the parcel owned its buffer
    let status = unsafe { bytepool_put_checked(context, parcel.data, parcel.size) };
    assert_eq!(status, Status::Ok as i32, "a put by a freed context");
}
