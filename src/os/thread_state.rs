//! A thread's state: a table that leads from keys to the thread's caches, and what other threads must know of it.
//!
//! ```text
//! thread pointer -> ThreadState { activity, guards, entries -> [ key | cache ] }
//!                                                              [ key | cache ] -> a cache, of the layers above
//! ```
//!
//! - Only the owning thread writes keys and `activity`; in a child of a fork, the one that takes over does for those
//!   that are gone.
//! - Another thread may detach a cache: under the state's lock it makes the entries lead nowhere, and then it waits
//!   until the state is inactive.
//! - A thread that ends a bias in a ledger waits until the bias owner's state is not [`FAST`], by
//!   [`wait_for_fast_path`].
//! - Without the heavy fence no key at its first position, where the fast path looks, leads to a cache. The slow half
//!   finds it at another, and fences by itself.
//! - Where the system refuses the heavy fence from some moment on, all entries are made to lead nowhere first.
//! - States are never freed, only used again by later threads. So a thread that looks at one never reads freed memory.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, compiler_fence};
use std::alloc::Layout;
use std::cell::Cell;
use std::iter;
use std::mem::offset_of;
use std::ptr::{self, NonNull};

use super::bits::bits_of;
use super::fork::{self, ForkGuard};
use super::lock::{Lock, Locked};
use super::{barrier, hooks, memory, thread_pointer};

/// A cache of the layers above; only its address is known here.
pub(crate) enum AnyCache {}

/// A key, and the cache it leads to. The cache is null exactly while the key is the [`unused_key`] of its position.
pub(crate) struct Entry {
    key: AtomicU64,
    cache: AtomicPtr<AnyCache>,
}

impl Entry {
    const fn unused(position: usize) -> Self {
        Self { key: AtomicU64::new(unused_key(position)), cache: AtomicPtr::new(ptr::null_mut()) }
    }
}

/// Where a key was found, so that it need not be searched again. Something else may be there by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position(u32);

/// These bits of a key choose the first position of its entry. In the key they are the position's offset in bytes.
const POSITION_BITS: u32 = if cfg!(bytepool_shuttle) { 3 } else { 10 };
const POSITION_SHIFT: u32 = size_of::<Entry>().trailing_zeros();
const POSITIONS: usize = 1 << POSITION_BITS;
const WORDS: usize = POSITIONS.div_ceil(u64::BITS as usize);
const _: () = assert!(unused_key(1) == 0, "a zeroed entry is unused");
/// A key is at its first position or one of the next.
const PROBES: usize = 8;

#[inline(always)]
fn first_position(key: u64) -> usize {
    (key >> POSITION_SHIFT) as usize % POSITIONS
}

/// What an unused entry has for a key: one that no search finds there. Zeros and null pointers need no relocations when
/// the library is loaded.
const fn unused_key(position: usize) -> u64 {
    // The key 0 is looked for at position 0 alone.
    if position == 0 { 1 << POSITION_SHIFT } else { 0 }
}

/// The last step of a multiplicative hash: its best-mixed bits, the top ones, choose the first position.
#[inline(always)]
pub(crate) fn key_of(product: u64) -> u64 {
    product.rotate_left(POSITION_BITS + POSITION_SHIFT)
}

/// What [`key_of`] made a key of.
#[cfg(feature = "capi")]
pub(crate) fn product_of(key: u64) -> u64 {
    key.rotate_right(POSITION_BITS + POSITION_SHIFT)
}

fn positions(key: u64) -> impl Iterator<Item = usize> {
    (0..PROBES).map(move |step| (first_position(key) + step) % POSITIONS)
}

/// The owner uses no cache.
const INACTIVE: u8 = 0;
/// The owner is in the fast path, where it waits for nothing.
pub(crate) const FAST: u8 = 1;
/// The owner is in the slow half of a cache, where it may wait for others that are `FAST`.
pub(crate) const SLOW: u8 = 2;

/// Threads have numbers from 1 to this.
pub(crate) const MAX_THREADS: u32 = (1 << 31) - 2;

