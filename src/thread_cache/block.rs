//! A thread's block: which keys of which pools lead to which of its caches.
//!
//! ```text
//! thread pointer -> Block { activity, entries -> [ key | cache ] }
//!                                                [ key | cache ] -> Cache -> bins of slot numbers
//! ```
//!
//! - Only the owning thread writes keys and `activity`.
//! - Another thread may take a cache away (revoke): it replaces the entry's cache by [`NO_CACHE`], under the
//!   block's lock, and then waits until the block is inactive.
//! - A thread that claimed slots in the ledger waits until no block is `FAST` ([`wait_for_getters`]).
//! - Blocks are never freed, only used again by later threads: who looks at one never sees memory that is
//!   gone.

pub(super) mod forks;

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, compiler_fence};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use std::iter;
use std::mem::offset_of;
use std::ptr::{self, NonNull};

use super::cache::{Cache, CacheRef, NO_CACHE};
use super::way;
use crate::anchor::{self, Reference};
use crate::barrier;
use crate::fork;
use crate::ledger::MAX_THREADS;
use crate::memory;
use crate::shelf::bits_of;

/// One way to a cache. The cache is null exactly while the key is the [`unused_key`] of the place.
pub(super) struct Entry {
    key: AtomicU64,
    cache: AtomicPtr<Cache>,
}

impl Entry {
    const fn unused(place: usize) -> Self {
        Self { key: AtomicU64::new(unused_key(place)), cache: AtomicPtr::new(ptr::null_mut()) }
    }
}

impl Entry {
    /// The cache it leads to. The caller holds the block's lock: under it a cache that is still in an entry has
    /// not been taken away, so it exists, and its pool with it: a pool ends only after it took all its caches
    /// away, holding a reference meanwhile.
    fn cache(&self) -> Option<CacheRef> {
        let cache = NonNull::new(self.cache.load(Relaxed))?;
        (!ptr::eq(cache.as_ptr(), &NO_CACHE)).then_some(CacheRef(cache))
    }

    /// The pool of the cache it leads to. The caller holds the block's lock.
    fn pool(&self) -> Option<Reference> {
        // SAFETY:
        // - it exists, see `cache`
        self.cache().map(|cache| unsafe { cache.pool_reference() })
    }
}

const fn no_cache() -> *mut Cache {
    (&raw const NO_CACHE).cast_mut()
}

/// These bits of a key choose the first place of its entry: where they stand, they are its offset in bytes.
const PLACE_BITS: u32 = if cfg!(bytepool_shuttle) { 3 } else { 10 };
const PLACE_SHIFT: u32 = size_of::<Entry>().trailing_zeros();
const PLACES: usize = 1 << PLACE_BITS;
const WAYS: usize = PLACES.div_ceil(u64::BITS as usize);
/// A key is at its first place or one of the next.
const PROBES: usize = 8;

#[inline(always)]
fn first_place(key: u64) -> usize {
    (key >> PLACE_SHIFT) as usize % PLACES
}

/// What an unused place has for a key: one that no search finds there. (Zeros and null pointers need no relocations
/// when the library is loaded.)
const fn unused_key(place: usize) -> u64 {
    // The key 0 is looked for at place 0 alone.
    if place == 0 { 1 << PLACE_SHIFT } else { 0 }
}

/// A key of a product with an odd number: its top bits, where all others' come together, choose the place.
#[inline(always)]
pub(crate) fn key_of(product: u64) -> u64 {
    product.rotate_left(PLACE_BITS + PLACE_SHIFT)
}

/// What [`key_of`] made a key of.
#[cfg(feature = "capi")]
pub(crate) fn product_of(key: u64) -> u64 {
    key.rotate_right(PLACE_BITS + PLACE_SHIFT)
}

fn places(key: u64) -> impl Iterator<Item = usize> {
    (0..PROBES).map(move |step| (first_place(key) + step) % PLACES)
}

/// The owner uses no cache.
const INACTIVE: u8 = 0;
/// The owner is in the fast path, where it waits for nothing.
pub(super) const FAST: u8 = 1;
/// The owner is in the slow half, where it may wait for others that are `FAST`.
const SLOW: u8 = 2;

