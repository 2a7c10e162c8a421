//! What happens to pools while workers use them.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use crate::random::Random;
use crate::world::World;

/// How long before the end of a phase a pool may close: then it hands out nothing any more.
const LAST: Duration = Duration::from_millis(15);

/// Until the deadline: handles come and go, statistics are read, and a pool may close. How many closed.
pub(crate) fn disturb(world: &World, mut random: Random, deadline: Instant, mut closes: bool) -> u64 {
    let mut closed = 0;
    let mut contexts = Vec::new();
    while Instant::now() < deadline {
        let entry = &world.pools[random.below(world.pools.len())];
        match random.below(8) {
            0 if closes && Instant::now() + LAST > deadline => {
                closes = false;
                closed += u64::from(!entry.closing.swap(true, SeqCst));
                entry.pool.close();
            }
            0..3 => contexts.push(entry.pool.context()),
            3 => contexts.clear(),
            4 => drop(entry.pool.clone()),
            5 => {
                let stats = entry.pool.stats();
                assert!(stats.max_bytes == 0 || stats.mapped_bytes <= stats.max_bytes, "{stats:?}");
            }
            6 => {
                entry.pool.trim(random.below(1 << 22));
            }
            _ => thread::sleep(Duration::from_micros(random.below(2000) as u64)),
        }
        if contexts.len() > 100 {
            contexts.truncate(random.below(100));
        }
    }
    closed
}
