//! A thread's block: which keys of which pools lead to which of its caches.
//!
//! ```text
//! thread pointer -> Block { active, entries -> [ key | cache ] }
//!                                              [ key | cache ] -> Cache -> bins of slot numbers
//! ```
//!
//! - Only the owning thread writes keys, moves entries, and sets `active`.
//! - Another thread may take a cache away (revoke): it replaces the entry's cache by [`NO_CACHE`], under the
//!   block's lock, and then waits until `active` is clear.
//! - Blocks are never freed, only used again by later threads: who looks at one never sees memory that is
//!   gone.

use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, compiler_fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cache::{Cache, NO_CACHE};
use super::way;
use crate::anchor::Reference;

/// One way to a cache. A key that is 0 was never used.
struct Entry {
    key: AtomicU64,
    cache: AtomicPtr<Cache>,
}

impl Entry {
    const fn empty() -> Self {
        Self { key: AtomicU64::new(0), cache: AtomicPtr::new(no_cache()) }
    }
}

const fn no_cache() -> *mut Cache {
    (&raw const NO_CACHE).cast_mut()
}

/// A thread's entries: a hash table with open addressing, at most half full.
#[repr(C)]
pub(crate) struct Block {
    /// Set while the owner uses a cache.
    active: AtomicBool,
    /// 64 less the logarithm of the number of entries: the top bits of a key choose its place.
    shift: AtomicU32,
    /// The first entry of `table`, or of [`NO_ENTRIES`].
    entries: AtomicPtr<Entry>,
    /// Guards against the owner and revoking threads changing entries at once. The owner's fast path does not
    /// take it.
    table: Mutex<Vec<Entry>>,
}

static NO_ENTRIES: [Entry; 2] = [Entry::empty(), Entry::empty()];

/// Of every thread that has not used a pool yet.
pub(super) static EMPTY: Block = Block::without_entries();
/// Of every thread whose thread-locals were torn down: it gets no cache any more.
pub(super) static RETIRED: Block = Block::without_entries();

/// Blocks whose threads have ended.
static UNUSED: Mutex<Vec<&'static Block>> = Mutex::new(Vec::new());

const FIRST_ENTRIES: usize = 16;

