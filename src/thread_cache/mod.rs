//! Thread caches: each thread keeps idle slots of the pools it uses, and gets and puts them without writing a
//! line that another thread reads.
//!
//! - [`way`]: one thread-local pointer leads to the thread's block
//! - [`block`]: the block leads from a key (a context, or a pool) to a cache
//! - [`cache`]: a bin per class, and the fast path
//! - [`bin`]: idle slots of one class
//! - [`room`]: how many slots threads may keep
//! - [`leaning`]: whether puts are to be cheap, or hand-overs
//! - [`caches`]: the pool's side, a list of its caches, which can be taken away
//!
//! Here is the threads' side: gets and puts, by a key that leads to a cache.

mod bin;
mod block;
mod cache;
mod caches;
mod leaning;
mod room;
mod way;

#[cfg(feature = "capi")]
use std::ffi::c_void;

pub(crate) use self::bin::Bin;
pub(crate) use self::block::Block;
pub(crate) use self::block::forks::{
    all_sections, cut_all_ways, forget_other_threads, note_forked, own_sections,
};
pub(crate) use self::block::key_of;
#[cfg(feature = "capi")]
pub(crate) use self::block::product_of;
pub(crate) use self::block::wait_for_getters;
use self::cache::CacheRef;
pub(crate) use self::cache::{Tried, bins_of_steps};
pub(crate) use self::caches::Caches;
pub(crate) use self::leaning::Leaning;
pub(crate) use self::room::{CachingRoom, LARGE};
use crate::ledger::{self, Holder, Mark};
use crate::shared::{Buffer, PutSize};

/// The fast path: no lock, no shared write. `key` is [`cache_key`](crate::shared::Shared::cache_key) or a context.
#[inline(always)]
pub(crate) fn get(key: u64, size: usize, holder: Holder) -> Option<Buffer> {
    let block = way::block();
    let (cache, _active) = block.enter(block.first(key)?);
    cache.get(size, holder)
}

/// Puts a raw buffer with the size it was asked for or another of its class, if this thread got it.
#[inline(always)]
pub(crate) fn try_put(key: u64, address: usize, size: usize) -> Tried {
    let block = way::block();
    let Some(entry) = block.first(key) else { return Tried::Nothing };
    let (cache, active) = block.enter(entry);
    let tried = cache.put(address, size);
    if let Tried::NotOwn { .. } = tried {
        active.stay();
    }
    tried
}

/// Goes on where [`try_put`] found a buffer that this thread did not get: puts it, unless another thread got it.
/// `false`: nothing was done, the pool must look.
///
/// # Safety
/// - `try_put` gave `bin` and `slot` for this address, and this thread has used no cache since
#[inline(always)]
pub(crate) unsafe fn put_not_own(bin: *const Bin, address: usize, slot: usize) -> bool {
    // SAFETY:
    // - it stayed active in `try_put` (caller), so the bin is there
    let (_active, bin) = unsafe { (way::block().still_active(), &*bin) };
    bin.put_not_own(address, slot)
}

/// [`try_put`], and [`put_not_own`] if need be. `false`: nothing was done, the pool must look.
#[inline(always)]
pub(crate) fn put(key: u64, address: usize, size: usize) -> bool {
    #[cold]
    #[inline(never)]
    fn decide(bin: *const Bin, address: usize, slot: usize) -> bool {
        // SAFETY:
        // - just given by `try_put`, below
        unsafe { put_not_own(bin, address, slot) }
    }
    match try_put(key, address, size) {
        Tried::Put => true,
        Tried::NotOwn { bin, slot } => decide(bin, address, slot),
        Tried::Nothing => false,
    }
}

/// As [`put`], whatever the size.
#[inline(always)]
pub(crate) fn put_unsized(key: u64, address: usize) -> bool {
    let block = way::block();
    let Some(entry) = block.first(key) else { return false };
    let (cache, _active) = block.enter(entry);
    cache.put_unsized(address)
}

/// Puts the slot of a `PooledBuffer`. `false`: nothing was done, the pool must look; as also for a number that no class
/// has.
#[inline(always)]
pub(crate) fn put_owned(key: u64, address: usize, class: u32, slot: u32) -> bool {
    let block = way::block();
    let Some(entry) = block.first(key) else { return false };
    let (cache, _active) = block.enter(entry);
    cache.put_owned(address, class, slot)
}

/// What `using` makes of this thread's cache, wherever the key is in the table.
fn with_cache<R>(key: u64, using: impl FnOnce(CacheRef) -> R) -> Option<R> {
    let block = way::block();
    let (cache, _active) = block.enter_slowly(block.find(key)?);
    (!cache.is_none()).then(|| using(cache))
}

