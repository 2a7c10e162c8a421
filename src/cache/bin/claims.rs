//! Claims: slots put by this thread that are biased to another one, until one wait for the fast paths settles them all.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::ptr;

use super::{Bin, CachedSlot, MAX_BATCH};
use crate::class::ledger::{self, Mark, NOBODY};

impl Bin {
    pub(in crate::cache) fn has_claims(&self) -> bool {
        self.end.load(Relaxed) != self.limit.load(Relaxed)
    }

    /// Claims a slot that is biased to another thread from the holder that was found, if it is still that one. There is
    /// room. `bias` is this thread's.
    pub(in crate::cache) fn claim(
        &self,
        address: usize,
        slot: usize,
        found: Mark,
        bias: Mark,
        number: u32,
    ) -> bool {
        debug_assert!(self.has_room());
        // Relaxed: see the ledger.
        let claim = ledger::claim(bias, number);
        let claimed = self.mark(slot).compare_exchange(found, claim, Relaxed, Relaxed).is_ok();
        if claimed {
            // SAFETY:
            // - `end` is above `top`
            let end = unsafe { &*self.end.load(Relaxed).sub(1) };
            end.write(address, slot as u32);
            end.claim.store(number, Relaxed);
            self.set_end(ptr::from_ref(end).cast_mut());
        }
        claimed
    }

    pub(in crate::cache) fn set_end(&self, end: *mut CachedSlot) {
        // Release: partner in `claims`.
        self.end.store(end, Release);
    }

    fn claims(&self) -> &[CachedSlot] {
        // Acquire pairs with the Release in `set_end`: a reader that sees the new `end` also sees the new `limit`.
        let end = self.end.load(Acquire);
        let limit = self.limit.load(Relaxed);
        // SAFETY:
        // - the claims between `end` and `limit` are there as long as the bin
        unsafe { std::slice::from_raw_parts(end, (limit.addr() - end.addr()) / size_of::<CachedSlot>()) }
    }

    /// Takes the slots whose claims stand, and gives them to `put` in batches; how many do not. The caller
    /// waited for the fast paths since the last claim.
    pub(in crate::cache) fn settle(&self, bias: Mark, mut put: impl FnMut(&[u32])) -> usize {
        let claims = self.claims();
        let mut taken = 0;
        for claims in claims.chunks(MAX_BATCH) {
            let mut batch = [0; MAX_BATCH];
            let mut len = 0;
            for claimed in claims.iter().filter(|claim| self.stands(claim, bias)) {
                batch[len] = claimed.slot.load(Relaxed);
                self.mark(batch[len] as usize).store(NOBODY, Relaxed);
                len += 1;
            }
            put(&batch[..len]);
            taken += len;
        }
        self.set_end(self.limit.load(Relaxed));
        self.puts.store(self.puts.load(Relaxed) + taken as u64, Relaxed);
        claims.len() - taken
    }

    fn stands(&self, claimed: &CachedSlot, bias: Mark) -> bool {
        let claim = ledger::claim(bias, claimed.claim.load(Relaxed));
        self.mark(claimed.slot.load(Relaxed) as usize).load(Relaxed) == claim
    }

    /// How many claims stand as it looks now, and how many do not. Any thread, at a quiet moment.
    pub(in crate::cache) fn count_claims(&self, bias: Mark) -> (u32, u32) {
        let claims = self.claims();
        let standing = claims.iter().filter(|claim| self.stands(claim, bias)).count();
        (standing as u32, (claims.len() - standing) as u32)
    }
}
