//! fork: the child has a copy of all memory, but only the thread that forked. What other threads left half done stays
//! so for ever, and a lock that one of them held is never released.
//!
//! So nobody is in the middle of anything while a process forks. Code that may hold a lock of ours, or have something
//! half done, has a [`ForkGuard`]. The fast path of a thread cache needs none.
//!
//! ```text
//! before the fork     close the gate -> wait until no other thread has a guard
//!                     -> detach every thread's caches -> wait until no thread uses one
//! in the parent       open the gate: threads find their caches again as they go on
//! in the child        the first guard: forget the other threads and those that waited, open the gate
//!                     the first use of a pool: put what the other threads cached of it on its shelves
//! ```
//!
//! A child that uses no pool pays nothing. It loses what only the other threads knew: the buffers that they held stay
//! outstanding.
//!
//! A signal's handler may fork while its thread is inside a call, so that it has a guard or uses a cache. That fork
//! waits for nobody, as that could be for ever. Its child may find other threads' work half done: it may only end, or
//! run another program.
//!
//! The user's functions run [`unguarded`](ForkGuard::unguarded): they may take any time, or fork.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize};
use crate::sync::{self, skipped_forks};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use super::caller::{KeptErrno, Uncancelled, discard_panic};
use super::lock::assert_none_is_held;
use super::memory::OutOfMemory;
use super::thread_state::ThreadState;
use super::{barrier, hooks, thread_pointer, thread_state, wakes};

/// While it exists, no other thread forks. It stays on the thread that made it.
///
/// A thread may have several, one inside the other: code without a guard to borrow, such as a destructor, makes its
/// own.
pub(crate) struct ForkGuard(PhantomData<*const ()>);

impl ForkGuard {
    /// Waits while another thread forks.
    #[inline]
    pub(crate) fn new() -> Self {
        enter(1);
        Self(PhantomData)
    }

    /// A guard of a thread that is counted already, by hand: never dropped.
    fn of_counted_thread() -> ManuallyDrop<Self> {
        ManuallyDrop::new(Self(PhantomData))
    }

    /// Runs a function of the user's, or one that waits for other threads. Neither may keep a process from forking. A
    /// cancellation of the thread waits meanwhile. Code that holds a lock of ours borrows the guard, so it cannot call
    /// this.
    pub(crate) fn unguarded<R>(&mut self, run: impl FnOnce() -> R) -> R {
        struct Back(u32);
        impl Drop for Back {
            fn drop(&mut self) {
                enter(self.0);
            }
        }
        assert_none_is_held();
        // This thread may be about to wait for the task that it wakes.
        if wakes::are_due() {
            self.call_wakers();
        }
        let back = Back(depth());
        count_out(back.0);
        let _uncancelled = Uncancelled::new();
        run()
    }

    /// Calls the wakers that this thread has to. A guard that ends inside a waker calls none.
    #[cold]
    fn call_wakers(&mut self) {
        let _errno = KeptErrno::new();
        while let Some(waker) = wakes::pop(self) {
            // This may be a destructor, or a function that C called: a panic of the user's waker ends here.
            let wake = AssertUnwindSafe(|| self.unguarded(|| waker.wake()));
            if let Err(payload) = catch_unwind(wake) {
                discard_panic(payload);
            }
        }
    }
}

impl Drop for ForkGuard {
    #[inline]
    fn drop(&mut self) {
        // The outermost guard's end: under another, locks may be held.
        if wakes::are_due() && depth() == 1 {
            self.call_wakers();
        }
        count_out(1);
    }
}

/// Whether guards may be made.
static GATE: AtomicU8 = AtomicU8::new(OPEN);
const OPEN: u8 = 0;
/// A thread is forking, or takes over in a child.
const CLOSED: u8 = 1;
/// This is a child in which no guard was made yet.
const CHILD: u8 = 2;

/// Threads without a state that have a guard. The others say so in their states, which costs no shared write.
static UNREGISTERED: AtomicUsize = AtomicUsize::new(0);

/// How many guards the calling thread has.
fn depth() -> u32 {
    // Relaxed: only this thread writes it.
    thread_pointer::own_state().map_or_else(sync::guard_depth::get, |own| own.guards.load(Relaxed))
}

#[inline]
fn enter(guards: u32) {
    if !sync::forks() {
        return;
    }
    // SeqCst: as in `count_in`.
    if count_in(guards) && GATE.load(SeqCst) != OPEN {
        wait_at_gate(guards);
    }
}

/// Counts so many more guards of the calling thread. Returns whether it had none.
///
/// The thread counts its guards and then looks at the gate. The forking thread closes the gate and then looks for
/// guards. So one of them sees the other. Without a state all of this is SeqCst. With one the light fence keeps the
/// order here, and its partner is the heavy fence in [`wait_for_others`].
#[inline]
fn count_in(guards: u32) -> bool {
    let before = match thread_pointer::own_state() {
        Some(own) => {
            let before = own.guards.load(Relaxed);
            own.guards.store(before + guards, Relaxed);
            // A thread that has a guard already does not look at the gate.
            if before == 0 {
                barrier::light_fence();
            }
            before
        }
        None => {
            let before = sync::guard_depth::get();
            sync::guard_depth::set(before + guards);
            if before == 0 {
                UNREGISTERED.fetch_add(1, SeqCst);
            }
            before
        }
    };
    before == 0
}

