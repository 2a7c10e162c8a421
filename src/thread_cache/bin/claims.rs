//! Claims: slots put by this thread that another one got (see the ledger), until one wait for the getters settles
//! them all.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::ptr;

use super::{Bin, MAX_BATCH, Place};
use crate::ledger::{self, Mark, NOBODY};

impl Bin {
    pub(in crate::thread_cache) fn has_claims(&self) -> bool {
        self.end.load(Relaxed) != self.limit.load(Relaxed)
    }

    /// Claims a slot, which another thread got, from the holder that was found, if it is still that one.
    /// There is room. `getter` is this thread's.
    pub(in crate::thread_cache) fn claim(
        &self,
        address: usize,
        slot: usize,
        found: Mark,
        getter: Mark,
        number: u32,
    ) -> bool {
        debug_assert!(self.has_room());
        // Relaxed: see the ledger.
        let claim = ledger::claim(getter, number);
        let claimed = self.entry(slot).compare_exchange(found, claim, Relaxed, Relaxed).is_ok();
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

    pub(in crate::thread_cache) fn set_end(&self, end: *mut Place) {
        // Release: partner in `claims`.
        self.end.store(end, Release);
    }

    fn claims(&self) -> &[Place] {
        // Acquire pairs with the Release in `set_end`: statistics find no limit below this end, as after `grow`.
        let end = self.end.load(Acquire);
        let limit = self.limit.load(Relaxed);
        // SAFETY:
        // - the places between `end` and `limit` are there as long as the bin
        unsafe { std::slice::from_raw_parts(end, (limit.addr() - end.addr()) / size_of::<Place>()) }
    }

    /// Takes the slots whose claims stand, and gives them to `put` in batches; how many do not. The caller
    /// waited for the getters since the last claim.
    pub(in crate::thread_cache) fn settle(&self, getter: Mark, mut put: impl FnMut(&[u32])) -> usize {
        let claims = self.claims();
        let mut taken = 0;
        for claims in claims.chunks(MAX_BATCH) {
            let mut batch = [0; MAX_BATCH];
            let mut len = 0;
            for place in claims.iter().filter(|place| self.stands(place, getter)) {
                batch[len] = place.slot.load(Relaxed);
                self.entry(batch[len] as usize).store(NOBODY, Relaxed);
                len += 1;
            }
            put(&batch[..len]);
            taken += len;
        }
        self.set_end(self.limit.load(Relaxed));
        self.puts.store(self.puts.load(Relaxed) + taken as u64, Relaxed);
        claims.len() - taken
    }

    fn stands(&self, place: &Place, getter: Mark) -> bool {
        let claim = ledger::claim(getter, place.claim.load(Relaxed));
        self.entry(place.slot.load(Relaxed) as usize).load(Relaxed) == claim
    }

    /// How many claims stand as it looks now, and how many do not. Any thread, at a quiet moment.
    pub(in crate::thread_cache) fn count_claims(&self, getter: Mark) -> (u32, u32) {
        let claims = self.claims();
        let standing = claims.iter().filter(|place| self.stands(place, getter)).count();
        (standing as u32, (claims.len() - standing) as u32)
    }
}
