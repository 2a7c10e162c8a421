//! A thread's state: a table that leads from keys to the thread's caches, and what other threads must know of it.
//!
//! ```text
//! thread pointer -> ThreadState { activity, guards, entries -> [ key | cache ] }
//!                                                              [ key | cache ] -> a cache, of the layers above
//! ```
//!
//! - Only the owning thread writes keys and `activity`; in a child of a fork, its one thread resets the states of those
//!   that are gone.
//! - Another thread may detach a cache: under the state's lock it makes the entries lead nowhere, and then it waits
//!   until the state is inactive.
//! - A thread that ends a bias in a ledger waits until the bias owner's state is not [`FAST`], by
//!   [`wait_for_fast_path`].
//! - Without the heavy fence no key at its first position, where the fast path looks, leads to a cache. The slow half
//!   finds it at another, and fences by itself.
//! - Where the system refuses the heavy fence from some moment on, all entries are made to lead nowhere first.
//! - States are never freed, only used again by later threads. So a thread that looks at one never reads freed memory.
//!
//! Here are the owner's fast path, and how others wait for it. [`table`] changes what entries lead to. [`lifetime`]
//! gives each thread a state, and takes it back.

mod lifetime;
mod table;

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, compiler_fence};
use std::mem::offset_of;
use std::ptr::{self, NonNull};

#[cfg(bytepool_shuttle)]
pub(crate) use self::lifetime::vanish;
pub(super) use self::lifetime::{all, forget_other_threads, note_forked};
pub(crate) use self::lifetime::{is_of_other_thread, own};
pub(super) use self::table::detach_all;
use super::barrier;
use super::fork::ForkGuard;
use super::lock::Lock;

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
const INACTIVE: u32 = 0;
/// The owner is in the fast path, where it waits for nothing.
pub(crate) const FAST: u32 = 1;
/// The owner is in the slow half of a cache, where it may wait for others that are `FAST`.
pub(crate) const SLOW: u32 = 2;

/// Threads have numbers from 1 to this.
pub(crate) const MAX_THREADS: u32 = (1 << 31) - 2;

/// A thread's state. Its table has a fixed size. A thread that uses more pools than fit evicts some caches, which their
/// pools' lists still have.
#[repr(C, align(128))] // apart from other threads' states
pub(crate) struct ThreadState {
    /// `INACTIVE`, `FAST` or `SLOW`. It has four bytes: some processors store one byte more slowly. With one byte a
    /// pair of get and put took 1.4 cycles more on AMD's Zen 3.
    activity: AtomicU32,
    /// From 1; no two threads have states of the same number at once.
    number: u32,
    /// How many fork guards the owner has.
    pub(super) guards: AtomicU32,
    /// Whether caches of the owner are left that no entry may lead to, since a fork or the loss of the heavy fence.
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
            lifetime::wait_for_states_being_made(guard);
            table::detach_from_all(guard);
        });
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
            activity: AtomicU32::new(INACTIVE),
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

    /// Whether the owner, which this is, uses a cache.
    pub(super) fn is_active(&self) -> bool {
        self.activity.load(Relaxed) != INACTIVE
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
    pub(crate) fn enter<const ACTIVITY: u32>(&'static self, entry: &Entry) -> (NonNull<AnyCache>, Active) {
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
}

/// Any thread's side.
impl ThreadState {
    /// Waits until the owner uses no cache. After the heavy fence it cannot enter one that was detached before.
    pub(crate) fn wait_until_inactive(&self) {
        self.wait_while(|activity| activity != INACTIVE);
    }

    fn wait_while(&self, waits: impl Fn(u32) -> bool) {
        // Acquire: partner in `Active::drop`.
        barrier::wait_until(|| !waits(self.activity.load(Acquire)));
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
