//! Whether a class's marks are biased to the threads that get its slots, as in biased locking.
//!
//! Bias makes a put by the bias owner cheap and a hand-over dear: a put by another thread ends the bias first, which
//! costs a heavy fence and perhaps a wait. So a class whose slots are handed over cools down: from its next look on,
//! which comes with a batch, each thread marks without bias for a while. Each bias that was in vain doubles the next
//! cooldown. What is filled or taken fresh with a bias shortens it.
//!
//! ```text
//! biased -> another thread puts: ends of bias, for what is out -> cooldown: no bias, no fence -> biased -> ...
//! ```

use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The shortest and the longest cooldown, in slots that bins fill, take fresh, or put without bias. A put by exchange
/// costs some nanoseconds more than a biased one. So the shortest cooldown costs about as much as ending the bias of
/// some thousand slots.
const LEAST_COOLDOWN: u32 = if cfg!(bytepool_shuttle) { 8 } else { 1 << 18 };
const MOST_COOLDOWN: u32 = if cfg!(bytepool_shuttle) { 16 } else { 1 << 26 };

/// Of one class. All accesses are Relaxed: hints, each of which is right in some order.
pub(crate) struct Bias {
    /// Slots until the class is biased again; 0 while it is.
    cooldown: AtomicU32,
    next_cooldown: AtomicU32,
}

impl Bias {
    pub(crate) fn new() -> Self {
        Self { cooldown: AtomicU32::new(0), next_cooldown: AtomicU32::new(LEAST_COOLDOWN) }
    }

    /// Counts a batch of so many slots. Returns whether the class is biased.
    pub(crate) fn tick(&self, slots: u32) -> bool {
        match self.cooldown.load(Relaxed) {
            0 => {
                let next = self.next_cooldown.load(Relaxed);
                if next > LEAST_COOLDOWN {
                    self.next_cooldown.store(next.saturating_sub(slots).max(LEAST_COOLDOWN), Relaxed);
                }
                true
            }
            left => {
                self.cooldown.store(left.saturating_sub(slots), Relaxed);
                false
            }
        }
    }

    /// A bias had to be ended: slots are handed over.
    pub(crate) fn cool_down(&self) {
        if self.cooldown.load(Relaxed) == 0 {
            let next = self.next_cooldown.load(Relaxed);
            self.cooldown.store(next, Relaxed);
            self.next_cooldown.store((next * 2).min(MOST_COOLDOWN), Relaxed);
        }
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
    fn cooldowns_double_while_they_are_in_vain() {
        let bias = Bias::new();
        assert!(bias.tick(BATCH));
        let cooldowns = [(); 10].map(|()| {
            bias.cool_down();
            bias.cool_down(); // another thread's, of the same kind
            cooldown(&bias)
        });
        // The tick that found the class biased is taken off.
        assert_eq!(cooldowns[..3], [1, 2, 4].map(|times| LEAST_COOLDOWN * times - BATCH * (times - 1)));
        assert!(cooldowns.is_sorted() && cooldowns[9] <= MOST_COOLDOWN);
        assert!(cooldowns[9] > MOST_COOLDOWN - MOST_COOLDOWN / 100, "{cooldowns:?}");
    }

    #[test]
    fn a_time_with_a_bias_is_taken_off_the_next_cooldown() {
        let bias = Bias::new();
        bias.cool_down();
        bias.cool_down();
        assert_eq!(cooldown(&bias), LEAST_COOLDOWN);
        (0..LEAST_COOLDOWN / BATCH).for_each(|_| assert!(bias.tick(BATCH)));
        bias.cool_down();
        assert_eq!(cooldown(&bias), LEAST_COOLDOWN);
    }

    #[test]
    fn a_cooldown_ends_whatever_the_batches_are() {
        let bias = Bias::new();
        bias.cool_down();
        assert!(!bias.tick(LEAST_COOLDOWN - 1) && !bias.tick(BATCH) && bias.tick(1));
    }

    /// At the longest cooldown it is less, about the 1.4 ns of DESIGN.md: with 1,000 slots in flight and a bin of each
    /// of 64 threads, each ended alone, at 10 microseconds an end.
    #[test]
    fn ends_of_bias_cost_a_hand_over_at_most_2_ns() {
        let ends = 1000 + 64 * 128;
        assert!(ends * 10_000 <= 2 * u64::from(MOST_COOLDOWN), "{ends}");
    }
}