/// A thread's state. Its table has a fixed size. A thread that uses more pools than fit evicts some caches, which their
/// pools' lists still have.
#[repr(C, align(128))] // apart from other threads' states
pub(crate) struct ThreadState {
    /// `INACTIVE`, `FAST` or `SLOW`.
    activity: AtomicU8,
    /// From 1; no two threads have states of the same number at once.
    number: u32,
    /// How many fork guards the owner has.
    pub(super) guards: AtomicU32,
    /// Whether caches of the owner are left that no entry may lead to, since a fork.
    was_detached: AtomicBool,
    /// The state made before this one.
    older: Option<&'static ThreadState>,
    /// What an entry leads to whose cache was detached: a cache that serves nothing.
    nowhere: AtomicPtr<AnyCache>,
    /// Guards against the owner and detaching threads changing entries at once. The owner's fast path does not take it.
    changing: Lock<()>,
    entries: [Entry; POSITIONS],
    /// A bit for each entry that leads to a cache, so that a search looks only at those. Changed under the lock.
    occupied: [AtomicU64; WORDS],
}

/// The state of every thread that has not used a pool yet, or whose thread-locals were torn down.
pub(crate) static EMPTY: ThreadState = ThreadState::new(0, None, ptr::null_mut());

/// The state made last, from which all others are reached.
static NEWEST: AtomicPtr<ThreadState> = AtomicPtr::new(ptr::null_mut());

/// All states ever made: as many as threads ever were at once.
pub(super) fn all() -> impl Iterator<Item = &'static ThreadState> {
    // SAFETY:
    // - null, or a state, which is never freed
    // - Acquire: partner in `Unused::take`
    let newest = unsafe { NEWEST.load(Acquire).as_ref() };
    iter::successors(newest, |state| state.older)
}

/// Waits until a bias owner is not between reading a mark of a ledger and writing it, unless it read what the caller
/// wrote there before. `owner` is the bias owner's number; `None` waits for all threads. The caller's own state is
/// not `FAST`.
///
/// The partner of [`ThreadState::enter`]. The bias owner becomes `FAST` and then reads the mark. The caller changed the
/// mark and then looks whether the bias owner is `FAST`. So one sees the other.
pub(crate) fn wait_for_fast_path(guard: &ForkGuard, owner: Option<u32>) {
    fence_all_threads(guard);
    for state in all().filter(|state| owner.is_none_or(|number| state.number == number)) {
        state.wait_while(|activity| activity == FAST);
    }
}

/// Orders what each thread wrote before against what it reads next: the caller, and all others. The caller's own state
/// is not `FAST`.
///
/// Where the system refuses, all threads fence by themselves when this returns, and no entry leads to a cache from
/// before.
pub(crate) fn fence_all_threads(guard: &ForkGuard) {
    if !barrier::fence_all_threads() {
        barrier::give_up(|| {
            // A state that is not made yet is made after this, and its thread finds out.
            drop(UNUSED.lock(guard));
            detach_from_all(guard);
        });
    }
}

/// The states of threads that have ended. The list has memory for all that were made.
struct Unused {
    states: Vec<&'static ThreadState>,
    made: usize,
}
static UNUSED: Lock<Unused> = Lock::new(Unused { states: Vec::new(), made: 0 });

impl Unused {
    /// The state of an ended thread, or a new one. `None` without memory.
    fn take(&mut self, nowhere: *mut AnyCache) -> Option<&'static ThreadState> {
        if let Some(state) = self.states.pop() {
            // Of an ended thread, or of one that only the parent of this process has.
            state.was_detached.store(false, Relaxed);
            return Some(state);
        }
        if self.made >= MAX_THREADS as usize {
            return None;
        }
        // So that giving the state back never allocates.
        self.states.try_reserve(self.made + 1).ok()?;
        let state = ThreadState::leak(self.made as u32 + 1, all().next(), nowhere)?;
        // Release: partner in `all`. Only changed under the lock of `UNUSED`.
        NEWEST.store(ptr::from_ref(state).cast_mut(), Release);
        self.made += 1;
        Some(state)
    }
}

