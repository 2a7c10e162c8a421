//! fork: the child has a copy of all memory, but only the thread that forked. What other threads were in the middle of
//! stays so for ever, and a lock that one of them held is never released.
//!
//! So nobody is in the middle of anything while a process forks. Whatever may hold a lock of ours, or leaves something
//! half done meanwhile, has a [`ForkGuard`]. The fast path of a thread cache needs none.
//!
//! ```text
//! before the fork     close the gate -> wait until no other thread has a guard
//!                     -> detach every thread's caches -> wait until no thread uses one
//! in the parent       open the gate: threads find their caches again as they go on
//! in the child        the first guard: forget the other threads and those that waited, open the gate
//!                     the first use of a pool: put what the other threads cached of it on its shelves
//! ```
//!
//! Until it uses a pool, a child pays nothing for it. What it loses is what only threads knew that it does not have:
//! the buffers they held stay outstanding.
//!
//! The user's functions run [`unguarded`](ForkGuard::unguarded): they may take any time, or fork.

use crate::sync;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use super::caller::{KeptErrno, Uncancelled};
use super::lock::assert_none_is_held;
use super::memory::OutOfMemory;
use super::thread_state::ThreadState;
use super::{barrier, hooks, thread_pointer, thread_state, wakes};

/// While it exists, no other thread forks. It is of the thread that made it, and stays there.
///
/// A thread may have several, one inside the other: what has no guard to borrow, as a destructor, makes its own.
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

    /// Runs a function of the user's, or one that waits for other threads: neither may keep a process from forking. A
    /// cancellation of the thread waits meanwhile. What holds a lock of ours borrows the guard, and so cannot come
    /// here.
    pub(crate) fn unguarded<R>(&mut self, run: impl FnOnce() -> R) -> R {
        struct Back(u32);
        impl Drop for Back {
            fn drop(&mut self) {
                enter(self.0);
            }
        }
        assert_none_is_held();
        let back = Back(depth());
        count_out(back.0);
        let _uncancelled = Uncancelled::new();
        run()
    }

    /// Calls the wakers that are due, if this is the thread's last guard.
    #[cold]
    fn wake_tasks(&mut self) {
        if depth() != 1 {
            return;
        }
        let _errno = KeptErrno::new();
        while let Some(waker) = wakes::pop(self) {
            // This may be a destructor, or a function that C called: a panic of the user's waker ends here.
            let wake = AssertUnwindSafe(|| self.unguarded(|| waker.wake()));
            drop(catch_unwind(wake));
        }
    }
}

