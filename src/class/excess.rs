//! How many idle slots of a class are too many: beyond its capacity they go back to the system.
//!
//! ```text
//! idle on the shelf   0 ............ capacity ........ capacity + slack
//!                                    ^ down to here    ^ above, give back
//! ```
//!
//! - The *slack* lets a class go up and down a little without a system call each time. It also makes a batch of what is
//!   given back.
//! - Small slots go back only with their whole page. A page that is shared with a slot that is out stays. The next look
//!   comes after enough more puts, because a look covers the whole class.
//! - Slots that other threads took during a look count as slots that cannot go. So a few more may stay, until the class
//!   is used again.

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;

use super::layout::Span;

/// The least slack in bytes. The slack is an eighth of the capacity, but at least this, and at least one slot.
const LEAST_SLACK_BYTES: usize = if cfg!(bytepool_shuttle) { 4 << 10 } else { 256 << 10 };

/// All accesses are Relaxed: hints, each of which is right in some order.
pub(crate) struct Excess {
    /// Above this many idle slots on the shelf some are given back.
    threshold: AtomicU32,
    capacity: u32,
    slack: u32,
}

impl Excess {
    pub(super) fn new(span: &Span) -> Self {
        let least = (LEAST_SLACK_BYTES / span.slot_size).max(1);
        Self::with(span.capacity, (span.capacity / 8).max(least as u32))
    }

    fn with(capacity: u32, slack: u32) -> Self {
        Self { threshold: AtomicU32::new(capacity + slack), capacity, slack }
    }

    /// Whether so many idle slots on the shelf are too many, so that those beyond the capacity are to be given back.
    #[inline]
    pub(crate) fn is_too_much(&self, idle: u32) -> bool {
        let threshold = self.threshold.load(Relaxed);
        // What the last look left was got since. Once it is put again, it may have a page for itself.
        if threshold > self.capacity + self.slack && idle + 2 * self.slack < threshold {
            self.threshold.store(self.capacity.max(idle) + self.slack, Relaxed);
        }
        idle > threshold
    }

    /// How many of so many idle slots are beyond the capacity.
    pub(super) fn of(&self, idle: u32) -> u32 {
        idle.saturating_sub(self.capacity)
    }

    /// Notes that so many idle slots are left after some were given back. A look covers the `used` slots of the class,
    /// so the next one waits for more puts where these are many.
    pub(super) fn is_left(&self, idle: u32, used: u32) {
        let more = if idle > self.capacity { self.slack.max(used / 64) } else { self.slack };
        self.threshold.store(self.capacity.max(idle) + more, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_beyond_the_capacity_is_kept_and_more_is_given_back_at_once() {
        let excess = Excess::with(100, 12);
        assert!(!excess.is_too_much(112) && excess.is_too_much(113));
        assert_eq!([50, 100, 113].map(|idle| excess.of(idle)), [0, 0, 13]);
        excess.is_left(100, 1000);
        assert!(!excess.is_too_much(112) && excess.is_too_much(113));
    }

    #[test]
    fn what_cannot_be_given_back_is_not_tried_each_time_but_once_it_was_taken() {
        let excess = Excess::with(100, 12);
        excess.is_left(500, 0);
        assert!(!excess.is_too_much(500) && excess.is_too_much(513));
        excess.is_left(500, 64 * 50);
        assert!(!excess.is_too_much(550) && excess.is_too_much(551));
        // Gets took them, and puts bring them back one by one.
        assert!(!excess.is_too_much(300));
        assert!(!excess.is_too_much(312) && excess.is_too_much(313));
    }
}