/// Release pairs with the Acquire in [`wait_for_others`]: what was done with the guard comes before the fork.
#[inline]
fn count_out(guards: u32) {
    if !sync::forks() {
        return;
    }
    match thread_pointer::own_state() {
        Some(own) => own.guards.store(own.guards.load(Relaxed) - guards, Release),
        None => {
            let left = sync::guard_depth::get() - guards;
            if left == 0 {
                UNREGISTERED.fetch_sub(1, Release);
            }
            // Last: a handler that forks before this sees that it interrupts a call.
            sync::guard_depth::set(left);
        }
    }
}

/// Gives the calling thread another state, or none, and counts its guards there from now on.
pub(super) fn change_state(_guard: &ForkGuard, state: &'static ThreadState) {
    let old = thread_pointer::own_state();
    if !sync::forks() {
        thread_pointer::set(state);
        return;
    }
    // First it is counted in the new place, then no longer in the old one. So the forking thread always sees it
    // somewhere, and so does a handler that forks. SeqCst and the light fence: as in `count_in`.
    let guards = depth();
    if ptr::eq(state, &thread_state::EMPTY) {
        sync::guard_depth::set(guards);
        UNREGISTERED.fetch_add(1, SeqCst);
    } else {
        state.guards.store(guards, Relaxed);
        barrier::light_fence();
    }
    thread_pointer::set(state);
    match old {
        Some(old) => old.guards.store(0, Release),
        None => {
            UNREGISTERED.fetch_sub(1, Release);
            sync::guard_depth::set(0);
        }
    }
}

/// An address that only the thread that closed the gate has; 0 if no thread did.
static FORKING: AtomicUsize = AtomicUsize::new(0);

/// How many forks lie between the first process and this one. Written while the process has one thread.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The number of this process among its ancestors. What was noted under another number belongs to a parent.
pub(crate) fn generation() -> u32 {
    // Relaxed: written before this process had another thread.
    GENERATION.load(Relaxed)
}

/// Whether the calling thread is the one that forks now.
fn is_of_this_thread() -> bool {
    // Relaxed: only this thread writes its own address.
    FORKING.load(Relaxed) == sync::guard_depth::address()
}

/// Waits until the gate is open. The caller counted itself in and found it not open.
#[cold]
fn wait_at_gate(guards: u32) {
    // The user's handlers, which run between ours, may use pools.
    if is_of_this_thread() {
        return;
    }
    loop {
        if GATE.compare_exchange(CHILD, CLOSED, SeqCst, Relaxed).is_ok() {
            take_over();
            // Release pairs with the load in `enter`.
            GATE.store(OPEN, Release);
            return;
        }
        count_out(guards);
        barrier::wait_until(|| GATE.load(Relaxed) != CLOSED);
        count_in(guards);
        // SeqCst: as in `count_in`.
        if GATE.load(SeqCst) == OPEN {
            return;
        }
    }
}

/// In a child: forgets the other threads of its parent.
fn take_over() {
    let _errno = KeptErrno::new();
    let guard = ForkGuard::of_counted_thread();
    barrier::register_again();
    thread_state::forget_other_threads(&guard);
    hooks::child_begins(&guard);
}

/// Waits until no thread but the calling one, which closed the gate, has a guard.
///
/// A thread whose guards are counted in a state has prepared for the heavy fence before. It prepares and then looks at
/// the gate. The forking thread closes the gate and then looks whether somebody prepared. All four are SeqCst, so one
/// sees the other: the forking thread fences, or the other thread sees the gate closed.
fn wait_for_others() {
    if barrier::was_prepared() {
        thread_state::fence_all_threads(&ForkGuard::of_counted_thread());
    }
    let own = thread_pointer::own_state();
    // Acquire, also in the states: partner in `count_out`. SeqCst: as in `count_in`.
    let no_unregistered = || UNREGISTERED.load(SeqCst) == usize::from(own.is_none());
    // Again, as a thread with a guard may have given up its state meanwhile.
    while {
        barrier::wait_until(no_unregistered);
        for state in thread_state::all() {
            if own.is_none_or(|own| !ptr::eq(own, state)) {
                barrier::wait_until(|| state.guards.load(Acquire) == 0);
            }
        }
        !no_unregistered()
    } {}
}

/// Runs before the fork. The forking thread has a guard from here to the fork's end, so that the user's handlers may
/// use pools meanwhile.
extern "C" fn before() {
    if depth() > 0 || thread_pointer::get().is_active() {
        skipped_forks::set(skipped_forks::get() + 1);
    } else {
        wait_until_nobody_is_inside();
    }
}

