//! Whether a class's marks are biased to the threads that get its slots, as in biased locking.
//!
//! Bias makes a put by the bias owner cheap and a hand-over dear: a put by another thread ends the bias first, which
//! costs a heavy fence and perhaps a wait. So a class whose slots are handed over cools down: from its next look on,
//! which comes with a batch, each thread marks without bias for a while. Each end of a bias makes the cooldown longer
//! by the same number of slots. So ends never cost more than a fixed part of what gets and puts cost, whatever threads
//! do.
//!
//! ```text
//! biased -> another thread puts: ends of bias, for what is out -> cooldown: no bias, no fence -> biased -> ...
//! ```

use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How much longer each end makes the cooldown, in slots that bins fill, take fresh, or put without bias. An end takes
/// some microseconds, and up to one more of each thread that it interrupts. A put by exchange takes up to 7 nanoseconds
/// longer than a biased one. So ends cost less than cooldowns do, and a cooldown at most a fourth of a millisecond.
const COOLDOWN_OF_END: u32 = if cfg!(bytepool_shuttle) { 8 } else { 1 << 15 };
/// The figure of DESIGN.md, for an end of 10 microseconds that interrupts 64 threads for one each: 2.3 nanoseconds.
const _: () = assert!(cfg!(bytepool_shuttle) || 10_000 + 64 * 1000 < COOLDOWN_OF_END * 23 / 10);

/// Of one class. All accesses are Relaxed: hints, each of which is right in some order.
pub(crate) struct Bias {
    /// Slots until the class is biased again; 0 while it is.
    cooldown: AtomicU32,
}

impl Bias {
    pub(crate) fn new() -> Self {
        Self { cooldown: AtomicU32::new(0) }
    }

    /// Counts a batch of so many slots. Returns whether the class is biased.
    pub(crate) fn tick(&self, slots: u32) -> bool {
        let left = self.cooldown.load(Relaxed);
        if left > 0 {
            // At most an end that another thread counts at this moment is lost.
            self.cooldown.store(left.saturating_sub(slots), Relaxed);
        }
        left == 0
    }

    /// A bias had to be ended: slots are handed over.
    pub(crate) fn cool_down(&self) {
        let longer = |left: u32| Some(left.saturating_add(COOLDOWN_OF_END));
        let _ = self.cooldown.fetch_update(Relaxed, Relaxed, longer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: u32 = 64;

    /// How many slots pass until the class is biased.
    fn cooldown(bias: &Bias) -> u32 {
        (0..).find(|_| bias.tick(BATCH)).unwrap() * BATCH
    }

    #[test]
    fn each_end_makes_the_cooldown_as_much_longer() {
        let bias = Bias::new();
        assert!(bias.tick(BATCH));
        for ends in 1..10 {
            (0..ends).for_each(|_| bias.cool_down());
            assert_eq!(cooldown(&bias), ends * COOLDOWN_OF_END);
        }
    }

    #[test]
    fn the_longest_cooldown_ends() {
        let bias = Bias::new();
        (0..u32::MAX / COOLDOWN_OF_END + 2).for_each(|_| bias.cool_down());
        assert!(!bias.tick(u32::MAX) && bias.tick(1));
    }

    #[test]
    fn a_cooldown_ends_whatever_the_batches_are() {
        let bias = Bias::new();
        bias.cool_down();
        assert!(!bias.tick(COOLDOWN_OF_END - 1) && !bias.tick(BATCH) && bias.tick(1));
    }
}
