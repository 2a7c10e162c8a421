//! Whether a class's marks are biased to the threads that get its slots, as in biased locking.
//!
//! Bias makes a put by the bias owner cheap and a hand-over dear: every batch of claims costs a heavy fence and perhaps
//! a wait. So a class whose slots are handed over cools down: its marks have no bias for a while, the longer the more
//! often a new bias was in vain.

use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How long a cooldown lasts, in batches of some thread: at least, and at most.
const LEAST_COOLDOWN: u32 = 1 << 8;
const MOST_COOLDOWN: u32 = 1 << 14;

/// Of one class. All accesses are Relaxed: hints, each of which is right in some order.
pub(crate) struct Bias {
    /// Batches until the class is biased again; 0 while it is.
    cooldown: AtomicU32,
    next_cooldown: AtomicU32,
}

impl Bias {
    pub(crate) fn new() -> Self {
        Self { cooldown: AtomicU32::new(0), next_cooldown: AtomicU32::new(LEAST_COOLDOWN) }
    }

    /// Called with each batch; whether the class is biased.
    pub(crate) fn tick(&self) -> bool {
        match self.cooldown.load(Relaxed) {
            0 => {
                let next = self.next_cooldown.load(Relaxed);
                if next > LEAST_COOLDOWN {
                    self.next_cooldown.store(next - next / 256, Relaxed);
                }
                true
            }
            left => {
                self.cooldown.store(left - 1, Relaxed);
                false
            }
        }
    }

    /// Claims had to be settled: slots are handed over.
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

    fn ticks_until_it_is_biased(bias: &Bias) -> u32 {
        (0..).find(|_| bias.tick()).unwrap()
    }

    #[test]
    fn cooldowns_grow_while_they_are_in_vain_and_shrink_after() {
        let bias = Bias::new();
        assert!(bias.tick());
        let cooldowns = [(); 10].map(|()| {
            bias.cool_down();
            bias.cool_down(); // another thread's, of the same kind
            ticks_until_it_is_biased(&bias)
        });
        assert_eq!(cooldowns[..2], [LEAST_COOLDOWN, 2 * LEAST_COOLDOWN - 2]);
        assert!(
            cooldowns.is_sorted()
                && cooldowns[9] > MOST_COOLDOWN - MOST_COOLDOWN / 200
                && cooldowns[9] <= MOST_COOLDOWN
        );
        (0..3000).for_each(|_| assert!(bias.tick()));
        bias.cool_down();
        assert!(ticks_until_it_is_biased(&bias) < 2 * LEAST_COOLDOWN);
    }
}
