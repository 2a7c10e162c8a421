//! Shared buffers: a buffer with several holders, who read its bytes and count themselves where its one holder would
//! stand.
//!
//! ```text
//! PooledBuffer -> share -> [ shared by 1 ] <-> [ shared by 2 ] <-> ...
//!              <- release of the last, or unshare of the only one
//! ```
//!
//! The count is in the slot's mark, or in the registry's record, so sharing allocates nothing and a put by the raw
//! pointer is refused as that of any buffer with an owner. All sharers together have the buffer's one reference to the
//! pool. The last one becomes the buffer's owner, and puts it like any other.
//!
//! Any sharer may add and give up shares on any thread. A slot's sharers take no lock.

use std::ptr::NonNull;

use super::Core;
use super::reference::Reference;
use crate::class::Class;
use crate::class::ledger::{Holder, Ledger, MAX_SHARERS};
use crate::class::location::Location;
use crate::os::caller::KeptErrno;
use crate::os::fork::ForkGuard;

/// One sharer's part: what leads to the buffer. It counts nothing by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) pool: NonNull<Core>,
    pub(crate) data: NonNull<u8>,
    pub(crate) location: Location,
}

impl Share {
    /// Makes the owner of a buffer its only sharer.
    ///
    /// # Safety
    /// - the parts are of an outstanding buffer held as [`Holder::Owned`], which the caller owns
    pub(crate) unsafe fn share(self) {
        // SAFETY:
        // - the buffer's reference keeps the pool (caller)
        let pool = unsafe { self.pool.as_ref() };
        match self.slot(pool) {
            Some((class, slot)) => class.ledger.set(slot, Some(Holder::Shared(1))),
            None => self.change_record(|holder| *holder = Holder::Shared(1)),
        }
    }

    /// Counts another sharer. `false`: there are too many, and nothing changed.
    ///
    /// # Safety
    /// - the caller has a share of this buffer
    pub(crate) unsafe fn add(self) -> bool {
        // SAFETY:
        // - the sharers' reference keeps the pool (caller)
        let pool = unsafe { self.pool.as_ref() };
        match self.slot(pool) {
            Some((class, slot)) => class.ledger.add_sharer(slot),
            None => self.change_record(|holder| match holder {
                Holder::Shared(sharers) if *sharers < MAX_SHARERS => {
                    *sharers += 1;
                    true
                }
                _ => false,
            }),
        }
    }

    /// Gives a share up. `true`: it was the last, and the caller owns the buffer now, held as [`Holder::Owned`].
    ///
    /// # Safety
    /// - the caller has a share of this buffer, and does not use it any more
    #[must_use = "who gave the last share up has to put the buffer"]
    pub(crate) unsafe fn release(self) -> bool {
        let entry = {
            // SAFETY:
            // - the sharers' reference keeps the pool until this share is given up, below (caller)
            let pool = unsafe { self.pool.as_ref() };
            self.slot(pool).map(|(class, slot)| class.ledger.entry(slot))
        };
        match entry {
            // SAFETY:
            // - the caller has a share of this slot, and does not use it any more
            Some(entry) => unsafe { Ledger::remove_sharer(entry) },
            None => self.change_record(|holder| match holder {
                Holder::Shared(sharers @ 2..) => {
                    *sharers -= 1;
                    false
                }
                _ => {
                    *holder = Holder::Owned;
                    true
                }
            }),
        }
    }

    /// Makes the only sharer the owner, held as [`Holder::Owned`]. `false`: there are others, and nothing changed.
    ///
    /// # Safety
    /// - the caller has a share of this buffer, and nobody adds one by it meanwhile
    pub(crate) unsafe fn unshare(self) -> bool {
        // SAFETY:
        // - the sharers' reference keeps the pool (caller)
        let pool = unsafe { self.pool.as_ref() };
        match self.slot(pool) {
            Some((class, slot)) => class.ledger.take_from_sharer(slot),
            None => self.change_record(|holder| {
                let is_sole = *holder == Holder::Shared(1);
                if is_sole {
                    *holder = Holder::Owned;
                }
                is_sole
            }),
        }
    }