fn wait_until_nobody_is_inside() {
    loop {
        enter(1);
        if GATE.compare_exchange(OPEN, CLOSED, SeqCst, Relaxed).is_ok() {
            break;
        }
        // Another thread forks.
        count_out(1);
    }
    FORKING.store(sync::guard_depth::address(), Relaxed);
    wait_for_others();
    if barrier::was_prepared() {
        thread_state::detach_all(&ForkGuard::of_counted_thread());
    }
}

/// Whether the fork that this thread is in waited for nobody. Forks of a handler lie inside those that it interrupts.
fn was_skipped() -> bool {
    let skipped = skipped_forks::get();
    skipped_forks::set(skipped.saturating_sub(1));
    skipped > 0
}

extern "C" fn in_parent() {
    if was_skipped() {
        return;
    }
    FORKING.store(0, Relaxed);
    // Release pairs with the load in `enter`.
    GATE.store(OPEN, Release);
    count_out(1);
}

extern "C" fn in_child() {
    // Other threads may have counted themselves in to look at the gate. The first guard in this child does the rest.
    let is_unregistered = thread_pointer::own_state().is_none() && depth() > 0;
    UNREGISTERED.store(usize::from(is_unregistered), Relaxed);
    thread_state::note_forked();
    GENERATION.store(generation().wrapping_add(1), Relaxed);
    let was_skipped = was_skipped();
    // A handler's fork may interrupt a fork of this thread, which then goes on. A fork of any other thread ended with
    // its thread.
    if !(was_skipped && is_of_this_thread()) {
        FORKING.store(0, Relaxed);
    }
    if !was_skipped {
        wakes::take_over(&ForkGuard::of_counted_thread());
    }
    // The handlers are registered, for this runs. The parent's thread that was about to note it may not exist here, so
    // it is noted here.
    PREPARED.store(true, Release);
    GATE.store(CHILD, Release);
    if !was_skipped {
        count_out(1);
    }
}

/// What a fork is to its parent, for models.
#[cfg(bytepool_shuttle)]
pub(crate) fn fork_without_child(meanwhile: impl FnOnce()) {
    wait_until_nobody_is_inside();
    meanwhile();
    in_parent();
}

/// What a fork is to its child, for models. The calling thread goes on as the child's only one. Others
/// [`vanish`](thread_state::vanish) without calling anything.
#[cfg(bytepool_shuttle)]
pub(crate) fn fork_into_child() {
    before();
    in_child();
}

/// Whether the handlers are registered.
static PREPARED: AtomicBool = AtomicBool::new(false);

/// Registers the handlers when the library is loaded, where the system can. Handlers that prepare a fork run in reverse
/// order. So the user's, which are registered later, run before the gate closes: other threads may hold the user's
/// locks at the gate.
#[cfg(all(target_os = "linux", not(bytepool_shuttle)))]
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = {
    extern "C" fn at_load() {
        // An allocation first, so that the allocator registers its handlers before ours: a thread at our gate may be
        // about to free.
        drop(std::hint::black_box(super::memory::boxed(|| Ok::<_, super::memory::OutOfMemory>(0u8))));
        // If it is refused, the first pool tries again.
        let _ = prepare();
    }
    at_load
};

/// Prepares this process for forks; before a pool is made.
#[cfg(all(unix, not(bytepool_shuttle)))]
pub(crate) fn prepare() -> Result<(), OutOfMemory> {
    use crate::sync::atomic::AtomicI32;
    use crate::sync::thread;
    // So that a linker that takes this function takes `AT_LOAD`, too.
    #[cfg(target_os = "linux")]
    std::hint::black_box(&AT_LOAD);
    /// The process of which a thread registers the handlers now; 0 if none does. It is no lock, because the fork of
    /// another thread would not wait for it yet.
    static PREPARER: AtomicI32 = AtomicI32::new(0);
    // Acquire: partner in `register`, and in `in_child`.
    while !PREPARED.load(Acquire) {
        // SAFETY:
        // - only reads
        let own = unsafe { libc::getpid() };
        let preparer = PREPARER.load(Relaxed);
        // A preparer of another process is a thread that this one, its child, does not have.
        if preparer == own || PREPARER.compare_exchange(preparer, own, Acquire, Relaxed).is_err() {
            thread::yield_now();
            continue;
        }
        let outcome = if PREPARED.load(Acquire) { Ok(()) } else { register() };
        // Release pairs with the Acquire above: the next preparer sees what this one did.
        PREPARER.store(0, Release);
        outcome?;
    }
    Ok(())
}

#[cfg(all(unix, not(bytepool_shuttle)))]
fn register() -> Result<(), OutOfMemory> {
    // SAFETY:
    // - the handlers are good as long as this library is loaded; the C library drops them with it
    if unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) } != 0 {
        return Err(OutOfMemory { bytes: size_of::<[extern "C" fn(); 3]>() });
    }
    // Release: partner in `prepare`. A thread that makes a pool sees the handlers registered.
    PREPARED.store(true, Release);
    Ok(())
}

/// There is no fork; or a model calls the handlers by itself.
#[cfg(not(all(unix, not(bytepool_shuttle))))]
pub(crate) fn prepare() -> Result<(), OutOfMemory> {
    let _ = (before, in_parent, in_child);
    Ok(())
}