/// Ends the owner's use of a cache.
pub(super) struct Active(&'static Block);

impl Drop for Active {
    #[inline(always)]
    fn drop(&mut self) {
        // Release pairs with the Acquire in `wait_until_inactive`: what the owner did to its cache comes
        // before.
        self.0.active.store(false, Release);
    }
}

impl Block {
    const fn without_entries() -> Self {
        Self {
            active: AtomicBool::new(false),
            shift: AtomicU32::new(63),
            entries: AtomicPtr::new((&raw const NO_ENTRIES).cast::<Entry>().cast_mut()),
            table: Mutex::new(Vec::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry at a place of the table. Only for the owner.
    #[inline(always)]
    fn entry(&self, place: usize) -> &Entry {
        // Relaxed: only the owner changes the table.
        let entries = self.entries.load(Relaxed);
        debug_assert!(place < 1 << (64 - self.shift.load(Relaxed)));
        // SAFETY:
        // - `entries` has 2^(64 - shift) entries, and a place is below that
        // - only the owner replaces the table, and this is its call
        unsafe { &*entries.add(place) }
    }

    /// The owner's cache for `key` if it is at the key's first place, marked as in use.
    ///
    /// `active` must be set before the cache is read, as the revoking thread clears the entry before it reads
    /// `active`: one of them sees the other. On this side the compiler fence keeps the order, and the partner
    /// [`fence_all_threads`](super::barrier::fence_all_threads) makes the processor's order follow.
    #[inline(always)]
    pub(super) fn find_first(&'static self, key: u64) -> Option<(&'static Cache, Active)> {
        let entry = self.entry((key >> self.shift.load(Relaxed)) as usize);
        if entry.key.load(Relaxed) != key { None } else { Some(self.enter(entry)) }
    }

    /// As [`find_first`](Self::find_first), wherever the key is.
    pub(super) fn find(&'static self, key: u64) -> Option<(&'static Cache, Active)> {
        self.place_of(key).map(|place| self.enter(self.entry(place)))
    }

    #[inline(always)]
    fn enter(&'static self, entry: &Entry) -> (&'static Cache, Active) {
        self.active.store(true, Relaxed);
        compiler_fence(SeqCst);
        let active = Active(self);
        // SAFETY:
        // - an entry's cache is NO_CACHE or one that is freed only after it was taken out of all entries and
        //   `active` was seen clear
        // - callers do not keep it beyond `active`
        (unsafe { &*entry.cache.load(Relaxed) }, active)
    }

    /// Where `key` is in the table. Only for the owner.
    fn place_of(&self, key: u64) -> Option<usize> {
        let shift = self.shift.load(Relaxed);
        let mask = (1usize << (64 - shift)) - 1;
        let first = (key >> shift) as usize;
        let places = (0..=mask).map(|step| (first + step) & mask);
        places.take_while(|&place| self.entry(place).key.load(Relaxed) != 0).find(|&place| {
            // Relaxed: only the owner writes keys.
            self.entry(place).key.load(Relaxed) == key
        })
    }

    /// Leads `key`, which leads to no cache yet, to `cache` from now on. Only for the owner, while it is not
    /// active. `false`: no memory for more entries.
    pub(super) fn set(&self, key: u64, cache: NonNull<Cache>) -> bool {
        let mut table = self.lock();
        let used = table.iter().filter(|entry| entry.key.load(Relaxed) != 0).count();
        if (used + 1) * 2 > table.len() && !self.grow(&mut table) {
            return false;
        }
        self.insert(&table, key, cache.as_ptr());
        true
    }

    /// `key` leads to no cache yet. The first entry that is free or leads nowhere becomes its own, as near to
    /// its first place as can be.
    fn insert(&self, table: &[Entry], key: u64, cache: *mut Cache) {
        let mask = table.len() - 1;
        let mut place = (key >> self.shift.load(Relaxed)) as usize;
        let leads_nowhere = |entry: &Entry| ptr::eq(entry.cache.load(Relaxed), &NO_CACHE);
        while !leads_nowhere(&table[place]) {
            place = (place + 1) & mask;
        }
        table[place].cache.store(cache, Relaxed);
        table[place].key.store(key, Relaxed);
    }

    /// Rebuilds the table without entries whose cache was taken away, and with twice the room if it is
    /// needed.
    fn grow(&self, table: &mut Vec<Entry>) -> bool {
        let live: Vec<(u64, *mut Cache)> = table
            .iter()
            .map(|entry| (entry.key.load(Relaxed), entry.cache.load(Relaxed)))
            .filter(|&(key, cache)| key != 0 && !ptr::eq(cache, &NO_CACHE))
            .collect();
        // At most a quarter full, so that most keys are at their first place.
        let len = ((live.len() + 1) * 4).next_power_of_two().max(FIRST_ENTRIES);
        let mut entries = Vec::new();
        if entries.try_reserve_exact(len).is_err() {
            return false;
        }
        entries.extend((0..len).map(|_| Entry::empty()));
        self.shift.store(64 - len.ilog2(), Relaxed);
        for (key, cache) in live {
            self.insert(&entries, key, cache);
        }
        // The owner is not active, and other threads read the table under its lock: nobody looks at the old
        // one.
        self.entries.store(entries.as_mut_ptr(), Relaxed);
        *table = entries;
        true
    }

    /// Takes a cache away from all its keys, or only from `key`. Any thread.
    pub(super) fn take_away(&self, cache: NonNull<Cache>, key: Option<u64>) {
        for entry in self.lock().iter() {
            if entry.cache.load(Relaxed) == cache.as_ptr()
                && key.is_none_or(|key| entry.key.load(Relaxed) == key)
            {
                // Relaxed: the heavy fence that follows orders it against `enter`.
                entry.cache.store(no_cache(), Relaxed);
            }
        }
    }

    /// Waits until the owner does not use any cache. After the heavy fence it cannot have entered one that
    /// was taken away before.
    pub(super) fn wait_until_inactive(&self) {
        // Acquire: partner in `Active::drop`.
        while self.active.load(Acquire) {
            std::thread::yield_now();
        }
    }

    /// References to the pools that this thread has caches of.
    fn pools(&self) -> Vec<Reference> {
        let table = self.lock();
        let caches =
            table.iter().map(|entry| entry.cache.load(Relaxed)).filter(|&cache| !ptr::eq(cache, &NO_CACHE));
        // SAFETY:
        // - under the lock a cache that is still in an entry has not been taken away, so it exists, and its
        //   pool with it: a pool ends only after it took all its caches away, holding a reference meanwhile
        caches.map(|cache| unsafe { (*cache).pool_reference() }).collect()
    }
}

/// Ends the thread's caching when its thread-locals are torn down.
struct ExitHook;

impl Drop for ExitHook {
    fn drop(&mut self) {
        let block = way::block();
        way::set_block(&RETIRED);
        for pool in block.pools() {
            pool.caches().give_up(block);
        }
        block.shift.store(63, Relaxed);
        block.entries.store((&raw const NO_ENTRIES).cast::<Entry>().cast_mut(), Relaxed);
        drop(std::mem::take(&mut *block.lock()));
        UNUSED.lock().unwrap_or_else(PoisonError::into_inner).push(block);
    }
}

thread_local! {
    static EXIT_HOOK: ExitHook = const { ExitHook };
}

/// This thread's block, made if it has none. `None` once the thread's locals were torn down, or without
/// memory.
pub(super) fn own_block() -> Option<&'static Block> {
    let block = way::block();
    if ptr::eq(block, &RETIRED) {
        return None;
    }
    if !ptr::eq(block, &EMPTY) {
        return Some(block);
    }
    let unused = {
        let mut blocks = UNUSED.lock().unwrap_or_else(PoisonError::into_inner);
        // So that giving the block back never allocates.
        blocks.try_reserve(64).ok()?;
        blocks.pop()
    };
    let block = unused.unwrap_or_else(|| Box::leak(Box::new(Block::without_entries())));
    way::set_block(block);
    // Registers the hook; fails once the thread's locals are torn down.
    if EXIT_HOOK.try_with(|_| ()).is_err() {
        way::set_block(&RETIRED);
        UNUSED.lock().unwrap_or_else(PoisonError::into_inner).push(block);
        return None;
    }
    Some(block)
}