    /// What the buffer has room for, in bytes.
    ///
    /// # Safety
    /// - the caller has a share of this buffer, or owns it
    pub(crate) unsafe fn capacity(self) -> usize {
        // SAFETY:
        // - the buffer's reference keeps the pool (caller)
        let pool = unsafe { self.pool.as_ref() };
        match self.slot(pool) {
            Some((class, _)) => class.buffer_size(),
            None => pool.usable_size(&ForkGuard::new(), self.data),
        }
    }

    fn slot(self, pool: &Core) -> Option<(&Class, u32)> {
        pool.slot_at(self.location)
    }

    /// Changes the holder of a buffer that the registry has. Its lock orders what sharers do.
    #[cold]
    fn change_record<R>(self, change: impl FnOnce(&mut Holder) -> R) -> R {
        let _errno = KeptErrno::new();
        // Declared before the lock is taken: the buffer, and the pool with it, may be gone while this thread still
        // unlocks.
        // SAFETY:
        // - callers have a share, or own the buffer: its reference keeps the pool until `change` ran
        let pool = unsafe { Reference::to_existing(self.pool) };
        let guard = ForkGuard::new();
        let changed = pool.registry.change_holder(&guard, self.data.addr().get(), change);
        changed.expect("a buffer that is out is in the registry")
    }
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::*;
    use crate::class::location::PutSize;
    use crate::core::testing::TestPool;
    use crate::error::Misuse;

    const SIZE: usize = 1024;

    /// A buffer of so many bytes, shared by one.
    fn shared(pool: &TestPool, size: usize) -> Share {
        let buffer = pool.get(size);
        let share = Share { pool: NonNull::from(&**pool), data: buffer.data, location: buffer.location };
        // SAFETY:
        // - just got
        unsafe { share.share() };
        share
    }

    fn put(pool: &TestPool, share: Share) {
        let Share { data, location, .. } = share;
        pool.put(crate::class::location::Buffer { data, capacity: 0, location });
    }

    /// A slot, and one of the system's.
    fn for_both(test: impl Fn(&TestPool, Share)) {
        for size in [SIZE, 100 * SIZE] {
            let pool = TestPool::new(&[(SIZE, 4)], usize::MAX);
            let share = shared(&pool, size);
            test(&pool, share);
            let figures = pool.figures();
            assert_eq!((figures.gets, figures.puts), (1, 1));
            assert_eq!(figures.oversize_buffers, 0);
        }
    }

    #[test]
    fn the_last_release_passes_the_buffer_to_its_caller() {
        for_both(|pool, share| {
            // SAFETY:
            // - a share is added before each that is given up, and the last is put
            unsafe {
                assert!(share.add() && share.add() && !share.unshare());
                assert!(!share.release() && !share.release() && share.release());
            }
            put(pool, share);
        });
    }

    #[test]
    fn the_only_sharer_may_own_the_buffer_again() {
        for_both(|pool, share| {
            // SAFETY:
            // - the only share
            assert!(unsafe { share.unshare() });
            put(pool, share);
        });
    }

    #[test]
    fn a_raw_put_of_a_shared_buffer_is_refused() {
        for_both(|pool, share| {
            let mut guard = ForkGuard::new();
            for size in [PutSize::Unsized, PutSize::Sized(SIZE), PutSize::Sized(1)] {
                // SAFETY:
                // - the buffer is not put, and this is refused
                let refused = unsafe { Core::put(pool, &mut guard, share.data, size, None) };
                assert!(matches!(refused, Err(Misuse::DoublePut { .. })), "{refused:?}");
            }
            assert_eq!(pool.figures().double_puts, 3);
            drop(guard);
            // SAFETY:
            // - the only share
            assert!(unsafe { share.release() });
            put(pool, share);
        });
    }

    #[test]
    fn the_registry_refuses_too_many_sharers_too() {
        let pool = TestPool::new(&[], usize::MAX);
        let share = shared(&pool, SIZE);
        share.change_record(|holder| *holder = Holder::Shared(MAX_SHARERS - 1));
        // SAFETY:
        // - the buffer is shared
        unsafe { assert!(share.add() && !share.add()) };
        share.change_record(|holder| {
            assert_eq!(*holder, Holder::Shared(MAX_SHARERS));
            *holder = Holder::Owned;
        });
        put(&pool, share);
    }
}
