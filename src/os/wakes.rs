//! Tasks to be woken. A waker is the user's code, and who grants a task something holds locks: so the waker is laid
//! here, and called when the thread gives its last fork guard up.
//!
//! ```text
//! serve, under locks -> push -> [ waker | waker ] -> pop -> wake, without guard and lock
//!                                                  ^ the end of a thread's outermost fork guard
//! ```
//!
//! Any thread that gives its guard up may take a waker over from another. None is missed: who pushed one looks after
//! that itself. A push needs no memory, since each task that waits has reserved a place.

use crate::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::collections::VecDeque;
use std::task::Waker;

use super::fork::ForkGuard;
use super::lock::Lock;
use super::memory::OutOfMemory;

struct Wakes {
    ready: VecDeque<Waker>,
    /// Tasks that wait, each of which may push one.
    tasks: usize,
}

static WAKES: Lock<Wakes> = Lock::new(Wakes { ready: VecDeque::new(), tasks: 0 });

/// Whether there is any. Written under the lock. Relaxed: who pushed one reads what it wrote itself, or that another
/// thread took it.
static PENDING: AtomicBool = AtomicBool::new(false);

/// Reserves a place for a task that begins to wait.
pub(crate) fn reserve(guard: &ForkGuard) -> Result<(), OutOfMemory> {
    let mut wakes = WAKES.lock(guard);
    let places = wakes.tasks + 1;
    wakes.ready.try_reserve(places).map_err(|_| OutOfMemory { bytes: places * size_of::<Waker>() })?;
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
    debug_assert!(wakes.ready.len() < wakes.ready.capacity());
    wakes.ready.push_back(waker);
    PENDING.store(true, Relaxed);
}

#[inline]
pub(super) fn are_pending() -> bool {
    PENDING.load(Relaxed)
}

/// The waker that was pushed first.
pub(super) fn pop(guard: &ForkGuard) -> Option<Waker> {
    let mut wakes = WAKES.lock(guard);
    let first = wakes.ready.pop_front();
    PENDING.store(!wakes.ready.is_empty(), Relaxed);
    first
}
