//! fork: the child has a copy of all memory, but only the thread that forked. What other threads were in the
//! middle of stays so for ever, and a lock that one of them held is never released.
//!
//! So nobody is in the middle of anything while a process forks. Whatever may hold a lock of ours, or leaves
//! something half done meanwhile, runs in a *section*; what runs in a thread cache needs none.
//!
//! ```text
//! before the fork     close the gate -> wait until no other thread is in a section
//!                     -> cut every thread's ways to its caches -> wait until no thread uses one
//! in the parent       open the gate: threads find their caches again as they go on
//! in the child        the first section: put what the other threads cached on the shelves, open the gate
//! ```
//!
//! Until it uses a pool, a child pays nothing. What it loses is what only threads knew that it does not have:
//! the buffers they held stay outstanding.
//!
//! The user's functions run [`outside`]: they may take any time, or fork.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, compiler_fence};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;

use crate::anchor;
use crate::barrier;
use crate::memory::OutOfMemory;
use crate::thread_cache;

/// Whether sections may begin.
static GATE: AtomicU8 = AtomicU8::new(OPEN);
const OPEN: u8 = 0;
/// A thread is forking, or takes over in a child.
const CLOSED: u8 = 1;
/// This is a child in which no section began yet.
const CHILD: u8 = 2;

/// Threads without a block that are in a section. The others say so in their blocks, which costs no shared
/// write.
static OUTSIDERS: AtomicUsize = AtomicUsize::new(0);

#[cfg(bytepool_shuttle)]
use super::DEPTH;
#[cfg(not(bytepool_shuttle))]
thread_local! {
    /// How many sections the thread is in, one inside the other, while it has no block. Without a destructor,
    /// so it serves during a thread's teardown too.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// While it exists, no other thread forks. On the thread that made it only.
pub(crate) struct Section(PhantomData<*const ()>);

/// Waits while another thread forks. May be inside another section.
#[inline]
pub(crate) fn section() -> Section {
    enter(1);
    Section(PhantomData)
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        count_out(1);
    }
}

/// Runs a function of the user's, or one that waits for other threads: neither may keep a process from
/// forking. The caller holds no lock of ours, and left nothing half done.
pub(crate) fn outside<R>(run: impl FnOnce() -> R) -> R {
    struct Back(u32);
    impl Drop for Back {
        fn drop(&mut self) {
            if self.0 > 0 {
                enter(self.0);
            }
        }
    }
    let back = Back(depth());
    if back.0 > 0 {
        count_out(back.0);
    }
    run()
}

/// Whether the calling thread is in a section.
pub(crate) fn is_inside() -> bool {
    depth() > 0
}

/// How many sections the calling thread is in.
fn depth() -> u32 {
    // Relaxed: only this thread writes it.
    thread_cache::own_sections().map_or_else(|| DEPTH.get(), |own| own.load(Relaxed))
}

#[inline]
fn enter(levels: u32) {
    // SeqCst: as in `count_in`.
    if count_in(levels) && GATE.load(SeqCst) != OPEN {
        wait_at_gate(levels);
    }
}

/// Says that the calling thread is in so many more sections; whether it was in none.
///
/// It says so before it looks at the gate, and the forking thread closes the gate before it looks who is in:
/// one of them sees the other. Without a block both are SeqCst; with one the compiler fence keeps the order
/// here, and its partner is the heavy fence in [`wait_for_others`].
#[inline]
fn count_in(levels: u32) -> bool {
    let before = match thread_cache::own_sections() {
        Some(own) => {
            let before = own.load(Relaxed);
            own.store(before + levels, Relaxed);
            compiler_fence(SeqCst);
            before
        }
        None => {
            let before = DEPTH.replace(DEPTH.get() + levels);
            if before == 0 {
                OUTSIDERS.fetch_add(1, SeqCst);
            }
            before
        }
    };
    before == 0
}

/// Release pairs with the Acquire in [`wait_for_others`]: what was done in the section comes before the fork.
#[inline]
fn count_out(levels: u32) {
    match thread_cache::own_sections() {
        Some(own) => own.store(own.load(Relaxed) - levels, Release),
        None => {
            let left = DEPTH.get() - levels;
            DEPTH.set(left);
            if left == 0 {
                OUTSIDERS.fetch_sub(1, Release);
            }
        }
    }
}