/// A thread's entries: a hash table of fixed size. A thread that uses more pools than fit evicts some: their
/// caches stay, and are found again by the pool's list.
#[repr(C, align(128))] // apart from other threads' blocks
pub(crate) struct Block {
    /// `INACTIVE`, `FAST` or `SLOW`.
    activity: AtomicU8,
    /// From 1; no two threads have blocks of the same number at once.
    number: u32,
    /// How many sections the owner is in; see [`fork`].
    sections: AtomicU32,
    /// Whether caches of the owner are left that no entry may lead to, since a fork.
    was_cut: AtomicBool,
    /// The block made before this one.
    older: Option<&'static Block>,
    /// Guards against the owner and revoking threads changing entries at once. The owner's fast path does not
    /// take it.
    changing: Mutex<()>,
    entries: [Entry; PLACES],
    /// A bit for each place whose entry leads to a cache: few, so that who looks for those looks at few places. Changed
    /// under the lock.
    ways: [AtomicU64; WAYS],
}

/// Of every thread that has not used a pool yet, or whose thread-locals were torn down.
pub(super) static EMPTY: Block = Block::without_caches(0, None);

/// The block made last, from which all others are reached.
static NEWEST: AtomicPtr<Block> = AtomicPtr::new(ptr::null_mut());

/// All blocks ever made: as many as threads ever were at once.
fn all() -> impl Iterator<Item = &'static Block> {
    // SAFETY:
    // - null, or a block, which is never freed
    // - Acquire: partner in `Unused::take`
    let newest = unsafe { NEWEST.load(Acquire).as_ref() };
    iter::successors(newest, |block| block.older)
}

/// After it, no thread is between reading an entry of the ledger and writing it as its getter, unless it reads
/// what the caller wrote there before. The caller's own block is not `FAST`.
///
/// The partner of [`Block::enter`], as for revoking: the getter says that it is `FAST` before it reads the
/// entry, and the caller changes the entry before it looks who is.
pub(crate) fn wait_for_getters() {
    barrier::fence_all_threads();
    for block in all() {
        block.wait_while(|activity| activity == FAST);
    }
}

/// Blocks whose threads have ended, with room for all that were made.
struct Unused {
    blocks: Vec<&'static Block>,
    made: usize,
}
static UNUSED: Mutex<Unused> = Mutex::new(Unused { blocks: Vec::new(), made: 0 });

fn unused() -> MutexGuard<'static, Unused> {
    UNUSED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Unused {
    /// A block of an ended thread, or a new one. `None` without memory.
    fn take(&mut self) -> Option<&'static Block> {
        if let Some(block) = self.blocks.pop() {
            return Some(block);
        }
        if self.made >= MAX_THREADS as usize {
            return None;
        }
        // So that giving the block back never allocates.
        self.blocks.try_reserve(self.made + 1).ok()?;
        let block = Block::without_caches(self.made as u32 + 1, all().next());
        let block = memory::leak(block).ok()?;
        // Release: partner in `all`. Only changed under the lock of `UNUSED`.
        NEWEST.store(ptr::from_ref(block).cast_mut(), Release);
        self.made += 1;
        Some(block)
    }
}