impl Drop for ForkGuard {
    #[inline]
    fn drop(&mut self) {
        if wakes::are_pending() {
            self.wake_tasks();
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

/// Says that the calling thread has so many more guards; whether it had none.
///
/// It says so before it looks at the gate, and the forking thread closes the gate before it looks who has one: one of
/// them sees the other. Without a state both are SeqCst. With one the light fence keeps the order here, and its partner
/// is the heavy fence in [`wait_for_others`].
#[inline]
fn count_in(guards: u32) -> bool {
    let before = match thread_pointer::own_state() {
        Some(own) => {
            let before = own.guards.load(Relaxed);
            own.guards.store(before + guards, Relaxed);
            // Who has a guard already does not look at the gate.
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
            sync::guard_depth::set(left);
            if left == 0 {
                UNREGISTERED.fetch_sub(1, Release);
            }
        }
    }
}

/// Gives the calling thread another state, or none, and counts its guards there from now on.
pub(super) fn change_state(_guard: &ForkGuard, state: &'static ThreadState) {
    let guards = depth();
    let old = thread_pointer::own_state();
    thread_pointer::set(state);
    if !sync::forks() {
        return;
    }
    // There before it is not here any more: the forking thread must not see it nowhere.
    count_in(guards);
    match old {
        Some(old) => old.guards.store(0, Release),
        None => {
            sync::guard_depth::set(0);
            UNREGISTERED.fetch_sub(1, Release);
        }
    }
}

/// The thread that closed the gate, by an address that only it has; 0 if none did.
static FORKING: AtomicUsize = AtomicUsize::new(0);

/// How many forks lie between the first process and this one. Written while a process has one thread.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The number of this process among its forebears: what was noted under another one is its parent's.
pub(crate) fn generation() -> u32 {
    // Relaxed: written before this process had another thread.
    GENERATION.load(Relaxed)
}

/// The caller counted itself in, and the gate was not open.
#[cold]
fn wait_at_gate(guards: u32) {
    // Relaxed: who finds its own address wrote it. Handlers of the user's, which run between ours, may use pools.
    if FORKING.load(Relaxed) == sync::guard_depth::address() {
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

/// In a child: what its parent's other threads had is nobody's.
fn take_over() {
    let _errno = KeptErrno::new();
    let guard = ForkGuard::of_counted_thread();
    barrier::register_again();
    thread_state::forget_other_threads(&guard);
    hooks::child_begins(&guard);
}

/// Waits until no thread but the calling one, which closed the gate, has a guard.
///
/// A thread whose guards are counted in a state has registered for the heavy fence before. Either this sees that, and
/// fences; or that thread's next look at the gate sees it closed. Both are SeqCst for that: the closing of the gate and
/// then the look at the registration here, the registration and then the look at the gate there.
fn wait_for_others() {
    if barrier::was_in_use() {
        thread_state::fence_all_threads(&ForkGuard::of_counted_thread());
    }
    let own = thread_pointer::own_state();
    // Acquire, also in the states: partner in `count_out`. SeqCst: as in `count_in`.
    let no_unregistered = || UNREGISTERED.load(SeqCst) == usize::from(own.is_none());
    // Again, as a thread may have given its state up, with a guard.
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

/// The forking thread has a guard itself from here to the end of the fork, so that it may use pools in handlers of the
/// user's that run meanwhile.
extern "C" fn before() {
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
    if barrier::was_in_use() {
        thread_state::detach_all(&ForkGuard::of_counted_thread());
    }
}

extern "C" fn in_parent() {
    FORKING.store(0, Relaxed);
    // Release pairs with the load in `enter`.
    GATE.store(OPEN, Release);
    count_out(1);
}

extern "C" fn in_child() {
    // Others may have counted themselves in to look at the gate. The rest is done by who takes over.
    UNREGISTERED.store(usize::from(thread_pointer::own_state().is_none()), Relaxed);
    thread_state::note_forked();
    GENERATION.store(generation().wrapping_add(1), Relaxed);
    FORKING.store(0, Relaxed);
    // Registered, or this would not run; the thread that was about to say so may be in the parent.
    PREPARED.store(true, Release);
    GATE.store(CHILD, Release);
    count_out(1);
}

/// What a fork is to its parent, for models.
#[cfg(bytepool_shuttle)]
pub(crate) fn fork_without_child(meanwhile: impl FnOnce()) {
    before();
    meanwhile();
    in_parent();
}

/// What it is to its child, for models: the calling thread goes on as the only one that the child has. Others
/// [`vanish`](thread_state::vanish) without calling anything.
#[cfg(bytepool_shuttle)]
pub(crate) fn fork_into_child() {
    before();
    in_child();
}

/// Whether the handlers are registered.
static PREPARED: AtomicBool = AtomicBool::new(false);

/// Registers them when the library is loaded, where the system can: before the user registers any, whose locks other
/// threads may hold at our gate. Handlers that prepare run last registered first.
#[cfg(all(target_os = "linux", not(bytepool_shuttle)))]
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = {
    extern "C" fn at_load() {
        // The allocator's handlers first, if it has any: a thread at our gate may be about to free.
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
    // So that a linker that takes this function takes it, too.
    #[cfg(target_os = "linux")]
    std::hint::black_box(&AT_LOAD);
    /// The process of which a thread registers them now; 0 if none does. No lock, as the fork of another thread would
    /// not wait for it yet.
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
        // Release pairs with the Acquire above: the next one sees what this one did.
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
    // Release: partner in `prepare`: who makes a pool was prepared.
    PREPARED.store(true, Release);
    Ok(())
}

/// There is no fork; or a model calls the handlers by itself.
#[cfg(not(all(unix, not(bytepool_shuttle))))]
pub(crate) fn prepare() -> Result<(), OutOfMemory> {
    let _ = (before, in_parent, in_child);
    Ok(())
}
