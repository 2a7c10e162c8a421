//! References: while one exists, the pool does.

use std::ops::Deref;
use std::ptr::NonNull;

use super::Core;
use super::door::{Handle, Refused};
use crate::os::anchor::{self, PoolId};
use crate::os::caller::KeptErrno;
use crate::os::fork::ForkGuard;

/// One counted reference to a pool.
///
/// Buffers, cached slots and contexts hold references that are counted without such a value.
pub(crate) struct Reference {
    core: NonNull<Core>,
}

impl Reference {
    /// The first reference to a new pool.
    pub(crate) fn to_new_pool(core: Box<Core>) -> Self {
        let core = NonNull::from(Box::leak(core));
        // SAFETY:
        // - just leaked
        let new = unsafe { core.as_ref() };
        new.registration.publish(core.cast());
        Self { core }
    }

    /// Another reference to the pool named `id`, if it still exists. Touches its anchor only.
    pub(crate) fn to_live_pool(id: PoolId) -> Option<Self> {
        anchor::retain_live(id).map(|core| Self { core: core.cast() })
    }

    /// Takes over a reference that is counted without a value.
    ///
    /// # Safety
    /// - `core` leads to a pool, or to a part, that has such a reference; nobody else takes it over
    pub(crate) unsafe fn from_leaked(core: NonNull<Core>) -> Self {
        Self { core }
    }

    /// Another reference to a pool that exists.
    ///
    /// # Safety
    /// - somebody has a reference to the pool until this returns
    pub(crate) unsafe fn to_existing(core: NonNull<Core>) -> Self {
        // SAFETY:
        // - the pool exists (caller)
        unsafe { core.as_ref() }.registration.references().retain(1);
        Self { core }
    }

    /// Where the pool is.
    #[inline]
    pub(crate) fn as_pointer(&self) -> NonNull<Core> {
        self.core
    }
}

/// All pools there are.
pub(super) fn live_pools(guard: &ForkGuard) -> impl Iterator<Item = Reference> {
    anchor::ids(guard).filter_map(Reference::to_live_pool)
}

impl Clone for Reference {
    fn clone(&self) -> Self {
        self.registration.references().retain(1);
        Self { core: self.core }
    }
}

impl Deref for Reference {
    type Target = Core;
    #[inline]
    fn deref(&self) -> &Core {
        // SAFETY:
        // - this reference is counted, so the pool exists
        unsafe { self.core.as_ref() }
    }
}

impl Drop for Reference {
    #[inline]
    fn drop(&mut self) {
        // A guard of its own, as a destructor has none to borrow. No fork may come between the last reference and the
        // pool's end.
        let mut guard = ForkGuard::new();
        let references = self.registration.references();
        if let Some(pool) = references.release() {
            // SAFETY:
            // - the last reference is gone, so nobody else can reach the pool
            // - the anchor has what `to_new_pool` published: the whole pool, also where this refers to a part
            unsafe { destroy(&mut guard, pool.cast()) };
        }
    }
}

/// # Safety
/// - `core` came from `Box::leak` in [`Reference::to_new_pool`], and nobody else can reach it
#[cold]
unsafe fn destroy(guard: &mut ForkGuard, core: NonNull<Core>) {
    let _errno = KeptErrno::new();
    // SAFETY:
    // - leaked from a box, and nobody else's (caller)
    let mut core = unsafe { Box::from_raw(core.as_ptr()) };
    // Dropping these runs the user's code.
    while let Some(forgotten) = core.waiting.take_forgotten(guard) {
        guard.unguarded(|| drop(forgotten));
    }
    let round = core.take_round();
    drop(core);
    guard.unguarded(|| drop(round));
}

/// A handle of Rust's.
impl<'a> Handle for &'a Reference {
    type Pool = &'a Core;

    #[inline(always)]
    fn key(self) -> u64 {
        self.own_key()
    }

    fn resolve(self, _: &ForkGuard) -> Option<&'a Core> {
        Some(self)
    }

    fn is_live(self, _: &ForkGuard, _: &Core) -> bool {
        true
    }

    fn enter<T, E>(run: impl FnOnce(&mut ForkGuard) -> Result<T, Refused<E>>) -> Result<T, Refused<E>> {
        let _errno = KeptErrno::new();
        run(&mut ForkGuard::new())
    }
}

/// A pool that exists because of a buffer's reference, which its put gives up.
#[derive(Clone, Copy)]
pub(crate) struct OfBuffer(NonNull<Core>);

impl OfBuffer {
    /// # Safety
    /// - the pool has a reference of a buffer that is not given up before the last use of this value begins
    #[inline(always)]
    pub(crate) unsafe fn new(core: NonNull<Core>) -> Self {
        Self(core)
    }
}

impl Handle for OfBuffer {
    type Pool = Reference;

    #[inline(always)]
    fn key(self) -> u64 {
        // SAFETY:
        // - the buffer's reference keeps the pool, or one that was resolved
        unsafe { self.0.as_ref() }.own_key()
    }

    fn resolve(self, _: &ForkGuard) -> Option<Reference> {
        // SAFETY:
        // - the buffer's reference keeps the pool
        Some(unsafe { Reference::to_existing(self.0) })
    }

    fn is_live(self, _: &ForkGuard, _: &Core) -> bool {
        true
    }

    fn enter<T, E>(run: impl FnOnce(&mut ForkGuard) -> Result<T, Refused<E>>) -> Result<T, Refused<E>> {
        let _errno = KeptErrno::new();
        run(&mut ForkGuard::new())
    }
}

// SAFETY:
// - Core is Sync, so it may be used from any thread
// - the last reference may drop it on any thread, as Core is Send
unsafe impl Send for Reference {}
// SAFETY: as for Send.
unsafe impl Sync for Reference {}

const _: () = {
    const fn core_is_send_and_sync<T: Send + Sync>() {}
    core_is_send_and_sync::<Core>();
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::TestPool;

    #[test]
    fn an_id_names_one_pool_only() {
        let pool = TestPool::new(&[(64, 1)], usize::MAX);
        let id = pool.registration().id();
        assert!(Reference::to_live_pool(id).is_some());
        let other = PoolId { generation: id.generation ^ 1, ..id };
        assert!(Reference::to_live_pool(other).is_none());
        drop(pool);
        assert!(Reference::to_live_pool(id).is_none());
        for _ in 0..200 {
            assert_ne!(TestPool::new(&[], usize::MAX).registration().id(), id);
        }
        assert!(Reference::to_live_pool(id).is_none());
    }
}
