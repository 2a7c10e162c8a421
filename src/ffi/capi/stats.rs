//! A pool's figures, its pinned memory, and who holds its buffers.

use std::ffi::c_void;

use super::{number_of, resolve_or_refuse, status_of};
use crate::core::Core;
use crate::core::stats::Stats;
use crate::debug::tracking;
use crate::debug::written;
use crate::ffi::status::Status;
use crate::ffi::types::{
    CClassStats, COutstanding, CRegion, CStats, OutstandingHandler, write_array, write_struct,
};
use crate::os::fork::ForkGuard;

/// Writes the pool's figures to `out`, as much of them as its `struct_size` says.
///
/// The errors are a NULL `out`, a `struct_size` below 8 or above 4096, and an invalid context. A freed context may
/// still ask.
///
/// # Safety
/// - `out` is NULL or points to a `bytepool_stats` of its `struct_size` bytes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_read_stats(context: *mut c_void, out: *mut CStats) -> i32 {
    status_of(|guard| {
        let resolved = resolve_or_refuse(guard, context, 0)?;
        // SAFETY:
        // - as the caller promised; CStats has no padding: all fields have eight bytes
        Ok(unsafe { write_struct(out, CStats::from(&resolved.pool.stats(guard))) }?)
    })
}

/// Writes the figures of the size class `index` to `out`, as much of them as its `struct_size` says.
///
/// Classes are counted from 0 by ascending buffer size. The errors are an index past the last class, a NULL `out`, a
/// `struct_size` below 8 or above 4096, and an invalid context.
///
/// # Safety
/// - `out` is NULL or points to a `bytepool_class_stats` of its `struct_size` bytes
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_read_class_stats(
    context: *mut c_void,
    index: usize,
    out: *mut CClassStats,
) -> i32 {
    status_of(|guard| {
        let resolved = resolve_or_refuse(guard, context, 0)?;
        let mut stats = Stats::NONE;
        resolved.pool.read_stats(guard, &mut stats);
        let class = stats.classes.get(index).ok_or(Status::InvalidArgument)?;
        // SAFETY:
        // - as the caller promised; CClassStats has no padding: all fields have eight bytes
        Ok(unsafe { write_struct(out, CClassStats::from(class)) }?)
    })
}

/// Lists the memory of a pinned pool: all slots of all classes.
///
/// The first `max` regions are written to `out`, which may be NULL. The memory stays the pool's. Returns how many there
/// are. It is 0 for any other pool, for a closed one, and for an invalid context.
///
/// # Safety
/// - `out` has room for `max` regions, unless it is NULL
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_pinned_regions(
    context: *mut c_void,
    out: *mut CRegion,
    max: usize,
) -> usize {
    number_of(|guard| {
        let resolved = resolve_or_refuse(guard, context, 0)?;
        // SAFETY:
        // - as the caller promised; CRegion has no padding: all fields have eight bytes
        Ok(unsafe { write_array(resolved.pool.pinned_regions(), out, max) })
    })
}

/// Calls `handler` for every tracked buffer that is outstanding, the oldest first.
///
/// NULL writes a line on stderr for each. The handler may call any function of this library.
///
/// Returns how many there are. It is 0 if the pool does not track, and on failure: an invalid context, or no memory.
///
/// # Safety
/// - `handler` is NULL or may be called with `user_data`, and does not throw
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bytepool_dump_outstanding(
    context: *mut c_void,
    handler: Option<OutstandingHandler>,
    user_data: *mut c_void,
) -> usize {
    number_of(|guard| {
        let resolved = resolve_or_refuse(guard, context, 0)?;
        // SAFETY:
        // - as the caller promised
        Ok(unsafe { dump_outstanding(guard, &resolved.pool, handler, user_data) }?)
    })
}

/// # Safety
/// - `handler` is NULL or may be called with `user_data`, and does not throw
unsafe fn dump_outstanding(
    guard: &mut ForkGuard,
    pool: &Core,
    handler: Option<OutstandingHandler>,
    user_data: *mut c_void,
) -> Result<usize, Status> {
    let Some(tracker) = pool.tracker() else { return Ok(0) };
    let all = tracker.dump(guard).map_err(|_| Status::OutOfMemory)?;
    match handler {
        None => guard.unguarded(|| tracking::print(&all)),
        Some(handler) => {
            for buffer in &all {
                let mut buffer = COutstanding::from(buffer);
                written(&mut buffer);
                // SAFETY:
                // - may be called so (caller); no lock of ours is held
                guard.unguarded(|| unsafe { handler(&buffer, user_data) });
            }
        }
    }
    Ok(all.len())
}
