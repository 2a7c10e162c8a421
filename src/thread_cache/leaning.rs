//! Whether a class's ledger entries lean towards the threads that get its slots.
//!
//! Leaning makes a put by the getter cheap and a hand-over dear: every batch of claims costs a heavy fence and
//! perhaps a wait. So a class whose slots are handed over stops leaning for a while, the longer the more often
//! that was in vain.

use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How long a class does not lean, in batches of some thread: at least, and at most.
const LEAST_REST: u32 = 1 << 8;
const MOST_REST: u32 = 1 << 14;

/// Of one class. All accesses are Relaxed: hints, each of which is right in some order.
pub(crate) struct Leaning {
    /// Batches until it leans again; 0 while it does.
    rest: AtomicU32,
    next_rest: AtomicU32,
}

impl Leaning {
    pub(crate) fn new() -> Self {
        Self { rest: AtomicU32::new(0), next_rest: AtomicU32::new(LEAST_REST) }
    }

    /// Called with each batch; whether the class leans.
    pub(super) fn tick(&self) -> bool {
        match self.rest.load(Relaxed) {
            0 => {
                let next = self.next_rest.load(Relaxed);
                if next > LEAST_REST {
                    self.next_rest.store(next - next / 256, Relaxed);
                }
                true
            }
            rest => {
                self.rest.store(rest - 1, Relaxed);
                false
            }
        }
    }

    /// Claims had to be settled: slots are handed over.
    pub(super) fn rest(&self) {
        if self.rest.load(Relaxed) == 0 {
            let next = self.next_rest.load(Relaxed);
            self.rest.store(next, Relaxed);
            self.next_rest.store((next * 2).min(MOST_REST), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks_until_it_leans(leaning: &Leaning) -> u32 {
        (0..).find(|_| leaning.tick()).unwrap()
    }

    #[test]
    fn rests_grow_while_they_are_in_vain_and_shrink_after() {
        let leaning = Leaning::new();
        assert!(leaning.tick());
        let rests = [(); 10].map(|()| {
            leaning.rest();
            leaning.rest(); // another thread's, of the same kind
            ticks_until_it_leans(&leaning)
        });
        assert_eq!(rests[..2], [LEAST_REST, 2 * LEAST_REST - 2]);
        assert!(rests.is_sorted() && rests[9] > MOST_REST - MOST_REST / 200 && rests[9] <= MOST_REST);
        (0..3000).for_each(|_| assert!(leaning.tick()));
        leaning.rest();
        assert!(ticks_until_it_leans(&leaning) < 2 * LEAST_REST);
    }
}