/// Ends the owner's use of a cache.
pub(super) struct Active(&'static Block);

impl Active {
    /// Leaves the block active, for [`Block::still_active`] to go on.
    #[inline(always)]
    pub(super) fn stay(self) {
        std::mem::forget(self);
    }
}

impl Drop for Active {
    #[inline(always)]
    fn drop(&mut self) {
        // Release pairs with the Acquire in `wait_while`: what the owner did to its cache, and to the ledger,
        // comes before.
        self.0.activity.store(INACTIVE, Release);
    }
}

impl Block {
    #[cfg_attr(
        not(bytepool_shuttle),
        expect(clippy::forget_non_drop, reason = "a model's atomics have a destructor")
    )]
    pub(super) const fn without_caches(number: u32, older: Option<&'static Block>) -> Self {
        let mut entries = [const { Entry::unused(1) }; PLACES];
        // Not dropped: no constant may run a destructor.
        std::mem::forget(std::mem::replace(&mut entries[0], Entry::unused(0)));
        Self {
            activity: AtomicU8::new(INACTIVE),
            number,
            sections: AtomicU32::new(0),
            was_cut: AtomicBool::new(false),
            older,
            changing: Mutex::new(()),
            entries,
            ways: [const { AtomicU64::new(0) }; WAYS],
        }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner's entry for `key` if it is at the key's first place.
    #[inline(always)]
    pub(super) fn first(&self, key: u64) -> Option<&Entry> {
        // Summed up as a number, which compilers turn into fewer instructions than an index.
        let offset = first_place(key) * size_of::<Entry>() + offset_of!(Block, entries);
        let entry = ptr::from_ref(self).expose_provenance() + offset;
        // SAFETY:
        // - inside this block, which is static
        let entry = unsafe { &*ptr::with_exposed_provenance::<Entry>(entry) };
        // SAFETY:
        // - only the owner, which this is, writes keys
        if unsafe { *entry.key.as_ptr() } == key { Some(entry) } else { None }
    }

    /// As [`first`](Self::first), wherever the key is.
    pub(super) fn find(&self, key: u64) -> Option<&Entry> {
        if key == 0 {
            return None; // NULL as a context: unused places have it
        }
        places(key).map(|place| &self.entries[place]).find(|entry| entry.key.load(Relaxed) == key)
    }

    /// The cache that the owner's entry leads to, good for the fast path until `Active` is dropped.
    #[inline(always)]
    pub(super) fn enter(&'static self, entry: &Entry) -> (CacheRef, Active) {
        self.enter_as::<FAST>(entry)
    }

    /// What [`Active::stay`] left.
    ///
    /// # Safety
    /// - the calling thread is the owner, and stayed active
    #[inline(always)]
    pub(super) unsafe fn still_active(&'static self) -> Active {
        debug_assert_eq!(self.activity.load(Relaxed), FAST);
        Active(self)
    }

    /// As [`enter`](Self::enter), for the slow half.
    pub(super) fn enter_slowly(&'static self, entry: &Entry) -> (CacheRef, Active) {
        self.enter_as::<SLOW>(entry)
    }

    /// `activity` must be set before the cache is read, as the revoking thread clears the entry before it
    /// reads `activity`: one of them sees the other. On this side the compiler fence keeps the order, and its
    /// partner [`fence_all_threads`](barrier::fence_all_threads) makes the processor's order follow.
    #[inline(always)]
    fn enter_as<const ACTIVITY: u8>(&'static self, entry: &Entry) -> (CacheRef, Active) {
        self.activity.store(ACTIVITY, Relaxed);
        compiler_fence(SeqCst);
        // SAFETY:
        // - the cache of an entry that a key led to is not null: it is NO_CACHE, or one that is freed only after it was taken out of
        //   all entries and the block was seen inactive
        let cache = CacheRef(unsafe { NonNull::new_unchecked(entry.cache.load(Relaxed)) });
        (cache, Active(self))
    }

    /// Leads `key`, which leads to no cache yet, to `cache` from now on. Only for the owner, while it is not
    /// active. The pool whose way had to be given up for it, if any.
    pub(super) fn set(&self, key: u64, cache: CacheRef) -> Option<Reference> {
        let _changing = self.lock();
        let entry = |place: usize| &self.entries[place];
        // The same key first, lest it stand in two places; else as near to its first place as can be; else by
        // eviction.
        let same = places(key).find(|&place| entry(place).key.load(Relaxed) == key);
        if same.is_none() {
            self.make_way(key);
        }
        let place = same.or_else(|| self.unused_place(key)).unwrap_or(first_place(key));
        let evicted = entry(place).pool().filter(|pool| !ptr::eq(&raw const **pool, cache.pool()));
        self.lead(place, cache.0.as_ptr());
        entry(place).key.store(key, Relaxed);
        evicted
    }

    /// Makes the entry at a place lead to a cache, or to none. The caller holds the lock.
    fn lead(&self, place: usize, cache: *mut Cache) {
        let entry = &self.entries[place];
        // Relaxed: where a cache is taken away, the heavy fence that follows orders it against `enter`.
        entry.cache.store(cache, Relaxed);
        let (way, bit) = (&self.ways[place / u64::BITS as usize], 1 << (place % u64::BITS as usize));
        let others = way.load(Relaxed) & !bit;
        way.store(if entry.cache().is_some() { others | bit } else { others }, Relaxed);
    }

    /// The places of the entries that lead to a cache. The caller holds the lock.
    fn ways(&self) -> impl Iterator<Item = usize> {
        let of_word = |(index, way): (usize, &AtomicU64)| {
            bits_of(way.load(Relaxed)).map(move |bit| index * u64::BITS as usize + bit as usize)
        };
        self.ways.iter().enumerate().flat_map(of_word)
    }

    fn unused_place(&self, key: u64) -> Option<usize> {
        places(key).find(|&place| self.entries[place].cache().is_none())
    }

    /// Moves a pool's own key off the first place of a context, which is more often in demand. The caller holds
    /// the lock, and is the owner.
    fn make_way(&self, key: u64) {
        let place = first_place(key);
        let entry = &self.entries[place];
        let other = entry.key.load(Relaxed);
        let is_pools_own =
            entry.pool().is_some_and(|pool| pool.cache_key() == other && pool.cache_key() != key);
        if is_pools_own && let Some(to) = self.unused_place(other) {
            self.lead(to, entry.cache.load(Relaxed));
            self.entries[to].key.store(other, Relaxed);
            entry.key.store(unused_key(place), Relaxed);
            self.lead(place, ptr::null_mut());
        }
    }

    /// Takes a cache away from all its keys, or only from `key`. Any thread.
    pub(super) fn take_away(&self, cache: CacheRef, key: Option<u64>) {
        let _changing = self.lock();
        for place in self.ways() {
            let entry = &self.entries[place];
            if entry.cache.load(Relaxed) == cache.0.as_ptr()
                && key.is_none_or(|key| entry.key.load(Relaxed) == key)
            {
                self.lead(place, no_cache());
            }
        }
    }

    /// Waits until the owner does not use any cache. After the heavy fence it cannot have entered one that
    /// was taken away before.
    pub(super) fn wait_until_inactive(&self) {
        self.wait_while(|activity| activity != INACTIVE);
    }

    fn wait_while(&self, waits: impl Fn(u8) -> bool) {
        // Acquire: partner in `Active::drop`.
        barrier::wait_until(|| !waits(self.activity.load(Acquire)));
    }

    /// Takes every cache away from all its keys; the caches stay in their pools' lists. Any thread.
    fn cut_ways(&self) {
        let _changing = self.lock();
        for place in self.ways() {
            self.lead(place, no_cache());
            // Relaxed: the owner reads it under the lock.
            self.was_cut.store(true, Relaxed);
        }
    }

    /// A reference to one of the pools that this thread reaches a cache of.
    fn some_pool(&self) -> Option<Reference> {
        let _changing = self.lock();
        self.ways().find_map(|place| self.entries[place].pool())
    }
}

