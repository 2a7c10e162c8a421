//! Whether a class's marks are biased to the threads that get its slots, as in biased locking.
//!
//! Bias makes a put by the bias owner cheap and a hand-over dear: a put by another thread ends the bias first, which
//! costs a heavy fence and perhaps a wait. So a class whose slots are handed over cools down: from its next look on,
//! which comes with a batch, each thread marks without bias for a while. Each end of a bias makes the cooldown longer
//! by the same number of slots, up to a bound. So ends cost no more than a part of what gets and puts do.
//!
//! ```text
//! biased -> another thread puts: ends of bias, for what is out -> cooldown: no bias, no fence -> biased -> ...
//! ```

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How much longer each end makes the cooldown, in slots that bins fill, take fresh, or take back. An end takes some
/// microseconds, and up to one more of each thread that it interrupts. A put by exchange takes up to 7 nanoseconds
/// longer than a biased one. So where 64 threads run, ends cost about as much as the cooldowns, and else less.
const COOLDOWN_OF_END: u32 = if cfg!(bytepool_shuttle) { 8 } else { 1 << 15 };
/// The figure of DESIGN.md, for an end of 10 microseconds that interrupts 64 threads for one each. A slot that is
/// handed over counts twice: it is filled, and put.
const _: () = assert!(cfg!(bytepool_shuttle) || 2 * (10_000 + 64 * 1000) < COOLDOWN_OF_END * 46 / 10);
/// The longest cooldown: a tenth of a second of exchanges. A thread that frees what another got needs an end for each
/// 512 slots, and then perhaps none for ever.
const MOST_COOLDOWN: u32 = 1 << 24;

/// Of one class. All accesses are Relaxed: hints, each of which is right in some order.
pub(crate) struct Bias {
    /// Low half: slots until the class is biased again; 0 while it is. High half: how many cooldowns are over.
    word: AtomicU64,
}

fn slots_left(word: u64) -> u32 {
    word as u32
}

fn cooldowns_over(word: u64) -> u32 {
    (word >> u32::BITS) as u32
}

impl Bias {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    /// Whether slots are to be marked without a bias.
    pub(crate) fn is_cooling(&self) -> bool {
        slots_left(self.word.load(Relaxed)) > 0
    }

    /// How many cooldowns are over. It wraps.
    pub(crate) fn cooldowns_over(&self) -> u32 {
        cooldowns_over(self.word.load(Relaxed))
    }

    /// Counts a batch of so many slots. If the class is biased, returns how many cooldowns are over.
    pub(crate) fn tick(&self, slots: u32) -> Option<u32> {
        let word = self.word.load(Relaxed);
        let left = slots_left(word);
        if left == 0 {
            return Some(cooldowns_over(word));
        }
        let is_over = left <= slots;
        let less = if is_over {
            word.wrapping_add(1 << u32::BITS) - u64::from(left)
        } else {
            word - u64::from(slots)
        };
        // If it fails, another thread counted meanwhile. Then this batch is left out.
        let _ = self.word.compare_exchange(word, less, Relaxed, Relaxed);
        None
    }

    /// A bias had to be ended: slots are handed over.
    pub(crate) fn cool_down(&self) {
        let longer = |word: u64| {
            let more = COOLDOWN_OF_END.min(MOST_COOLDOWN - slots_left(word));
            Some(word + u64::from(more))
        };
        let _ = self.word.fetch_update(Relaxed, Relaxed, longer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: u32 = 64;

    /// How many slots pass until the class is biased.
    fn cooldown(bias: &Bias) -> u32 {
        (0..).find(|_| bias.tick(BATCH).is_some()).unwrap() * BATCH
    }

    #[test]
    fn each_end_makes_the_cooldown_as_much_longer() {
        let bias = Bias::new();
        assert_eq!(bias.tick(BATCH), Some(0));
        for ends in 1..10 {
            (0..ends).for_each(|_| bias.cool_down());
            assert!(bias.is_cooling() && bias.cooldowns_over() == ends - 1);
            assert_eq!(cooldown(&bias), ends * COOLDOWN_OF_END);
            assert!(!bias.is_cooling() && bias.tick(BATCH) == Some(ends));
        }
    }

    #[test]
    fn the_longest_cooldown_ends() {
        let bias = Bias::new();
        (0..2 * MOST_COOLDOWN / COOLDOWN_OF_END).for_each(|_| bias.cool_down());
        assert_eq!(cooldown(&bias), MOST_COOLDOWN);
    }

    #[test]
    fn a_cooldown_ends_whatever_the_batches_are() {
        let bias = Bias::new();
        bias.cool_down();
        assert_eq!([COOLDOWN_OF_END - 1, BATCH, 1].map(|slots| bias.tick(slots)), [None, None, Some(1)]);
    }
}
