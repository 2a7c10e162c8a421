//! The two places where the system calls upward: a thread ends, and a child of a fork uses the library for the
//! first time.
//!
//! Both need the pools, which the system's layer does not know. So the layer that does registers a function for each,
//! before the first pool is made.

use super::fork::ForkGuard;
use super::lock::Once;
use super::thread_state::ThreadState;

/// What the upper layers do when the system calls.
pub(crate) struct Hooks {
    /// The calling thread ends, and gives up its caches. The thread pointer does not lead to its state any more.
    pub(crate) thread_ends: fn(&mut ForkGuard, &'static ThreadState),
    /// This process is a child of a fork, and the calling thread its only one. What other threads of the parent had is
    /// forgotten.
    pub(crate) child_begins: fn(&ForkGuard),
}

static HOOKS: Once<Hooks> = Once::new();

/// Registers the hooks; the first call counts.
pub(crate) fn register(guard: &ForkGuard, hooks: Hooks) {
    HOOKS.get_or_init(guard, || hooks);
}

pub(super) fn thread_ends(guard: &mut ForkGuard, state: &'static ThreadState) {
    if let Some(hooks) = HOOKS.get() {
        (hooks.thread_ends)(guard, state);
    }
}

pub(super) fn child_begins(guard: &ForkGuard) {
    if let Some(hooks) = HOOKS.get() {
        (hooks.child_begins)(guard);
    }
}