/// As [`get`], wherever the key is, and with a batch from the shelf if the bin is empty; from the pool's spare if
/// the class is used up.
pub(crate) fn get_or_fill(key: u64, size: usize, holder: Holder) -> Option<Buffer> {
    with_cache(key, |cache| cache.get_or_fill(size, holder))?
        .or_else(|spare| {
            let cached = with_cache(spare.ok_or(())?, |cache| cache.get_or_fill(size, holder));
            cached.and_then(Result::ok).map(Buffer::of_spare).ok_or(())
        })
        .ok()
}

/// As [`get_or_fill`], for a class that is known.
pub(crate) fn get_of_class(key: u64, class: usize, holder: Holder) -> Option<Buffer> {
    with_cache(key, |cache| cache.get_of_class(class, holder))?
}

/// When a put by another thread than the getter is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Now,
    /// If the getter puts it at the same moment, one of the two puts is found out later, and only counted.
    Later,
}

/// As [`put`] or [`put_unsized`], wherever the key is, and whoever got the buffer. One of the pool's spare, too, while
/// this thread's cache has room for it.
pub(crate) fn put_anywhere(key: u64, address: usize, size: PutSize, verdict: Verdict) -> bool {
    match with_cache(key, |cache| (cache.put_anyhow(address, size, verdict), cache.spare_key())) {
        Some((false, Some(spare))) => match size {
            PutSize::Sized(size) => {
                put(spare, address, size)
                    || verdict == Verdict::Later && put_any_getters(spare, address, size)
            }
            PutSize::Unsized => put_unsized(spare, address),
        },
        done => done.is_some_and(|(is_put, _)| is_put),
    }
}

/// At most this many buffers in one use of a cache, lest it keep a thread that revokes waiting.
#[cfg(feature = "capi")]
const MOST_AT_ONCE: usize = 64;

/// Gets raw buffers into `out` while the class has idle slots; how many.
#[cfg(feature = "capi")]
pub(crate) fn get_many(key: u64, size: usize, out: &mut [*mut c_void]) -> usize {
    let mut got = 0;
    for part in out.chunks_mut(MOST_AT_ONCE) {
        let of_part = with_cache(key, |cache| cache.get_many(size, part)).unwrap_or(0);
        got += of_part;
        if of_part < part.len() {
            break;
        }
    }
    got
}

/// Puts raw buffers that this thread got, up to the first that is not such a one; how many.
#[cfg(feature = "capi")]
pub(crate) fn put_many(key: u64, data: &[*mut c_void], size: usize) -> usize {
    let block = way::block();
    let Some(entry) = block.find(key) else { return 0 };
    let mut put = 0;
    loop {
        let part = &data[put..data.len().min(put + MOST_AT_ONCE)];
        let of_part = {
            let (cache, _active) = block.enter(entry);
            cache.put_many(part, size)
        };
        put += of_part;
        let goes_on = of_part == part.len() || with_cache(key, |cache| cache.flush_full(size)) == Some(true);
        if put == data.len() || !goes_on {
            return put;
        }
    }
}

/// As [`put`], whoever got the buffer and however large it is; if nothing stands in the way. The first part of
/// [`put_anywhere`], for hand-overs.
pub(crate) fn put_any_getters(key: u64, address: usize, size: usize) -> bool {
    let block = way::block();
    let Some(entry) = block.first(key) else { return false };
    let (cache, _active) = block.enter(entry);
    cache.put_any_getters(address, size)
}

/// Settles this thread's claims; how many did not stand since its cache was made.
#[cfg(feature = "capi")]
pub(crate) fn count_lost_claims(key: u64) -> u32 {
    let count = |key| with_cache(key, |cache| (cache.count_lost_claims(), cache.spare_key()));
    let (lost, spare) = count(key).unwrap_or((0, None));
    lost + spare.and_then(count).map_or(0, |(lost, _)| lost)
}

/// What this thread adds to the marks of slots it gets from a cache; 0 if it has none.
pub(crate) fn own_getter() -> Mark {
    ledger::getter(way::block().number())
}

/// As [`put_owned`], for a slot of the pool's spare.
pub(crate) fn put_owned_spare(key: u64, address: usize, class: u8, slot: u32) -> bool {
    let spare = with_cache(key, |cache| cache.spare_key()).flatten();
    spare.is_some_and(|spare| put_owned(spare, address, class.into(), slot))
}

/// As [`put_owned`], wherever the key is, and with a batch to the shelf if the bin is full.
pub(crate) fn put_owned_or_flush(key: u64, address: usize, class: u8, slot: u32) -> bool {
    with_cache(key, |cache| cache.put_owned_or_flush(address, class, slot)).unwrap_or(false)
}

/// A fresh slot of a class for this thread. `None`: this thread has no cache, or there is none.
pub(crate) fn take_fresh(key: u64, class: usize) -> Option<u32> {
    with_cache(key, |cache| cache.take_fresh(class))?
}

/// Whether `key` leads this thread to a cache.
fn is_attached(key: u64) -> bool {
    with_cache(key, |_| ()).is_some()
}
