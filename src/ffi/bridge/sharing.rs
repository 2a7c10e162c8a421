//! The functions that the C++ `SharedBuffer` calls. Each `SharedBuffer` holds a copy of the parts of one
//! `PooledBuffer`.
//!
//! None of these throws or allocates. The last holder's puts, so it may call the waker of a task that waits. `data` of
//! the parts is where the buffer starts, also for a sharer that shows a part of it.

use std::ptr::NonNull;

use super::{BufferParts, bytepool_cpp_put, location_of};
use crate::core::Core;
use crate::core::sharing::Share;

/// # Safety
/// - the parts are of a buffer, so that neither pointer is null
unsafe fn share_of(parts: &BufferParts) -> Share {
    // SAFETY:
    // - as the caller promised
    unsafe {
        let pool = NonNull::new_unchecked(parts.pool.cast::<Core>());
        Share { pool, data: NonNull::new_unchecked(parts.data), location: location_of(parts) }
    }
}

/// Makes the owner of a buffer its only sharer. The parts are a share from now on. So [`bytepool_cpp_put`] and
/// `release` must not take them.
///
/// # Safety
/// - the parts are of a `PooledBuffer` that the caller owns and gives up
#[unsafe(no_mangle)]
unsafe extern "C" fn bytepool_cpp_share(parts: &BufferParts) {
    // SAFETY: as the caller promised
    unsafe { share_of(parts).share() }
}

/// Counts another sharer, who has a copy of the parts. `false` means that there are 2^31 already, and nothing changed.
///
/// # Safety
/// - the parts are of a share that the caller has
#[unsafe(no_mangle)]
unsafe extern "C" fn bytepool_cpp_add_share(parts: &BufferParts) -> bool {
    // SAFETY: as the caller promised
    unsafe { share_of(parts).add() }
}

/// Gives a share up. The end of the last one puts the buffer.
///
/// # Safety
/// - the parts are of a share that the caller has, and does not use any more
#[unsafe(no_mangle)]
unsafe extern "C" fn bytepool_cpp_release_share(parts: &BufferParts) {
    // SAFETY:
    // - the caller has a share, and after the last one owns the buffer
    unsafe {
        if share_of(parts).release() {
            bytepool_cpp_put(parts);
        }
    }
}

/// Makes the only sharer the owner: the parts are those of a `PooledBuffer` again. `false` means that there are other
/// sharers, and nothing changed.
///
/// # Safety
/// - the parts are of a share that the caller has, and of which no other thread makes another meanwhile
#[unsafe(no_mangle)]
unsafe extern "C" fn bytepool_cpp_unshare(parts: &BufferParts) -> bool {
    // SAFETY: as the caller promised
    unsafe { share_of(parts).unshare() }
}

#[cfg(all(test, not(bytepool_shuttle)))]
mod tests {
    use super::super::take_apart;
    use super::*;
    use crate::pool::Pool;

    #[test]
    fn shares_on_many_threads_put_the_buffer_once() {
        let pool = Pool::builder().size_class(1024, 10).build().unwrap();
        for size in [1024, 100 << 10] {
            let parts = take_apart(pool.get(size).unwrap());
            // SAFETY:
            // - as many shares are given up as there are
            unsafe {
                bytepool_cpp_share(&parts);
                let addresses = || (parts.data.addr(), pool.stats().puts);
                let before = addresses();
                std::thread::scope(|scope| {
                    for _ in 0..4 {
                        assert!(bytepool_cpp_add_share(&parts));
                        let BufferParts { data, size, capacity, pool, location } = parts;
                        let (data, pool) = (data.expose_provenance(), pool.expose_provenance());
                        scope.spawn(move || {
                            let (data, pool) = (
                                std::ptr::with_exposed_provenance_mut(data),
                                std::ptr::with_exposed_provenance_mut(pool),
                            );
                            let parts = BufferParts { data, size, capacity, pool, location };
                            (0..100).for_each(|_| assert!(bytepool_cpp_add_share(&parts)));
                            (0..101).for_each(|_| bytepool_cpp_release_share(&parts));
                        });
                    }
                });
                assert_eq!(addresses(), before);
                assert!(bytepool_cpp_add_share(&parts) && !bytepool_cpp_unshare(&parts));
                bytepool_cpp_release_share(&parts);
                assert!(bytepool_cpp_unshare(&parts));
                bytepool_cpp_share(&parts);
                bytepool_cpp_release_share(&parts);
                assert_eq!(addresses().1, before.1 + 1);
            }
        }
    }
}
