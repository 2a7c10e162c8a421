//! Mapped bytes, and the limit on them.
//!
//! Bytes are reserved here before they are used and released after they were given back, so the limit holds at every
//! moment, whatever threads race. A closed pool, where nothing is got, releases those of its region before it unmaps
//! it.

use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Relaxed, SeqCst};

/// The bytes a pool has mapped, never above its limit.
///
/// A look at it is Relaxed: the memory that it stands for is published elsewhere.
pub(crate) struct MappedBytes {
    mapped: AtomicUsize,
    limit: usize,
}

impl MappedBytes {
    /// `limit` in bytes; `usize::MAX` for none.
    pub(crate) fn new(limit: usize) -> Self {
        Self { mapped: AtomicUsize::new(0), limit }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn get(&self) -> usize {
        self.mapped.load(Relaxed)
    }

    /// Adds `bytes`, unless the sum would exceed the limit.
    ///
    /// SeqCst here and in [`release`](Self::release): a waiter that looks for bytes finds what was released, or the
    /// thread that releases finds the waiter. The partner is `WaitQueue::enter`, in the core.
    pub(crate) fn try_reserve(&self, bytes: usize) -> bool {
        let add = |mapped: usize| mapped.checked_add(bytes).filter(|&sum| sum <= self.limit);
        self.mapped.fetch_update(SeqCst, SeqCst, add).is_ok()
    }

    /// Takes off bytes that were reserved. The caller then looks whether anybody waits for them.
    pub(crate) fn release(&self, bytes: usize) {
        let before = self.mapped.fetch_sub(bytes, SeqCst);
        debug_assert!(before >= bytes, "{bytes} bytes released of {before}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn racing_threads_never_exceed_the_limit() {
        let bytes = MappedBytes::new(100);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if bytes.try_reserve(30) {
                            assert!(bytes.get() <= 100);
                            bytes.release(30);
                        }
                    }
                });
            }
        });
        assert_eq!(bytes.get(), 0);
        assert!(!bytes.try_reserve(101) && bytes.try_reserve(100));
    }
}
