//! Tasks to be woken. A waker is the user's code, and a thread that grants a task something holds locks. So it leaves
//! the waker here, and calls it when its last fork guard ends, or before it sleeps or calls the user.
//!
//! ```text
//! serve, under locks -> push -> [ thread, waker | thread, waker ] -> pop -> wake, without guard and lock
//!                                                                     ^ the end of that thread's outermost guard
//! ```
//!
//! - A thread calls the wakers that it pushed, and no others: it may hold locks of the user's that another's wakers
//!   take. In the child of a fork the thread that forked has those of all threads.
//! - It calls one after the other. What a waker pushes is called after it, by the loop that called the waker.
//! - A push needs no memory, since each task that waits has reserved a place.

use std::collections::VecDeque;
use std::task::Waker;

use super::fork::ForkGuard;
use super::lock::Lock;
use super::memory::OutOfMemory;
use crate::sync::{guard_depth, wake_step};

struct Due {
    /// An address that only the thread has that pushed the waker.
    thread: usize,
    waker: Waker,
}

struct Wakes {
    due: VecDeque<Due>,
    /// Tasks that wait, each of which may push one.
    tasks: usize,
}

static WAKES: Lock<Wakes> = Lock::new(Wakes { due: VecDeque::new(), tasks: 0 });

// The step that a thread has come to.
/// It has no waker here.
const NONE: u8 = 0;
/// It pushed one.
const DUE: u8 = 1;
/// It calls them, and takes what it pushes meanwhile.
const CALLING: u8 = 2;

/// Notes that the calling thread has wakers here.
fn are_here() {
    if wake_step::get() == NONE {
        wake_step::set(DUE);
    }
}

/// Reserves a place for a task that begins to wait.
pub(crate) fn reserve(guard: &ForkGuard) -> Result<(), OutOfMemory> {
    let mut wakes = WAKES.lock(guard);
    let places = wakes.tasks + 1;
    wakes.due.try_reserve(places).map_err(|_| OutOfMemory { bytes: places * size_of::<Due>() })?;
    wakes.tasks = places;
    Ok(())
}

/// Gives the place of a task up that does not wait any more.
pub(crate) fn release(guard: &ForkGuard) {
    WAKES.lock(guard).tasks -= 1;
}

/// Lays down the waker of a task that has a place, and pushes once.
pub(crate) fn push(guard: &ForkGuard, waker: Waker) {
    let mut wakes = WAKES.lock(guard);
    debug_assert!(wakes.due.len() < wakes.due.capacity());
    wakes.due.push_back(Due { thread: guard_depth::address(), waker });
    are_here();
}

/// Whether the calling thread has wakers to call, and does not call them yet.
#[inline]
pub(super) fn are_due() -> bool {
    wake_step::get() == DUE
}

/// The waker that the calling thread pushed first. It calls wakers until this returns `None`.
pub(super) fn pop(guard: &ForkGuard) -> Option<Waker> {
    let mut wakes = WAKES.lock(guard);
    let own = guard_depth::address();
    let first = wakes.due.iter().position(|due| due.thread == own);
    let first = first.and_then(|at| wakes.due.remove(at));
    wake_step::set(if first.is_some() { CALLING } else { NONE });
    Some(first?.waker)
}

/// In a child: the wakers of the threads that it does not have are the calling one's.
pub(super) fn take_over(guard: &ForkGuard) {
    let mut wakes = WAKES.lock(guard);
    for due in &mut wakes.due {
        due.thread = guard_depth::address();
        are_here();
    }
}
