//! What the pools do when the system calls: a thread ends, or a child of a fork uses the library first.

use super::Core;
use super::reference::{Reference, live_pools};
use crate::cache::caches::{self, Evicted};
use crate::os::fork::ForkGuard;
use crate::os::hooks::{self, Hooks};
use crate::os::thread_state::ThreadState;

/// Registers the hooks; before the first pool is made.
pub(super) fn register(guard: &ForkGuard) {
    hooks::register(guard, Hooks { thread_ends, child_begins });
}

/// The calling thread's caches go, whether its state leads to them or a fork detached them.
fn thread_ends(guard: &mut ForkGuard, state: &'static ThreadState) {
    while let Some(owner) = caches::some_owner(guard, state) {
        give_up(guard, owner, state);
    }
    if state.take_was_detached() {
        live_pools(guard).for_each(|pool| pool.give_up_cache(guard, state));
    }
}

/// Ends the cache that the calling thread has of a pool.
pub(super) fn give_up(guard: &ForkGuard, owner: Evicted, state: &'static ThreadState) {
    // SAFETY:
    // - a pool said it was the owner when it attached a thread, and the reference came with it
    let pool = unsafe { Reference::from_leaked(owner.cast::<Core>()) };
    pool.give_up_cache(guard, state);
}

fn child_begins(guard: &ForkGuard) {
    live_pools(guard).for_each(|pool| pool.forget_other_threads(guard));
}
