//! The structs of `bytepool.h`, and how they cross versions: each starts with its size, and later versions
//! only append.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use crate::core::pinned::PinnedRegion;
use crate::core::stats::{ClassStats, Stats};
use crate::debug::tracking::{Language, Outstanding};
use crate::debug::written;
use crate::ffi::status::Status;
use crate::os::fork::ForkGuard;
use crate::pool::builder::Builder;

/// `bytepool_size_class`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SizeClass {
    /// Bytes.
    pub buffer_size: usize,
    /// Buffers.
    pub capacity: usize,
}

impl From<(usize, usize)> for SizeClass {
    fn from((buffer_size, capacity): (usize, usize)) -> Self {
        Self { buffer_size, capacity }
    }
}

/// `bytepool_config`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Config {
    /// Of the caller's version, in bytes.
    pub struct_size: usize,
    /// In any order.
    pub size_classes: *const SizeClass,
    /// How many classes.
    pub size_class_count: usize,
    /// Of every buffer, in bytes; 0 means 64.
    pub alignment: usize,
    /// Limit on mapped bytes; 0 means none.
    pub max_bytes: usize,
    /// Rounds class sizes and requests.
    pub round: Option<unsafe extern "C" fn(usize) -> usize>,
    /// `BYTEPOOL_ZERO_ON_GET` and so on.
    pub flags: u32,
    /// Padding in the first version, which may hold anything.
    pub unused: u32,
    /// One get in so many is tracked; 0 means as the environment says.
    pub track_every: u32,
    /// One get in so many is guarded; 0 means as the environment says.
    pub guard_every: u32,
}

/// A timeout given in nanoseconds; `u64::MAX` is without end.
pub(crate) fn timeout_of(nanoseconds: u64) -> Duration {
    if nanoseconds == u64::MAX { Duration::MAX } else { Duration::from_nanos(nanoseconds) }
}

const ZERO_ON_GET: u32 = 1;
const ZERO_ON_PUT: u32 = 2;
const NO_THREAD_CACHE: u32 = 4;
const HUGE_PAGES: u32 = 8;
const PINNED: u32 = 16;
const COLORING: u32 = 32;
const ALL_FLAGS: u32 = ZERO_ON_GET | ZERO_ON_PUT | NO_THREAD_CACHE | HUGE_PAGES | PINNED | COLORING;

/// `bytepool_stats`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CStats {
    /// Of the caller's version, in bytes.
    pub struct_size: usize,
    /// How many classes.
    pub size_class_count: usize,
    /// Limit on mapped bytes; 0 means none.
    pub max_bytes: usize,
    /// Bytes taken from the system for buffers.
    pub mapped_bytes: usize,
    /// The same in buffer sizes.
    pub allocated_bytes: usize,
    /// Of outstanding oversize buffers.
    pub oversize_bytes: usize,
    /// Outstanding.
    pub oversize_buffers: usize,
    /// That succeeded.
    pub gets: u64,
    /// That succeeded.
    pub puts: u64,
    /// Gets served by overflow or oversize.
    pub system_allocations: u64,
    /// Gets that failed at the limit.
    pub limit_failures: u64,
    /// Gets that had to wait.
    pub waits: u64,
    /// Refused.
    pub double_puts: u64,
    /// Refused.
    pub size_mismatches: u64,
    /// Refused.
    pub foreign_pointers: u64,
    /// Of the pool's own books.
    pub bookkeeping_bytes: usize,
}

/// `bytepool_class_stats`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CClassStats {
    /// Of the caller's version, in bytes.
    pub struct_size: usize,
    /// Bytes.
    pub buffer_size: usize,
    /// Bytes.
    pub slot_size: usize,
    /// Buffers.
    pub capacity: usize,
    /// Slots.
    pub touched: usize,
    /// Slots.
    pub outstanding: usize,
    /// Slots.
    pub idle: usize,
    /// Slots.
    pub cached: usize,
    /// Outstanding overflow buffers.
    pub overflow: usize,
    /// The same in buffer sizes.
    pub allocated_bytes: usize,
    /// That succeeded.
    pub gets: u64,
    /// That succeeded.
    pub puts: u64,
    /// The part of `overflow` that is no slot.
    pub system_overflow: usize,
    /// The most slots that were out.
    pub peak: usize,
}

