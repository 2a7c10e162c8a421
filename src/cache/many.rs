//! Many buffers in one use of a cache.

use crate::sync::atomic::Ordering::Relaxed;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;

use super::bin::Bin;
use super::fast;
use super::slow::with_cache;
use super::thread_cache::CacheRef;
use crate::class::ledger::{self, Holder, Mark, NOBODY};
use crate::os::barrier;
use crate::os::fork::ForkGuard;
use crate::os::thread_pointer;
use crate::os::thread_state::FAST;

/// The most buffers in one use of a cache, so that a thread that drains does not wait long.
const MOST_AT_ONCE: usize = 64;

/// Gets raw buffers into `out` from this thread's bin, on the fast path. Returns how many.
pub(crate) fn get_many_fast(key: u64, size: usize, out: &mut [MaybeUninit<*mut c_void>]) -> usize {
    let most = out.len().min(MOST_AT_ONCE);
    fast::enter(key).map_or(0, |(cache, _active)| cache.bin_for(size).take_many(size, &mut out[..most]))
}

/// Puts raw buffers up to the first that is not biased to this thread, on the fast path. Returns how many.
pub(crate) fn put_many_fast(key: u64, data: &[*mut c_void], size: usize) -> usize {
    let most = data.len().min(MOST_AT_ONCE);
    fast::enter(key).map_or(0, |(cache, _active)| cache.bin_for(size).put_many(&data[..most], cache.bias))
}

/// Gets raw buffers into `out` while the class has slots for them. Returns how many.
pub(crate) fn get_many(guard: &ForkGuard, key: u64, size: usize, out: &mut [*mut c_void]) -> usize {
    let mut got = 0;
    for part in out.chunks_mut(MOST_AT_ONCE) {
        let of_part = with_cache(guard, key, |cache| cache.get_many(size, part)).unwrap_or(0);
        got += of_part;
        if of_part < part.len() {
            break;
        }
    }
    got
}

/// Puts raw buffers up to the first that is not biased to this thread. Returns how many.
pub(crate) fn put_many(guard: &ForkGuard, key: u64, data: &[*mut c_void], size: usize) -> usize {
    let state = thread_pointer::get();
    // Without the heavy fence nobody is `FAST`, and the slow half ends what bias is left.
    let Some(entry) = state.find(key).filter(|_| barrier::is_in_use()) else { return 0 };
    let mut put = 0;
    loop {
        let part = &data[put..data.len().min(put + MOST_AT_ONCE)];
        let of_part = {
            let (cache, _active) = state.enter::<FAST>(entry);
            let cache = CacheRef::from_any(cache);
            cache.bin_for(size).put_many(part, cache.bias)
        };
        put += of_part;
        let goes_on =
            of_part == part.len() || with_cache(guard, key, |cache| cache.flush_full(size)) == Some(true);
        if put == data.len() || !goes_on {
            return put;
        }
    }
}

/// For a callee that only writes pointers.
fn as_unwritten(out: &mut [*mut c_void]) -> &mut [MaybeUninit<*mut c_void>] {
    // SAFETY:
    // - the same layout
    // - the callees are in this file, and write nothing but pointers
    unsafe { &mut *(ptr::from_mut(out) as *mut [MaybeUninit<*mut c_void>]) }
}

impl CacheRef {
    /// Gets raw buffers into `out` until it is full or the class has no slot left. Batches come from the shelf. Returns
    /// how many.
    fn get_many(&self, size: usize, out: &mut [*mut c_void]) -> usize {
        let bin = self.bin_for(size);
        if !bin.may_cache() {
            return 0;
        }
        let mut got = 0;
        loop {
            got += bin.take_many(size, as_unwritten(&mut out[got..]));
            if got == out.len() {
                return got;
            }
            self.fill(bin);
            if bin.len() == 0 {
                return got + self.get_many_fresh(bin, Holder::Raw(size), &mut out[got..]);
            }
        }
    }

    /// Gets slots that were never handed out. Returns how many.
    fn get_many_fresh(&self, bin: &Bin, holder: Holder, out: &mut [*mut c_void]) -> usize {
        let fresh = out.iter_mut().map_while(|data| {
            *data = self.get_fresh(bin, holder)?.data.as_ptr().cast();
            Some(())
        });
        fresh.count()
    }

    /// Makes room in the bin for a size if the bin is full. `false`: it was not full, or no room could be made.
    fn flush_full(&self, size: usize) -> bool {
        let bin = self.bin_for(size);
        !bin.has_room() && self.has_room_or_flush(bin)
    }
}

impl Bin {
    /// Takes slots into `out`, as many as the bin has, and marks them in the ledger. Returns how many.
    fn take_many(&self, size: usize, out: &mut [MaybeUninit<*mut c_void>]) -> usize {
        let count = out.len().min(self.len());
        if count == 0 {
            return 0;
        }
        let mark = Holder::Raw(size).mark(self.raw_base());
        let slots = self.slots; // in registers: the stores below could change it, for all a compiler knows
        let mut top = self.top();
        for data in &mut out[..count] {
            // SAFETY:
            // - at least `count` slots lie below `top`
            let idle = unsafe {
                top = top.sub(1);
                &*top
            };
            data.write(ptr::with_exposed_provenance_mut(idle.address.load(Relaxed)));
            slots.mark(idle.slot.load(Relaxed) as usize).store(mark, Relaxed);
        }
        self.top.store(top, Relaxed);
        count
    }

    /// Puts slots while there is room, up to the first address that is no slot with this thread's bias. Returns how
    /// many. The state is [`FAST`].
    fn put_many(&self, data: &[*mut c_void], bias: Mark) -> usize {
        let top = self.top();
        let count = data.len().min(self.free_room());
        let slots = self.slots; // as in `take_many`
        let mut put = 0;
        for data in &data[..count] {
            let address = data.addr();
            let Some(slot) = slots.at(address) else { break };
            if !ledger::is_biased(slots.mark(slot).load(Relaxed), bias) {
                break;
            }
            // Relaxed: as in `put`.
            slots.mark(slot).store(NOBODY, Relaxed);
            // SAFETY:
            // - there is room for `count` slots
            unsafe { (*top.add(put)).write(address, slot as u32) };
            put += 1;
        }
        // A bin that serves nothing may be every thread's: nobody writes to it.
        if put == 0 {
            return 0;
        }
        // SAFETY: as above
        self.top.store(unsafe { top.add(put) }, Relaxed);
        self.puts.store(self.puts.load(Relaxed) + put as u64, Relaxed);
        put
    }
}