/// Ends the thread's caching when its thread-locals are torn down.
struct ExitHook;

impl Drop for ExitHook {
    fn drop(&mut self) {
        let _section = fork::section();
        let block = way::block();
        if ptr::eq(block, &EMPTY) {
            return;
        }
        fork::change_block(|| way::set_block(&EMPTY));
        while let Some(pool) = block.some_pool() {
            pool.give_up_cache(block);
        }
        // Relaxed: the lock that `some_pool` took orders it.
        if block.was_cut.swap(false, Relaxed) {
            anchor::live_pools().for_each(|pool| pool.give_up_caches_of(block));
        }
        unused().blocks.push(block);
    }
}

/// What the C library takes for the hook, at most; it ends the process if it cannot.
const EXIT_HOOK_BYTES: usize = 128;

crate::sync::thread_local! {
    static EXIT_HOOK: ExitHook = const { ExitHook };
}

/// This thread's block, made if it has none. `None` once the thread's locals were torn down, or without
/// memory.
pub(super) fn own_block() -> Option<&'static Block> {
    let block = way::block();
    if !ptr::eq(block, &EMPTY) {
        return Some(block);
    }
    memory::probe_c(EXIT_HOOK_BYTES).ok()?;
    // Registers the hook; fails once the thread's locals are torn down.
    EXIT_HOOK.try_with(|_| ()).ok()?;
    let block = unused().take()?;
    fork::change_block(|| way::set_block(block));
    Some(block)
}