/// A struct of C's with these fields of one of Rust's, which have the same names.
macro_rules! with_fields_of {
    ($stats:ident, $($own:ident: $value:expr,)? { $($field:ident)* }) => {
        Self { struct_size: size_of::<Self>(), $($own: $value,)? $($field: $stats.$field),* }
    };
}

impl From<&Stats> for CStats {
    fn from(stats: &Stats) -> Self {
        with_fields_of!(stats, size_class_count: stats.classes.len(), {
            max_bytes mapped_bytes allocated_bytes oversize_bytes oversize_buffers gets puts system_allocations
            limit_failures waits double_puts size_mismatches foreign_pointers bookkeeping_bytes
        })
    }
}

impl From<&ClassStats> for CClassStats {
    fn from(stats: &ClassStats) -> Self {
        with_fields_of!(stats, {
            buffer_size slot_size capacity touched outstanding idle cached overflow allocated_bytes gets puts
            system_overflow peak
        })
    }
}

/// `bytepool_region`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CRegion {
    /// Where its first slot starts.
    pub start: *mut c_void,
    /// Bytes.
    pub length: usize,
    /// Bytes from one buffer to the next.
    pub slot_size: usize,
}

impl From<PinnedRegion> for CRegion {
    fn from(region: PinnedRegion) -> Self {
        Self { start: region.start.as_ptr().cast(), length: region.len, slot_size: region.slot_size }
    }
}

/// Writes as many items as `out` has room for; how many there are.
pub(crate) fn write_items<T>(items: impl Iterator<Item = impl Into<T>>, out: &mut [T]) -> usize {
    let mut count = 0;
    for item in items {
        if let Some(place) = out.get_mut(count) {
            *place = item.into();
        }
        count += 1;
    }
    count
}

/// The same for an array of C's.
///
/// # Safety
/// - `out` is NULL or writable for `max` items
/// - `T` has no padding, and every value of its bytes is one
pub(crate) unsafe fn write_array<T>(
    guard: &ForkGuard,
    items: impl Iterator<Item = impl Into<T>>,
    out: *mut T,
    max: usize,
) -> usize {
    let out = match max {
        _ if out.is_null() => &mut [],
        // SAFETY:
        // - not NULL, and writable for as many (caller); no slice is longer than memory
        max => unsafe { std::slice::from_raw_parts_mut(out, max.min(isize::MAX as usize / size_of::<T>())) },
    };
    let count = write_items(items, out);
    let filled = count.min(out.len());
    out[..filled].iter_mut().for_each(|item| written(guard, item));
    count
}

/// `bytepool_outstanding`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct COutstanding {
    /// Of this version of the library.
    pub struct_size: usize,
    /// Where it starts.
    pub data: *const c_void,
    /// Asked for, in bytes.
    pub size: usize,
    /// What it has room for, in bytes.
    pub buffer_size: usize,
    /// Nanoseconds since it was got.
    pub age_ns: u64,
    /// The system's number of the thread that got it; 0 if unknown.
    pub thread: u64,
    /// That thread's name then; empty if unknown.
    pub thread_name: [u8; 16],
    /// Where it was got; NULL if unknown. Never freed.
    pub file: *const c_char,
    /// 0 if unknown.
    pub line: u32,
    /// 0 if unknown.
    pub column: u32,
    /// `BYTEPOOL_LANGUAGE_RUST` and so on.
    pub language: i32,
}

/// `bytepool_outstanding_handler`.
pub type OutstandingHandler = unsafe extern "C" fn(*const COutstanding, *mut c_void);

impl From<&Outstanding> for COutstanding {
    fn from(buffer: &Outstanding) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            data: std::ptr::without_provenance(buffer.address),
            size: buffer.size,
            buffer_size: buffer.buffer_size,
            age_ns: u64::try_from(buffer.age.as_nanos()).unwrap_or(u64::MAX),
            thread: buffer.thread,
            thread_name: buffer.thread_name_with_nul(),
            file: buffer.file_with_nul().cast(),
            line: buffer.line,
            column: buffer.column,
            language: match buffer.language {
                Language::Rust => 1,
                Language::C => 2,
                Language::Cpp => 3,
            },
        }
    }
}