/// Gives the calling thread another block, or none, and counts its sections there from now on.
pub(crate) fn change_block(set_block: impl FnOnce()) {
    let levels = depth();
    let old = thread_cache::own_sections();
    set_block();
    if levels == 0 {
        return;
    }
    // There before it is not here any more: the forking thread must not see it nowhere.
    count_in(levels);
    match old {
        Some(sections) => sections.store(0, Release),
        None => {
            DEPTH.set(0);
            OUTSIDERS.fetch_sub(1, Release);
        }
    }
}

/// The thread that closed the gate, by an address that only it has; 0 if none did.
static FORKING: AtomicUsize = AtomicUsize::new(0);

fn own_address() -> usize {
    DEPTH.with(|depth| ptr::from_ref(depth).addr())
}

/// The caller counted itself in, and the gate was not open.
#[cold]
fn wait_at_gate(levels: u32) {
    // Relaxed: who finds its own address wrote it. Handlers of the user's, which run between ours, may use pools.
    if FORKING.load(Relaxed) == own_address() {
        return;
    }
    loop {
        if GATE.compare_exchange(CHILD, CLOSED, SeqCst, Relaxed).is_ok() {
            take_over();
            // Release pairs with the load in `enter`.
            GATE.store(OPEN, Release);
            return;
        }
        count_out(levels);
        barrier::wait_until(|| GATE.load(Relaxed) != CLOSED);
        count_in(levels);
        // SeqCst: as in `count_in`.
        if GATE.load(SeqCst) == OPEN {
            return;
        }
    }
}

/// In a child: what its parent's other threads had is nobody's.
fn take_over() {
    barrier::register_again();
    thread_cache::forget_other_threads();
    for pool in anchor::live_pools() {
        pool.forget_other_threads();
    }
}

/// Waits until no thread but the calling one, which closed the gate, is in a section.
fn wait_for_others() {
    if barrier::is_in_use() {
        barrier::fence_all_threads();
    }
    let own = thread_cache::own_sections();
    // Acquire, also in the blocks: partner in `count_out`. SeqCst: as in `count_in`.
    let no_outsider = || OUTSIDERS.load(SeqCst) == usize::from(own.is_none());
    // Again, as a thread may have given its block up, in a section.
    while {
        barrier::wait_until(no_outsider);
        for sections in thread_cache::all_sections() {
            if own.is_none_or(|own| !std::ptr::eq(own, sections)) {
                barrier::wait_until(|| sections.load(Acquire) == 0);
            }
        }
        !no_outsider()
    } {}
}

/// The forking thread is in a section itself from here to the end of the fork, so that it may use pools in
/// handlers of the user's that run meanwhile.
extern "C" fn before() {
    loop {
        enter(1);
        if GATE.compare_exchange(OPEN, CLOSED, SeqCst, Relaxed).is_ok() {
            break;
        }
        // Another thread forks.
        count_out(1);
    }
    FORKING.store(own_address(), Relaxed);
    wait_for_others();
    if barrier::is_in_use() {
        thread_cache::cut_all_ways();
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
    OUTSIDERS.store(usize::from(thread_cache::own_sections().is_none()), Relaxed);
    thread_cache::note_forked();
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
        drop(std::hint::black_box(crate::memory::boxed(0u8)));
        // If it is refused, the first pool tries again.
        let _ = prepare();
    }
    at_load
};

/// Prepares this process for forks; before a pool is made.
#[cfg(unix)]
pub(crate) fn prepare() -> Result<(), OutOfMemory> {
    use crate::sync::atomic::AtomicI32;
    use crate::sync::thread;
    // So that a linker that takes this function takes it, too.
    #[cfg(all(target_os = "linux", not(bytepool_shuttle)))]
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

#[cfg(unix)]
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

/// There is no fork.
#[cfg(not(unix))]
pub(crate) fn prepare() -> Result<(), OutOfMemory> {
    let _ = (before, in_parent, in_child);
    Ok(())
}
