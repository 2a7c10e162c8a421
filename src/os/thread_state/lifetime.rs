//! Which thread has which state: made at a thread's first use of a pool, taken back at its end, and found again by the
//! child of a fork.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU64};
use std::alloc::Layout;
use std::cell::Cell;
use std::iter;
use std::ptr::{self, NonNull};

use super::{AnyCache, EMPTY, INACTIVE, MAX_THREADS, ThreadState, unused_key};
use crate::os::fork::{self, ForkGuard};
use crate::os::lock::Lock;
use crate::os::{hooks, memory, thread_pointer};

/// The state made last, from which all others are reached.
static NEWEST: AtomicPtr<ThreadState> = AtomicPtr::new(ptr::null_mut());

/// All states ever made: as many as threads ever were at once.
pub(in crate::os) fn all() -> impl Iterator<Item = &'static ThreadState> {
    // SAFETY:
    // - null, or a state, which is never freed
    // - Acquire: partner in `Unused::take`
    let newest = unsafe { NEWEST.load(Acquire).as_ref() };
    iter::successors(newest, |state| state.older)
}

/// The states of threads that have ended. The list has memory for all that were made.
struct Unused {
    states: Vec<&'static ThreadState>,
    made: usize,
}
static UNUSED: Lock<Unused> = Lock::new(Unused { states: Vec::new(), made: 0 });

/// Waits until no state is being made. A thread that makes one later sees what the caller did before.
pub(super) fn wait_for_states_being_made(guard: &ForkGuard) {
    drop(UNUSED.lock(guard));
}

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

impl ThreadState {
    /// A state that lives for ever. It is made where it stays, as it is as large as the smallest stack. `None` without
    /// memory.
    pub(in crate::os) fn leak(
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
}

/// The state of the thread that forked, in its child.
static FORKED: AtomicPtr<ThreadState> = AtomicPtr::new((&raw const EMPTY).cast_mut());

/// In a child, on the thread that forked.
pub(in crate::os) fn note_forked() {
    FORKED.store(ptr::from_ref(thread_pointer::get()).cast_mut(), Relaxed);
}

/// In a child: whether a state belongs to a thread that only the parent has.
pub(crate) fn is_of_other_thread(state: &'static ThreadState) -> bool {
    // Relaxed: written before this process had another thread.
    !ptr::eq(state, FORKED.load(Relaxed))
}

/// In a child, before anything else: makes the states of threads that it does not have unused.
pub(in crate::os) fn forget_other_threads(guard: &ForkGuard) {
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
pub(crate) fn own(guard: &mut ForkGuard, nowhere: NonNull<AnyCache>) -> Option<&'static ThreadState> {
    if let Some(state) = thread_pointer::own_state() {
        return Some(state);
    }
    // Registers the hook; fails once the thread's locals are torn down. Unguarded: it takes the lock of the C library's
    // loader, which a thread that loads a library holds until that one's constructors have run. These may fork.
    let known = guard.unguarded(|| {
        memory::probe_c(EXIT_HOOK_BYTES).ok()?;
        EXIT_HOOK.try_with(ExitHook::state).ok()
    })?;
    // The user's code ran meanwhile, if a task was to be woken, and may have used a pool.
    if let Some(state) = thread_pointer::own_state() {
        return Some(state);
    }
    let generation = fork::generation();
    let state = known.or_else(|| UNUSED.lock(guard).take(nowhere.as_ptr()))?;
    fork::change_state(guard, state);
    if fork::generation() != generation {
        note_forked(); // in a handler meanwhile: it did not know this state yet
    }
    EXIT_HOOK.with(|hook| hook.0.set(state.number));
    Some(state)
}