/// Ends the owner's use of a cache.
pub(crate) struct Active(&'static ThreadState);

impl Active {
    /// Leaves the state active. [`ThreadState::still_active`] goes on from there.
    #[inline(always)]
    pub(crate) fn stay(self) {
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

/// The owner's side.
impl ThreadState {
    #[cfg_attr(
        not(bytepool_shuttle),
        expect(clippy::forget_non_drop, reason = "a model's atomics have a destructor")
    )]
    const fn new(number: u32, older: Option<&'static ThreadState>, nowhere: *mut AnyCache) -> Self {
        let mut entries = [const { Entry::unused(1) }; POSITIONS];
        // Not dropped: no constant may run a destructor.
        std::mem::forget(std::mem::replace(&mut entries[0], Entry::unused(0)));
        Self {
            activity: AtomicU8::new(INACTIVE),
            number,
            guards: AtomicU32::new(0),
            was_detached: AtomicBool::new(false),
            older,
            nowhere: AtomicPtr::new(nowhere),
            changing: Lock::new(()),
            entries,
            occupied: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    /// A state that lives for ever. It is made where it stays, as it is as large as the smallest stack. `None` without
    /// memory.
    pub(super) fn leak(
        number: u32,
        older: Option<&'static ThreadState>,
        nowhere: *mut AnyCache,
    ) -> Option<&'static ThreadState> {
        let state = memory::allocate_zeroed(Layout::new::<Self>()).ok()?.cast::<Self>().as_ptr();
        // SAFETY:
        // - allocated above with this type's layout, and nobody else's yet
        // - every field that is not written here is an atomic integer or pointer, for which zero is valid: an unused
        //   entry's key and cache are zero, but for the first key
        unsafe {
            (&raw mut (*state).number).write(number);
            (&raw mut (*state).older).write(older);
            (&raw mut (*state).nowhere).write(AtomicPtr::new(nowhere));
            (&raw mut (*state).changing).write(Lock::new(()));
            (&raw mut (*state).entries[0].key).write(AtomicU64::new(unused_key(0)));
            Some(&*state)
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The entry for `key` if it is at the key's first position.
    #[inline(always)]
    pub(crate) fn first(&self, key: u64) -> Option<&Entry> {
        #[cfg(all(test, feature = "capi", not(bytepool_shuttle)))]
        looks::count();
        // Computed as an address, which compilers turn into fewer instructions than an index.
        let offset = first_position(key) * size_of::<Entry>() + offset_of!(ThreadState, entries);
        let entry = ptr::from_ref(self).expose_provenance() + offset;
        // SAFETY:
        // - inside this state, which is static
        let entry = unsafe { &*ptr::with_exposed_provenance::<Entry>(entry) };
        // SAFETY:
        // - only the owner, which this is, writes keys
        if unsafe { *entry.key.as_ptr() } == key { Some(entry) } else { None }
    }

    /// The entry for `key`, wherever it is.
    pub(crate) fn find(&self, key: u64) -> Option<&Entry> {
        #[cfg(all(test, feature = "capi", not(bytepool_shuttle)))]
        looks::count();
        if key == 0 {
            return None; // NULL as a context: unused entries have it
        }
        positions(key).map(|at| &self.entries[at]).find(|entry| entry.key.load(Relaxed) == key)
    }

    /// Where one of this state's entries stands.
    pub(crate) fn position(&self, entry: &Entry) -> Position {
        let offset = ptr::from_ref(entry).addr() - self.entries.as_ptr().addr();
        Position((offset / size_of::<Entry>()) as u32)
    }

    /// What stands at a position, if anything does.
    pub(crate) fn entry(&self, position: Position) -> Option<&Entry> {
        let entry = &self.entries[position.0 as usize % POSITIONS];
        // Relaxed: only the owner, which this is, makes it null, or no longer null.
        (!entry.cache.load(Relaxed).is_null()).then_some(entry)
    }

    /// The cache that an entry leads to, good until `Active` is dropped; `ACTIVITY` is [`FAST`] or [`SLOW`].
    ///
    /// The owner sets `activity` and then reads the cache. The detaching thread changes the entry and then reads
    /// `activity`. So one of them sees the other. On this side the compiler fence keeps the order. Its partner
    /// [`fence_all_threads`] makes the processor keep it, too. Only the slow half is entered without a heavy fence, and
    /// then it fences.
    #[inline(always)]
    pub(crate) fn enter<const ACTIVITY: u8>(&'static self, entry: &Entry) -> (NonNull<AnyCache>, Active) {
        self.activity.store(ACTIVITY, Relaxed);
        match ACTIVITY {
            FAST => compiler_fence(SeqCst),
            _ => barrier::light_fence(),
        }
        // SAFETY:
        // - the cache of an entry that a key led to, or that is used, is not null: it is `nowhere`, or one that is
        //   freed only after it was detached from all entries and the state was seen inactive
        let cache = unsafe { NonNull::new_unchecked(entry.cache.load(Relaxed)) };
        (cache, Active(self))
    }

    /// Whether the owner, which this is, may wait for a lock. In the slow half of a cache it may only take those for
    /// giving up the heavy fence: who holds them waits for no thread to be inactive.
    #[cfg(all(debug_assertions, not(bytepool_shuttle)))]
    pub(super) fn may_lock(&self) -> bool {
        match self.activity.load(Relaxed) {
            INACTIVE => true,
            SLOW => barrier::is_being_given_up(),
            _ => false,
        }
    }

    /// What [`Active::stay`] left.
    ///
    /// # Safety
    /// - the calling thread is the owner, and stayed active
    #[inline(always)]
    pub(crate) unsafe fn still_active(&'static self) -> Active {
        debug_assert_eq!(self.activity.load(Relaxed), FAST);
        Active(self)
    }

    /// Leads `key` to `cache` from now on. The key leads to no other cache, and the state is not active.
    ///
    /// `fast` says whether the fast path may find it, as the heavy fence allows. Nothing happens if that has changed.
    /// `own_key` tells a cache's own key, which is no context. If another cache has to be evicted, `keep` is called
    /// with it while it is sure to exist, and its result is returned.
    pub(crate) fn attach<R>(
        &self,
        guard: &ForkGuard,
        key: u64,
        cache: NonNull<AnyCache>,
        fast: bool,
        own_key: impl Fn(NonNull<AnyCache>) -> u64,
        keep: impl FnOnce(NonNull<AnyCache>) -> R,
    ) -> Option<R> {
        let _changing = self.lock(guard);
        // Under the lock: so the thread that gives up detaches this cache, or is seen here.
        if fast != barrier::is_in_use() {
            return None;
        }
        if !fast {
            self.forget_first(key);
        }
        let positions = || positions(key).skip(usize::from(!fast));
        // Reuse the key's entry; else take the first free position; else evict.
        let same = positions().find(|&at| self.entries[at].key.load(Relaxed) == key);
        if fast && same.is_none() {
            self.displace(key, own_key);
        }
        let free = || positions().find(|&at| self.cache_at(at).is_none());
        let at = same.or_else(free).or_else(|| positions().next())?;
        let evicted = self.cache_at(at).filter(|&other| other != cache).map(keep);
        self.lead(at, cache.as_ptr());
        self.entries[at].key.store(key, Relaxed);
        evicted
    }

    /// Makes the entry at the first position of `key` unused if it is the key's, from before the heavy fence was
    /// refused. It leads nowhere since. Under the lock.
    fn forget_first(&self, key: u64) {
        let at = first_position(key);
        if self.entries[at].key.load(Relaxed) == key {
            debug_assert!(self.cache_at(at).is_none());
            self.entries[at].key.store(unused_key(at), Relaxed);
            self.lead(at, ptr::null_mut());
        }
    }

    /// Moves a cache's own key off the first position of `key`, which is more in demand. Under the lock.
    fn displace(&self, key: u64, own_key: impl Fn(NonNull<AnyCache>) -> u64) {
        let at = first_position(key);
        let entry = &self.entries[at];
        let other = entry.key.load(Relaxed);
        let is_own = self.cache_at(at).is_some_and(|cache| own_key(cache) == other && other != key);
        if let Some(to) = is_own.then(|| self.free_position(other)).flatten() {
            self.lead(to, entry.cache.load(Relaxed));
            self.entries[to].key.store(other, Relaxed);
            entry.key.store(unused_key(at), Relaxed);
            self.lead(at, ptr::null_mut());
        }
    }

    fn free_position(&self, key: u64) -> Option<usize> {
        positions(key).find(|&at| self.cache_at(at).is_none())
    }
}

/// For tests: how often the calling thread's table was searched.
#[cfg(all(test, feature = "capi", not(bytepool_shuttle)))]
pub(crate) mod looks {
    use std::cell::Cell;

    thread_local! {
        static LOOKS: Cell<u32> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        LOOKS.set(LOOKS.get() + 1);
    }

    /// Since this was asked last.
    pub(crate) fn take() -> u32 {
        LOOKS.take()
    }
}

/// Any thread's side.
impl ThreadState {
    /// The cache of an entry. Under the lock a cache that is still in an entry was not detached. So it exists, and so
    /// does its pool: a pool ends only after it detached all its caches, and keeps a reference meanwhile.
    fn cache_at(&self, at: usize) -> Option<NonNull<AnyCache>> {
        let cache = NonNull::new(self.entries[at].cache.load(Relaxed))?;
        (cache.as_ptr() != self.nowhere.load(Relaxed)).then_some(cache)
    }

    /// Makes an entry lead to a cache, or to none. Under the lock.
    fn lead(&self, at: usize, cache: *mut AnyCache) {
        // Relaxed: where a cache is detached, the heavy fence that follows orders it against `enter`.
        self.entries[at].cache.store(cache, Relaxed);
        let (word, bit) = (&self.occupied[at / u64::BITS as usize], 1 << (at % u64::BITS as usize));
        let others = word.load(Relaxed) & !bit;
        word.store(if self.cache_at(at).is_some() { others | bit } else { others }, Relaxed);
    }

    /// The positions of the entries that lead to a cache. Under the lock.
    fn occupied(&self) -> impl Iterator<Item = usize> {
        let of_word = |(index, word): (usize, &AtomicU64)| {
            bits_of(word.load(Relaxed)).map(move |bit| index * u64::BITS as usize + bit as usize)
        };
        self.occupied.iter().enumerate().flat_map(of_word)
    }

    fn lock<'a>(&'a self, guard: &'a ForkGuard) -> Locked<'a, ()> {
        self.changing.lock(guard)
    }

    /// Detaches a cache from all its keys, or only from `key`.
    pub(crate) fn detach(&self, guard: &ForkGuard, cache: NonNull<AnyCache>, key: Option<u64>) {
        let _changing = self.lock(guard);
        for at in self.occupied() {
            let entry = &self.entries[at];
            if entry.cache.load(Relaxed) == cache.as_ptr()
                && key.is_none_or(|key| entry.key.load(Relaxed) == key)
            {
                self.lead(at, self.nowhere.load(Relaxed));
            }
        }
    }

    /// What `keep` makes of some cache that an entry leads to, while it is sure to exist.
    pub(crate) fn some_cache<R>(
        &self,
        guard: &ForkGuard,
        keep: impl FnOnce(NonNull<AnyCache>) -> R,
    ) -> Option<R> {
        let _changing = self.lock(guard);
        self.occupied().find_map(|at| self.cache_at(at)).map(keep)
    }

    /// Whether a fork detached caches since this was asked last. Then the pools' lists may still have some of this
    /// thread.
    pub(crate) fn take_was_detached(&self) -> bool {
        // Relaxed: the asking thread took the lock since.
        self.was_detached.swap(false, Relaxed)
    }

    /// Waits until the owner uses no cache. After the heavy fence it cannot enter one that was detached before.
    pub(crate) fn wait_until_inactive(&self) {
        self.wait_while(|activity| activity != INACTIVE);
    }

    fn wait_while(&self, waits: impl Fn(u8) -> bool) {
        // Acquire: partner in `Active::drop`.
        barrier::wait_until(|| !waits(self.activity.load(Acquire)));
    }
}

/// Detaches every thread's caches, and waits until no thread uses one. No other thread has a guard, so no cache is
/// attached meanwhile. The caches stay in their pools' lists.
pub(super) fn detach_all(guard: &ForkGuard) {
    detach_from_all(guard);
    fence_all_threads(guard);
    all().for_each(ThreadState::wait_until_inactive);
}

fn detach_from_all(guard: &ForkGuard) {
    for state in all() {
        let _changing = state.lock(guard);
        for at in state.occupied() {
            state.lead(at, state.nowhere.load(Relaxed));
            // Relaxed: the owner reads it under the lock.
            state.was_detached.store(true, Relaxed);
        }
    }
}

/// The state of the thread that forked, in its child.
static FORKED: AtomicPtr<ThreadState> = AtomicPtr::new((&raw const EMPTY).cast_mut());

/// In a child, on the thread that forked.
pub(super) fn note_forked() {
    FORKED.store(ptr::from_ref(thread_pointer::get()).cast_mut(), Relaxed);
}

/// In a child: whether a state belongs to a thread that only the parent has.
pub(crate) fn is_of_other_thread(state: &'static ThreadState) -> bool {
    // Relaxed: written before this process had another thread.
    !ptr::eq(state, FORKED.load(Relaxed))
}

/// In a child, before anything else: makes the states of threads that it does not have unused.
pub(super) fn forget_other_threads(guard: &ForkGuard) {
    let mut unused = UNUSED.lock(guard);
    unused.states.clear();
    for state in all().filter(|state| is_of_other_thread(state)) {
        // Relaxed: no other thread of this process uses a state yet. The state's thread used no cache and had no guard
        // when the process forked. But it may have been active to find out that its cache is detached, or have counted
        // itself in to look at the gate. Hardly any was, and a write would copy the page.
        if state.activity.load(Relaxed) != INACTIVE {
            state.activity.store(INACTIVE, Relaxed);
        }
        if state.guards.load(Relaxed) != 0 {
            state.guards.store(0, Relaxed);
        }
        // There is memory for all that were made.
        unused.states.push(state);
    }
}

/// Makes the calling thread one that a child of a fork does not have, for models.
#[cfg(bytepool_shuttle)]
pub(crate) fn vanish() {
    thread_pointer::set(&EMPTY);
    EXIT_HOOK.with(|hook| hook.0.set(0));
}

/// Ends the thread's caching when its thread-locals are torn down. It has the number of the thread's state, or 0: where
/// thread-locals are keys of the system, as on Android, the thread pointer may be gone before.
struct ExitHook(Cell<u32>);

impl ExitHook {
    fn state(&self) -> Option<&'static ThreadState> {
        let by_number = || match self.0.get() {
            0 => None, // a new thread's: it looks at no other state
            number => all().find(|state| state.number == number),
        };
        thread_pointer::own_state().or_else(by_number)
    }
}

impl Drop for ExitHook {
    fn drop(&mut self) {
        if ending::is_process() {
            return;
        }
        let mut guard = ForkGuard::new();
        let Some(state) = self.state() else { return };
        if thread_pointer::own_state().is_some() {
            fork::change_state(&guard, &EMPTY);
        }
        hooks::thread_ends(&mut guard, state);
        UNUSED.lock(&guard).states.push(state);
    }
}

#[cfg(windows)]
mod ending {
    #[link(name = "ntdll")]
    unsafe extern "system" {
        safe fn RtlDllShutdownInProgress() -> u8;
    }

    /// Whether the process ends. Then the system has ended all other threads, and what they had locked stays so.
    pub(super) fn is_process() -> bool {
        RtlDllShutdownInProgress() != 0
    }
}

#[cfg(not(windows))]
mod ending {
    /// Thread-locals are torn down before the process ends.
    pub(super) fn is_process() -> bool {
        false
    }
}

/// The most bytes that the C library allocates for the hook. It ends the process if it cannot.
const EXIT_HOOK_BYTES: usize = 128;

crate::sync::thread_local! {
    static EXIT_HOOK: ExitHook = const { ExitHook(Cell::new(0)) };
}

/// This thread's state, made if it has none; detached entries lead to `nowhere`. `None` once the thread's locals were
/// torn down, or without memory.
pub(crate) fn own(guard: &ForkGuard, nowhere: NonNull<AnyCache>) -> Option<&'static ThreadState> {
    if let Some(state) = thread_pointer::own_state() {
        return Some(state);
    }
    memory::probe_c(EXIT_HOOK_BYTES).ok()?;
    // Registers the hook; fails once the thread's locals are torn down.
    let known = EXIT_HOOK.try_with(ExitHook::state).ok()?;
    let state = known.or_else(|| UNUSED.lock(guard).take(nowhere.as_ptr()))?;
    fork::change_state(guard, state);
    EXIT_HOOK.with(|hook| hook.0.set(state.number));
    Some(state)
}