/// No version's struct is larger, in bytes: a larger `struct_size` was never set.
const MAX_STRUCT_SIZE: usize = 4096;

/// A builder with what the caller's version of the struct says.
///
/// # Safety
/// - `config` is NULL or points to a config of at least its `struct_size` bytes, whose `size_classes` has
///   `size_class_count` entries
pub(crate) unsafe fn read_config(config: *const Config) -> Result<Builder, Status> {
    if config.is_null() {
        return Err(Status::InvalidArgument);
    }
    // SAFETY:
    // - not NULL; every version of the struct starts with its size
    let struct_size = unsafe { config.cast::<usize>().read() };
    if !(size_of::<Config>()..=MAX_STRUCT_SIZE).contains(&struct_size) {
        return Err(Status::InvalidArgument);
    }
    let known = size_of::<Config>();
    // A newer caller's fields must be unused: this version cannot honour them.
    // SAFETY:
    // - the struct has `struct_size` bytes (caller)
    let newer = unsafe { std::slice::from_raw_parts(config.cast::<u8>().add(known), struct_size - known) };
    if newer.iter().any(|&byte| byte != 0) {
        return Err(Status::InvalidArgument);
    }
    // SAFETY:
    // - the struct has all fields of this version (caller)
    // - the classes are as the caller promised
    unsafe { builder_of(&*config) }
}

/// # Safety
/// - `size_classes` has `size_class_count` entries, unless it is NULL
/// - `round` is NULL or may be called on any thread, and does not throw
pub(crate) unsafe fn builder_of(config: &Config) -> Result<Builder, Status> {
    if config.flags & !ALL_FLAGS != 0 || (config.size_classes.is_null() && config.size_class_count > 0) {
        return Err(Status::InvalidArgument);
    }
    // No pool has more; and a slice must not be longer than memory.
    if config.size_class_count > isize::MAX as usize / size_of::<SizeClass>() {
        return Err(Status::InvalidArgument);
    }
    let classes = match config.size_class_count {
        0 => &[],
        // SAFETY:
        // - not NULL, with this many entries (caller)
        count => unsafe { std::slice::from_raw_parts(config.size_classes, count) },
    };
    let has = |flag| config.flags & flag != 0;
    let mut builder = Builder::default()
        .alignment(config.alignment)
        .max_bytes(config.max_bytes)
        .zero_on_get(has(ZERO_ON_GET))
        .zero_on_put(has(ZERO_ON_PUT))
        .thread_cache(!has(NO_THREAD_CACHE))
        .huge_pages(has(HUGE_PAGES))
        .pinned(has(PINNED))
        .coloring(has(COLORING))
        .track_every(config.track_every)
        .guard_every(config.guard_every);
    for class in classes {
        builder = builder.size_class(class.buffer_size, class.capacity);
    }
    if let Some(round) = config.round {
        // SAFETY:
        // - it may be called on any thread, and does not throw (caller)
        builder = builder.round(move |size| unsafe { round(size) });
    }
    Ok(builder)
}

/// Writes as much of `value` as the caller's version of the struct holds; a newer caller's further fields
/// become 0.
///
/// # Safety
/// - `out` is NULL or points to a struct that starts with its size in bytes, and is writable for that many
/// - `T` starts with a `usize`, too, and has no padding
pub(crate) unsafe fn write_struct<T: Copy>(guard: &ForkGuard, out: *mut T, value: T) -> Result<(), Status> {
    if out.is_null() {
        return Err(Status::InvalidArgument);
    }
    // SAFETY:
    // - it starts with its size (caller)
    let struct_size = unsafe { out.cast::<usize>().read() };
    if !(size_of::<usize>()..=MAX_STRUCT_SIZE).contains(&struct_size) {
        return Err(Status::InvalidArgument);
    }
    let known = struct_size.min(size_of::<T>());
    // SAFETY:
    // - `out` is writable for `struct_size` bytes (caller), `value` readable for `known`
    unsafe {
        out.cast::<u8>().copy_from_nonoverlapping((&raw const value).cast(), known);
        out.cast::<u8>().add(known).write_bytes(0, struct_size - known);
        out.cast::<usize>().write(struct_size);
        written(guard, std::slice::from_raw_parts_mut(out.cast::<u8>(), struct_size));
    }
    Ok(())
}
